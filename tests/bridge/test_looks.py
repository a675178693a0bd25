"""How conditions are drawn: any label, always the same, told apart, legible on white."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
import pytest

from bridge.reporting.figures import style
from bridge.reporting.figures.compact import compact
from bridge.reporting.figures.looks import BASE_COLOURS

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"

LADDERS = {
    "noise": [f"noise:snr_db={value}" for value in (20, 15, 10, 5, -5, -10)] + ["noise", "noise:kind=pink"],
    "stretch": ["stretch", *(f"stretch:rate={value}" for value in (0.5, 1.5, 2, 2.5, 5))],
    "others": ["clean", "mix", "mix:speakers=3", "silence", "non_speech", "reverberation", "clipping"],
    "composed": ["reverberation+noise", "reverberation+noise:snr_db=5", "stretch:rate=2+mix", "noise"],
}


@pytest.mark.parametrize("labels", LADDERS.values(), ids=LADDERS)
def test_no_two_conditions_of_a_ladder_look_alike(labels):
    looks = [(style.colour_of(label), style.marker_of(label)) for label in labels]
    assert len(set(looks)) == len(labels)


@pytest.mark.parametrize("label", [*itertools.chain(*LADDERS.values()), "someone's own label", "a+b:c=d", "x:y=1e9"])
def test_any_label_is_legible_on_white(label):
    """WCAG asks 3:1 of graphics; the palest step of a ladder may come down to 1.5:1, beside its marker."""
    rgb = np.array(matplotlib.colors.to_rgb(style.colour_of(label)))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    assert 1.05 / (luminance + 0.05) > 1.5


def test_defaults_keep_their_colours_and_milder_is_lighter():
    assert {name: style.colour_of(name) for name in BASE_COLOURS} == BASE_COLOURS
    grey = [float(np.mean(matplotlib.colors.to_rgb(style.colour_of(f"noise:snr_db={v}")))) for v in (-10, 0, 10, 20)]
    assert grey == sorted(grey) and len(set(grey)) == 4
    assert style.colour_of("noise:snr_db=0") == style.colour_of("noise")


def test_marks_around_one_place_never_reach_the_next():
    for count in (1, 4, 10, 50):
        shifts = [style.beside(place, count) for place in range(count)]
        assert max(shifts) - min(shifts) <= 0.6
        assert np.allclose(np.array(shifts) + shifts[::-1], 0.0, atol=1e-15)
    assert style.beside(1, 2) - style.beside(0, 2) == pytest.approx(0.12)


def test_long_labels_are_broken_and_nothing_is_lost():
    label = "reverberation:rt60_s=0.8+noise:snr_db=-10"
    lines = style.broken(label).split("\n")
    assert "".join(lines) == label
    assert len(lines) > 2 and max(map(len, lines)) <= 14
    assert style.broken("noise") == "noise"


def test_compact_svg_is_the_same_picture():
    """Element by element: the same tags, transforms, styles and outlines referred to; places to 0.005 points."""
    figure, (axes,) = style.grid_of_panels(1, columns=1, height=2.0, narrow=False)
    axes.plot(np.linspace(0, 1, 200), np.sin(np.linspace(0, 7, 200)), marker="o", label="clean")
    axes.fill_between([0, 1], [0, 0], [1, 1], hatch="////", facecolor="none", edgecolor="#8f99a3")
    axes.imshow(np.arange(4.0).reshape(2, 2))
    style.label(axes, "σ < 1 & more", "layer $l$", "‖J‖")
    style.shared_legend(figure, [axes], narrow=False)
    before = style.svg_of(figure, salt="one")
    after = compact(before)
    assert len(after) < 0.7 * len(before)
    full, short = (ElementTree.fromstring(text) for text in (before, after))
    for metadata in full.findall(f"{SVG}metadata"):
        full.remove(metadata)
    sheet = short[0]
    rules = dict(re.findall(r"\.(\w+)\{([^}]*)\}", sheet.text or ""))
    short.remove(sheet)
    one, other = list(full.iter()), list(short.iter())
    assert [node.tag for node in one] == [node.tag for node in other]
    names = {mine.get("id"): its.get("id") for mine, its in zip(one, other, strict=True) if its.get("id")}
    for mine, its in zip(one, other, strict=True):
        assert mine.get("transform") == its.get("transform")
        renamed = re.sub(r"(?<=#)h\w+(?=\))", lambda match: names[match[0]] or "", mine.get("style", ""))
        assert re.sub(r"\s", "", renamed) == rules.get(its.get("class", ""), "")
        for key in ("x", "y", "d"):
            numbers = [np.array([float(n) for n in re.findall(NUMBER, node.get(key, ""))]) for node in (mine, its)]
            assert np.allclose(*numbers, rtol=0, atol=0.00501)
        link, shorter = (node.get("{http://www.w3.org/1999/xlink}href", "") for node in (mine, its))
        assert shorter == (f"#{names[link[1:]]}" if link.startswith("#") else link)
