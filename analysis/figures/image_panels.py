"""Images with outlines: the paper's figures 6, 8 and 9.

They show examples, video frames and failures.

Nothing is filled, so that the tissue stays visible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from eus_ray.analysis.figures import style
from eus_ray.analysis.labels import DASH, UNLABELLED, Labels
from eus_ray.analysis.measures.outlines import Outline

_LINE_HEIGHT_INCHES = 0.125
_LEGEND_BACKGROUND = "#39434d"
"""Dark, because the legend's lines are light."""


class Drawn(NamedTuple):
    """An outline on an image."""

    outline: Outline
    colour: str
    width: float = 1.2
    """In points."""


@dataclass(frozen=True)
class Panel:
    """One image with its outlines; the last one is on top."""

    title: str
    image: npt.NDArray[np.uint8]  # (H, W), or (H, W, 3) with red first
    drawn: tuple[Drawn, ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels side by side, and the label beside them."""

    label: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Example:
    """One image with its truth and the models' predictions."""

    rank: str
    caption: str
    image: npt.NDArray[np.uint8]  # (H, W), or (H, W, 3) with red first
    truth: Outline
    found: Mapping[str, tuple[Outline, float]]
    """Outline and DSC by model."""


def prediction(outline: Outline, place: int) -> Drawn:
    """Return a prediction's outline in the colour of the model at this place."""
    return Drawn(outline, style.outline_colour(place))


def truth_beneath(outline: Outline) -> Drawn:
    """Return the truth's outline, thinner than a prediction's."""
    return Drawn(outline, style.TRUTH_COLOUR, 0.8)


def legend_of(places: Mapping[str, int]) -> dict[str, str]:
    """Return the legend of models, by their names in print, at some places: colours by label, the truth's first."""
    return {"Truth": style.TRUTH_COLOUR} | {label: style.outline_colour(place) for label, place in places.items()}


def examples_strip(examples: Sequence[Example], models: Sequence[str], labels: Labels = UNLABELLED) -> Figure:
    """Draw one row per example (figure 6).

    It shows the image, the truth, and each model's outline with the truth.
    """
    rows = []
    for example in examples:
        panels = [
            Panel(example.caption, example.image),
            Panel("Truth", example.image, (Drawn(example.truth, style.TRUTH_COLOUR, 1.1),)),
        ]
        for place, model in enumerate(models):
            outlines, score = example.found.get(model, ((), None))
            title = f"{style.fitted(labels[model])} {DASH if score is None else f'{score:.2f}'}"
            found = () if score is None else (prediction(outlines, place),)
            panels.append(Panel(title, example.image, (truth_beneath(example.truth), *found)))
        rows.append(Row(example.rank, tuple(panels)))
    return picture_grid(rows, legend_of({labels[model]: place for place, model in enumerate(models)}))


def picture_grid(rows: Sequence[Row], legend: Mapping[str, str], columns: int = 0) -> Figure:
    """Draw rows of images as wide as the page, with a legend below.

    Images keep their aspect ratio.

    Args:
        rows: At least one.
        legend: Colours by label.
        columns: The smallest number of images that share the page's width; the longest row may have more.
    """
    columns = max(columns, *(len(row.panels) for row in rows))
    beside = max(_LINE_HEIGHT_INCHES * (1 + row.label.count("\n")) + 0.05 if row.label else 0.0 for row in rows)
    side = (style.PAGE_WIDTH_INCHES - beside) / columns - 0.04
    # the height of each row's tallest image with its title
    heights = [
        max(side * panel.image.shape[0] / panel.image.shape[1] + _title_height(panel) for panel in row.panels)
        for row in rows
    ]
    with style.styled():
        figure = style.new_figure(sum(heights) + 0.04 * len(rows) + 0.3)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
        grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
        for row, line in zip(rows, grid, strict=True):
            line[0].set_ylabel(row.label, fontsize=7.5, fontweight="bold")
            for axes, panel in zip(line, row.panels, strict=False):
                _show(axes, panel)
            for axes in line[len(row.panels) :]:
                axes.set_visible(False)
        figure.legend(
            handles=[Line2D([], [], color=colour, label=style.fitted(label)) for label, colour in legend.items()],
            loc="outside lower center",
            ncols=len(legend),
            labelcolor="white",
            frameon=True,
            facecolor=_LEGEND_BACKGROUND,
            edgecolor="none",
            framealpha=1.0,
        )
    return figure


def _title_height(panel: Panel) -> float:
    return _LINE_HEIGHT_INCHES * (1 + panel.title.count("\n")) + 0.04 if panel.title else 0.0


def _show(axes: Axes, panel: Panel) -> None:
    height, width = panel.image.shape[:2]
    # nearest neighbour: smoothing would invent texture; the scale is of gray alone
    axes.imshow(panel.image, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(panel.title, fontsize=7, fontweight="normal", pad=2.5)
    for outlines, colour, line_width in panel.drawn:
        casing = withStroke(linewidth=line_width + 1.2, foreground="#000000b0")  # light lines on bright tissue
        for polygon in outlines:
            closed = np.vstack([polygon, polygon[:1]])
            axes.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=line_width, path_effects=[casing])
