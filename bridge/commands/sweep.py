"""`spi sweep`: the phase boundary over a grid of random chains, computed in parts, resumed, and drawn."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.commands.sweep_options import FAMILIES, SweepRequest, make_request
from bridge.errors import ConfigError, ExitCode, OtherSettingsError, RunInterruptedError, SpiError

if TYPE_CHECKING:
    import xarray as xr


class WorkerDiedError(SpiError):
    """A process of the sweep ended in the middle; the parts that are done stay."""

    exit_code = ExitCode.SOME_FAILED


app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, add_completion=False)

_PRIOR = 0.05
"""Share of the work after which the pace so far counts as much as the plan: the first parts are small."""

_GRID = "values a,b,c or first:last:count"


@app.callback()
def sweep(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the parts, sweep.nc and figures.  [default: runs/sweep]")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="A named sweep, which the other options change; an unknown name lists them.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help=f"Of chains: {', '.join(FAMILIES)}; residual is I + F.  [default: flat]")
    ] = None,
    gain: Annotated[str | None, typer.Option(help=f"rho: {_GRID}, evenly spaced in the logarithm.")] = None,
    alignment: Annotated[str | None, typer.Option(help=f"kappa: {_GRID}.")] = None,
    gap: Annotated[str | None, typer.Option(help=f"xi: {_GRID}.")] = None,
    strength: Annotated[
        str | None, typer.Option(help=f"||F|| of the family residual: {_GRID}, evenly spaced in the logarithm.")
    ] = None,
    persistence: Annotated[
        str | None, typer.Option(help=f"Of the family residual, omega of what two layers write: {_GRID}.")
    ] = None,
    rank: Annotated[
        str | None, typer.Option(help="Of F, a grid, for residual; of what remains, one number, for low-rank.")
    ] = None,
    depth: Annotated[str | None, typer.Option(help=f"{_GRID.capitalize()}, whole numbers.")] = None,
    dimension: Annotated[str | None, typer.Option(help=f"{_GRID.capitalize()}, whole numbers.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Chains a cell; intervals at 95 % need 6.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the whole sweep.")] = None,
    quantities: Annotated[
        str | None, typer.Option(help="Of product (P_L) and early (the first injection alone).  [default: product]")
    ] = None,
    injections: Annotated[
        str | None, typer.Option(help="Of coherent, random and mixed: the context Jacobian under each.")
    ] = None,
    context_dimension: Annotated[int | None, typer.Option(help="Directions of the context, 1 or 2.")] = None,
    level: Annotated[float | None, typer.Option(help="Of the intervals.  [default: 0.95]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float64 or float32, of J_L.")] = None,
    simulator: Annotated[
        str | None, typer.Option(help="By default the cheapest exact one; dense is the oracle.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="numpy or jax; by default jax where there is an accelerator.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; the numbers do not depend on it.")] = None,
    limit: Annotated[int | None, typer.Option(help="Compute N parts now; the same command goes on later.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML of these options; the command line wins over it.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say cells, chains, time, disk and memory, and stop.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw them when the sweep is complete.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """The phase boundary of random chains over a grid: growth, collapse, critical gains; figures with them.

    Parts are written as they are done, so that the same command goes on after a stop, to the same bits.
    """
    options = {
        name: value
        for name, value in context.params.items()
        if name not in ("config", "dry_run", "figures", "as_json") and value is not None
    }
    if context.invoked_subcommand is not None:
        if options or config is not None or dry_run or as_json or not figures:
            raise ConfigError(f"options of {context.invoked_subcommand} come after its name; got some before it")
        return
    request = make_request(config, options)
    outcome = _plan(request)
    if not dry_run:
        outcome = _run(request, outcome, figures=figures)
    typer.echo(json.dumps(outcome, indent=2, allow_nan=False) if as_json else _in_words(outcome))


@app.command("plot")
def plot(
    directory: Annotated[Path, typer.Argument(help="Directory of sweep.nc, or that file.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Directory of the figures.  [default: that of sweep.nc]")] = None,
    narrow: Annotated[bool, typer.Option("--narrow", help="One column, for a telephone or a paper's column.")] = False,
    only: Annotated[str | None, typer.Option(help="Names of figures a,b,c; an unknown name lists them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Draws every figure a finished sweep has, as SVG, PDF and PNG, from its records alone."""
    path = directory / "sweep.nc" if directory.is_dir() else directory
    dataset = _read(path)
    names = None if only is None else [name.strip() for name in only.split(",")]
    outcome = {"sweep": str(path), "figures": draw(dataset, out or path.parent, narrow=narrow, only=names)}
    typer.echo(json.dumps(outcome, indent=2) if as_json else _in_words(outcome))


def draw(
    dataset: xr.Dataset, out: Path, *, narrow: bool = False, only: list[str] | None = None, progress: bool = True
) -> list[str]:
    """Writes the figures of a sweep and returns the paths of their SVG files.

    Raises:
        ConfigError: if one asked for is not among them.
        OtherSettingsError: if the directory cannot be written.
    """
    from tqdm import tqdm

    from bridge.reporting.figures.style import save
    from bridge.reporting.figures.sweeps import sweep_figures

    known = sweep_figures(dataset)
    for name in only or ():
        if name not in known:
            raise ConfigError(f"figure must be one of {', '.join(known)}; got {name!r}")
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in tqdm(
            only or known, desc="drawing", unit="figure", file=sys.stderr, disable=None if progress else True
        ):
            path = f"{name}_narrow" if narrow else name
            save(known[name](narrow=narrow), out, path, pdf=True)
            written.append(str(out / f"{path}.svg"))
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    return written


def _plan(request: SweepRequest) -> dict[str, Any]:
    """What the sweep is and will cost, as plain JSON values.

    Raises:
        ConfigError: if it needs more memory or disk than there is.
        OtherSettingsError: if the directory holds another sweep.
    """
    from dataclasses import asdict

    from theory.sweeping.plan import plan_sweep, refuse_too_large
    from theory.sweeping.store import OtherSweepError, SweepStore

    spec = request.spec
    store = SweepStore(request.out, spec)
    try:
        store.check()
        plan = plan_sweep(spec, workers=request.workers or 1)
        refuse_too_large(spec, plan, request.out, store.present())
    except OtherSweepError as error:
        raise OtherSettingsError(str(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise OtherSettingsError(
            f"{error.filename or request.out} cannot be read: {error.strerror or error}"
        ) from error
    axes = [name for name in ("gain", "strength", "alignment", "gap", "persistence", "rank") if _is_grid(spec, name)]
    shape = {name: len(getattr(spec, name)) for name in (*axes, "depth", "dimension")}
    outcome: dict[str, Any] = {"grid": shape, "chains_a_cell": spec.seeds, "sweep": str(request.out / "sweep.nc")}
    return outcome | asdict(plan) | {"parts_done": _parts_done(request.out)}


def _parts_done(out: Path) -> int:
    return sum(not path.name.startswith(".") for path in (out / "parts").glob("*.nc"))


def _is_grid(spec: Any, name: str) -> bool:
    return isinstance(getattr(spec, name, None), tuple)


def _run(request: SweepRequest, planned: dict[str, Any], *, figures: bool) -> dict[str, Any]:
    """Computes what is left of the sweep, and draws it when it is whole.

    Raises:
        OtherSettingsError: if the directory holds another sweep, or cannot be written.
        RunInterruptedError: on Ctrl-C and SIGTERM.
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
        except RuntimeError as error:
            raise WorkerDiedError(str(error)) from error
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


def _read(path: Path) -> xr.Dataset:
    from bridge.running.phasemap import read_sweep

    if not path.exists():
        raise ConfigError(f"{path.parent} holds no sweep.nc: no finished sweep")
    try:
        dataset = read_sweep(path)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read as a sweep: {error}") from error
    if "depth" not in dataset.dims or "dimension" not in dataset.dims:
        raise ConfigError(f"{path} is no sweep: it has no depth and dimension")
    return dataset


def _in_words(outcome: dict[str, Any]) -> str:
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
        elif isinstance(value, list):
            text = ", ".join(str(one) for one in value)
        elif isinstance(value, int) and not isinstance(value, bool):
            text = f"{value:,}"
        else:
            text = str(value)
        lines.append(f"{name.removesuffix('_bytes').replace('_', ' ')}: {text}")
    return "\n".join(lines)
