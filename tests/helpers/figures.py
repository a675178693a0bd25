"""What tests of figures ask of them: their words, panels and lines, and that nothing overlaps."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return " ".join(" ".join(text.get_text() for text in texts).split())  # no-break spaces too


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def line(axes: Axes, start: str) -> Any:
    return next(line for line in axes.lines if str(line.get_label()).startswith(start))


def nothing_overlaps(figure: Figure, name: str) -> None:
    """No panel's labels reach into another panel, nor beyond the paper; neither do legend and headline."""
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [text.get_window_extent() for text in figure.texts]
    for index, box in enumerate(boxes):
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, (name, "beyond the page", index)
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, (name, "beyond the page", index)
        for other in boxes[index + 1 :]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            along = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across <= 1 or along <= 1, (name, "overlap", index)
