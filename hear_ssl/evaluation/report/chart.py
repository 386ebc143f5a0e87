"""The chart that a page opens with: values with their intervals, a row for each model, group by group. Loads no torch."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from hear_ssl.errors import printable
from hear_ssl.evaluation.report.figures import svg

INCHES, ROW, EDGES = 5.2, 0.22, 0.7  # width of the chart, height of a row, height of the axis with its label
TITLE, NAME = 56, 20  # characters of a title that fit above its rows, and of a name at the right of them


@dataclass(frozen=True)
class Value:
    """A value with the half width of its interval, 0 for none; points are what it is the mean of, as far as they are drawn."""

    name: str
    value: float
    half: float = 0.0
    points: tuple[float, ...] = ()


def interval_chart(
    groups: Sequence[tuple[str, Sequence[Value]]],
    label: str,
    colours: Mapping[str, str],
    text: str,
    limits: tuple[float, float] | None = None,
    form: str = ".3f",
) -> str:
    """Return an SVG with a row for each value, under the title of its group: a dot, a line over its interval, the number and the name.

    A name that is also the title is not repeated. label: what the axis shows. colours: of each name. text: what a screen reader
    reads. limits: of the axis; None: as the values need.
    """
    rows = sum(len(values) + 1 for _, values in groups)
    picture = Figure(figsize=(INCHES, EDGES + ROW * rows))
    axes = picture.add_subplot()
    place = 0
    for title, values in groups:
        axes.text(0.0, place + 0.1, shortened(title, TITLE), transform=axes.get_yaxis_transform(), fontsize=10, va="center", weight="bold")
        place += 1
        for one in values:
            colour = colours[one.name]
            if one.half:
                axes.plot([one.value - one.half, one.value + one.half], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(one.points, [place] * len(one.points), "o", color=colour, alpha=0.5, markersize=4)
            axes.plot([one.value], [place], "|" if one.points else "o", color=colour, markersize=12 if one.points else 6, markeredgewidth=2)
            shown = format(one.value, form) + ("" if one.name == title else f"  {shortened(one.name, NAME)}")
            axes.text(1.02, place, shown, transform=axes.get_yaxis_transform(), fontsize=10, va="center")
            place += 1
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlim(limits)
    axes.set_xlabel(label, fontsize=10)
    axes.tick_params(labelsize=10)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return svg(picture).replace("<svg ", f'<svg role="img" aria-label="{html.escape(printable(text), quote=True)}" ', 1)


def shortened(text: str, length: int) -> str:
    """Return a text of others in at most `length` characters, the last of them an ellipsis where some are left out."""
    return printable(text if len(text) <= length else text[: length - 1] + "…")
