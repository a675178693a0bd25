"""`spi attack`: worst-case chains against a rate or a named bound."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import ConfigError, OtherSettingsError, RunInterruptedError

if TYPE_CHECKING:
    from theory import AttackResult, AttackSpec

_FREE = "Default: left to the search, within the bound's hypotheses"


def attack(
    bound: Annotated[
        str,
        typer.Option(
            help="What to attack: growth or decay at the given gap and alignment; P1 or P2, the published bounds; T8, "
            "T9, T9-product, T10, T12, T15, T16, T27, the rigorous; product-upper, product-lower, two tempting ones."
        ),
    ] = "growth",
    depth: Annotated[int, typer.Option(help="Number of layers L, at least 2.")] = 24,
    dimension: Annotated[int, typer.Option(help="d, at least 2; 3 or more for the directions to move.")] = 4,
    gap: Annotated[
        float | None, typer.Option(help=f"xi of every layer, in [0, 1]. {_FREE}; 0.05 for growth and decay.")
    ] = None,
    alignment: Annotated[
        float | None, typer.Option(help=f"kappa of every layer, in [0, 1]. {_FREE}; 0.5 for growth and decay.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Operator norm of every layer. Default: 1; for P2 left to the search.")
    ] = None,
    restarts: Annotated[int, typer.Option(help="Random starts.")] = 128,
    steps: Annotated[int, typer.Option(help="Budget of gradient steps of every start.")] = 2000,
    seconds: Annotated[
        float | None, typer.Option(help="Budget of time; the same command then goes on where it stopped.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed finds the same chain.")] = 0,
    out: Annotated[Path, typer.Option(help="Directory of attack.json, chain.npz and the search's state.")] = Path(
        "runs/attack"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be searched, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")] = False,
) -> None:
    """Searches by gradient ascent, from random starts, for the chain that exceeds a bound most or comes nearest."""
    spec = _spec(
        {
            "bound": bound,
            "depth": depth,
            "dimension": dimension,
            "gap": gap,
            "alignment": alignment,
            "sigma": sigma,
            "restarts": restarts,
            "steps": steps,
            "seed": seed,
        }
    )
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"seconds must be positive; got {seconds!r}")
    _afford(spec)
    outcome = _plan(spec, seconds, out) if dry_run else _search(spec, seconds, out)
    typer.echo(json.dumps(outcome, indent=2, allow_nan=False) if as_json else _in_words(outcome))
    if outcome.get("interrupted"):
        raise RunInterruptedError(
            f"interrupted after {outcome['steps_done']} of {spec.steps} steps; {out / 'attack.json'} holds the best so "
            "far, and the same command goes on"
        )


def _spec(values: dict[str, Any]) -> AttackSpec:
    from bridge.running.pool import limit_threads

    limit_threads()
    import theory
    from theory.attack.spec import BOUNDS

    values["bound"] = {name.lower(): name for name in BOUNDS}.get(values["bound"].lower(), values["bound"])
    try:
        return theory.AttackSpec(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _afford(spec: AttackSpec) -> None:
    from theory.attack.search import afford

    try:
        afford(spec)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _plan(spec: AttackSpec, seconds: float | None, out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from theory.attack.search import memory
    from theory.attack.spec import BOUNDS, ranges

    return {
        "attacks": f"{spec.bound}: {BOUNDS[spec.bound]}",
        "chains": spec.restarts,
        "gradient_steps": spec.restarts * spec.steps,
        "memory_bytes": memory(spec),
        "seconds_at_most": seconds,
        "ranges": asdict(ranges(spec)),
        "files": [str(out / name) for name in ("attack.json", "chain.npz", "search.npz")],
    }


def _search(spec: AttackSpec, seconds: float | None, out: Path) -> dict[str, Any]:
    import theory
    from theory.attack.checkpoint import OtherAttackError

    _make(out)
    begun = time.monotonic()
    from tqdm import tqdm

    from bridge.running.interruption import interruptible

    with (
        interruptible() as check,
        tqdm(total=spec.steps, desc=f"attacking {spec.bound}", unit="step", file=sys.stderr, disable=None) as bar,
    ):

        def advance(steps: int, best: float) -> None:
            bar.set_postfix_str(f"best {best:+.4f} nat", refresh=False)
            bar.update(steps)
            check()

        try:
            result = theory.attack(spec, seconds=seconds, checkpoint=out / "search.npz", progress=advance)
        except OtherAttackError as error:
            raise OtherSettingsError(f"{error}; choose another --out") from error
        except KeyboardInterrupt:
            raise RunInterruptedError("interrupted before anything new was found; the same command goes on") from None
        except OSError as error:
            raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    outcome = _outcome(result, out) | {"seconds": round(time.monotonic() - begun, 2)}
    _write(result, outcome, out)
    return outcome


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in out.iterdir() if not path.name.startswith(".partial-"))
    except OSError as error:
        raise OtherSettingsError(f"{out} cannot be made: {error.strerror or error}") from error
    if strangers and "search.npz" not in strangers:
        raise OtherSettingsError(f"{out} holds {strangers[0]} and no search; choose another --out")


def _outcome(result: AttackResult, out: Path) -> dict[str, Any]:
    """The result as plain JSON values; what is infinite or has no value is null."""
    found = result.found
    parameters = found.parameters
    return {
        "bound": result.spec.bound,
        "verdict": _verdict(result),
        "quantity": found.quantity,
        "measured": _number(math.exp(min(found.log_measured, 700.0))),
        "claimed": None if math.isnan(found.log_claimed) else _number(math.exp(min(found.log_claimed, 700.0))),
        "log_excess": _number(found.log_excess),
        "rounding_margin": _number(found.margin),
        "violated": found.violated,
        "growth_a_layer_over_second_half": _number(math.exp(found.log_rate)),
        "share_of_max_rate": _number(found.share_of_max_rate),
        "slack_to_T8": _number(found.upper_slack),
        "sigma": parameters.sigma.tolist(),
        "gap": parameters.gap.tolist(),
        "alignment": [None, *parameters.alignment[1:].tolist()],
        "sup_gain": _number(float(parameters.gain[1:].max())),
        "spec": result.spec.to_dict(),
        "steps_done": result.steps_done,
        "complete": result.complete,
        "interrupted": result.interrupted,
        "history": [_number(value) for value in result.history],
        "chain": str(out / "chain.npz"),
        "result": str(out / "attack.json"),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _verdict(result: AttackResult) -> str:
    found, bound = result.found, result.spec.bound
    if math.isnan(found.log_claimed):
        return f"no cone below kappa_c: {bound} has no bound here"
    excess = abs(found.log_excess)
    by = f"a factor of {math.exp(min(excess, 700.0)):.4g}" if excess > 0.01 else f"{100 * excess:.2g} %"
    if found.violated:
        return f"violated: {found.quantity} is on the wrong side of what is claimed by {by}"
    if found.log_excess > -found.margin:
        return f"attained to rounding: {found.quantity} equals what is claimed"
    return f"holds: {found.quantity} stays on its side of the bound by {by}"


def _write(result: AttackResult, outcome: dict[str, Any], out: Path) -> None:
    import theory
    from bridge.running.files import write_json

    try:
        theory.save_chain(result.found.chain, out / "chain.npz")
        write_json(out / "attack.json", outcome)
    except OSError as error:
        raise OtherSettingsError(f"{error.filename or out} cannot be written: {error.strerror or error}") from error


def _in_words(outcome: dict[str, Any]) -> str:
    """One line a number; what has an entry for every layer is in the file."""
    return "\n".join(
        f"{name.replace('_', ' ')}: {value:.6g}" if isinstance(value, float) else f"{name.replace('_', ' ')}: {value}"
        for name, value in outcome.items()
        if name not in ("sigma", "gap", "alignment", "history", "spec")
    )
