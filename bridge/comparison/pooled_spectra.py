"""What is read of pooled spectra: the proxies of (O2), (O3), (O5), their changes under stress, the tail of (O6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from observables import effective_rank, kirchhoff_index, reason, spectral_alpha

MODES = (50, 10)
# Modes the slope is fitted over (O3): the tail of 50, the dominant ones of 10.
ALPHA_RANGE = {50: (10, 50), 10: (1, 10)}
PROXIES = ("n_eff_pct", "log10_kf", "alpha", "tail_log")

ROWS_A_MODE = 10
CLIPS_A_MODE = 2
"""Rows and clips for each mode, below which K_f, alpha and the tail get no interval. They hang on the smallest of K
eigenvalues, which few clips make too small, and by how much no resample of the same clips says. At K = 50 intervals of
95 % held the value of many clips so often (drawn of 240 clips of an organism, 11 tokens each, d = 96 and 128; of 137 of
a random tiny that repeats itself, 132 tokens each, d = 384), those of N_eff in 82-100 % throughout:

| clips | organisms: rows | K_f, tail | random tiny: rows | K_f, tail |
|---|---|---|---|---|
| 6 | 65 | 15-60 % | 792 | 0 |
| 12 | 130 | 40-75 % | 1584 | 0 |
| 24 | 260 | 60-95 % | 3168 | 15-40 % |
| 40, 48 | 440 | 80-97 % | 6336 | 40-60 % |
| 80 | 880 | 75-100 % | | |
"""

Spectra = NDArray[np.float64]
"""(r, d): each row the descending eigenvalues of one draw."""


def proxies(eigenvalues: NDArray[np.float64], k: int) -> dict[str, Any]:
    """N_eff(k), log10 K_f(k) and alpha(k) of one descending spectrum, with R^2, its power-law verdict and a reason."""
    fit = spectral_alpha(eigenvalues, *ALPHA_RANGE[k])
    index = kirchhoff_index(eigenvalues, k)
    return {
        "n_eff": effective_rank(eigenvalues, k),
        "log10_kf": float(np.log10(index)) if np.isfinite(index) else float("nan"),
        "alpha": float(fit.slope),
        "r_squared": float(fit.r_squared),
        "is_power_law": bool(fit.is_power_law),
        "reason": str(reason(eigenvalues, k)),
    }


def batch_proxies(eigenvalues: Spectra, k: int, *, width: int | None = None) -> dict[str, NDArray[np.float64]]:
    """The same three proxies of many spectra at once.

    Args:
        eigenvalues: shape (r, m), each row descending: all eigenvalues, or the m leading ones.
        k: modes, 10 or 50.
        width: number of all eigenvalues, where only leading ones are given; d eps lambda_1 counts as zero.

    Returns:
        n_eff, log10_kf, alpha, each of shape (r,), NaN where a row has fewer than k positive eigenvalues.
    """
    r, m = eigenvalues.shape
    if m < k:
        return {name: np.full(r, np.nan) for name in ("n_eff", "log10_kf", "alpha")}
    top = eigenvalues[:, :k]
    enough = _positive(eigenvalues, k, width)
    safe = np.where(enough[:, None], top, 1.0)
    p = safe / safe.sum(axis=1, keepdims=True)
    first, last = ALPHA_RANGE[k]
    x = np.log(np.arange(first, last + 1, dtype=np.float64))
    x = x - x.mean()
    values = {
        "n_eff": np.exp(-(p * np.log(p)).sum(axis=1)),
        "log10_kf": np.log10(k * (1.0 / safe).sum(axis=1)),
        "alpha": -(np.log(safe[:, first - 1 : last]) @ x) / (x @ x),
    }
    return {name: np.where(enough, value, np.nan) for name, value in values.items()}


def changes(clean: dict[str, Any], stressed: dict[str, Any]) -> dict[str, Any]:
    """The paper's form: relative change of N_eff in per cent, differences of log10 K_f and of alpha."""
    return {
        "n_eff_pct": 100.0 * (stressed["n_eff"] / clean["n_eff"] - 1.0),
        "log10_kf": stressed["log10_kf"] - clean["log10_kf"],
        "alpha": stressed["alpha"] - clean["alpha"],
    }


def tail_log(clean: Spectra, stressed: Spectra, k: int, *, width: int | None = None) -> NDArray[np.float64]:
    """Mean of ln lambda_i(stressed) / lambda_i(clean) over the tail the slope is fitted on (O6), one a row."""
    if min(clean.shape[1], stressed.shape[1]) < k:
        return np.full(len(clean), np.nan)
    first, last = ALPHA_RANGE[k]
    enough = _positive(clean, k, width) & _positive(stressed, k, width)
    tails = [np.where(enough[:, None], one[:, first - 1 : last], 1.0) for one in (clean, stressed)]
    return np.where(enough, np.log(tails[1] / tails[0]).mean(axis=1), np.nan)


def tail_ratio_with_ends(
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    drawn: tuple[Spectra, Spectra] | None,
    k: int,
) -> tuple[list[float], list[float], list[float]] | None:
    """lambda_i(stressed) / lambda_i(clean) for i = 1..k (O6) with 95 % intervals of the draws, taken as `interval`.

    Args:
        values: both spectra, clean first, descending.
        drawn: resampled spectra of both, None where nothing was resampled.
        k: modes.

    Returns:
        Ratio, low and high, each of k numbers; None where a side has fewer than k positive eigenvalues.
    """
    if any(reason(one, k) != "ok" for one in values):
        return None
    ratio = np.log(values[1][:k] / values[0][:k])
    low = high = np.full(k, np.nan)
    if drawn is not None:
        enough = _positive(drawn[0], k, values[0].size) & _positive(drawn[1], k, values[1].size)
        if enough.mean() >= 0.95:
            draws = np.log(drawn[1][enough, :k] / drawn[0][enough, :k])
            ends = np.quantile(draws - draws.mean(axis=0), [0.025, 0.975], axis=0)
            low, high = ratio + ends[0], ratio + ends[1]
    return np.exp(ratio).tolist(), np.exp(low).tolist(), np.exp(high).tolist()


def tells(proxy: str, k: int, rows: int, clips: int) -> bool:
    """Whether pooled rows, of the side that has fewer, and clips are enough for an interval of a change."""
    return proxy == "n_eff_pct" or (rows >= ROWS_A_MODE * k and clips >= CLIPS_A_MODE * k)


def interval(effect: float, draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the draws, moved so that their mean falls on the effect.

    A proxy is not linear in the spectrum, so its draws are centred a little beside it; the shift takes that bias out.
    NaN where a twentieth of the draws or more have no value.
    """
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(effect) or len(finite) == 0 or len(finite) < 0.95 * len(draws):
        return float("nan"), float("nan")
    ordered = np.sort(finite)
    places = np.arange(len(ordered), dtype=np.float64) / max(len(ordered) - 1, 1)
    # np.quantile of the same, which takes ten times as long to begin with; a report has ten thousand intervals.
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], places, ordered - ordered.mean())
    return float(effect + low), float(effect + high)


def _positive(eigenvalues: Spectra, k: int, width: int | None) -> NDArray[np.bool_]:
    """Which rows have k eigenvalues above rounding."""
    floor = (eigenvalues.shape[1] if width is None else width) * np.finfo(np.float64).eps * eigenvalues[:, 0]
    with np.errstate(invalid="ignore"):
        return np.asarray(eigenvalues[:, k - 1] > floor)
