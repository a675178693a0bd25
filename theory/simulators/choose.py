"""Which simulator is the cheapest exact one for a request, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from theory._checks import natural

__all__ = ["Choice", "Quantity", "Residual", "SimulatorName", "choose"]

Quantity = Literal["product", "context"]
Residual = Literal["flat", "low_rank", "quarter_circle"]
SimulatorName = Literal["auto", "reduced", "structured", "dense"]

MOST_COLUMNS = 64
"""Context directions, or probe vectors, that the structured simulator carries at once."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A simulator for one quantity.

    Attributes:
        name: "reduced", "structured" or "dense".
        reason: why this one, in a line.
        seconds: of one core for one layer of one chain of one cell, an estimate from measured rates; within a factor
            of some three, for one cell; cells that share random numbers take less.
        bytes: of the numbers of one chain, of which as many are held at once as free memory allows.
    """

    name: Literal["reduced", "structured", "dense"]
    reason: str
    seconds: float
    bytes: int


def choose(
    quantity: Quantity,
    dimension: int,
    depth: int,
    *,
    residual: Residual = "flat",
    rank: int | None = None,
    context_dimension: int = 2,
    simulator: SimulatorName = "auto",
    frame: Literal["across", "isotropic"] = "across",
    share: bool = True,
) -> Choice:
    """The cheapest exact simulator of P_L ("product") or J_L ("context"), or the one asked for, if it can serve.

    *reduced*: (T24) for P, (T23) for J; flat residuals; the cost does not grow with d; m of 1 or 2, or any m where the
    frames lie across u and the earliest injection is not carried. *structured*: layers as a multiple of the identity
    plus a few columns, O(d r) a layer; flat and low-rank residuals, m to 64.
    *dense*: products of d x d matrices; everything, and the oracle of the others.

    Args:
        quantity: what is asked for.
        dimension: d >= 2.
        depth: L, the largest.
        residual: family of the residuals.
        rank: of a low-rank residual, in 1..d - 1; None for the others.
        context_dimension: m, which "context" alone reads.
        simulator: "auto", or the name of one.
        frame: of the injections, which "context" alone reads.
        share: whether the earliest injection is carried, which "context" alone reads.

    Raises:
        ValueError: if the family needs another rank, or no simulator, or not the one asked for, can serve.
    """
    d, layers = int(natural(dimension, "dimension", least=2)), int(natural(depth, "depth"))
    m = int(natural(context_dimension, "context_dimension"))
    for name, value, allowed in (
        ("quantity", quantity, get_args(Quantity)),
        ("residual", residual, get_args(Residual)),
        ("simulator", simulator, get_args(SimulatorName)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    columns = _rank(residual, rank, d)
    possible: list[Choice] = []
    refused: dict[str, str] = {}
    if residual != "flat":
        refused["reduced"] = f"the {residual} residual has no reduction to coordinates that do not grow with d"
    elif quantity == "context" and m > 2 and (share or frame != "across"):
        beyond = "more need share=False and the frame 'across'"
        refused["reduced"] = f"the written-out recurrence has 1 or 2 context directions, not {m}; {beyond}"
    elif quantity == "context" and m > 2:
        reason = f"exact in law, QRs of {m} columns a layer at any d (T23)"
        seconds = 1e-6 + 5e-7 * m + 8e-8 * m**2 + 1e-9 * m**3
        possible.append(Choice("reduced", reason, seconds, 8 * 4 * (m + 1) * m))
    elif quantity == "context":  # not slower than any other, at any d
        possible.append(Choice("reduced", "exact in law, O(m^3) a layer at any d (T23)", 4e-7, 8 * (m + 1) * (m + 2)))
    else:
        width = min(d, layers + 1)
        reason = "exact for this very chain in at most L + 1 coordinates at any d (T24)"
        possible.append(Choice("reduced", reason, 1e-6 + 5e-8 * width + 3e-9 * width**2, 8 * width * (width + layers)))
    if residual == "quarter_circle":
        refused["structured"] = "the quarter_circle residual has d - 1 different singular values, no low rank"
    elif quantity == "context" and m > MOST_COLUMNS:
        refused["structured"] = f"it carries at most {MOST_COLUMNS} columns; got context_dimension {m}"
    else:
        r, carried = columns or 0, m if quantity == "context" else 0
        reason = f"layers as factors of {1 + r} columns, O(d r) a layer"
        decided = possible[0].seconds if possible and quantity == "product" else 0.0  # by the same coordinates
        # Passes over the columns, orthonormal frames of r and m, and a QR along the depth of cores of size 1 + r.
        passes, frames = 1.6e-8 * d * (3 + r + carried), 1.2e-9 * d * (r**2 + carried**2)
        seconds = decided + 6e-6 + passes + frames + (8e-9 * r**3 if quantity == "product" else 0.0)
        possible.append(Choice("structured", reason, seconds, 8 * d * (1 + r + carried) * layers))
    moved = d if quantity == "product" else m
    reason = "products of d x d matrices, the oracle of every family"
    drawn = 2.3e-10 * d**3 if residual == "quarter_circle" else 0.0
    possible.append(Choice("dense", reason, 6e-6 + 2.6e-11 * d**2 * moved + 2.5e-9 * d**2 + drawn, 8 * 6 * d**2))
    if simulator == "auto":
        # From the one with the finest resolution to the coarsest; the estimates decide where they differ clearly.
        best = possible[0]
        for choice in possible[1:]:
            best = choice if best.name != "reduced" and 3 * choice.seconds < best.seconds else best
        return best
    for choice in possible:
        if choice.name == simulator:
            return Choice(choice.name, f"asked for; {choice.reason}", choice.seconds, choice.bytes)
    raise ValueError(f"simulator must be able to serve the request; got {simulator!r}: {refused[simulator]}")


def _rank(residual: Residual, rank: int | None, d: int) -> int | None:
    if residual != "low_rank":
        if rank is not None:
            raise ValueError(f"rank must be None unless residual is 'low_rank'; got {rank!r} with {residual!r}")
        return None
    if rank is None:
        raise ValueError("rank must be given for a low_rank residual; got None")
    columns = int(natural(rank, "rank"))
    if columns > d - 1:
        raise ValueError(f"rank must be at most d - 1 = {d - 1}; got {rank!r}")
    return columns
