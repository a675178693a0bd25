"""What a run is asked to do: options, config file and defaults in one frozen record.

The keys of a config file are the option names of `spi run`, with `-` or `_`; the command line wins over the file, the
file over the defaults, and a key that is not an option is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError

CONDITIONS = ("clean", "stretch", "mix", "noise")
"""Stresses a run applies unless told otherwise; any other is asked for by its label (empirical.stress)."""

STATES = ("position", "sequence", "frame", "frames")
"""States whose context Jacobian can be measured: of the decoder's last position alone, of all its positions (T2), of
one frame of the encoder, or of all its frames (empirical.jacobians.measurement.STATES)."""

DEFAULT_STATES = ("position", "sequence")

NO_STATES = "none"
"""What asks for no Jacobian at all: the clips are heard, and nothing is differentiated."""

DTYPES = ("float32", "float64")

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where a run may measure (empirical.checkpoints.device.DEVICES)."""

TOKENS = ("own", "reference")
"""Tokens along which a run may measure (empirical.hearing.TOKENS_FROM)."""

LONG = ("cut", "chunk", "refuse")
"""What becomes of a sample that is longer than a model's window (empirical.listening)."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Settings of one run; every field is also an option of `spi run` and a key of its config file.

    Attributes:
        model: checkpoint directories, .pt files, names of bundled organisms or hub ids; empty means every organism.
        audio: directory of audio (LibriSpeech layout or a flat folder); None means the bundled clips.
        limit: number of usable clips measured, the first ones by name; None means all.
        out: run directory; None means a directory under `runs/` named after the settings.
        manifest: lines of `spi stress`, whose samples are measured beside each utterance as it is; None means every
            clip under every condition.
        noise_dir: directory of sounds that conditions of `kind=folder` take from.
        conditions: labels of the stresses applied, in canonical order; where there is a manifest its lines decide.
        states: states whose Jacobians are measured, a subset of `STATES`; none means that clips are only heard.
        position_clips: clips, the first ones by name, of which the position state is measured; None means all.
        sequence_clips: clips, the first ones by name, whose costly states are measured, clean and under one stress
            (bridge.running.tasks).
        full: measure every state of every clip under every condition instead.
        batch: samples that a model hears at once.
        long: of `LONG`.
        seed: seed of the stresses and of the randomised estimates.
        k: number of leading singular triplets of each context Jacobian.
        dtype: arithmetic of the models, "float32" or "float64".
        tokens: what everything is measured along: each model's "own" transcript, or the "reference", teacher-forced.
        max_tokens: most tokens that a transcript may have beside its prompt; None means 128, or the model's limit.
        companion: directory with the tokenizer (and configs) of the .pt files among the models; None means beside them.
        device: where models are measured; "auto" is a CUDA device where there is one.
        nulls: draws of each null model measured for models that ship none; 0 means none.
        workers: processes; None means two, or one on a single core or on a GPU.
    """

    model: tuple[str, ...] = ()
    audio: str | None = None
    manifest: str | None = None
    noise_dir: str | None = None
    limit: int | None = None
    out: str | None = None
    conditions: tuple[str, ...] = CONDITIONS
    states: tuple[str, ...] = DEFAULT_STATES
    position_clips: int | None = None
    sequence_clips: int = 12
    full: bool = False
    batch: int = 8
    long: str = "cut"
    seed: int = 0
    k: int = 8
    dtype: str = "float32"
    tokens: str = "own"
    max_tokens: int | None = None
    companion: str | None = None
    device: str = "auto"
    nulls: int = 0
    workers: int | None = None


RESULT_KEYS = (
    *("limit", "conditions", "states", "position_clips", "sequence_clips", "full", "batch", "long", "seed", "k"),
    *("dtype", "tokens", "max_tokens", "nulls"),
)
"""Settings that decide the numbers; models and clips decide them too and are compared by their hashes."""

_LEAST = dict.fromkeys(("limit", "batch", "k", "max_tokens", "workers"), 1) | dict.fromkeys(
    ("position_clips", "sequence_clips", "seed", "nulls"), 0
)
_MOST = 2**63 - 1  # what the records, and the generators behind them, can hold
_OPTIONAL = frozenset(
    {"limit", "max_tokens", "workers", "audio", "out", "companion", "manifest", "noise_dir", "position_clips"}
)
_KNOWN = tuple(field.name for field in fields(RunConfig))


def make_config(file: str | Path | None = None, options: Mapping[str, Any] | None = None) -> RunConfig:
    """Settings from a YAML file and the options given beside it.

    Args:
        file: YAML mapping of option names to values; None means no file.
        options: option values; None means "not given", so that the file or the default holds.

    Returns:
        The checked settings, conditions and states in canonical order.

    Raises:
        ConfigError: if the file cannot be read, a key is unknown, a value has the wrong type or range, or two of them
            do not go together.
    """
    merged: dict[str, Any] = {} if file is None else read_config_file(Path(file))
    for name, value in (options or {}).items():
        if name not in _KNOWN:
            raise ConfigError(_unknown(name, "option"))
        if value is not None:
            merged[name] = value
    config = RunConfig(**{name: _checked(name, value) for name, value in merged.items()})
    if config.manifest is not None:
        if config.audio is None:
            raise ConfigError(f"manifest must come with audio, where its utterances lie; got {config.manifest!r} alone")
        if "conditions" in merged:
            raise ConfigError("conditions must not be given beside a manifest, whose lines name theirs")
    check_folder(config.conditions, config.noise_dir)
    return config


def check_folder(conditions: Sequence[str], noise_dir: str | None) -> None:
    """Refuses conditions that take their sound from a folder where there is none.

    Raises:
        ConfigError: naming one.
    """
    label = next((label for label in conditions if "kind=folder" in label), None)
    if label is not None and noise_dir is None:
        raise ConfigError(f"noise-dir must be given for a condition of kind=folder; got {label!r} without it")


def read_config_file(path: Path, known: Sequence[str] = _KNOWN) -> dict[str, Any]:
    """The mapping a config file holds, its keys spelled as the fields of `RunConfig`.

    Args:
        path: of the file.
        known: the keys another command has instead, with `_`.

    Raises:
        ConfigError: if the file is missing, is not a YAML mapping, or has a key that is no option.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"config file {path} is not valid YAML: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"config file {path} must hold a mapping of options; got {type(content).__name__}")
    _refuse_repeated_keys(path, yaml.compose(text, yaml.SafeLoader))
    result: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ConfigError(f"config file {path}: {_unknown(str(key), 'key', known)}")
        if name in result:
            raise ConfigError(f"config file {path}: key {str(key)!r} is given twice")
        result[name] = value
    return result


def _refuse_repeated_keys(path: Path, mapping: Any) -> None:
    """YAML forbids a key twice, yet its loader silently takes the last."""
    seen: set[str] = set()
    for key, _ in mapping.value:
        if key.value in seen:
            raise ConfigError(f"config file {path}: key {key.value!r} is given twice")
        seen.add(key.value)


def _unknown(name: str, what: str, known: Sequence[str] = _KNOWN) -> str:
    return f"unknown {what} {name!r}; known: {', '.join(one.replace('_', '-') for one in known)}"


def _checked(name: str, value: Any) -> Any:
    option = name.replace("_", "-")
    if value is None:
        if name in _OPTIONAL:
            return None
        raise ConfigError(f"{option} must have a value; got nothing")
    if name in _LEAST:
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[name]:
            raise ConfigError(f"{option} must be a whole number of at least {_LEAST[name]}; got {value!r}")
        if value > _MOST:
            raise ConfigError(f"{option} must be at most 2**63 - 1; got {value}")
        return value
    if name == "full":
        if not isinstance(value, bool):
            raise ConfigError(f"{option} must be true or false; got {value!r}")
        return value
    if name == "model":
        return _names(option, value, split=False)
    if name == "conditions":
        return _labels(option, value)
    if name == "states":
        if _names(option, value, split=True) == (NO_STATES,):
            return ()
        return _subset(option, value, STATES, instead=f", or {NO_STATES}")
    if not isinstance(value, str | Path):
        raise ConfigError(f"{option} must be text; got {value!r}")
    if not str(value).strip():
        raise ConfigError(f"{option} must not be empty; got {value!r}")
    allowed = {"dtype": DTYPES, "tokens": TOKENS, "device": DEVICES, "long": LONG}.get(name)
    if allowed is not None and value not in allowed:
        raise ConfigError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")
    return str(value)


def _names(option: str, value: Any, *, split: bool) -> tuple[str, ...]:
    items = [value] if isinstance(value, str | Path) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | Path) for item in items):
        raise ConfigError(f"{option} must be text or a list of text; got {value!r}")
    names = [part.strip() for item in items for part in (str(item).split(",") if split else [str(item)])]
    if any(not name for name in names):
        raise ConfigError(f"{option} must not be empty; got {value!r}")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{option} must not name {repeated!r} twice")
    return tuple(names)


def _labels(option: str, value: Any) -> tuple[str, ...]:
    """Canonical labels of stresses, ladders expanded, in canonical order."""
    names = _names(option, value, split=True)
    if not names:
        raise ConfigError(f"{option} must name at least one stress, {', '.join(CONDITIONS)} say")
    if set(names) <= set(CONDITIONS):  # as they are; the grammar costs half a second of imports
        return tuple(name for name in CONDITIONS if name in names)
    from empirical.stress import StressError, expand, order_key

    labels = []
    for name in names:
        try:
            labels += expand(name)
        except StressError as error:
            raise ConfigError(f"{option}: {error}") from error
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{option} must not name {repeated!r} twice")
    return tuple(sorted(labels, key=order_key))


def _subset(option: str, value: Any, allowed: tuple[str, ...], *, instead: str = "") -> tuple[str, ...]:
    names = _names(option, value, split=True)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{option} must be among {', '.join(allowed)}{instead}; got {name!r}")
    if not names:
        raise ConfigError(f"{option} must name at least one of {', '.join(allowed)}{instead}")
    return tuple(name for name in allowed if name in names)
