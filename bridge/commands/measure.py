"""`spi run` and `spi measure`: the main job, with and without the report."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.running.config import make_config

Model = Annotated[
    list[str] | None,
    typer.Option(
        help="Checkpoint directory, .pt file of OpenAI's, bundled organism, or hub id, pinned as owner/name@revision; "
        "may be given again. Default: both organisms."
    ),
]
Audio = Annotated[
    str | None, typer.Option(help="Directory of audio, or a .jsonl or .tsv manifest. Default: the bundled clips.")
]
Manifest = Annotated[
    str | None,
    typer.Option(
        help="Lines of spi stress: their samples, and each utterance as it is, beside --audio. Default: none."
    ),
]
NoiseDir = Annotated[str | None, typer.Option(help="Directory of sounds, for conditions of kind=folder.")]
Limit = Annotated[int | None, typer.Option(help="Measure the first N usable clips.")]
Out = Annotated[str | None, typer.Option(help="Run directory. Default: under runs/, named after the settings.")]
Conditions = Annotated[
    str | None,
    typer.Option(
        help="Stresses, comma-separated: noise, noise:snr_db=10, reverberation+noise; noise:snr_db=20/10/0 is a "
        "ladder of three. Default: clean,stretch,mix,noise."
    ),
]
States = Annotated[
    str | None,
    typer.Option(
        help="Jacobians, among position,sequence (of the decoder), frame,frames (encoder), or none: then clips are "
        "only heard. Default: the decoder's."
    ),
]
PositionClips = Annotated[int | None, typer.Option(help="Clips whose position state is measured. Default: all.")]
SequenceClips = Annotated[
    int | None, typer.Option(help="Clips whose other states are measured, clean and under one stress. Default: 12.")
]
Full = Annotated[bool | None, typer.Option("--full", help="Every state of every clip under every condition.")]
Batch = Annotated[int | None, typer.Option(help="Samples that a model hears at once. Default: 8.")]
Long = Annotated[
    str | None, typer.Option(help="Samples longer than the window: cut (default), chunk into windows, or refuse.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of stresses and estimates. Default: 0.")]
Leading = Annotated[int | None, typer.Option("--k", help="Leading singular values of each Jacobian. Default: 8.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64. Default: float32.")]
Tokens = Annotated[
    str | None,
    typer.Option(help="own: along each model's own transcript (default); reference: along the reference, forced."),
]
MaxTokens = Annotated[int | None, typer.Option(help="Most tokens a transcript may have. Default: 128.")]
Companion = Annotated[
    str | None, typer.Option(help="Directory with the tokenizer of the .pt models. Default: beside each file.")
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu or cuda (mps has no float64). Default: auto, CUDA where there is one.")
]
Nulls = Annotated[int | None, typer.Option(help="Draws of each null model, for models that ship none. Default: 0.")]
Workers = Annotated[int | None, typer.Option(help="Processes; the numbers do not depend on it. Default: 2 at most.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of these options; the command line wins.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the tasks, estimate time, disk and memory, and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Say the outcome as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with the run that is in --out.")]


def run(
    model: Model = None,
    audio: Audio = None,
    manifest: Manifest = None,
    noise_dir: NoiseDir = None,
    limit: Limit = None,
    out: Out = None,
    conditions: Conditions = None,
    states: States = None,
    position_clips: PositionClips = None,
    sequence_clips: SequenceClips = None,
    full: Full = None,
    batch: Batch = None,
    long: Long = None,
    seed: Seed = None,
    k: Leading = None,
    dtype: Dtype = None,
    tokens: Tokens = None,
    max_tokens: MaxTokens = None,
    companion: Companion = None,
    device: Device = None,
    nulls: Nulls = None,
    workers: Workers = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    resume: Resume = True,
) -> None:
    """The main job: sweep, measure, compare and report; a stopped run goes on where it was."""
    options = _options(locals())
    _go(config, options, report=True, dry_run=dry_run, as_json=as_json, quiet=quiet, resume=resume)


def measure(
    model: Model = None,
    audio: Audio = None,
    manifest: Manifest = None,
    noise_dir: NoiseDir = None,
    limit: Limit = None,
    out: Out = None,
    conditions: Conditions = None,
    states: States = None,
    position_clips: PositionClips = None,
    sequence_clips: SequenceClips = None,
    full: Full = None,
    batch: Batch = None,
    long: Long = None,
    seed: Seed = None,
    k: Leading = None,
    dtype: Dtype = None,
    tokens: Tokens = None,
    max_tokens: MaxTokens = None,
    companion: Companion = None,
    device: Device = None,
    nulls: Nulls = None,
    workers: Workers = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    resume: Resume = True,
) -> None:
    """Only the records: models x clips x conditions, without sweep and report; `spi run` then goes on from them."""
    options = _options(locals())
    _go(config, options, report=False, dry_run=dry_run, as_json=as_json, quiet=quiet, resume=resume)


def _options(given: dict[str, Any]) -> dict[str, Any]:
    ours = {"config", "dry_run", "as_json", "quiet", "resume"}
    return {name: value for name, value in given.items() if name not in ours}


def _go(
    config: Path | None,
    options: dict[str, Any],
    *,
    report: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    resume: bool,
) -> None:
    settings = make_config(config, options)
    # Arrow's own allocator keeps 40 MB of what it was given back, which grows with the tables until it is reached.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from bridge.running import pipeline

    if dry_run:
        _show_plan(pipeline.make_plan(settings, resume=resume, quiet=quiet), as_json=as_json)
        return
    command = ["spi", *sys.argv[1:]]
    summary = pipeline.run(settings, sweep=report, report=report, resume=resume, quiet=quiet, command=command)
    if as_json:
        typer.echo(json.dumps(summary.as_json(), indent=2))
    raise typer.Exit(int(summary.exit_code))


def _show_plan(plan: Any, *, as_json: bool) -> None:
    waiting = plan.waiting
    if as_json:
        values = {
            "directory": str(plan.directory),
            "tasks": [task.id for task in waiting],
            "samples": plan.estimate.samples,
            "finished": plan.estimate.finished,
            "quarantined": len(plan.inputs.quarantine),
            "estimated_seconds": plan.estimate.seconds,
            "estimated_disk_bytes": plan.estimate.disk_bytes,
            "estimated_worker_memory_bytes": plan.estimate.memory_bytes,
            "workers": plan.estimate.workers,
            "free_memory_bytes": plan.estimate.free_bytes,
            "warning": plan.estimate.warning,
            "device": plan.inputs.device_name,
            "basis": plan.estimate.basis,
        }
        typer.echo(json.dumps(values, indent=2))
        return
    for task in waiting:
        typer.echo(task.id)
    typer.echo(f"-> {plan.directory}: {plan.estimate}")
    if plan.estimate.warning is not None:
        typer.echo(f"spi: warning: {plan.estimate.warning}", err=True)
