"""SVG texts made shorter for a page that carries them inside: the same picture in about half of the bytes.

More than half of what matplotlib writes is the same style again on every mark and the long names of outlines.
"""

from __future__ import annotations

import re

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)
_GROUP_NAME = re.compile(r'<g id="[^"]*"')
_STYLE = re.compile(r' style="([^"]*)"')
_NAME = re.compile(r'(?<= id=")[^"]*(?=")')
_NAMED = re.compile(r'(?:(?<= id=")|(?<=href="#)|(?<=url\(#))[^")]*')
_PLACES = re.compile(r'(?<= )(d|x|y|x1|y1|x2|y2)="([^"]*)"')
_LONG = re.compile(r"-?\d+\.\d\d\d+")
_SPACE = re.compile(r"\s+")
_SIGN = re.compile(r"\s*([:;])\s*")
_BETWEEN = re.compile(r">\s+<")


def compact(svg: str) -> str:
    """The same picture, shorter.

    Places keep two decimals, a hundredth of a point where matplotlib writes a millionth; styles stand once, as classes;
    outlines get short names; comments, metadata and names of groups, which nothing refers to, go. Scales in `transform`
    keep their digits, and outlines of letters, which they make smaller, lose less than that.
    """
    text = _METADATA.sub("", _COMMENT.sub("", svg))
    start = text.find("<svg")
    head, body = text[:start], text[start:]
    end = body.index(">") + 1
    opening, body = body[:end], _GROUP_NAME.sub("<g", body[end:])
    names = {name: _short(index) for index, name in enumerate(dict.fromkeys(_NAME.findall(body)))}
    body = _NAMED.sub(lambda match: names.get(match[0], match[0]), body)
    body = _PLACES.sub(lambda match: f'{match[1]}="{_numbers(match[2])}"', body)
    styles: dict[str, str] = {}
    body = _STYLE.sub(lambda match: f' class="{styles.setdefault(match[1], "c" + _short(len(styles)))}"', body)
    rules = "".join(f".{name}{{{_SIGN.sub(_own, value).strip()}}}" for value, name in styles.items())
    return head + opening + f"<style>{rules}</style>" + _BETWEEN.sub("><", body)


def _own(match: re.Match[str]) -> str:
    return match[1]


def _numbers(text: str) -> str:
    return _SPACE.sub(" ", _LONG.sub(lambda match: f"{float(match[0]):.2f}", text)).strip()


def _short(index: int) -> str:
    """a, b, .. z, aa, ab ..: a name that XML and CSS take."""
    letters = ""
    index += 1
    while index:
        index, place = divmod(index - 1, 26)
        letters = chr(97 + place) + letters
    return letters
