"""Scores by stratum as box plots: the paper's figure 7, for every metric and model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from eus_ray.analysis.comparison.score_matrix import Aligned, Floats
from eus_ray.analysis.comparison.subgroups import Division
from eus_ray.analysis.figures import style
from eus_ray.analysis.labels import METRIC_LABELS, model_label
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS

_MOST_BOXES_BESIDE = 16
"""In a panel a third of the page wide; with more a panel has the whole width."""
_LONGEST = 22
_ROOM = 84
"""Characters that fit beside each other on a page."""
_FILLED = 0.8
"""Of the distance between levels this part is boxes."""
_BROKEN = (0, (2.0, 1.2))
_HATCHES = ("", "////", "\\\\\\\\", "----", "xxxx", "||||")
"""Lines alone (dots would be most of a file). They tell models apart where colours do not, as in print without them."""

Box = dict[str, Any]


def tukey(values: Floats) -> Box:
    """What a box plot of values `(n,)`, n >= 1, shows, named as matplotlib names it.

    `med`, `q1`, `q3` by linear interpolation; `whislo`, `whishi` the smallest and largest value within 1.5 IQR of the
    box; `fliers` the rest.
    """
    return boxplot_stats(values, whis=1.5)[0]


def boxes_by_level(aligned: Aligned, division: Division, unit: str = "") -> Figure:
    """A panel a metric: at each level of the division a box a model, of the values of its images.

    Infinite distances are the image's diagonal, undefined values left out. Values that lie far from all whiskers are
    triangles at the edge. Beneath a level stands its number of patients; with fewer than `FEWEST_PATIENTS` its boxes
    are broken lines. unit: of distances.
    """
    beside = len(division.levels) * len(aligned.models) <= _MOST_BOXES_BESIDE
    columns = min(3, len(aligned.metrics)) if beside else 1
    rows = -(-len(aligned.metrics) // columns)
    patients = [len(np.unique(aligned.patients[division.level == place])) for place in range(len(division.levels))]
    with style.styled():
        width = min(style.PAGE_WIDTH, 1.0 + 2.6 * columns) if beside else style.PAGE_WIDTH
        stand = _stand(division.levels, columns)
        names = 1.3 if stand else 0.0
        figure = style.new_figure((1.5 if beside else 1.25) * rows + 0.9 + names, width)
        panels = figure.subplots(rows, columns, squeeze=False)
        for m, (axes, metric) in enumerate(zip(panels.flat, aligned.metrics, strict=False)):
            _panel(axes, aligned.bounded[:, :, m], division, patients, metric in DISTANCES)
            axes.set_ylabel(METRIC_LABELS[metric] + (f" ({unit})" if metric in DISTANCES and unit else ""))
            axes.set_xlim(-0.5, len(division.levels) - 0.5)
            axes.set_xticks(range(len(division.levels)), [""] * len(division.levels))
            if m + columns >= len(aligned.metrics):  # the last of its column
                _name_levels(axes, division.levels, patients, columns)
        for axes in panels.flat[len(aligned.metrics) :]:
            axes.set_visible(False)
        # a line more: the names that stand end lower than the layout believes
        figure.supxlabel(f"{chr(10) * stand}{division.label} (patients)", fontsize=8)
        handles = [
            Patch(facecolor="white", edgecolor=style.model_colour(k), label=model_label(model), hatch=_hatch(k))
            for k, model in enumerate(aligned.models)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
    return figure


def _panel(axes: Axes, values: Floats, division: Division, patients: Sequence[int], distance: bool) -> None:
    """One metric's values `(N, K)`."""
    found: dict[tuple[int, int], Box] = {}
    for place in range(len(division.levels)):
        for model, mine in enumerate(values[division.level == place].T):
            if not np.isnan(mine).all():
                found[model, place] = tukey(mine[~np.isnan(mine)])
    width = _FILLED / values.shape[1]
    foot, top = _limits(list(found.values()), distance)
    for model in range(values.shape[1]):
        at = {place: place - _FILLED / 2 + width * (model + 0.5) for place in range(len(division.levels))}
        for few in (False, True):
            mine = {
                at[place]: found[model, place]
                for place, number in enumerate(patients)
                if (model, place) in found and (number < FEWEST_PATIENTS) == few
            }
            if mine:
                _boxes(axes, mine, 0.8 * width, model, few)
        dots = [(at[place], y) for (k, place), box in found.items() if k == model for y in box["fliers"]]
        colour = style.model_colour(model)
        inside = [(x, y) for x, y in dots if foot <= y <= top]
        if inside:
            axes.plot(*np.array(inside).T, "o", ms=1.8, mew=0, color=colour)
        for marker, edge, far in (
            ("v", foot, [x for x, y in dots if y < foot]),
            ("^", top, [x for x, y in dots if y > top]),
        ):
            if far:
                axes.plot(far, [edge] * len(far), marker, ms=3.5, mew=0, color=colour, clip_on=False)
    axes.set_ylim(foot, top)
    axes.grid(False, axis="x")


def _limits(boxes: Sequence[Box], distance: bool) -> tuple[float, float]:
    """Of the axis: from 0, and to 1 for ratios; nearer where all whiskers lie far from 0, or from the largest dots."""
    low = min((box["whislo"] for box in boxes), default=0.0)
    if distance:
        return 0.0, 1.25 * max((box["whishi"] for box in boxes), default=0.0) or 1.0
    if low < 0.8 or low == 1:
        return -0.03, 1.03
    return low - 0.3 * (1 - low), 1 + 0.05 * (1 - low)


def _boxes(axes: Axes, boxes: dict[float, Box], width: float, model: int, few: bool) -> None:
    """Boxes by their place on the axis. All of them are one shape: a hundred artists a panel would take seconds."""
    rectangles, whiskers, medians = [], [], []
    for x, box in boxes.items():
        left, right, cap = x - width / 2, x + width / 2, width / 4
        rectangles.append([(left, box["q1"]), (right, box["q1"]), (right, box["q3"]), (left, box["q3"])])
        for end, quartile in ((box["whislo"], box["q1"]), (box["whishi"], box["q3"])):
            whiskers += [[(x, quartile), (x, end)], [(x - cap, end), (x + cap, end)]]
        medians.append([(left, box["med"]), (right, box["med"])])
    colour = style.model_colour(model)
    line = {"edgecolor": colour, "linewidth": 0.9, "linestyle": _BROKEN if few else "solid"}
    axes.add_patch(PathPatch(_shape(rectangles, closed=True), facecolor="white", hatch=_hatch(model), zorder=2, **line))
    axes.add_patch(PathPatch(_shape(whiskers), fill=False, zorder=2, **line))
    axes.add_patch(PathPatch(_shape(medians), fill=False, zorder=3, edgecolor=style.INK, linewidth=1.4))


def _shape(strokes: Sequence[Sequence[tuple[float, float]]], closed: bool = False) -> Path:
    vertices: list[tuple[float, float]] = []
    codes: list[np.uint8] = []
    for stroke in strokes:
        vertices += [*stroke, stroke[0]] if closed else stroke
        codes += [Path.MOVETO, *[Path.LINETO] * (len(stroke) - 1), *[Path.CLOSEPOLY] * closed]
    return Path(vertices, codes)


def _hatch(model: int) -> str:
    return _HATCHES[model % len(_HATCHES)]


def _name_levels(axes: Axes, levels: Sequence[str], patients: Sequence[int], columns: int) -> None:
    """Beneath each level its patients; where names are too long to lie side by side they stand."""
    upright = _stand(levels, columns)
    short = [level if len(level) <= _LONGEST else f"{level[: _LONGEST - 1]}…" for level in levels]
    texts = [f"{name}{' ' if upright else chr(10)}({number})" for name, number in zip(short, patients, strict=True)]
    axes.set_xticks(range(len(levels)), texts)
    if upright:
        axes.tick_params(axis="x", labelrotation=90)


def _stand(levels: Sequence[str], columns: int) -> bool:
    return any(len(level) > _ROOM // (len(levels) * columns) for level in levels)
