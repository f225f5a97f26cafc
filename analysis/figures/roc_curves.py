"""ROC curves of the models (the paper's figure 5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eus_ray.analysis.figures import style
from eus_ray.analysis.measures.roc import Floats

PANELS = {"image": "Pixels of each image", "fold": "All pixels of a fold"}
_CORNER_FPRS = (0.02, 0.05, 0.1, 0.2)
"""The enlarged corner ends at the first false positive rate at which every model is near the top."""
_NEAR_TOP_TPR = 0.9


def roc_curves(curves: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Draw the mean ROC curves, of each image and of all pixels of a fold.

    Each model has a line, the mean over folds, and a band of ± 1 SD over folds, cut at 0 and 1. A panel without curves
    is left out. If all models are near the top early, that corner is enlarged inside the panel.

    Args:
        curves: `model, pixels, fold, fpr, tpr, sd` as from `roc_tables.curves`; only rows without a fold are drawn.
        labels: The legend's text for each model, in the order of their colours.
    """
    means = curves[curves["fold"].isna()]
    shown = [pixels for pixels in PANELS if (means["pixels"] == pixels).any()]
    columns = len(shown)
    legend_rows = -(-len(labels) // columns)
    with style.styled():
        # the height makes the panels square: a fixed aspect would cut titles off
        figure = style.new_figure(3.7 + 0.16 * legend_rows, style.PAGE_WIDTH_INCHES if columns > 1 else 3.7)
        for axes, pixels in zip(figure.subplots(1, columns, squeeze=False)[0], shown, strict=True):
            _panel(axes, means[means["pixels"] == pixels], list(labels))
            axes.set_title(PANELS[pixels])
        handles = [
            Line2D([], [], color=style.model_colour(place), linestyle=style.dashes(place), label=label)
            for place, label in enumerate(labels.values())
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def _panel(axes: Axes, means: pd.DataFrame, models: list[str]) -> None:
    lines = {
        place: means[means["model"] == model][["fpr", "tpr", "sd"]].to_numpy(np.float64)
        for place, model in enumerate(models)
        if (means["model"] == model).any()
    }
    axes.plot([0, 1], [0, 1], color=style.GRID, lw=1.0, zorder=1)
    _draw(axes, lines)
    axes.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="False positive rate (1 − SP)",
        ylabel="True positive rate (SEN)",
    )
    if (corner := _corner(lines)) is not None:
        right, bottom = corner
        inset = axes.inset_axes((0.4, 0.14, 0.56, 0.56))
        _draw(inset, lines)
        inset.set(xlim=(-0.01 * right, right), ylim=(bottom, 1 + 0.01 * (1 - bottom)))
        inset.locator_params(nbins=4)
        inset.tick_params(labelsize=6.5)
        inset.spines[["top", "right"]].set_visible(True)
        axes.indicate_inset_zoom(inset, edgecolor=style.INK, alpha=0.6, linewidth=0.6)


def _draw(axes: Axes, lines: Mapping[int, Floats]) -> None:
    for place, line in lines.items():
        fpr, tpr, sd = line.T
        colour = style.model_colour(place)
        # a curve begins at (0, 0) and may go straight up
        axes.plot([0, *fpr], [0, *tpr], color=colour, linestyle=style.dashes(place), zorder=3 + 0.01 * place)
        if not np.isnan(sd).any():
            low, high = (np.clip(tpr + side * sd, 0, 1) for side in (-1, 1))
            axes.fill_between(fpr, low, high, color=colour, alpha=0.16, lw=0, zorder=2)


def _corner(lines: Mapping[int, Floats]) -> tuple[float, float] | None:
    """Return the right and lower end of the enlarged corner, if there is one.

    None if a model is near the top only late.
    """
    for right in _CORNER_FPRS:
        lowest = min(np.interp(right, line[:, 0], line[:, 1]) for line in lines.values())
        if lowest >= _NEAR_TOP_TPR:
            start = min(np.interp(right / 10, line[:, 0], line[:, 1]) for line in lines.values())
            return right, min(np.floor(10 * start) / 10, _NEAR_TOP_TPR)
    return None
