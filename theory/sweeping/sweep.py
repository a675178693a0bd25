"""Growth and collapse of random chains over a grid of gain, alignment, gap, depth and dimension."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from theory.sweeping._grids import whole
from theory.sweeping.codes import CODE_MEANINGS
from theory.sweeping.identity import described, digest, resolved_engine
from theory.sweeping.layout import dataset, empty
from theory.sweeping.parts import parts_of, place
from theory.sweeping.plan import SweepPlan, plan_sweep, refuse_too_large
from theory.sweeping.spec import ResidualSweepSpec, SweepSpec, require_spec
from theory.sweeping.store import SweepStore
from theory.sweeping.workers import computed_parts

__all__ = ["CODE_MEANINGS", "sweep"]

Progress = Callable[[float, float, str], Any]


def sweep(
    spec: SweepSpec | ResidualSweepSpec,
    *,
    directory: str | os.PathLike[str] | None = None,
    workers: int = 1,
    limit: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Growth, collapse and critical gains of random chains over the grid, in float64 unless asked otherwise.

    The chains: the residual of the specification (flat: all d - 1 of its singular values are sigma xi), random
    directions, and sigma = gain / alignment in every layer, the first included. ||P_L|| scales exactly with sigma, so
    each (alignment, gap, depth, dimension, seed) is simulated once and serves every gain; chains that differ in
    alignment or gap alone share their random numbers, as do J_L at different gains and depths. A degenerate cell has a
    code and never stops the sweep.

    The sweep is computed in parts. With a directory each is written there when it is done, and one that was interrupted
    or killed goes on where it was, to the same bits, whatever the number of workers.

    Args:
        spec: the grid and what is asked of it.
        directory: of spec.json, parts/, timings.json and, when complete, sweep.nc; made where it is missing.
        workers: processes, >= 1. More than one are spawned: a script must guard its main part.
        limit: compute the first so many parts alone; the other cells have code 7, "not computed".
        progress: called with (seconds done, seconds in all, text) at the start and after every part, where the seconds
            are the plan's, for one core: their quotient is the fraction done, parts found in the directory included.

    Returns:
        Dataset over (injection, gain, alignment, gap, depth, dimension), each variable over those it depends on, with
        `long_name` and `units`, and codes whose meanings are in their attribute `code_meanings`. Its attribute `spec`
        is the specification as JSON, `digest` of that and the version.

    Raises:
        SweepTooLargeError: before anything starts, if memory or disk do not suffice.
        OtherSweepError: if the directory holds another sweep.
        ValueError: if an argument leaves its range, or no simulator can serve.
        RuntimeError: if a worker process dies.
        MemoryError: if memory runs out although the plan fits; the parts that are done stay, as after any error.
    """
    require_spec(spec)
    count = whole(workers, "workers", 1)
    first = None if limit is None else whole(limit, "limit", 1)
    if count > 1 and resolved_engine(spec) == "jax":
        raise ValueError(f"workers must be 1 with the engine 'jax', which spreads over the devices itself; got {count}")
    plan = plan_sweep(spec, workers=count)
    folder = None if directory is None else _folder(directory)
    store = None if folder is None else SweepStore(folder, spec)
    if store is not None:
        store.check()
        there = store.read_whole()
        if there is not None:
            if progress is not None:
                progress(plan.seconds, plan.seconds, "the sweep was there")
            return dataset(spec, there, _attributes(spec, plan))
    refuse_too_large(spec, plan, folder, store.present() if store is not None else 0)
    if store is not None:
        store.open()
    arrays = empty(spec)
    parts = list(parts_of(spec))
    asked = parts[:first]
    missing = []
    for part in asked:
        found = store.read(part) if store is not None else None
        if found is None:
            missing.append(part)
        else:
            place(spec, part, found, arrays)
    total = sum(part.seconds for part in asked)
    done = total - sum(part.seconds for part in missing)
    if progress is not None:
        progress(done, total, f"{len(asked) - len(missing)} of {len(asked)} parts were there")
    last = time.monotonic()
    finished = len(asked) - len(missing)
    try:
        with contextlib.closing(computed_parts(spec, missing, folder, count)) as stream:
            for part, values, seconds in stream:
                place(spec, part, values, arrays)
                done, finished = done + part.seconds, finished + 1
                if store is not None:
                    store.timed(part, seconds)
                    if time.monotonic() - last > 1.0:
                        store.write_timings()
                        last = time.monotonic()
                if progress is not None:
                    progress(min(done, total), total, f"part {finished} of {len(asked)}: {part.name}")
    finally:
        if store is not None:
            store.write_timings()
    result = dataset(spec, arrays, _attributes(spec, plan))
    if store is not None and len(asked) == len(parts):
        store.write_whole(result, parts)
    return result


def _folder(directory: Any) -> Path:
    # Path("") would be the current directory.
    if not isinstance(directory, str | os.PathLike) or not str(directory).strip():
        raise ValueError(f"directory must be a path; got {directory!r}")
    return Path(directory)


def _attributes(spec: SweepSpec | ResidualSweepSpec, plan: SweepPlan) -> dict[str, Any]:
    """What the dataset says of itself: nothing that differs between two runs of one specification."""
    attrs: dict[str, Any] = {"seeds": spec.seeds, "seed": spec.seed, "level": spec.level}
    if isinstance(spec, SweepSpec):
        attrs |= {
            "residual": spec.residual,
            "directions": "random",
            "sigma": "gain / alignment in every layer, the first included",
        }
    return attrs | {
        "cells": plan.cells,
        "context_jacobians": plan.jacobians,
        "distinct_chains": plan.distinct_chains,
        "simulators": json.dumps(plan.simulators, sort_keys=True),
        "spec": json.dumps(described(spec), sort_keys=True),
        "digest": digest(spec),
    }
