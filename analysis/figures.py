"""The figures: learning curves (the paper's figure 4), DSC of each image, and examples with outlines (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from eus_ray.analysis import style
from eus_ray.analysis.labels import DASH, model_label
from eus_ray.analysis.outlines import Outline


@dataclass(frozen=True)
class Example:
    """One image with the outlines to draw on it."""

    caption: str
    image: npt.NDArray[np.uint8]  # (H, W)
    truth: Outline
    found: dict[str, tuple[Outline, float]]
    """Outline and DSC by model."""


def learning_curves(epochs: pd.DataFrame) -> Figure:
    """Training loss of each fold by epoch, a panel a model in the order of the rows.

    epochs: `model, fold, epoch, split, loss` of one trial a model. Epochs count from 1 on the axis. Losses of
    architectures with deep supervision are sums over more outputs, so that each panel has its own scale.
    """
    training = epochs[epochs["split"] == "train"]
    models = list(dict.fromkeys(training["model"]))
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    with style.styled():
        figure = style.new_figure(2.5 * rows + 0.2, min(style.PAGE_WIDTH, 1.4 + 2.6 * columns))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for axes, model in zip(panels.flat, models, strict=False):
            mine = training[training["model"] == model]
            for fold, curve in mine.sort_values("epoch").groupby("fold"):
                place = int(fold)
                axes.plot(
                    curve["epoch"] + 1,
                    curve["loss"],
                    color=style.model_colour(place),
                    linestyle=style.dashes(place),
                    marker="o" if len(curve) == 1 else None,
                )
            axes.set_title(model_label(model))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.set_ylim(bottom=0)
        for axes in panels.flat[len(models) :]:
            axes.set_visible(False)
        for axes in panels[-1]:
            axes.set_xlabel("Epoch")
        for axes in panels[:, 0]:
            axes.set_ylabel("Training loss")
        folds = sorted({int(fold) for fold in training["fold"]})
        handles = [Line2D([], [], color=style.model_colour(fold), linestyle=style.dashes(fold)) for fold in folds]
        figure.legend(handles, [f"Fold {fold}" for fold in folds], loc="outside lower center", ncols=min(len(folds), 8))
    return figure


def score_by_model(images: pd.DataFrame, metric: str = "dsc", label: str = "DSC") -> Figure:
    """A box and every image's value for each model, in the order of the rows.

    Boxes: median, quartiles by linear interpolation, whiskers at the smallest and largest value within 1.5 IQR of the
    box. NaN are left out.
    """
    models = list(dict.fromkeys(images["model"]))
    with style.styled():
        figure = style.new_figure(2.9, min(style.PAGE_WIDTH, 1.2 + 1.5 * len(models)))
        axes = figure.subplots()
        for place, model in enumerate(models):
            values = images.loc[images["model"] == model, metric].dropna().to_numpy(np.float64)
            _strip_and_box(axes, place, values)
        axes.set_xticks(range(len(models)), [model_label(model) for model in models])
        axes.set_xlim(-0.6, len(models) - 0.4)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel(f"{label} of each image")
        axes.grid(False, axis="x")
    return figure


def _strip_and_box(axes: Axes, place: int, values: npt.NDArray[np.float64]) -> None:
    colour = style.model_colour(place)
    # Points beside the box, spread by their rank: the same picture each time.
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    aside = 0.26 + 0.09 * np.sin(order * 2.399963)
    axes.plot(place + aside, values, "o", ms=2.0, mew=0, color=colour, alpha=0.55)
    axes.boxplot(
        [values],
        positions=[place - 0.08],
        widths=0.3,
        patch_artist=True,
        showfliers=False,
        boxprops={"facecolor": "white", "edgecolor": colour, "linewidth": 1.2},
        medianprops={"color": colour, "linewidth": 2.0},
        whiskerprops={"color": colour},
        capprops={"color": colour},
        manage_ticks=False,
    )


def examples_strip(examples: Sequence[Example], models: Sequence[str]) -> Figure:
    """A row an example: the image, the truth's outline, and each model's outline beside the truth's (figure 6).

    Outlines only, so that the tissue stays visible.
    """
    columns = 2 + len(models)
    with style.styled():
        tallest = max(example.image.shape[0] / example.image.shape[1] for example in examples)
        side = style.PAGE_WIDTH / columns
        figure = style.new_figure(len(examples) * (side * tallest + 0.16) + 0.45)
        panels = figure.subplots(len(examples), columns, squeeze=False)
        for row, example in zip(panels, examples, strict=True):
            for axes in row:
                height, width = example.image.shape
                # Nearest: smoothing would invent texture.
                axes.imshow(
                    example.image, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest"
                )
                axes.set_axis_off()
            row[0].set_title(example.caption, fontsize=7.5, fontweight="normal")
            _draw(row[1], example.truth, style.TRUTH_COLOUR, 1.1)
            row[1].set_title("Truth", fontsize=7.5)
            for place, (axes, model) in enumerate(zip(row[2:], models, strict=True)):
                _draw(axes, example.truth, style.TRUTH_COLOUR, 0.8)
                if model in example.found:
                    found, score = example.found[model]
                    _draw(axes, found, style.outline_colour(place), 1.2)
                    axes.set_title(f"{model_label(model)} {score:.2f}", fontsize=7.5)
                else:
                    axes.set_title(f"{model_label(model)} {DASH}", fontsize=7.5)
        handles = [Line2D([], [], color=style.TRUTH_COLOUR, label="Truth")]
        handles += [
            Line2D([], [], color=style.outline_colour(place), label=model_label(model))
            for place, model in enumerate(models)
        ]
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor="white")
        legend.set_frame_on(True)
        legend.get_frame().set(facecolor="#39434d", edgecolor="none", alpha=1.0)
    return figure


def _draw(axes: Axes, polygons: Outline, colour: str, width: float) -> None:
    for polygon in polygons:
        closed = np.vstack([polygon, polygon[:1]])
        casing = withStroke(linewidth=width + 1.2, foreground="#000000b0")  # keeps light lines apart from bright tissue
        axes.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=width, path_effects=[casing])
