"""How a condition is drawn: the stress decides the colour, its parameters the shade and the marker.

A label alone decides, so that a condition looks the same in every figure of every report, whichever others a run has.
Milder is lighter: a ladder of SNRs is one colour from dark to light, each step with a marker of its own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from math import log2

import matplotlib.colors

# Okabe and Ito's palette, dark enough on white for lines, and colours apart from it for the other stresses.
BASE_COLOURS = {
    "clean": "#0072B2",
    "stretch": "#E69F00",
    "mix": "#009E73",
    "noise": "#D55E00",
    "silence": "#4D4D4D",
    "non_speech": "#56B4E9",
    "reverberation": "#CC79A7",
    "clipping": "#7B3FA0",
    "all": "#1d2733",
    "together": "#1d2733",
}
BASE_MARKERS = {
    "clean": "o", "stretch": "^", "mix": "s", "noise": "D", "silence": "v", "non_speech": "P", "reverberation": "p",
    "clipping": "X", "all": "*", "together": "*",
}  # fmt: skip
_OTHER_COLOURS = ("#8B5A2B", "#B2182B", "#1B7837", "#762A83", "#A6761D", "#35978F", "#C51B7D", "#5E6B00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<", ">", "d")

_STEPS: dict[str, tuple[Callable[[float], float], float]] = {
    # How much milder than the default a value is, in -1..1, and the usual distance of two steps of a ladder.
    "snr_db": (lambda value: value / 25.0, 5.0),
    "level_db": (lambda value: -value / 25.0, 5.0),
    "level_dbfs": (lambda value: -(value + 40.0) / 50.0, 10.0),
    "rate": (lambda value: -log2(max(value, 0.05) / 3.5) / 1.4, 0.5),
    "rt60_s": (lambda value: -log2(max(value, 0.05) / 0.6) / 3.0, 0.2),
}
_LIGHTEST, _DARKEST = 0.42, 0.6
"""Share of white or black in the palest and in the darkest shade: still legible on white, still of its colour."""

_PARAMETER = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^:;,+=]+)")


def colour_of(condition: str) -> str:
    """Colour of a condition, as hexadecimal digits."""
    parts = condition.split("+")
    name = parts[0].partition(":")[0]
    if len(parts) > 1:  # a composition is neither of its parts
        names = "+".join(part.partition(":")[0] for part in parts)
        base = _OTHER_COLOURS[_number(names) % len(_OTHER_COLOURS)]
    else:
        base = BASE_COLOURS.get(name) or _OTHER_COLOURS[_number(name) % len(_OTHER_COLOURS)]
    return _shaded(base, _mildness(condition))


def marker_of(condition: str) -> str:
    """Marker of a condition."""
    name = condition.partition("+")[0].partition(":")[0]
    if condition == name and name in BASE_MARKERS:
        return BASE_MARKERS[name]
    first = _MARKERS.index(BASE_MARKERS[name]) if BASE_MARKERS.get(name) in _MARKERS else _number(name)
    turn = sum(_turn(key, value) for key, value in _PARAMETER.findall(condition)) + condition.count("+")
    return _MARKERS[(first + turn) % len(_MARKERS)]


def broken(condition: str, width: int = 12) -> str:
    """The label in lines of about `width` letters, broken after the signs of the grammar, for the ticks of an axis."""
    lines = [""]
    for piece in re.split(r"(?<=[+:,/=])", condition):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _mildness(condition: str) -> float:
    """How light the shade is, in -1..1; 0 where no parameter is named."""
    total = 0.0
    for key, text in _PARAMETER.findall(condition):
        value = _value(text)
        if key in _STEPS and value is not None:
            total += _STEPS[key][0](value)
        else:
            total += (_number(f"{key}={text}") % 9 - 4) / 6.0
    return min(1.0, max(-1.0, total))


def _turn(key: str, text: str) -> int:
    """By how many markers a parameter's value moves on: neighbours in a ladder differ."""
    value = _value(text)
    if value is None:
        return 1 + _number(f"{key}={text}") % (len(_MARKERS) - 1)
    return round(value / _STEPS[key][1]) if key in _STEPS else round(value)


def _value(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e6 else None


def _number(text: str) -> int:
    """A number that a text always has, on every machine (`hash` differs from run to run)."""
    return zlib.crc32(text.encode())


def _shaded(colour: str, mildness: float) -> str:
    """The colour mixed with white (milder) or black."""
    toward, share = (1.0, _LIGHTEST * mildness) if mildness > 0 else (0.0, -_DARKEST * mildness)
    red, green, blue = ((1 - share) * part + share * toward for part in matplotlib.colors.to_rgb(colour))
    return matplotlib.colors.to_hex((red, green, blue)).upper() if share else colour
