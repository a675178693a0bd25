"""The `spi` command: one function a command, none of which imports torch or JAX before it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from bridge.commands import attack, check, data, describe, measure, models, produce, rescore, sweep
from bridge.errors import EXIT_CODES, ExitCode, SpiError

# Typer raises its own copy of click's UsageError in recent versions and click's before; BadParameter is public in both.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="spi",
    help="Test the Spectral Sensitivity Theorem on Whisper-like speech recognisers: measured against predicted.",
    epilog="Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(measure.run)
app.command("measure")(measure.measure)
app.add_typer(sweep.app, name="sweep")
app.command("attack")(attack.attack)
app.command("check")(check.check)
app.add_typer(data.app, name="data")
app.command("stress")(produce.stress)
app.command("rescore")(rescore.rescore)
app.command("nulls")(models.nulls)
app.add_typer(models.organism, name="organism")
app.command("compare")(describe.compare)
app.command("claims")(describe.claims)
app.command("report")(describe.report)
app.command("doctor")(describe.doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with a code of `bridge.errors.ExitCode`."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a known failure is one line on stderr, without a traceback.

    Args:
        arguments: without the program's name; None means those of this process.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="spi", standalone_mode=False)
    except SpiError as error:
        _print_error(error)
        return int(error.exit_code)
    except _UsageError as error:
        error.show()
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:  # which typer makes of a KeyboardInterrupt, without a word
        sys.stderr.write("spi: interrupted\n")
    return int(code or 0)


def _print_error(error: SpiError) -> None:
    sys.stderr.write(f"{error}\n" if error.verbatim else f"spi: error: {error}\n")
