"""Learning curves (the paper's figure 4), and the DSC of each image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from eus_ray.analysis.figures import style
from eus_ray.analysis.labels import UNLABELLED, Labels

SUCCESS_DSC = 2 / 3
"""The DSC, 2 IoU / (1 + IoU), at IoU 0.5; the paper counts an image as segmented above it."""

_MAX_COLUMNS = 3
_FAR_FACTOR, _FAR_QUANTILE = 5.0, 0.8
"""Losses above this factor times this quantile lie beyond the axis: one epoch that went wrong would press all others to
the foot. The start of an ordinary curve stays below."""
_ROOM_ABOVE = 1.05
_SPLITS = {"train": "Training loss", "validation": "Validation loss"}


def learning_curves(epochs: pd.DataFrame, labels: Labels = UNLABELLED) -> Figure:
    """Draw the loss of each fold by epoch (figure 4), one column per model.

    Validation is below training.

    Epochs count from 1 on the axis. A diamond is a fold's loss on its test images, at the epoch whose weights were
    tested. Architectures with deep supervision add up more losses, so each model has its own scale, the same for
    training and validation. A loss far above all others (`axis_top`) is a triangle at the upper edge.

    Args:
        epochs: `model, fold, epoch, split, loss` of one trial per model, models in the order of the rows.
        labels: The models' names.
    """
    models = list(dict.fromkeys(epochs["model"]))
    splits = [split for split in _SPLITS if (epochs["split"] == split).any()]
    columns = min(len(models), _MAX_COLUMNS)
    blocks = -(-len(models) // columns)
    num_rows = blocks * len(splits)
    with style.styled():
        figure = style.new_figure(2.1 * num_rows + 0.55, min(style.PAGE_WIDTH_INCHES, 1.4 + 2.6 * columns))
        panels = figure.subplots(num_rows, columns, squeeze=False, sharex=True)
        by_place = panels.reshape(blocks, len(splits), columns).swapaxes(1, 2).reshape(-1, len(splits))
        for mine, model in zip(by_place, models, strict=False):
            _model_curves(mine, epochs[epochs["model"] == model], splits)
            mine[0].set_title(style.fitted(labels[model]))
        for axes in by_place[len(models) :].flat:
            axes.set_visible(False)
        for axes, split in zip(panels[:, 0], splits * blocks, strict=True):
            axes.set_ylabel(_SPLITS[split])
        for column in panels.T:
            lowest = [axes for axes in column if axes.get_visible()][-1]
            lowest.tick_params(labelbottom=True)
            lowest.set_xlabel("Epoch")
        handles = [
            Line2D([], [], color=style.model_colour(fold), linestyle=style.dashes(fold), label=f"Fold {fold}")
            for fold in sorted({int(fold) for fold in epochs["fold"]})
        ]
        if (epochs["split"] == "test").any():
            handles.append(Line2D([], [], marker="D", ls="", ms=4, mfc="white", mec=style.INK, label="Test images"))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), int(figure.get_figwidth())))
    return figure


def _model_curves(panels: npt.NDArray[np.object_], epochs: pd.DataFrame, splits: list[str]) -> None:
    """Draw one model's curves, one panel per split; test losses are in the last."""
    last = panels[0]
    top = axis_top(epochs)
    for axes, split in zip(panels, splits, strict=True):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        mine = epochs[epochs["split"] == split].sort_values("epoch")
        if mine.empty:
            axes.annotate(f"no {split} images", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center")
            continue
        last = axes
        for fold in sorted({int(fold) for fold in mine["fold"]}):
            curve = mine[mine["fold"] == fold]
            axes.plot(
                curve["epoch"] + 1,
                curve["loss"],
                color=style.model_colour(fold),
                linestyle=style.dashes(fold),
                marker="o" if len(curve) == 1 else None,
                ms=4,
            )
            far = curve[curve["loss"] > top]
            if len(far):
                axes.plot(far["epoch"] + 1, [top] * len(far), "^", color=style.model_colour(fold), **_FAR)
    for test in epochs[epochs["split"] == "test"].to_dict("records"):
        colour = style.model_colour(int(test["fold"]))
        if test["loss"] > top:
            last.plot(test["epoch"] + 1, top, "^", color=colour, **_FAR)
        else:
            last.plot(test["epoch"] + 1, test["loss"], "D", ms=4, mfc="white", mec=colour, zorder=4, clip_on=False)
    for axes in panels:
        axes.set_ylim(0, top)


_FAR: dict[str, Any] = {"ms": 5, "mew": 0, "zorder": 4, "clip_on": False}
"""The triangles' style."""


def axis_top(epochs: pd.DataFrame) -> float:
    """Return the loss at which a model's axis ends; larger ones are far above the others, if there are any.

    The limit is a factor times a quantile over folds and epochs, of training or of validation losses, whichever is
    smaller. The largest loss within it, and a little room, is the end; 1 without a finite positive loss.

    Args:
        epochs: `split, loss` of one model; infinite and undefined losses do not count.
    """
    known = epochs[np.isfinite(epochs["loss"])]
    by_split = known[known["split"].isin(list(_SPLITS))].groupby("split")["loss"]
    limit = _FAR_FACTOR * float(by_split.quantile(_FAR_QUANTILE, interpolation="lower").min())
    near = known["loss"] if math.isnan(limit) else known["loss"][known["loss"] <= limit]
    return _ROOM_ABOVE * float(near.max()) if (near > 0).any() else 1.0


def dsc_by_model(images: pd.DataFrame, labels: Labels = UNLABELLED) -> Figure:
    """Draw a box and the DSC of every image for each model, in the order of the rows.

    A box has the median, quartiles by linear interpolation, and whiskers at the smallest and largest value within
    1.5 IQR. NaN are left out. A line shows the DSC at IoU 0.5.

    Args:
        images: `model, dsc`, one row per model and image.
        labels: The models' names.
    """
    models = list(dict.fromkeys(images["model"]))
    with style.styled():
        figure = style.new_figure(2.9, min(style.PAGE_WIDTH_INCHES, 1.2 + 1.5 * len(models)))
        axes = figure.subplots()
        for place, model in enumerate(models):
            values = images.loc[images["model"] == model, "dsc"].dropna().to_numpy(np.float64)
            _strip_and_box(axes, place, values, has_image_of_dots=len(images) > style.MOST_VECTOR_DOTS)
        axes.set_xticks(range(len(models)), [style.fitted(labels[model]) for model in models])
        axes.set(xlim=(-0.6, len(models) - 0.4), ylim=(-0.02, 1.02), ylabel="DSC of each image")
        axes.grid(False, axis="x")
        axes.axhline(SUCCESS_DSC, color=style.INK, lw=0.7, linestyle=style.dashes(1), zorder=1)
        axes.annotate("IoU 0.5", (-0.58, SUCCESS_DSC), (0, 2), textcoords="offset points", fontsize=6.5)
    return figure


def _strip_and_box(axes: Axes, place: int, values: npt.NDArray[np.float64], *, has_image_of_dots: bool) -> None:
    colour = style.model_colour(place)
    # points beside the box, spread by their rank: no random numbers, so the file is the same each time
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    aside = 0.26 + 0.09 * np.sin(order * 2.399963)
    axes.plot(place + aside, values, "o", ms=2.0, mew=0, color=colour, alpha=0.55, rasterized=has_image_of_dots)
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
