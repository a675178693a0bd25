"""Commands about models: the bundled organisms, and null models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from bridge.errors import ConfigError, ModelError, NotMeasuredError, NoUsableAudioError, OtherSettingsError, reason
from bridge.running.config import DTYPES, STATES

if TYPE_CHECKING:
    from empirical import Clip
    from empirical.hearing import TokensFrom
    from empirical.jacobians.measurement import State

organism = typer.Typer(help="Train or list the bundled model organisms.", no_args_is_help=True, rich_markup_mode=None)


@organism.command("list")
def list_bundled(as_json: Annotated[bool, typer.Option("--json", help="A JSON array on stdout.")] = False) -> None:
    """The bundled organisms: name, path, parameters, word error rate clean and stressed."""
    from empirical.organism import list_organisms

    found = list_organisms()
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "path": str(one.path)} for one in found], indent=2))
        return
    for one in found:
        stressed = ", ".join(f"{name} {value:.2f}" for name, value in one.wer_stressed.items())
        typer.echo(
            f"{one.name}: {one.parameters} parameters, {one.encoder_layers}+{one.layers} layers of {one.d_model}; "
            f"WER {one.wer_clean:.3f}, accents never heard {one.wer_unseen_accents:.3f}, {stressed}; {one.path}"
        )


@organism.command("train")
def train_one(
    name: Annotated[str, typer.Argument(help="Name of a recipe.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Checkpoint directory to make.", show_default=False)],
    work: Annotated[Path, typer.Option(help="Directory of caches and checkpoints, about 350 MB; resumed from.")] = Path(
        "runs/training"
    ),
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was made as JSON on stdout.")] = False,
) -> None:
    """Renders the corpus, trains, evaluates and writes a checkpoint directory; needs espeak-ng, some ten minutes."""
    from empirical.organism import RenderError, train

    try:
        made = train(name, out, seed=seed, work_dir=work / name, resume=resume)
    except (ValueError, RenderError) as error:
        raise ConfigError(str(error)) from error
    typer.echo(json.dumps({**asdict(made), "path": str(made.path)}, indent=2) if as_json else str(made.path))


@organism.command("random")
def random_one(
    name: Annotated[str, typer.Argument(help="A published Whisper: tiny, small, turbo, large-v3, distil-small.en.")],
    out: Annotated[Path, typer.Option(help="Checkpoint directory to make.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the weights.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float16, on disk; loaded as any other.")] = "float32",
    tokenizer: Annotated[
        Path | None, typer.Option(help="Checkpoint directory whose tokenizer is used. Default: a bundled organism's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say the size, and write nothing.")] = False,
) -> None:
    """Writes random weights at the dimensions of a published Whisper: not that model, but its size, time and memory."""
    from empirical.checkpoints.published import find_published, parameter_count, stored_bytes, write_random_checkpoint

    try:
        dimensions = find_published(name)
        size, count = stored_bytes(dimensions, dtype), parameter_count(dimensions)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    said = (
        f"{dimensions.name}: {count:,} parameters, {dimensions.encoder_layers}+{dimensions.decoder_layers} layers of "
        f"{dimensions.width}; {_gigabytes(size)} on disk as {dtype}, {_gigabytes(4 * count)} of memory to draw them"
    )
    typer.echo(said, err=not dry_run)
    if dry_run:
        return
    try:
        existing = next(path for path in (out, *out.resolve().parents) if path.exists())
        if existing == out:
            raise OtherSettingsError(f"{out} exists; choose another --out")
        free = shutil.disk_usage(existing).free
        if free < size:
            raise OtherSettingsError(f"{out} needs {_gigabytes(size)}; {_gigabytes(free)} are free there")
        made = write_random_checkpoint(name, out, seed, dtype=dtype, tokenizer=tokenizer)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise _unwritable(out, error) from error
    typer.echo(str(made))


@organism.command("clips")
def held_out_clips(
    out: Annotated[Path, typer.Option(help="Directory to make.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Clips; those of a smaller count are the first of a larger.")] = 240,
) -> None:
    """Renders sentences that no organism was trained on, in the layout of LibriSpeech; needs espeak-ng."""
    from empirical.organism import RenderError, write_held_out_clips

    try:
        write_held_out_clips(out, count)
    except (ValueError, RenderError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise _unwritable(out, error) from error
    typer.echo(str(out))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def nulls(
    model: Annotated[str, typer.Option(help="As for spi measure.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet file to write.", show_default=False)],
    audio: Annotated[Path | None, typer.Option(help="Directory of audio. Default: the bundled clips.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Clips, the first usable ones.")] = 2,
    conditions: Annotated[str, typer.Option(help="Under which each is heard.")] = "clean,noise",
    draws: Annotated[int, typer.Option(min=1, help="Draws of each null model.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the draws.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    kinds: Annotated[
        str | None, typer.Option(help="Among random_weights,shuffled_layers,random_singular_vectors. Default: all.")
    ] = None,
    states: Annotated[str, typer.Option(help=f"Among {','.join(STATES)}.")] = "position",
    contexts: Annotated[
        str | None,
        typer.Option(
            help="Layers whose context Jacobian is measured: all, last, or none (injections neither). Default: all in "
            "a state of one position, last in a state of all positions."
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(help="own or reference, as for spi measure.")] = "own",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="As for spi measure.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Measures null models along a model's own transcripts: random weights, random singular vectors, shuffled layers.

    A file named nulls.parquet beside the model's weights is used by `spi run`.
    """
    if out.exists():
        raise OtherSettingsError(f"{out} exists; choose another --out")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if not model.strip():
        raise ConfigError(f"model must not be empty; got {model!r}")
    import torch
    from tqdm import tqdm

    from empirical import ClipError, StressError, bundled_clips, scan_clips
    from empirical.checkpoints.checkpoint import CheckpointError
    from empirical.errors import MeasuringError
    from empirical.hearing import check_request, check_tokens_from
    from empirical.jacobians.decompositions import NonFiniteError
    from empirical.jacobians.operators import is_out_of_memory
    from empirical.nulls import KINDS, Contexts, check_null_request, write_nulls
    from empirical.organism import list_organisms
    from empirical.recognition.reference import ReferenceTokensError

    chosen = KINDS if kinds is None else _listed(kinds)
    heard = _listed(conditions)
    wanted, depths = cast("tuple[State, ...]", _listed(states)), cast("Contexts | None", contexts)
    try:
        check_null_request(chosen, wanted, depths)
        check_tokens_from(tokens)
        check_request(heard, wanted)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # Before the measuring, which takes minutes, and not after it.
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
        out.unlink()
    except OSError as error:
        raise _unwritable(out, error) from error
    torch.set_num_threads(1)
    bundled = {one.name: one.path for one in list_organisms()}
    reference = model if Path(model).exists() else bundled.get(model, model)
    try:
        clips = _first_usable(bundled_clips() if audio is None else scan_clips(audio).clips, limit)
        with tqdm(desc="null models", unit="model", file=sys.stderr, disable=True if quiet else None) as bar:

            def advance(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            rows = write_nulls(
                reference,
                clips,
                out,
                draws,
                seed,
                dtype=dtype,
                conditions=heard,
                kinds=chosen,
                states=wanted,
                contexts=depths,
                tokens=cast("TokensFrom", tokens),
                max_tokens=max_tokens,
                progress=advance,
            )
    except CheckpointError as error:
        raise ModelError(str(error), verbatim=error.code == "unreachable") from error
    except (ClipError, StressError, ReferenceTokensError) as error:
        raise NoUsableAudioError(str(error)) from error
    except (MeasuringError, NonFiniteError) as error:
        raise NotMeasuredError(f"{model}: {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise _unwritable(out, error) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise NotMeasuredError(f"{model} needs more memory than there is: {said}") from error
    typer.echo(f"{out}: {rows} rows")


def _unwritable(out: Path, error: OSError) -> OtherSettingsError:
    where = next((above for above in out.parents if above.exists()), out)
    why = reason(error) if where.is_dir() else f"{where} is not a directory"
    return OtherSettingsError(f"{out} cannot be written: {why}")


def _listed(names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names.split(",")))


def _first_usable(clips: Iterable[Clip], count: int) -> list[Clip]:
    from empirical import AudioError, load_audio

    usable, refused = [], ""
    for clip in clips:
        try:
            load_audio(clip.path)
        except AudioError as error:
            refused = refused or str(error)
            continue
        usable.append(clip)
        if len(usable) == count:
            break
    if not usable:
        raise NoUsableAudioError(f"no usable audio: {refused}")
    return usable
