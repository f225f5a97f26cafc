"""Reliability curves: how often pixels of a probability show the target."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from eus_ray.analysis.figures import style

_HEIGHT_INCHES = 4.1


def reliability_curves(curves: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Draw the reliability curves of the models, and below which share of the pixels each point stands for.

    Args:
        curves: `model, low, high, share, probability, observed` of one region. A bin without pixels has no point, a
            model without any no curve.
        labels: The legend's text for each model, in the order of their colours.
    """
    with style.styled():
        figure = style.new_figure(_HEIGHT_INCHES + 0.16 * len(labels), 3.7)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot([0, 1], [0, 1], color=style.GRID, lw=1.0, zorder=1)
        for place, (model, label) in enumerate(labels.items()):
            mine = curves[curves["model"] == model]
            points = mine[mine["share"] > 0]
            if points.empty:
                continue
            line = {"color": style.model_colour(place), "linestyle": style.dashes(place)}
            upper.plot(points["probability"], points["observed"], marker="o", ms=2.8, label=label, **line)
            lower.stairs(mine["share"], [*mine["low"], mine["high"].iloc[-1]], **line)
        upper.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="Share in the truth")
        lower.set(xlabel="Predicted probability", ylabel="Pixels", yscale="log")
        lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        figure.legend(loc="outside lower center", ncols=1)
    return figure
