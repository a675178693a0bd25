"""All log-singular values of a product of layers, by QR along its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.chains.chain import Chain
from theory.propagation._host import flat_batch, host_chain, layer_range, layer_sizes, refuse_non_finite
from theory.propagation.floored import Floored
from theory.propagation.graded import GradedRows, orthogonalised

__all__ = ["LogSpectrum", "log_singular_values", "lyapunov_exponents"]

EXTRA_COLUMNS = 8
"""Columns carried beyond those asked for: separated values then need no more than the first sweeps."""

MAX_SWEEPS = 60
"""Passes through the depth, forward and backward in turn; separated values need two or three."""

PROBE_FACTOR = 16.0
"""One draw of a normal error is below a sixteenth of its spread once in twenty times, and the probe's is the larger."""


@dataclass(frozen=True, slots=True, eq=False)
class LogSpectrum:
    """Leading log-singular values of a product, with what is known of their error.

    Attributes:
        log_value: ln sigma_1 .. ln sigma_k, descending, shape (..., k); where not resolved, an upper estimate.
        resolved: whether the value stands above what rounding of one layer makes of it and `rounding` is below 1,
            same shape.
        rounding: estimated rounding of log_value, same shape; no bound. The larger of 2 eps sum over layers of
            ||A_l|| / |R_l,ii|, the relative error of the factors of which sigma_i is the product, and of
            PROBE_FACTOR times what a last pass through layers with random errors of eps ||A_l|| changes: an error made
            where a direction is weak grows where later layers favour it, and no factor alone shows that.
        change: what the last sweep changed, same shape, absolute.
        converged: whether change is within rounding, same shape.
        sweeps: passes through the depth that were made, the last one for the rounding not counted.
    """

    log_value: NDArray[np.float64]
    resolved: NDArray[np.bool_]
    rounding: NDArray[np.float64]
    change: NDArray[np.float64]
    converged: NDArray[np.bool_]
    sweeps: int

    def values(self) -> Floored:
        """The singular values, each a number or "below x", shape (..., k)."""
        return Floored(self.log_value, self.resolved)

    def log_ratio(self) -> Floored:
        """ln sigma_i / sigma_1 for i >= 2, shape (..., k - 1); NaN where the product is 0."""
        with np.errstate(invalid="ignore"):
            ratio = self.log_value[..., 1:] - self.log_value[..., :1]
        return Floored(ratio, self.resolved[..., 1:] & ~np.isnan(ratio))


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """What one pass found: approximate singular vectors at its end and at its start, and the values."""

    frame: NDArray[np.float64]
    start: NDArray[np.float64]
    log_value: NDArray[np.float64]
    resolved: NDArray[np.bool_]
    rounding: NDArray[np.float64]


def _pass(
    chain: Chain,
    layers: range,
    start: NDArray[np.float64],
    sizes: NDArray[np.float64],
    forward: bool,
    errors: np.random.Generator | None = None,
) -> _Sweep:
    """One pass; with `errors`, through layers A_l + eps ||A_l|| G_l, G_l normal: A_l meets orthonormal frames only."""
    n, d, k = start.shape
    frame = start
    graded = GradedRows(n, k)
    eps = float(np.finfo(np.float64).eps)
    lost, floor = np.zeros((n, k)), np.zeros((n, k))
    resolved = np.ones((n, k), dtype=bool)
    for layer in layers if forward else reversed(layers):
        image = np.asarray(chain.apply(layer, frame) if forward else chain.apply_transpose(layer, frame))
        if errors is not None:
            image = image + (eps * sizes[:, layer])[:, None, None] * errors.standard_normal(image.shape)
        frame, r = np.linalg.qr(image)
        size = np.abs(np.diagonal(r, axis1=1, axis2=2))
        noise = (2.0 * d * eps * sizes[:, layer])[:, None]
        # A diagonal entry that rounding alone can make stands for anything below it.
        resolved &= (size > noise) | (noise == 0)
        with np.errstate(divide="ignore"):
            floor += np.log(np.maximum(size, noise))
            lost += 2.0 * eps * sizes[:, layer, None] / np.where(size > noise, size, np.inf)
        graded.multiply(r)
    log_value, left, right = orthogonalised(graded)
    # Unresolved values are the smallest ones: the floors of their layers stand in for them.
    order = np.argsort(~resolved, axis=1, kind="stable")
    resolved = np.take_along_axis(resolved, order, axis=1)
    floor = np.take_along_axis(floor, order, axis=1)
    log_value = np.where(resolved, log_value, np.fmax(log_value, floor))
    return _Sweep(frame @ left, start @ right, log_value, resolved, np.take_along_axis(lost, order, axis=1))


def log_singular_values(
    chain: Chain,
    k: int | None = None,
    *,
    first: int = 1,
    last: int | None = None,
    max_sweeps: int = MAX_SWEEPS,
) -> LogSpectrum:
    """ln of the leading singular values of P = A_last ... A_first, exact at finite depth, however far they spread.

    A frame goes forward through the layers by A_l Q_{l-1} = Q_l R_l, so that P Q = Q' T with T the product of the R_l,
    kept as rows with a log-scale each; one-sided Jacobi on T gives the values and turns Q' to singular vectors, from
    which the transposed product is swept backward, and so on until a sweep changes nothing beyond rounding. The
    layers are those of the chain's stored numbers, computed in float64 whatever their precision.

    Cost O(sweeps (L d^2 k + L k^3)) for a dense chain, O(sweeps L d k (r + k)) for a factored one, where k counts eight
    columns more than are asked for, threefold from the third sweep on. Two or three sweeps do, unless values k and
    k + 9 lie close together; then it may be dozens, and beyond `max_sweeps` the values are flagged.

    Args:
        chain: batched over any leading axes.
        k: number of leading values, by default all d.
        first: layer of the product nearest the input, 1-based.
        last: layer nearest the output, by default L.
        max_sweeps: at least 2.

    Returns:
        Values of shape (..., k) with their errors.

    Raises:
        ValueError: if k exceeds d, first exceeds last, a layer lies outside the chain, or an entry is not finite.
    """
    held = host_chain(chain, np.float64)
    layers = layer_range(held, first, last)
    d = held.dimension
    wanted = d if k is None else int(natural(k, "k"))
    if wanted > d:
        raise ValueError(f"k must be at most the dimension {d}; got {wanted}")
    sweeps = int(natural(max_sweeps, "max_sweeps", least=2))
    flat, batch = flat_batch(held)
    refuse_non_finite(flat)
    n, columns = flat.sigma.shape[0], min(d, wanted + EXTRA_COLUMNS)
    sizes = layer_sizes(flat)
    history = [_pass(flat, layers, _frame(n, d, columns), sizes, True)]
    change, converged = np.full((n, wanted), np.inf), np.zeros((n, wanted), dtype=bool)
    count = 1
    while count < sweeps and not converged.all():
        found = _pass(flat, layers, _next_frame(history, columns), sizes, count % 2 == 0)
        change, converged = _settled(history[-1], found, wanted)
        history, count = [*history[-3:], found], count + 1
    found = history[-1]
    probe = _pass(flat, layers, _next_frame(history, columns), sizes, count % 2 == 0, np.random.default_rng(count))
    log_value, resolved, rounding = _probed(found, probe, converged)

    def shaped(field: Any) -> Any:
        return field.reshape(*batch, wanted)

    return LogSpectrum(
        log_value=shaped(log_value),
        resolved=shaped(resolved),
        rounding=shaped(rounding),
        change=shaped(change),
        converged=shaped(converged),
        sweeps=count,
    )


def _probed(found: _Sweep, probe: _Sweep, converged: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Values, whether they are resolved, and their rounding, given what a probe's errors made of converged ones."""
    wanted = converged.shape[1]
    value, other, rounding = (x[:, :wanted] for x in (found.log_value, probe.log_value, found.rounding))
    resolved, still = found.resolved[:, :wanted], probe.resolved[:, :wanted]
    with np.errstate(invalid="ignore"):  # -inf twice
        change = np.where((value != other) & resolved & converged, np.abs(value - other), 0.0)
    rounding = np.maximum(rounding, PROBE_FACTOR * change)
    lost = resolved & converged & ~(still & (rounding < 1))
    above = np.maximum(value, other) + np.log(PROBE_FACTOR)
    return np.where(lost, above, value), resolved & ~lost, rounding


def _frame(n: int, d: int, columns: int) -> NDArray[np.float64]:
    """The first frame: the identity where every column fits, else one fixed random frame."""
    if columns == d:
        return np.broadcast_to(np.eye(d), (n, d, d))
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((d, columns)))[0]
    return np.broadcast_to(frame, (n, d, columns))


def _next_frame(history: list[_Sweep], columns: int) -> NDArray[np.float64]:
    """The last sweep's vectors at the end it came to and, beside them, those of the two sweeps before that began there.

    The best combination of the three is found by the sweep itself: the conjugate-gradient step of LOBPCG (Knyazev
    2001), which takes the root of the number of sweeps that powers alone would need. Dependent columns become arbitrary
    orthonormal ones in the QR and do no harm.
    """
    parts = [history[-1].frame] + [sweep.start for sweep in history[-2:-5:-2]]
    joined = np.concatenate([part[..., :columns] for part in parts], axis=-1)[..., : parts[0].shape[1]]
    return np.linalg.qr(joined)[0]


def _settled(before: _Sweep, found: _Sweep, wanted: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the last sweep changed, and whether that is within the rounding of both; of what neither resolves, nothing
    more is to come."""
    old, new = before.log_value[:, :wanted], found.log_value[:, :wanted]
    with np.errstate(invalid="ignore"):
        change = np.where(old == new, 0.0, np.abs(old - new))
    lost = ~(before.resolved[:, :wanted] | found.resolved[:, :wanted])
    return change, (change <= (before.rounding[:, :wanted] + found.rounding[:, :wanted])) | lost


def lyapunov_exponents(chain: Chain, k: int | None = None) -> NDArray[np.float64]:
    """ln sigma_i(P_{L:1}) / L, natural-log units a layer, descending, shape (..., k): finite-depth exponents.

    For many independent Gaussian layers they tend to Newman's (T22), `newman_exponents`.

    Raises:
        ValueError: as `log_singular_values`.
    """
    return log_singular_values(chain, k).log_value / chain.depth
