"""One face of the three simulators: reduced, structured and dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theory._checks import natural
from theory.simulators.cells import PhaseCells, depth_list
from theory.simulators.choose import Choice, Quantity, Residual, SimulatorName, choose
from theory.simulators.reduced_product import reduced_products
from theory.simulators.spectra import LARGEST_RESULT, ContextSpectra, context_spectra

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What was simulated, for every cell and chain. Arrays of shape (depths, cells, chains), float64.

    Attributes:
        simulator: which simulator served each quantity, and why.
        product_log_norm: ln ||P_L||; None if it was not asked for.
        product_log_ratio: ln sigma_2 / sigma_1 of P_L, -inf where sigma_2 is 0, NaN where the product is 0 or the
            values did not converge. Below `product_log_floor` it is rounding.
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
        context_dimension: m, 1 or 2, or up to 64 where no reduction is used.
        frame: of the injections, "across" or "isotropic", as in `context_spectra`.
        dtype: of the recurrence. The reduced product is carried in float64 whatever it is.
        simulator: "auto", or one by name.
        engine: of the reduced context Jacobians, as in `context_spectra`.
        share: whether to carry the earliest injection.

    Returns:
        A Simulation. Structured and dense have the same chains for one seed and agree to rounding; reduced ones have
        their law.

    Raises:
        ValueError: if an argument leaves its range, no simulator can serve, or the result would exceed 4 GiB.
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
        )
        for name in asked
    }
    waiting = {name: choice.name for name, choice in choices.items() if choice.name != "reduced"}
    if waiting:
        raise NotImplementedError(f"simulator must be reduced for now; got {waiting}")
    norm: Any = None
    ratio: Any = None
    floor: Any = None
    context = None
    if "product" in asked:
        _refuse_size(2, layers.size, len(cells), n)
        norm, ratio = reduced_products(cells, d, layers, chains=n, seed=root)
        floor = np.full(layers.size, -np.inf)
    if "context" in asked:
        context = context_spectra(
            cells,
            d,
            layers.tolist(),
            chains=n,
            seed=root,
            context_dimension=context_dimension,
            frame=frame,
            dtype=dtype,
            share=share,
        )
    return Simulation(choices, norm, ratio, floor, context)


def _refuse_size(kept: int, *shape: int) -> None:
    size = 8 * kept * int(np.prod(shape))
    if size > LARGEST_RESULT:
        raise ValueError(f"cells x chains x depths must need at most 4 GiB; got {size / 2**30:.3g} GiB")
