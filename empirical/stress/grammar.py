"""How a stress is written: `name`, `name:key=value`, several keys with further colons, several stresses with `+`.

    clean   noise:snr_db=10   noise:snr_db=5:kind=pink   reverberation+noise:snr_db=5   noise:snr_db=20/10/0

A canonical label has only the parameters that differ from their defaults, in the order in which they are declared;
`/` between values is a ladder, which stands for one condition each. No comma occurs, so lists are comma-separated.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import typing
from types import MappingProxyType

from empirical.stress.clean import Clean
from empirical.stress.clipping import Clipping
from empirical.stress.composition import Composition
from empirical.stress.errors import StressError
from empirical.stress.mix import Mix
from empirical.stress.noise import Noise
from empirical.stress.non_speech import NonSpeech
from empirical.stress.records import Stressor
from empirical.stress.reverberation import Reverberation
from empirical.stress.silence import Silence
from empirical.stress.stretch import Stretch

_KINDS: MappingProxyType[str, type] = MappingProxyType(
    {kind.name: kind for kind in (Clean, Stretch, Mix, Noise, Silence, NonSpeech, Reverberation, Clipping)}
)

NAMES = tuple(_KINDS)
"""Every stressor's name, in the order of tables and figures."""

STRESSORS = NAMES[:4]
"""The paper's "Hell" set and clean: what is run by default."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MOST_CONDITIONS = 1000


def parse(text: str) -> Stressor:
    """The stressor that a condition names; clean parts of a composition fall away.

    Raises:
        StressError: "unknown_stressor"; "bad_parameter", for a ladder too.
    """
    return _stressor([_parameters(part) for part in _parts(text)])


stressor = parse
"""The same by the name that scripts know."""


def label(stressor: Stressor) -> str:
    """The canonical condition of a stressor: `parse(label(s)) == s`."""
    if isinstance(stressor, Composition):
        return "+".join(label(part) for part in stressor.parts)
    values = [
        f"{field.name}={_written(getattr(stressor, field.name))}"
        for field in dataclasses.fields(typing.cast(typing.Any, stressor))
        if getattr(stressor, field.name) != field.default
    ]
    return ":".join([stressor.name, *values])


def expand(text: str) -> tuple[str, ...]:
    """Canonical labels of a condition with ladders, each once, the first ladder slowest.

    Raises:
        StressError: as `parse`; "bad_parameter" for more than 1,000 conditions.
    """
    parts = [_parameters(part, ladders=True) for part in _parts(text)]
    count = math.prod(len(values) for _, given in parts for values in given.values())
    if count > _MOST_CONDITIONS:
        rule = f"the ladders of {text!r} must give {_MOST_CONDITIONS} conditions at most"
        raise StressError("bad_parameter", f"{rule}; got {count}")
    rungs = [
        [(name, {key: [value] for key, value in zip(given, values, strict=True)}) for values in chosen]
        for name, given in parts
        for chosen in [list(itertools.product(*given.values()))]
    ]
    return tuple(dict.fromkeys(label(_stressor(list(chosen))) for chosen in itertools.product(*rungs)))


def removes_speech(label: str) -> bool:
    """Whether nothing of the utterance is left under a condition.

    Raises:
        StressError: as `parse`.
    """
    return any(isinstance(part, (Silence, NonSpeech)) for part in _flat(parse(label)))


def base_names(label: str) -> tuple[str, ...]:
    """Names of the stressors of a condition, left to right.

    Raises:
        StressError: as `parse`.
    """
    return tuple(part.name for part in _flat(parse(label)))


def order_key(label: str) -> tuple[object, ...]:
    """What conditions are sorted by: clean, stretch, mix, noise, the others, compositions; parameters ascending.

    Raises:
        StressError: as `parse`.
    """
    parts = _flat(parse(label))
    return len(parts), tuple((NAMES.index(part.name), *map(_place, _values(part))) for part in parts)


def _flat(stressor: Stressor) -> tuple[Stressor, ...]:
    return stressor.parts if isinstance(stressor, Composition) else (stressor,)


def _values(part: Stressor) -> tuple[object, ...]:
    return tuple(getattr(part, field.name) for field in dataclasses.fields(typing.cast(typing.Any, part)))


def _place(value: object) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    return (2, 0.0, value) if isinstance(value, str) else (1, float(typing.cast(float, value)), "")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split("+")]


def _parameters(part: str, ladders: bool = False) -> tuple[str, dict[str, list[str]]]:
    """Name and given values of one part; without ladders one value each."""
    name, *given = part.split(":")
    if name not in _KINDS:
        raise StressError("unknown_stressor", f"a stressor must be one of {', '.join(NAMES)}; got {name!r}")
    values: dict[str, list[str]] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or key in values:
            rule = "must be key=value, each key once"
            raise StressError("bad_parameter", f"parameters of {name} {rule}; got {each!r}")
        values[key] = value.split("/")
        if len(values[key]) > 1 and not ladders:
            raise StressError("bad_parameter", f"{key} of {name} must be one value, not a ladder; got {value!r}")
    return name, values


def _stressor(parts: list[tuple[str, dict[str, list[str]]]]) -> Stressor:
    made = [_part(name, given) for name, given in parts]
    kept = [part for part in made if not isinstance(part, Clean)]
    if not kept:
        return made[0]
    return kept[0] if len(kept) == 1 else Composition(tuple(kept))


def _part(name: str, given: dict[str, list[str]]) -> Stressor:
    kind = _KINDS[name]
    types = {key: hint for key, hint in typing.get_type_hints(kind).items() if key in kind.__dataclass_fields__}
    fields = {field.name: types[field.name] for field in dataclasses.fields(kind)}
    for key in given:
        if key not in fields:
            have = ", ".join(fields) or "none at all"
            raise StressError("bad_parameter", f"parameters of {name} must be among {have}; got {key!r}")
    return kind(**{key: _read(name, key, fields[key], value) for key, (value,) in given.items()})


def _read(name: str, key: str, kind: object, value: str) -> object:
    if kind is str:
        return value
    if value == "none" and type(None) in typing.get_args(kind):
        return None
    if not _NUMBER.fullmatch(value):
        raise StressError("bad_parameter", f"{key} of {name} must be a number; got {value!r}")
    number = float(value)
    if kind is int:
        if not number.is_integer():
            raise StressError("bad_parameter", f"{key} of {name} must be a whole number; got {value!r}")
        return int(number)
    return number + 0.0  # -0 is 0


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value).replace("e+", "e")
    return str(value)
