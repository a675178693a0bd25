"""Plain records in which theory and measurement meet.

A synthetic chain has these numbers by construction, a real model yields them by measurement, and every bound,
certificate and classifier takes just them. No framework type crosses this border: only float64 NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

# |<v, u>| of unit vectors exceeds 1 by rounding in a quarter of cases (docs/equations.md, "Numbers").
_ROUNDING = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class ChainParameters:
    """What the Spectral Sensitivity Theorem reads of a chain h_l = F_l(h_{l-1}, c), layer by layer (T3).

    Every field is a 1-D float64 array over layers l = 1..L, finite unless said otherwise. Alignment joins a layer to
    the one before it, so its first entry has no meaning: it is never read, may be NaN, and suprema and infima of
    `alignment`, `misalignment` and `gain` run over l >= 2.

    Attributes:
        sigma: sigma_1(A_l), operator norm of the propagator, >= 0.
        gap: xi_l = sigma_2(A_l) / sigma_1(A_l), in [0, 1]. The paper's "spectral gap": a *large* value means no gap.
        alignment: kappa_l = |<v_l, u_{l-1}>|, in [0, 1].
        injection_along: beta_l = ||u_l^T B_l||, >= 0.
        injection_across: b_l = ||(I - u_l u_l^T) B_l||, >= 0.
        injection_coherent: c_l = u_l^T B_l w for one direction w of context space, any sign (T16); None if unknown.
        misalignment: s_l = sqrt(1 - kappa_l^2), in [0, 1], where it is known better than kappa_l gives it (near
            kappa = 1 the square root loses every digit); None to derive it.
        bulk_gap: xi_F = ||R_l||_F / (sigma_l sqrt(d - 1)), in [0, 1], what the mean field needs (T18); None if not
            measured.

    Raises:
        ValueError: naming the field, the rule and the first value that broke it.
    """

    sigma: NDArray[np.float64]
    gap: NDArray[np.float64]
    alignment: NDArray[np.float64]
    injection_along: NDArray[np.float64]
    injection_across: NDArray[np.float64]
    injection_coherent: NDArray[np.float64] | None = None
    misalignment: NDArray[np.float64] | None = None
    bulk_gap: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                if field.default is None:
                    continue
                raise ValueError(f"{field.name} must be given; got None")
            object.__setattr__(self, field.name, _vector(field.name, value))
        depth = len(self.sigma)
        if depth == 0:
            raise ValueError("sigma must hold at least one layer; got none")
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and len(value) != depth:
                raise ValueError(f"{field.name} must have the {depth} layers of sigma; got {len(value)}")
        for name in ("sigma", "injection_along", "injection_across"):
            _check(name, getattr(self, name), lower=0.0, upper=None)
        for name in ("gap", "bulk_gap", "alignment", "misalignment"):
            value = getattr(self, name)
            if value is not None:
                first = 1 if name in ("alignment", "misalignment") else 0
                _check(name, value[first:], lower=0.0, upper=1.0 + _ROUNDING)
                object.__setattr__(self, name, _frozen(np.where(value > 1.0, np.minimum(value, 1.0), value)))
        if self.injection_coherent is not None:
            _check("injection_coherent", self.injection_coherent, lower=None, upper=None)

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.sigma)

    @property
    def gain(self) -> NDArray[np.float64]:
        """rho_l = sigma_l kappa_l, effective gain along the dominant path; NaN at the first layer."""
        gain = self.sigma * self.alignment
        gain[0] = np.nan
        return gain

    @property
    def across(self) -> NDArray[np.float64]:
        """s_l = sqrt(1 - kappa_l^2), from `misalignment` where it was given; NaN at the first layer."""
        if self.misalignment is not None:
            across = self.misalignment.copy()
        else:
            across = np.sqrt((1.0 - self.alignment) * (1.0 + self.alignment))
        across[0] = np.nan
        return across


def _frozen(value: NDArray[np.float64]) -> NDArray[np.float64]:
    value.setflags(write=False)
    return value


def _vector(name: str, value: ArrayLike) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, one value a layer; got shape {array.shape}")
    return _frozen(array)


def _check(name: str, value: NDArray[np.float64], *, lower: float | None, upper: float | None) -> None:
    finite = np.isfinite(value)
    if not finite.all():
        raise ValueError(f"{name} must be finite; got {value[~finite][0]}")
    if lower is not None and (value < lower).any():
        rule = "must not be negative" if upper is None else "must lie in [0, 1]"
        raise ValueError(f"{name} {rule}; got {value[value < lower][0]}")
    if upper is not None and (value > upper).any():
        raise ValueError(f"{name} must lie in [0, 1]; got {value[value > upper][0]}")
