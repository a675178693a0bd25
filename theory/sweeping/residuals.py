"""A sweep's numbers of the residual family I + F (T32), beside what is predicted for it (T26, T33)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theory.regimes.residual_rates import residual_rates
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells
from theory.sweeping.contexts import ENDS, UNFITTING, Family, finished, over_map, scan_grid
from theory.sweeping.layout import TRANSITIONS, transitions_of
from theory.sweeping.products import PIECE_BYTES, SIMULATION_ERRORS
from theory.sweeping.spec import ResidualSweepSpec, injections_of

if TYPE_CHECKING:
    from theory.sweeping.parts import Part

__all__ = ["residual_part"]

LARGEST_STRENGTH = 100.0
"""Beyond which a predicted critical strength does not widen the search: there the chain is F alone."""

PREDICTED = {
    "outlier_rate": "outlier_rate",
    "pinned_rate": "pinned_rate",
    "mean_square_rate": "mean_square_rate",
    "paper_gain": "paper_gain",
    "paper_alignment": "paper_alignment",
    "paper_sigma": "sigma",
}
"""Variables of the dataset and the fields of `ResidualRates` they hold."""


def residual_part(spec: ResidualSweepSpec, part: Part) -> dict[str, NDArray[Any]]:
    """The map over strength and the critical strengths, for one injection, rank and dimension."""
    injection = injections_of(spec)[part.at["injection"][0]]
    rank, dimension = part.of(spec, "rank")[0], part.of(spec, "dimension")[0]
    alignment, persistence = (np.asarray(part.of(spec, name)) for name in ("alignment", "persistence"))
    strength = np.asarray(spec.strength, dtype=np.float64)
    kappa, omega = (x.ravel() for x in np.meshgrid(alignment, persistence, indexing="ij"))
    fits = dimension >= rank + max(rank, spec.context_dimension)

    def run(
        tau: NDArray[np.float64], pair: NDArray[np.intp], every: list[int]
    ) -> Iterator[tuple[NDArray[np.intp], Any]]:
        cells = ResidualCells(tau, kappa[pair], omega[pair], injection.along, injection.across)
        step = max(1, PIECE_BYTES // (6 * 8 * len(every) * spec.seeds))
        for begin in range(0, len(cells), step):
            piece = np.arange(begin, min(begin + step, len(cells)))
            found = _tried(spec, cells.at(piece), dimension, every, rank, injection.frame)
            if found is not None:
                yield piece, found
                continue
            for one in piece[:, None]:
                found = _tried(spec, cells.at(one), dimension, every, rank, injection.frame)
                if found is not None:
                    yield one, found

    rates = residual_rates(strength[:, None], kappa, omega, rank=rank, dimension=dimension if fits else None)
    with np.errstate(divide="ignore"):
        predicted = np.log(np.clip(rates.critical_strength[0], 0.01, LARGEST_STRENGTH))
    highest = np.where(np.isfinite(rates.critical_strength[0]), predicted, -np.inf)
    refused = np.full((strength.size, kappa.size), 0 if fits else UNFITTING)
    family = Family(
        run,
        kappa.size,
        strength,
        scan_grid(strength, predicted, highest),
        refused == 0,
        np.arange(kappa.size) if fits else np.empty(0, dtype=np.intp),
        early=True,
    )
    shape = (alignment.size, persistence.size)
    found, summary = finished(spec, family, refused, shape, "critical_strength")
    kept = [TRANSITIONS.index(name) for name in transitions_of(spec)]
    for end in (*ENDS, "_code"):
        found[f"critical_strength{end}"] = found[f"critical_strength{end}"][kept]
    for end, values in zip(ENDS, summary["log_early"], strict=True):
        found[f"early_log{end}"] = over_map(values, shape)
    for name, values in zip(("early_rate", "early_rate_se", "early_width"), summary["early_rates"], strict=True):
        found[name] = over_map(values, shape)
    # The rank is one more axis, before the depth, and here of length 1.
    found = {name: array[..., None, :, :] for name, array in found.items()}
    for name, field in PREDICTED.items():
        values = getattr(rates, field) if fits else np.full(rates.sigma.shape, np.nan)
        found[name] = values.reshape(strength.size, *shape, 1, 1)
    found["predicted_strength"] = rates.critical_strength[0].reshape(shape)
    found["paper_strength"] = rates.paper_strength[0].reshape(*shape, 1)
    return found


def _tried(
    spec: ResidualSweepSpec, cells: ResidualCells, dimension: int, depths: list[int], rank: int, frame: Any
) -> Any:
    options: Any = {"context_dimension": spec.context_dimension, "frame": frame, "dtype": spec.dtype}
    try:
        return residual_spectra(cells, dimension, depths, rank=rank, chains=spec.seeds, seed=spec.seed, **options)
    except SIMULATION_ERRORS:
        return None
