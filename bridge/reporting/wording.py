"""Numbers and tables as text for the report: few digits, intervals beside effects, a dash where there is nothing."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells.

    Attributes:
        caption: what it shows, with n and units.
        headers: of the columns.
        rows: cells as text; escaped by the template.
        numeric: which columns are numbers (set right-aligned).
        emphasised: indices of rows to set apart (the paper's own).
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool] = field(default_factory=tuple)
    emphasised: frozenset[int] = frozenset()


def capped(table: Table, most: int, where: str) -> Table:
    """The table with at most so many rows, spread evenly over all of them, and its caption saying so."""
    count = len(table.rows)
    if count <= most:
        return table
    chosen = [index * count // most for index in range(most)]
    return replace(
        table,
        caption=f"{table.caption} Shown: {most} of {count} rows, evenly spaced; {where} has all.",
        rows=[table.rows[index] for index in chosen],
        emphasised=frozenset(place for place, index in enumerate(chosen) if index in table.emphasised),
    )


def header_width(text: str, lines: int = 3) -> int:
    """Letters a column's head needs so that its words stand in so many lines at most, whatever the cells below."""
    words = text.split()
    for width in range(max(map(len, words), default=0), len(text) + 1):
        if len(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)) <= lines:
            return width + 1  # bold letters are wider than the figure that `ch` measures
    return len(text)


def number(value: Any, digits: int = 3, *, signed: bool = False) -> str:
    """A number with `digits` significant digits, a typographic minus, a dash for NaN or nothing."""
    if value is None or value is pd.NA:
        return NOTHING
    value = float(value)
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    scientific = size >= 5 or size < -4
    text = f"{value:.{max(digits - 1, 0)}e}" if scientific else f"{value:.{max(digits - 1 - size, 0)}f}"
    sign = "+" if signed and value > 0 else ""
    return sign + text.replace("-", "−")


def with_interval(effect: Any, low: Any, high: Any, digits: int = 3, *, signed: bool = True) -> str:
    """'+0.12 [+0.05, +0.19]'; the effect alone where there is no interval."""
    text = number(effect, digits, signed=signed)
    ends = [number(end, digits, signed=signed) for end in (low, high)]
    return text if NOTHING in ends or text == NOTHING else f"{text} [{ends[0]}, {ends[1]}]"


def fixed(value: Any, decimals: int, *, signed: bool = False) -> str:
    """A number with so many decimals, for columns that are compared line by line."""
    if value is None or value is pd.NA or not math.isfinite(float(value)):
        return number(value)
    return (f"{float(value):+.{decimals}f}" if signed else f"{float(value):.{decimals}f}").replace("-", "−")


def fixed_interval(effect: Any, low: Any, high: Any, decimals: int, *, signed: bool = True) -> str:
    """'+0.12 [+0.05, +0.19]' with so many decimals."""
    text, *ends = (fixed(value, decimals, signed=signed) for value in (effect, low, high))
    return text if NOTHING in ends or text == NOTHING else f"{text} [{ends[0]}, {ends[1]}]"


def percent(part: float, whole: float) -> str:
    """'40 %', a dash for nothing of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else NOTHING


def seconds(value: Any) -> str:
    """'12.3 s' or '3 min 05 s'."""
    if value is None or not math.isfinite(float(value)):
        return NOTHING
    value = float(value)
    return f"{value:.1f} s" if value < 100 else f"{int(value // 60)} min {int(value % 60):02d} s"


def mebibytes(value: Any) -> str:
    """'512 MiB'."""
    return NOTHING if value is None else f"{float(value) / 2**20:.0f} MiB"


_SUBSCRIPT = re.compile(r"(?<![A-Za-z0-9.-])([A-Zduκξσρλ]|Λ)_(eff|max|min|chain|F|f|L|l|z|c)(?![A-Za-z0-9_])")
_BRACED = re.compile(r"(?<![A-Za-z0-9.-])([A-Zduκξσρλ]|Λ)_\{([^{}]{1,9})\}")
_WORDS = {
    "kappa": "κ", "xi": "ξ", "rho": "ρ", "sigma": "σ", "lambda": "λ", "Lambda": "Λ", "alpha": "α",
}  # fmt: skip
_WORD = re.compile(r"(?<![\w./-])(" + "|".join(_WORDS) + r")(?=_(?:max|min|i|l|L|F|c)(?!\w)|(?![\w/-]|\.\w))")
_SIGNS = {
    "||": "‖",
    "&gt;=": "≥",
    "&lt;&lt;": "≪",
    "^(-1/2)": "<sup>−1/2</sup>",
    "‖_F^2": "‖<sub>F</sub>²",
    "^T": "<sup>T</sup>",
    "^2": "²",
}


def symbols(text: str) -> Markup:
    """Prose escaped for HTML, with its symbols set as in print: kappa as κ, J_L with a subscript, ||J|| as ‖J‖.

    For sentences only: names of models and clips must not pass through it.
    """
    set_text = _WORD.sub(lambda match: _WORDS[match[1]], str(escape(text)))
    for plain, sign in _SIGNS.items():
        set_text = set_text.replace(plain, sign)
    for written in (_BRACED, _SUBSCRIPT):
        set_text = written.sub(r"\1<sub>\2</sub>", set_text)
    return Markup(set_text)
