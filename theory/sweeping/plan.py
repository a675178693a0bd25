"""What a sweep will cost, told before it starts, and refused where the machine has less."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from theory.chains._requests import available_bytes
from theory.simulators.choose import Choice
from theory.sweeping._grids import whole
from theory.sweeping.identity import resolved_engine
from theory.sweeping.layout import sizes, variables
from theory.sweeping.parts import parts_of, simulators
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, injections_of, require_spec
from theory.sweeping.store import SweepStore

__all__ = ["SweepPlan", "SweepTooLargeError", "plan_sweep", "refuse_too_large", "work_left"]

START_S = 6.0
"""Seconds until the first part is at work, imports and compilation included."""

COMPILE_S = 40.0
"""Compiling where a simulator or engine is compiled, for the few numbers of cells that are asked for at once."""

PART_FILE_BYTES = 16 * 2**10
"""Of a part's file beside its numbers."""

PROCESS_BYTES = 400 * 2**20
"""Of a worker process with its libraries."""


class SweepTooLargeError(ValueError):
    """The machine has less memory or disk than the sweep needs."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep is made of and what it costs.

    Attributes:
        parts: pieces it is computed in.
        cells: points of the grid, injections apart.
        jacobians: J_L on the map: points x injections x chains. Those of the search for critical gains come on top.
        distinct_chains: chains that share no random numbers. All cells of one dimension (for products: of one depth and
            dimension) run on the same draws, so that intervals within a cell are right and cells are correlated.
        seconds: estimate with so many workers, from rates measured on one machine: right within a factor of some
            three elsewhere. `sweep` reports its own progress as it goes.
        disk_bytes: of the directory when complete.
        memory_bytes: most that is held at once, by all workers.
        simulators: for each quantity which simulator serves it, and why.
    """

    parts: int
    cells: int
    jacobians: int
    distinct_chains: int
    seconds: float
    disk_bytes: int
    memory_bytes: int
    simulators: dict[str, str]


def plan_sweep(spec: SweepSpec | ResidualSweepSpec, *, workers: int = 1) -> SweepPlan:
    """Counts, time, disk and memory of a sweep, without computing any of it.

    Args:
        spec: of the sweep.
        workers: processes it would run in.

    Raises:
        SweepTooLargeError: if the results alone exceed the memory that is free.
        ValueError: if it is no specification, or no simulator can serve a quantity.
    """
    require_spec(spec)
    count = whole(workers, "workers", 1)
    length = sizes(spec)
    results = sum(8 * math.prod(length[dim] for dim in variable.dims) for variable in variables(spec).values())
    # Before the parts are counted: an immense grid has immensely many.
    _refuse(f"a grid of {_shape(spec)}, its results alone,", 2 * results, available_bytes(), "memory")
    choices = _chosen(spec)
    parts, seconds, largest = 0, 0.0, 0
    for part in parts_of(spec):
        parts, seconds, largest = parts + 1, seconds + part.seconds, max(largest, part.memory_bytes)
    points = math.prod(length[name] for name in length if name not in ("transition", "injection"))
    return SweepPlan(
        parts=parts,
        cells=points,
        jacobians=points * len(spec.injections) * spec.seeds,
        distinct_chains=_distinct(spec),
        seconds=_seconds(spec, seconds, min(count, parts)),
        disk_bytes=2 * results + parts * PART_FILE_BYTES,
        memory_bytes=2 * results + count * largest + (count * PROCESS_BYTES if count > 1 else 0),
        simulators=choices,
    )


def work_left(
    spec: SweepSpec | ResidualSweepSpec, directory: Path, *, workers: int = 1, limit: int | None = None
) -> tuple[int, float]:
    """The parts that `sweep` with these arguments would compute, and the seconds they will take; computes none.

    Args:
        spec: of the sweep.
        directory: of the sweep, which may be missing, begun or complete.
        workers: processes it would run in.
        limit: of the first so many parts alone, as in `sweep`.

    Raises:
        OSError: if the directory cannot be read.
    """
    store = SweepStore(directory, spec)
    if store.read_whole() is not None:
        return 0, 0.0
    missing = [part.seconds for part in islice(parts_of(spec), limit) if store.read(part) is None]
    if not missing:
        return 0, 0.0
    return len(missing), _seconds(spec, sum(missing), min(workers, len(missing)))


def _seconds(spec: SweepSpec | ResidualSweepSpec, work: float, workers: int) -> float:
    return START_S + _compiled(spec) * COMPILE_S + work / workers


def refuse_too_large(
    spec: SweepSpec | ResidualSweepSpec, plan: SweepPlan, directory: Path | None, present: int
) -> None:
    """Refuses a sweep that this machine cannot hold.

    Args:
        spec: of the sweep.
        plan: of the sweep.
        directory: where it would be written, None for nowhere.
        present: bytes of it that are there already.

    Raises:
        SweepTooLargeError: with what it needs and what is free.
    """
    what = f"a sweep over {_shape(spec)}"
    _refuse(what, plan.memory_bytes, available_bytes(), "memory")
    if directory is not None:
        where = next(path for path in (directory, *directory.absolute().parents) if path.is_dir())
        _refuse(what, max(plan.disk_bytes - present, 0), shutil.disk_usage(where).free, f"disk at {directory}")


def _refuse(what: str, needed: int, free: int, where: str) -> None:
    if needed > free:
        raise SweepTooLargeError(
            f"{what} needs {needed / 2**30:.3g} GiB of {where}; {free / 2**30:.3g} GiB are free. "
            "Take a smaller grid, fewer seeds or a lesser depth"
        )


def _compiled(spec: SweepSpec | ResidualSweepSpec) -> bool:
    """Whether some simulator or the engine is compiled at run time."""
    if isinstance(spec, ResidualSweepSpec):
        return False
    choices = [choice for choice in simulators(spec).values() if isinstance(choice, Choice)]
    reduced = all(choice.name == "reduced" for choice in choices)
    return not reduced or (resolved_engine(spec) == "jax" and bool(spec.injections or "early" in spec.quantities))


def _shape(spec: SweepSpec | ResidualSweepSpec) -> str:
    grid = " x ".join(f"{n} {name}s" for name, n in sizes(spec).items() if name != "transition")
    return f"{grid} ({spec.seeds:,} seeds, depth {max(spec.depth):,} and dimension {max(spec.dimension):,} at most)"


def _chosen(spec: SweepSpec | ResidualSweepSpec) -> dict[str, str]:
    if isinstance(spec, ResidualSweepSpec):
        return {"context": "reduced: exact in law, O((r + m) m^2) a layer at any d (T32)"}
    found = simulators(spec)
    words = {
        key: f"{choice.name}: {choice.reason.removeprefix('asked for; ')}" if isinstance(choice, Choice) else choice
        for key, choice in found.items()
    }
    result: dict[str, str] = {}
    for name in dict.fromkeys(name for name, _ in words):
        mine = {dimension: text for (which, dimension), text in words.items() if which == name}
        if len(set(mine.values())) == 1:
            result[name] = next(iter(mine.values()))
        else:
            result |= {f"{name} at d = {dimension}": text for dimension, text in mine.items()}
    return result


def _distinct(spec: SweepSpec | ResidualSweepSpec) -> int:
    frames = len({item.frame for item in injections_of(spec)})
    if isinstance(spec, ResidualSweepSpec):
        return spec.seeds * len(spec.dimension) * len(spec.rank) * frames
    streams = frames + ("early" in spec.quantities)
    return spec.seeds * len(spec.dimension) * (streams + len(spec.depth) * ("product" in spec.quantities))
