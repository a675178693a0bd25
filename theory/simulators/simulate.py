"""One face of the three simulators: reduced, structured and dense."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.choose import Choice, Quantity, Residual, SimulatorName, choose
from theory.simulators.dense import dense_runs
from theory.simulators.engine_step import rescale_every
from theory.simulators.readout import context_values, low_rank_products, pulled_back_products
from theory.simulators.reduced_context import reduced_contexts
from theory.simulators.reduced_product import reduced_products
from theory.simulators.runs import Request, Run
from theory.simulators.spectra import LARGEST_RESULT, ContextSpectra, context_spectra
from theory.simulators.structured import structured_runs

__all__ = ["Simulation", "simulate"]

RESOLVED_GAP = 1e-8
"""Gap from which a QR along the depth resolves a low-rank product's sigma_2 to 1e-7 a layer, whatever the ratio."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What was simulated, for every cell and chain. Arrays of shape (depths, cells, chains), float64.

    Attributes:
        simulator: which simulator served each quantity, and why.
        product_log_norm: ln ||P_L||; None if it was not asked for.
        product_log_ratio: ln sigma_2 / sigma_1 of P_L, -inf where sigma_2 is 0, NaN where the product is 0. Below
            `product_log_floor` it is rounding.
        product_log_floor: of product_log_ratio, shape (depths,); -inf where the ratio keeps its digits at any size.
        context: of J_L; None if it was not asked for.
    """

    simulator: dict[str, Choice]
    product_log_norm: NDArray[np.float64] | None
    product_log_ratio: NDArray[np.float64] | None
    product_log_floor: NDArray[np.float64] | None
    context: ContextSpectra | None


def simulate(
    cells: PhaseCells,
    dimension: int,
    depths: Sequence[int],
    *,
    chains: int,
    seed: int,
    residual: Residual = "flat",
    rank: int | None = None,
    quantities: Sequence[Quantity] = ("product", "context"),
    context_dimension: int = 2,
    frame: Literal["across", "isotropic"] = "across",
    dtype: Literal["float64", "float32"] = "float64",
    simulator: SimulatorName = "auto",
    engine: Literal["auto", "numpy", "jax"] = "auto",
    share: bool = True,
) -> Simulation:
    """Spectra of products and context Jacobians of random chains, by the cheapest exact simulator, or the one named.

    Args:
        cells: the numbers of each cell, the same in every layer.
        dimension: d >= 2.
        depths: numbers of layers, each >= 1.
        chains: n >= 1 for each cell; all cells share the random numbers.
        seed: >= 0.
        residual: "flat": all d - 1 singular values are sigma xi. "low_rank": `rank` of them, the others 0.
            "quarter_circle": at the quantiles of the quarter-circle law with edge sigma xi, what a Gaussian bulk has.
        rank: of the low-rank residual.
        quantities: "product" for P_L, "context" for J_L.
        context_dimension: m. The reduction takes 1 or 2, and any without share and with frames across; the structured
            simulator up to 64.
        frame: of the injections, "across" or "isotropic", as in `context_spectra`.
        dtype: of the recurrence. The reduced product, and the reduced J_L of m > 2, are carried in float64 whatever it
            is.
        simulator: "auto", or one by name.
        engine: of the reduced context Jacobians, as in `context_spectra`.
        share: whether to carry the earliest injection.

    Returns:
        A Simulation. Structured and dense have the same chains for one seed and agree to rounding; reduced ones have
        their law.

    Raises:
        ValueError: if an argument leaves its range, no simulator can serve, one layer would leave that of dtype, or the
            result would exceed 4 GiB or a tile free memory (stating the bytes).
    """
    d, n = int(natural(dimension, "dimension", least=2)), int(natural(chains, "chains"))
    root = int(natural(seed, "seed", least=0))
    layers = depth_list(depths)
    asked = tuple(quantities)
    if isinstance(quantities, str) or not asked:
        raise ValueError(f"quantities must be a list of at least one of product, context; got {quantities!r}")
    choices = {
        name: choose(
            name,
            d,
            int(layers.max()),
            residual=residual,
            rank=rank,
            context_dimension=context_dimension,
            simulator=simulator,
            frame=frame,
            share=share,
        )
        for name in asked
    }
    m = int(natural(context_dimension, "context_dimension"))
    if "context" in asked and d < m + 1:
        raise ValueError(f"dimension must be at least context_dimension + 1 = {m + 1}; got {d}")
    if frame not in ("across", "isotropic"):
        raise ValueError(f"frame must be 'across' or 'isotropic'; got {frame!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    kept = 2 * ("product" in asked) + (6 if share else 3) * ("context" in asked)
    _refuse_size(kept, layers.size, len(cells), n)
    found = _Found(layers, len(cells), n, product="product" in asked)
    for name in dict.fromkeys(choice.name for choice in choices.values()):
        served = tuple(quantity for quantity in asked if choices[quantity].name == name)
        if name == "reduced":
            if "product" in served:
                found.product[:] = reduced_products(cells, d, layers, chains=n, seed=root)
            if "context" in served and m > 2:
                found.context = reduced_contexts(cells, d, layers, chains=n, seed=root, context_dimension=m)
            elif "context" in served:
                options: Any = {
                    "context_dimension": m,
                    "frame": frame,
                    "dtype": dtype,
                    "share": share,
                    "engine": engine,
                }
                found.context = context_spectra(cells, d, layers.tolist(), chains=n, seed=root, **options)
            continue
        rescale_every(cells, d, dtype)  # refuses what one layer would move out of range
        request = Request(
            dimension=d,
            depths=tuple(np.unique(layers).tolist()),
            chains=n,
            seed=root,
            rank=int(rank or 0),
            columns=m,
            isotropic=frame == "isotropic",
            share=share,
            product="product" in served,
            context="context" in served,
            dtype=dtype,
        )
        if name == "structured":
            found.fill(cells, request, structured_runs(cells, request), dense=False)
        else:
            runs = dense_runs(cells, request, quarter_circle=residual == "quarter_circle")
            found.fill(cells, request, runs, dense=True)
    return found.simulation(choices)


class _Found:
    """Results as they come in, tile by tile."""

    def __init__(self, depths: NDArray[np.int64], cells: int, chains: int, *, product: bool) -> None:
        self.depths, self.shape = depths, (depths.size, cells, chains)
        self.product: Any = np.full((2, *self.shape), np.nan) if product else None
        self.product_floor = np.full(depths.size, -np.inf)
        self.context: ContextSpectra | None = None

    def fill(self, cells: PhaseCells, request: Request, runs: Iterable[Run], *, dense: bool) -> None:
        """All tiles of one simulator."""
        d, size = request.dimension, request.columns + request.early + 1
        terms = 4.0 * (d if dense else size * np.sqrt(d)) * float(np.finfo(request.dtype).eps)
        rows = np.searchsorted(request.depths, self.depths)
        fields: dict[str, Any] = {}
        for run in runs:
            at = (slice(None), run.cells, run.chains)
            if request.context:
                for name, values in context_values(run.leaves, request.share).items():
                    fields.setdefault(name, np.empty(self.shape))[at] = values[rows]
            if request.product:
                values = run.kept if dense else _structured_products(cells, request, run)
                self.product[(slice(None), *at)] = np.moveaxis(np.asarray(values), 1, 0)[:, rows]
        if request.product and (dense or (request.rank and (cells.gap[cells.gap > 0] < RESOLVED_GAP).any())):
            self.product_floor = np.log(terms * self.depths)
        if request.context:
            fields["log_floor"] = np.log(terms * self.depths)
            names = ("log_share", "log_early", "log_early_noise")
            self.context = ContextSpectra(**({} if request.share else dict.fromkeys(names)), **fields)

    def simulation(self, choices: dict[str, Choice]) -> Simulation:
        """The whole."""
        if self.product is None:
            return Simulation(choices, None, None, None, self.context)
        return Simulation(choices, self.product[0], self.product[1], self.product_floor, self.context)


def _structured_products(cells: PhaseCells, request: Request, run: Run) -> NDArray[np.float64]:
    """ln ||P_l|| and ln sigma_2 / sigma_1, shape (depths, 2, cells, chains), of what the factors leave."""
    kept: Any = run.kept
    shape, here = kept.shape[:2], cells.at(run.cells)
    rows, gap = kept.reshape(-1, *kept.shape[2:]), np.repeat(here.gap, shape[1])
    norm, ratio = (low_rank_products if request.rank else pulled_back_products)(rows, gap, request.depths)
    found = np.stack([norm, ratio], axis=1).reshape(len(request.depths), 2, *shape)
    found[:, 0] += np.asarray(request.depths)[:, None, None] * np.log(here.sigma)[:, None]
    return found


def _refuse_size(kept: int, *shape: int) -> None:
    size = 8 * kept * int(np.prod(shape))
    if size > LARGEST_RESULT:
        raise ValueError(f"cells x chains x depths must need at most 4 GiB; got {size / 2**30:.3g} GiB")
