"""Box plots of scores by stratum (the paper's figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from eus_ray.analysis.labels import METRIC_LABELS, UNLABELLED, Labels
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS

_MAX_BOXES_IN_NARROW_PANEL = 16
"""A panel with more is as wide as the page, not a third of it."""
_MAX_NAME_LENGTH = 22
_CHARS_PER_PAGE_WIDTH = 84
_BOXES_SHARE = 0.8
"""The rest of the distance between levels is a gap."""
_BROKEN_LINE = (0, (2.0, 1.2))
_HATCHES = ("", "////", "\\\\\\\\", "----", "xxxx", "||||")
"""They tell models apart in print without colours. Lines only: dots would make files large."""

Box = dict[str, Any]


def tukey(values: Floats) -> Box:
    """Compute what a box plot of values `(n,)` shows; n is at least 1.

    The names are matplotlib's.

    Returns:
        `med`, `q1`, `q3` by linear interpolation; `whislo`, `whishi`, the smallest and largest value within 1.5 IQR of
        the box; `fliers`, the rest.
    """
    return boxplot_stats(values, whis=1.5)[0]


def boxes_by_level(aligned: Aligned, division: Division, unit: str = "", labels: Labels = UNLABELLED) -> Figure:
    """Draw one panel per metric, with one box per level and model.

    A box shows the values of the level's images. An infinite distance is the image's diagonal; undefined values are
    left out. Values far from all whiskers are triangles at the edge. Below each level stands its number of patients;
    with fewer than `FEWEST_PATIENTS` its boxes have broken lines.

    Args:
        aligned: Scores of all models.
        division: The levels.
        unit: Unit of distances.
        labels: The models' names.
    """
    is_narrow = len(division.levels) * len(aligned.models) <= _MAX_BOXES_IN_NARROW_PANEL
    columns = min(3, len(aligned.metrics)) if is_narrow else 1
    rows = -(-len(aligned.metrics) // columns)
    patients = [len(np.unique(aligned.patients[division.level == place])) for place in range(len(division.levels))]
    with style.styled():
        width = min(style.PAGE_WIDTH_INCHES, 1.0 + 2.6 * columns) if is_narrow else style.PAGE_WIDTH_INCHES
        max_length = _CHARS_PER_PAGE_WIDTH // (len(division.levels) * columns)
        is_vertical = any(len(level) > max_length for level in division.levels)
        names = [
            f"{style.shortened(level, _MAX_NAME_LENGTH)}{' ' if is_vertical else chr(10)}({number})"
            for level, number in zip(division.levels, patients, strict=True)
        ]
        figure = style.new_figure((1.5 if is_narrow else 1.25) * rows + 0.9 + 1.3 * is_vertical, width)
        panels = figure.subplots(rows, columns, squeeze=False)
        boxes = [_boxes_of(aligned.bounded[:, :, m], division) for m in range(len(aligned.metrics))]
        num_dots = sum(len(box["fliers"]) for panel in boxes for box in panel.values())
        for m, (axes, metric) in enumerate(zip(panels.flat, aligned.metrics, strict=False)):
            _panel(
                axes,
                boxes[m],
                len(aligned.models),
                patients,
                is_distance=metric in DISTANCES,
                has_image_of_dots=num_dots > style.MOST_VECTOR_DOTS,
            )
            is_last_of_column = m + columns >= len(aligned.metrics)
            axes.set_xticks(range(len(names)), names if is_last_of_column else [""] * len(names))
            axes.tick_params(axis="x", labelrotation=90 if is_vertical else 0)
            label = METRIC_LABELS[metric] + (f" ({unit})" if metric in DISTANCES and unit else "")
            axes.set(ylabel=label, xlim=(-0.5, len(names) - 0.5))
        for axes in panels.flat[len(aligned.metrics) :]:
            axes.set_visible(False)
        # one more line: vertical names end lower than the layout computes
        figure.supxlabel(f"{chr(10) * is_vertical}{division.label} (patients)", fontsize=8)
        handles = [
            Patch(
                facecolor="white",
                edgecolor=style.model_colour(k),
                label=style.fitted(labels[model]),
                hatch=_hatch(k),
            )
            for k, model in enumerate(aligned.models)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
    return figure


def _boxes_of(values: Floats, division: Division) -> dict[tuple[int, int], Box]:
    """Compute the boxes of one metric's values `(N, K)` by places of model and level; none without a value."""
    return {
        (model, place): tukey(mine[~np.isnan(mine)])
        for place in range(len(division.levels))
        for model, mine in enumerate(values[division.level == place].T)
        if not np.isnan(mine).all()
    }


def _panel(
    axes: Axes,
    found: Mapping[tuple[int, int], Box],
    num_models: int,
    patients: Sequence[int],
    *,
    is_distance: bool,
    has_image_of_dots: bool,
) -> None:
    """Draw one metric's boxes and the dots outside their whiskers."""
    width = _BOXES_SHARE / num_models
    foot, top = _limits(list(found.values()), is_distance)
    for model in range(num_models):
        at = {place: place - _BOXES_SHARE / 2 + width * (model + 0.5) for place in range(len(patients))}
        for is_broken in (False, True):
            mine = {
                at[place]: found[model, place]
                for place, number in enumerate(patients)
                if (model, place) in found and (number < FEWEST_PATIENTS) == is_broken
            }
            if mine:
                _boxes(axes, mine, 0.8 * width, model, is_broken)
        dots = [(at[place], y) for (k, place), box in found.items() if k == model for y in box["fliers"]]
        colour = style.model_colour(model)
        inside = [(x, y) for x, y in dots if foot <= y <= top]
        if inside:
            axes.plot(*np.array(inside).T, "o", ms=1.8, mew=0, color=colour, rasterized=has_image_of_dots)
        for marker, edge, far in (
            ("v", foot, [x for x, y in dots if y < foot]),
            ("^", top, [x for x, y in dots if y > top]),
        ):
            if far:
                places = sorted(set(far))  # equal triangles would only add to the file
                axes.plot(places, [edge] * len(places), marker, ms=3.5, mew=0, color=colour, clip_on=False)
    axes.set_ylim(foot, top)
    axes.grid(False, axis="x")


def _limits(boxes: Sequence[Box], is_distance: bool) -> tuple[float, float]:
    """Return the limits of the axis.

    It begins at 0, and ends at 1 for ratios. It is shorter if all whiskers are far from 0, or from large values.
    """
    low = min((box["whislo"] for box in boxes), default=0.0)
    if is_distance:
        return 0.0, 1.25 * max((box["whishi"] for box in boxes), default=0.0) or 1.0
    if low < 0.8 or low == 1:
        return -0.03, 1.03
    return low - 0.3 * (1 - low), 1 + 0.05 * (1 - low)


def _boxes(axes: Axes, boxes: dict[float, Box], width: float, model: int, is_broken: bool) -> None:
    """Draw boxes by their place on the axis.

    All are one shape: a hundred artists per panel would take seconds.
    """
    rectangles, whiskers, medians = [], [], []
    for x, box in boxes.items():
        left, right, cap = x - width / 2, x + width / 2, width / 4
        rectangles.append([(left, box["q1"]), (right, box["q1"]), (right, box["q3"]), (left, box["q3"])])
        for end, quartile in ((box["whislo"], box["q1"]), (box["whishi"], box["q3"])):
            whiskers += [[(x, quartile), (x, end)], [(x - cap, end), (x + cap, end)]]
        medians.append([(left, box["med"]), (right, box["med"])])
    colour = style.model_colour(model)
    line = {"edgecolor": colour, "linewidth": 0.9, "linestyle": _BROKEN_LINE if is_broken else "solid"}
    axes.add_patch(PathPatch(_shape(rectangles, closed=True), facecolor="white", hatch=_hatch(model), zorder=2, **line))
    axes.add_patch(PathPatch(_shape(whiskers), fill=False, zorder=2, **line))
    axes.add_patch(PathPatch(_shape(medians), fill=False, zorder=3, edgecolor=style.INK, linewidth=1.4))


def _shape(strokes: Sequence[Sequence[tuple[float, float]]], closed: bool = False) -> Path:
    return Path.make_compound_path(
        *(Path([*stroke, stroke[0]] if closed else stroke, closed=closed) for stroke in strokes)
    )


def _hatch(model: int) -> str:
    return _HATCHES[model % len(_HATCHES)]
