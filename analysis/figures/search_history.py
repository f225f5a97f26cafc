"""Figures of a search: history, importances, and the score against each field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from eus_ray.analysis.comparison.importances import has_score
from eus_ray.analysis.comparison.score_matrix import Floats
from eus_ray.analysis.figures import style
from eus_ray.analysis.inputs.searches import Dimension, Search
from eus_ray.analysis.labels import METRIC_LABELS
from eus_ray.store import TrialState

MAX_SLICES = 12
_MAX_COLUMNS = 4
_PRUNED_COLOUR, _HEADLINE_COLOUR = "#8593a0", "#a34700"
_FAR_IQRS = 2.0
"""Scores farther below the lower quartile are drawn at the axis' foot, so that the others can be told apart."""
_MAX_CHOICE_LENGTH = 14
_FULL_SIZE_TITLE_LENGTH = 21
"""A longer panel title is printed smaller."""
_RING: dict[str, Any] = {"mfc": "none", "mec": style.INK, "ms": 8.5, "mew": 0.9}
"""It marks the chosen trial, the study's own and the paper's."""


def history(searches: Sequence[Search], colours: Mapping[str, str]) -> Figure:
    """Draw each trial's score, the best so far, and the headline estimate.

    A pruned trial is shown at its fair value. A failed trial has no score and is a cross at the axis' foot. A score far
    below all others is a triangle there.

    Args:
        searches: At least one.
        colours: Colour by model.
    """
    with style.styled():
        figure = style.new_figure(2.6 * len(searches) + 0.35)
        panels = figure.subplots(len(searches), 1, squeeze=False)[:, 0]
        for axes, search in zip(panels, searches, strict=True):
            _history(axes, search, colours[search.model])
        panels[-1].set_xlabel("Trial")
        handles = [
            Line2D([], [], marker="o", ls="", color=style.INK, label="Complete"),
            Line2D([], [], marker="o", ls="", mfc="white", color=_PRUNED_COLOUR, label="Pruned (fair value)"),
            Line2D([], [], marker="x", ls="", color=style.INK, label="Failed"),
            Line2D([], [], marker="D", ls="", label="Study's own setting", **_RING),
            Line2D([], [], marker="s", ls="", label="Paper's setting", **_RING),
            Line2D([], [], color=style.INK, lw=1.0, label="Best so far"),
        ]
        if any(map(headline, searches)):
            handles += [
                Line2D([], [], marker="o", ls="", label="Chosen", **_RING),
                Line2D(
                    [],
                    [],
                    color=_HEADLINE_COLOUR,
                    linestyle=style.dashes(1),
                    label="Estimate to believe, with 95 % interval",
                ),
            ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def headline(search: Search) -> dict[str, Any] | None:
    """Return a search's headline estimate; None if nothing is chosen yet."""
    return search.estimate("nested") or search.estimate("bbc")


def _history(axes: Axes, search: Search, colour: str) -> None:
    trials = search.trials
    estimate = headline(search)
    foot, top = _limits(search, [estimate["low"], estimate["high"]] if estimate else [])
    axes.set(
        title=style.fitted(search.label),
        ylabel=METRIC_LABELS[search.metric],
        ylim=(foot, top),
        xlim=(trials["trial"].min() - 0.7, trials["trial"].max() + 0.7),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dots(axes, trials["trial"].to_numpy(np.float64), search, colour)
    failed = trials.loc[trials["state"] == TrialState.FAILED, "trial"]
    if len(failed):
        axes.plot(failed, np.full(len(failed), foot), "x", color=style.INK, ms=5, clip_on=False)
    complete = trials[trials["state"] == TrialState.COMPLETE]
    best = complete["value"].cummax()
    if len(best):
        end = axes.get_xlim()[1]
        axes.step([*complete["trial"], end], [*best, best.iloc[-1]], where="post", color=colour, lw=1.0, zorder=1)
    if estimate:
        axes.axhline(estimate["value"], color=_HEADLINE_COLOUR, linestyle=style.dashes(1), lw=1.2, zorder=1)
        axes.axhspan(estimate["low"], estimate["high"], color=_HEADLINE_COLOUR, alpha=0.08, lw=0, zorder=0)
    chosen = search.estimate("naive")
    rings = {"o": chosen and chosen["trial"], "D": search.default_trial, "s": search.paper_trial}
    for marker, trial in rings.items():
        mine = complete[complete["trial"] == trial]
        axes.plot(mine["trial"], np.maximum(mine["value"], foot), marker, **_RING)


def importance_bars(searches: Sequence[Search], colours: Mapping[str, str]) -> Figure:
    """Draw the importances of searched fields, the largest on top.

    All searches have importances; each has a panel.
    """
    with style.styled():
        shares = [search.importances() for search in searches]
        longest = max(map(len, shares))
        figure = style.new_figure(0.2 * longest + 0.75, min(style.PAGE_WIDTH_INCHES, 1.2 + 2.9 * len(searches)))
        figure.set_layout_engine("constrained", w_pad=0.1)  # the PNG draws long names a little wider
        panels = figure.subplots(1, len(searches), squeeze=False)[0]
        for axes, search, mine in zip(panels, searches, shares, strict=True):
            mine = mine.sort_values(kind="stable")
            axes.barh(range(len(mine)), 100 * mine, height=0.65, color=colours[search.model])
            axes.set_yticks(range(len(mine)), list(mine.index))
            axes.set(
                ylim=(len(mine) - longest - 0.6, len(mine) - 0.4),
                xlim=(0, None),
                title=style.fitted(search.label),
                xlabel="Importance, %",
            )
            axes.grid(False, axis="y")
    return figure


def slices(search: Search, colour: str) -> Figure:
    """Draw the score against each field of `sliced`, the most important first."""
    drawn = sliced(search)
    chosen = search.estimate("naive")
    foot, top = _limits(search, [])
    columns = min(len(drawn), _MAX_COLUMNS)
    rows = -(-len(drawn) // columns)
    with style.styled():
        figure = style.new_figure(1.75 * rows + 0.1, min(style.PAGE_WIDTH_INCHES, 0.5 + 1.9 * columns))
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, dimension in zip(panels.flat, drawn, strict=False):
            places = _places(axes, dimension, search.settings(dimension))
            axes.set_ylim(foot, top)
            _dots(axes, places, search, colour, size=3.5)
            if chosen:
                here = (search.trials["trial"] == chosen["trial"]).to_numpy()
                axes.plot(places[here], [chosen["value"]], "o", **_RING)
            axes.set_title(dimension.name, fontsize=min(7.5, 7.5 * _FULL_SIZE_TITLE_LENGTH / len(dimension.name)))
        for axes in panels.flat[len(drawn) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(METRIC_LABELS[search.metric])
    return figure


def sliced(search: Search) -> list[Dimension]:
    """Return at most `MAX_SLICES` fields that vary, the most important first.

    Only trials with a score count.
    """
    scored, shares = has_score(search.trials), search.importances()
    varied = [each for each in search.dimensions if search.settings(each)[scored].nunique() > 1]
    return sorted(varied, key=lambda each: -shares.get(each.name, 0.0))[:MAX_SLICES]


def _places(axes: Axes, dimension: Dimension, settings: pd.Series) -> Floats:
    """Prepare the axis and return each trial's place; NaN without the field."""
    if dimension.kind == "choice":
        texts = [text for text in dimension.choices if (settings == text).any()]
        labels = [style.shortened(text, _MAX_CHOICE_LENGTH) for text in texts]
        is_turned = sum(map(len, labels)) > 18
        axes.set_xticks(
            range(len(texts)), labels, rotation=25 if is_turned else 0, ha="right" if is_turned else "center"
        )
        axes.set_xlim(-0.6, len(texts) - 0.4)
        axes.grid(False, axis="x")
        place = settings.map({text: index for index, text in enumerate(texts)}).to_numpy(np.float64)
        spread = 0.0 if all(map(_is_number, texts)) else 0.18
        return place + spread * np.sin(np.arange(len(place)) * 2.399963)  # spread, without random numbers
    if dimension.kind == "log_float":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=dimension.kind == "int"))
    return settings.to_numpy(np.float64)


def _is_number(text: str) -> bool:
    """Return whether a choice is one number: a dot beside it would stand for another."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _dots(axes: Axes, places: Floats, search: Search, colour: str, size: float = 4.5) -> None:
    """Draw a dot for each score; those below the axis are triangles at its foot."""
    foot = axes.get_ylim()[0]
    values = search.trials["value"].to_numpy(np.float64)
    for state, inside, edge in (
        (TrialState.PRUNED, "white", _PRUNED_COLOUR),
        (TrialState.COMPLETE, colour, colour),
    ):
        here = (search.trials["state"] == state).to_numpy() & ~np.isnan(values)
        for below, marker in ((False, "o"), (True, "v")):
            mine = here & ((values < foot) == below)
            if mine.any():  # an empty line would distort the layout: it counts as one in the figure's corner
                axes.plot(
                    places[mine],
                    np.maximum(values[mine], foot),
                    marker,
                    ms=size,
                    mew=0.9,
                    mfc=inside,
                    mec=edge,
                    clip_on=not below,
                )


def _limits(search: Search, others: Sequence[float]) -> tuple[float, float]:
    """Return the limits of the score's axis."""
    values = search.trials.loc[has_score(search.trials), "value"].to_numpy(np.float64)
    if not len(values):
        return 0.0, 1.0
    lower, upper = np.percentile(values, [25, 75])
    near = values[values >= lower - _FAR_IQRS * max(upper - lower, 0.005)]
    low, high = min([near.min(), *others]), max([near.max(), *others])
    room = 0.08 * max(high - low, 0.01)
    return float(low - room), float(high + 2 * room)
