"""Section on searches: estimates, chosen settings, figures and all trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eus_ray.analysis.comparison.importances import MIN_TRIALS
from eus_ray.analysis.comparison.search_statements import statements
from eus_ray.analysis.figures import search_history, style
from eus_ray.analysis.inputs.searches import Dimension, Search, setting_text
from eus_ray.analysis.labels import DASH, METRIC_LABELS, ReportKind
from eus_ray.analysis.report.page import picture, render, sort_key
from eus_ray.analysis.report.recipe import listed
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.report.winners import doubts
from eus_ray.analysis.statistics.bootstrap import DRAWS
from eus_ray.store import TrialState

_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING)
_SAMPLERS = {"tpe": "TPE", "gp": "Gaussian process", "random": "random", "grid": "grid"}


def build(results: Results) -> Section | None:
    """Build the section; None without trials of a search."""
    searches = [search for search in results.searches.values() if len(search.trials)]
    if not searches:
        return None
    # a model has the same colour as in the other figures
    places = {model: place for place, model in enumerate(dict.fromkeys([*results.models, *results.searches]))}
    colours = {model: style.model_colour(place) for model, place in places.items()}
    files: dict[str, bytes] = {}
    weighed = [search for search in searches if len(search.importances())]
    pictures = {
        "history": _history(searches, colours, files),
        "importances": _importances(weighed, colours, files) if weighed else None,
    }
    body = render(
        "search.html",
        searches=[_search(search, _estimates(results, search), colours[search.model], files) for search in searches],
        doubts=doubts(results),
        protocols={search.protocol for search in searches},
        raced={search.racing_alpha for search in searches if search.scheduler == "racing"},
        pictures=pictures,
        selected=any(not search.selection.empty for search in searches),
        draws=DRAWS,
        least=MIN_TRIALS,
        unweighed=len(weighed) < len([search for search in searches if not search.selection.empty]),
    )
    return Section(15, "search", "Search", body, files)


def _estimates(results: Results, search: Search) -> pd.DataFrame:
    """Return the search's estimates, with the nested one as Table 2 has it.

    They are the same, unless the study was told after the search to average otherwise.
    """
    if search.model not in results.models or results.kind(search.model) != ReportKind.NESTED:
        return search.selection
    row = results.table2.set_index("model").loc[search.model]
    if search.metric not in row or pd.isna(row[search.metric]):
        return search.selection
    shown = [row[f"{search.metric}{end}"] for end in ("", "_low", "_high")]
    estimates = search.selection.copy()
    estimates.loc[estimates["estimate"] == "nested", ["value", "low", "high"]] = shown
    return estimates


def _search(search: Search, estimates: pd.DataFrame, colour: str, files: dict[str, bytes]) -> dict[str, Any]:
    number = search.trials["state"].value_counts()
    counts = ", ".join(f"{number[state]} {state}" for state in _STATES if state in number)
    return {
        "model": search.model,
        "label": search.label,
        "counts": f"{len(search.trials)} trial{'s' if len(search.trials) > 1 else ''}: {counts}",
        "metric": METRIC_LABELS[search.metric],
        "sampler": _SAMPLERS.get(search.sampler, search.sampler),
        "statements": statements(estimates),
        "ended": search.ended,
        "asked": search.num_trials,
        "winners": _fold_winners(search),
        "chosen": search.estimate("naive"),
        "settings": _settings(search),
        "slices": _slices(search, colour, files),
        "trials": _trials(search),
    }


def _fold_winners(search: Search) -> str:
    """Return the folds' winners, such as `trial 7 in folds 0 and 2; trial 3 in fold 1`."""
    won = search.fold_winners()
    return "; ".join(
        f"trial {trial} in fold{'s' if len(folds) > 1 else ''} {listed(folds)}"
        for trial, folds in won.groupby("trial", sort=False)["fold"]
    )


# ---- settings -----------------------------------------------------------------------------------


def _settings(search: Search) -> dict[str, Any] | None:
    """Return the searched fields: chosen, of the study's settings, of the paper's."""
    chosen = search.estimate("naive")
    if chosen is None:
        return None
    shown = {f"Chosen, trial {chosen['trial']}": chosen["trial"]}
    if search.default_trial in set(search.trials["trial"]):
        shown[f"Study's own, trial {search.default_trial}"] = search.default_trial
    has_paper = any(dimension.name in search.paper for dimension in search.dimensions)
    rows = []
    for dimension in search.dimensions:
        by_trial = search.settings(dimension).set_axis(search.trials["trial"])
        values = [*(by_trial[trial] for trial in shown.values()), *[search.paper.get(dimension.name)] * has_paper]
        rows.append({"name": dimension.name, "texts": [_printed(dimension, value) for value in values]})
    return {"heads": [*shown, *["Paper's"] * has_paper], "rows": rows}


def _printed(dimension: Dimension, value: Any) -> str:
    text = setting_text(value)
    return (f"{float(value):.3g}" if dimension.kind in ("float", "log_float") and text else text) or DASH


def _trials(search: Search) -> dict[str, Any]:
    """Return the table of all trials: outcome and searched fields."""
    chosen = search.estimate("naive")
    names = {"chosen": chosen and chosen["trial"], "study's own": search.default_trial, "paper's": search.paper_trial}
    columns = [(dimension, search.settings(dimension).tolist()) for dimension in search.dimensions]
    rows = []
    for place, trial in enumerate(search.trials.to_dict("records")):
        value = trial["value"]
        rows.append(
            {
                "number": int(trial["trial"]),
                "tags": [name for name, number in names.items() if number == trial["trial"]],
                "state": trial["state"],
                "reason": trial["reason"] if pd.notna(trial["reason"]) else "",
                "folds": int(trial["folds_done"]),
                "value": DASH if pd.isna(value) else f"{value:.3f}",
                "sort": sort_key(value),
                "settings": [_cell(dimension, values[place]) for dimension, values in columns],
            }
        )
    return {"heads": [each.name for each in search.dimensions], "rows": rows}


def _cell(dimension: Dimension, value: Any) -> Mapping[str, str]:
    text = _printed(dimension, value)
    sort = "" if pd.isna(value) else text if dimension.kind == "choice" else repr(float(value))
    return {"text": text, "sort": sort}


# ---- figures ------------------------------------------------------------------------------------


def _history(searches: list[Search], colours: Mapping[str, str], files: dict[str, bytes]) -> dict[str, Any]:
    words = []
    for search in searches:
        complete = search.trials[search.trials["state"] == TrialState.COMPLETE]
        best = f"best {complete['value'].max():.3f}" if len(complete) else "none complete"
        words.append(f"{search.label}: {len(search.trials)} trials, {best}")
    believe = " The broken line is the estimate to believe." if any(map(search_history.headline, searches)) else ""
    caption = (
        "The score of each trial as the search saw it. The line of the best score so far can only rise, and luck makes "
        f"it rise too.{believe}"
    )
    figure = search_history.history(searches, colours)
    return picture(files, "search_history", figure, f"Score by trial. {'; '.join(words)}.", caption)


def _importances(searches: list[Search], colours: Mapping[str, str], files: dict[str, bytes]) -> dict[str, Any]:
    words = []
    for search in searches:
        shares = search.importances().sort_values(ascending=False, kind="stable")
        listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        words.append(f"{search.label}: {listed}")
    caption = (
        "How much each field separates the best tenth of the trials (at least five) from the rest (PED-ANOVA). Pruned "
        "trials count with their fair value. With few trials this is only a hint."
    )
    figure = search_history.importance_bars(searches, colours)
    return picture(files, "search_importances", figure, f"Importances. {'; '.join(words)}.", caption)


def _slices(search: Search, colour: str, files: dict[str, bytes]) -> dict[str, Any] | None:
    fields = search_history.sliced(search)
    if not fields:
        return None
    label = search.label
    left_out = f" Only the {len(fields)} most important fields are shown." * (
        len(fields) == search_history.MAX_SLICES < len(search.dimensions)
    )
    return picture(
        files,
        f"search_slices_{search.model}",
        search_history.slices(search, colour),
        f"Score of each trial of {label} against {', '.join(field.name for field in fields)}.",
        f"{label}: score against each searched field. Filled: complete; hollow: pruned (fair value); ringed: chosen; "
        f"triangles: below the axis. Fields vary together, so a slope may come from another field.{left_out}",
    )
