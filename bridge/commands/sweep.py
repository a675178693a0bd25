"""`spi sweep`: the phase boundary over a grid of random chains, computed in parts, resumed, and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.sweep_options import FAMILIES, directory_of, make_request
from bridge.commands.sweep_run import draw, in_words, plan_request, read, run_request, work_of
from bridge.errors import ConfigError

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, add_completion=False)

_GRID = "values a,b,c or first:last:count"


@app.callback()
def sweep(
    context: typer.Context,
    out: Annotated[
        str | None, typer.Option(help="Directory of the parts, sweep.nc and figures.  [default: runs/sweep]")
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
    limit: Annotated[
        int | None, typer.Option(help="Stop after the first N parts; without it the same command goes on.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML of these options; the command line wins over it.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say cells, chains, time, disk, memory and what is left to do, and stop.")
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
    outcome = plan_request(request)
    if dry_run:
        outcome |= work_of(request)
    else:
        outcome = run_request(request, outcome, figures=figures)
    typer.echo(json.dumps(outcome, indent=2, allow_nan=False) if as_json else in_words(outcome))


@app.command("plot")
def plot(
    directory: Annotated[str, typer.Argument(help="Directory of sweep.nc, or that file.", show_default=False)],
    out: Annotated[str | None, typer.Option(help="Directory of the figures.  [default: that of sweep.nc]")] = None,
    narrow: Annotated[bool, typer.Option("--narrow", help="One column, for a telephone or a paper's column.")] = False,
    only: Annotated[str | None, typer.Option(help="Names of figures a,b,c; an unknown name lists them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Draws every figure a finished sweep has, as SVG, PDF and PNG, from its records alone."""
    path = directory_of("directory", directory)
    path = path / "sweep.nc" if path.is_dir() else path
    where = path.parent if out is None else directory_of("out", out)
    dataset = read(path)
    names = None if only is None else [name.strip() for name in only.split(",")]
    written = draw(dataset, where, narrow=narrow, only=names)
    if not written:
        raise ConfigError(f"{path} has nothing that a figure shows")
    outcome = {"sweep": str(path), "figures": written}
    typer.echo(json.dumps(outcome, indent=2) if as_json else in_words(outcome))
