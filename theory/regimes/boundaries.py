"""Regime boundaries as curves on the plane of alignment and gain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory._checks import unit_interval
from theory.bounds.rates import critical_alignment, max_rate, min_rate

__all__ = ["boundary_curves"]


def boundary_curves(gap: float, alignment_grid: Any) -> dict[str, NDArray[np.float64]]:
    """Gain rho = sigma kappa on each regime boundary, for every alignment of a grid.

    The mean field (T18) compares kappa with xi_F = ||R||_F / (sigma sqrt(d - 1)). For the flat residual of the sweeps,
    whose d - 1 singular values all equal sigma xi, xi_F = xi exactly; for any other residual xi_F < xi.

    Args:
        gap: xi, dimensionless, in [0, 1].
        alignment_grid: kappa, dimensionless, in [0, 1], shape (n,).

    Returns:
        Arrays of shape (n,), gain, dimensionless: "paper" (rho = 1, P2), "certified_I" (sigma Lambda_max = 1, T5 and
        T13: below it Regime I is certified), "certified_II" (sigma Lambda_min = 1, T6: above it Regime II is; NaN below
        kappa_c), "mean_field" (sigma max(kappa, xi_F) = 1, T18, for the flat residual; NaN at kappa = xi_F = 0); and
        "critical_alignment", a 0-d array: kappa_c (T7), a vertical line at that alignment.

    Raises:
        ValueError: if an argument leaves [0, 1] or the grid is not one-dimensional.
    """
    xi = unit_interval(gap, "gap")
    kappa = unit_interval(alignment_grid, "alignment_grid")
    if xi.ndim != 0:
        raise ValueError(f"gap must be one number; got shape {xi.shape}")
    if kappa.ndim != 1:
        raise ValueError(f"alignment_grid must be one-dimensional; got shape {kappa.shape}")
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "paper": np.ones_like(kappa),
            "certified_I": kappa / max_rate(kappa, xi),
            "certified_II": kappa / min_rate(kappa, xi),
            "mean_field": kappa / np.maximum(kappa, xi),
            "critical_alignment": np.asarray(critical_alignment(xi)),
        }
