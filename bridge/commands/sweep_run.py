"""What `spi sweep` does with a request: says its cost, computes what is left, draws, and puts the outcome in words."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.commands.sweep_options import SweepRequest
from bridge.errors import ConfigError, ExitCode, OtherSettingsError, RunInterruptedError, SpiError

if TYPE_CHECKING:
    import xarray as xr

_AXES = ("gain", "alignment", "gap", "depth", "dimension")
_RESIDUAL_AXES = ("strength", "alignment", "persistence", "rank", "depth", "dimension")

_PRIOR = 0.05
"""Share of the work after which the pace so far counts as much as the plan: the first parts are small."""


class SweepStoppedError(SpiError):
    """A process of the sweep ended in the middle, or memory did; the parts that are done stay."""

    exit_code = ExitCode.SOME_FAILED


def draw(
    dataset: xr.Dataset, out: Path, *, narrow: bool = False, only: list[str] | None = None, progress: bool = True
) -> list[str]:
    """Writes the figures of a sweep and returns the paths of all their files.

    Raises:
        ConfigError: if one asked for is not among them.
        OtherSettingsError: if the directory cannot be written.
        SweepStoppedError: if memory does not suffice.
    """
    from tqdm import tqdm

    from bridge.reporting.figures.style import save
    from bridge.reporting.figures.sweeps import sweep_figures

    known = sweep_figures(dataset)
    for name in only or ():
        if name not in known:
            allowed = f"be one of {', '.join(known)}" if known else "not be asked for: this sweep has none"
            raise ConfigError(f"figure must {allowed}; got {name!r}")
    written = []
    try:
        if known:
            out.mkdir(parents=True, exist_ok=True)
        for name in tqdm(
            only or known, desc="drawing", unit="figure", file=sys.stderr, disable=None if progress else True
        ):
            path = f"{name}_narrow" if narrow else name
            save(known[name](narrow=narrow), out, path, pdf=True)
            written += [str(out / f"{path}.{kind}") for kind in ("svg", "pdf", "png")]
    except MemoryError as error:
        raise _no_memory("draw", error) from error
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    return written


def plan_request(request: SweepRequest) -> dict[str, Any]:
    """What the sweep is and will cost, as plain JSON values.

    Raises:
        ConfigError: if it needs more memory or disk than there is.
        OtherSettingsError: if the directory holds another sweep, or something else.
    """
    from dataclasses import asdict

    from theory.sweeping.plan import plan_sweep, refuse_too_large
    from theory.sweeping.store import OtherSweepError, SweepStore

    spec = request.spec
    store = SweepStore(request.out, spec)
    try:
        store.check()
        _refuse_foreign(request.out)
        plan = plan_sweep(spec, workers=request.workers or 1)
        refuse_too_large(spec, plan, request.out, store.present())
    except OtherSweepError as error:
        raise OtherSettingsError(str(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except MemoryError as error:
        raise ConfigError(f"{_words(error)}; take a smaller grid, fewer seeds or a lesser depth") from error
    except OSError as error:
        raise OtherSettingsError(
            f"{error.filename or request.out} cannot be read: {error.strerror or error}"
        ) from error
    axes = [name for name in ("gain", "strength", "alignment", "gap", "persistence", "rank") if _is_grid(spec, name)]
    shape = {name: len(getattr(spec, name)) for name in (*axes, "depth", "dimension")}
    outcome: dict[str, Any] = {"grid": shape, "chains_a_cell": spec.seeds, "sweep": str(request.out / "sweep.nc")}
    return outcome | asdict(plan) | {"parts_done": _parts_done(request.out)}


def _refuse_foreign(out: Path) -> None:
    """Refuses a directory of something else, whose figures or tables would be overwritten or mixed with ours.

    Raises:
        OtherSettingsError: naming a file that is there.
    """
    if (out / "spec.json").exists() or not out.is_dir():
        return
    settings = out / "settings.json"
    if settings.exists():
        raise OtherSettingsError(f"{out} belongs to a run of another command; choose another directory")
    drawn = sorted(path.name for path in out.iterdir() if path.suffix in (".svg", ".pdf", ".png"))
    if drawn:
        raise OtherSettingsError(
            f"{out} holds {drawn[0]} and no sweep, whose figures might overwrite it; choose another directory"
        )


def work_of(request: SweepRequest) -> dict[str, Any]:
    """What the command would compute now, parts that are there and a limit taken into account.

    Raises:
        OtherSettingsError: if the directory cannot be read.
    """
    from theory.sweeping.plan import work_left

    try:
        parts, seconds = work_left(request.spec, request.out, workers=request.workers or 1, limit=request.limit)
    except OSError as error:
        raise OtherSettingsError(
            f"{error.filename or request.out} cannot be read: {error.strerror or error}"
        ) from error
    return {"parts_to_compute": parts, "seconds_to_compute": seconds}


def _parts_done(out: Path) -> int:
    return sum(not path.name.startswith(".") for path in (out / "parts").glob("*.nc"))


def _is_grid(spec: Any, name: str) -> bool:
    return isinstance(getattr(spec, name, None), tuple)


def run_request(request: SweepRequest, planned: dict[str, Any], *, figures: bool) -> dict[str, Any]:
    """Computes what is left of the sweep, and draws it when it is whole.

    Raises:
        OtherSettingsError: if the directory holds another sweep, or cannot be written.
        RunInterruptedError: on Ctrl-C and SIGTERM.
        SweepStoppedError: if a worker dies, or memory does not suffice.
    """
    from tqdm import tqdm

    from bridge.running.estimate import duration
    from bridge.running.interruption import interruptible
    from theory.sweeping.store import OtherSweepError
    from theory.sweeping.sweep import sweep as compute

    out, begun, computed, workers = request.out, time.monotonic(), False, request.workers or 1
    bar_format = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
    with (
        interruptible() as check,
        tqdm(total=1.0, desc="sweeping", bar_format=bar_format, file=sys.stderr, disable=None) as bar,
    ):

        def advance(done: float, total: float, text: str) -> None:
            nonlocal computed
            computed = computed or done < total
            if bar.total != total:  # the first call says what an earlier run has done, which is no speed of this one
                bar.reset(total)
                bar.initial = bar.n = bar.last_print_n = done
            left = seconds_left(time.monotonic() - begun, done - bar.initial, total - bar.initial, workers)
            bar.set_postfix_str(f"about {duration(left)} left, {text}", refresh=False)
            bar.update(done - bar.n)
            check()

        try:
            dataset = compute(
                request.spec,
                directory=out,
                workers=workers,
                limit=request.limit,
                progress=advance,
            )
            check()
        except KeyboardInterrupt:
            raise RunInterruptedError(
                f"interrupted; {out} holds every part that was done, and the same command goes on"
            ) from None
        except OtherSweepError as error:
            raise OtherSettingsError(str(error)) from error
        except OSError as error:
            raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except MemoryError as error:
            raise _no_memory("go on", error) from error
        except RuntimeError as error:
            raise SweepStoppedError(str(error)) from error
    outcome = planned | {"computed": computed, "seconds_taken": round(time.monotonic() - begun, 2)}
    outcome["parts_done"] = _parts_done(out)
    if not (out / "sweep.nc").exists():
        return outcome | {"complete": False, "left": "the same command without --limit goes on"}
    return outcome | {"complete": True, "figures": draw(dataset, out) if figures else []}


def seconds_left(elapsed: float, done: float, total: float, workers: int) -> float:
    """What the work that is left will take: at first as planned, more and more as fast as it has gone so far.

    Args:
        elapsed: seconds of this run.
        done: planned seconds, for one process, of what this run has done.
        total: of all it has to do.
        workers: processes.
    """
    prior = _PRIOR * total
    pace = (elapsed + prior / workers) / (done + prior) if total > 0 else 0.0
    return pace * (total - done)


def read(path: Path) -> xr.Dataset:
    """A finished sweep.

    Raises:
        ConfigError: if there is none, it is damaged, or lacks an axis.
    """
    from bridge.running.phasemap import read_sweep
    from theory.sweeping.store import is_damaged

    if not path.exists():
        raise ConfigError(f"{path.parent} holds no sweep.nc: no finished sweep")
    try:
        damaged = is_damaged(path)
        dataset = None if damaged else read_sweep(path)
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise ConfigError(f"{path} cannot be read as a sweep: {_words(error)}") from error
    if dataset is None:
        raise ConfigError(f"{path} is damaged: {path.name}.sha256 tells another checksum; `spi sweep` makes it anew")
    axes = _RESIDUAL_AXES if "strength" in dataset.dims else _AXES
    missing = [name for name in axes if name not in dataset.dims or name not in dataset.coords]
    if missing:
        raise ConfigError(f"{path} is no sweep: it lacks the axis {missing[0]}")
    return dataset


def in_words(outcome: dict[str, Any]) -> str:
    """What came of it, one line a field; of the files of a figure the SVG alone."""
    from bridge.running.estimate import duration

    lines = []
    for name, value in outcome.items():
        if name == "grid":
            text = " x ".join(f"{count} {axis}" for axis, count in value.items())
        elif name.endswith("_bytes"):
            text = f"{value / 2**20:.1f} MiB"
        elif name.startswith("seconds") and value is not None:
            text = duration(value) if value >= 10 else f"{value:.2g} s"
        elif isinstance(value, dict):
            text = "; ".join(f"{key}: {one}" for key, one in value.items())
        elif name == "figures" and isinstance(value, list):
            text = ", ".join(one for one in value if one.endswith(".svg")) or "none"
        elif isinstance(value, int) and not isinstance(value, bool):
            text = f"{value:,}"
        else:
            text = str(value)
        lines.append(f"{name.removesuffix('_bytes').replace('_', ' ')}: {text}")
    return "\n".join(lines)


def _no_memory(what: str, error: MemoryError) -> SweepStoppedError:
    return SweepStoppedError(f"no memory to {what}: {_words(error)}; the parts that are done stay")


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
