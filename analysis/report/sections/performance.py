"""Section on performance: the paper's Table 2, and what its means hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.comparison.fold_table import fold_table
from eus_ray.analysis.figures import curves
from eus_ray.analysis.labels import DASH, KIND_LABELS, METRIC_LABELS, UNLABELLED, Labels, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.page import picture, render, sort_key
from eus_ray.analysis.report.references import REFERENCES
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.report.winners import doubts
from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.bootstrap import Average


def build(results: Results) -> Section | None:
    """Build the section; None without predicted images."""
    if results.headline.empty:
        return None
    table = results.table2
    metrics = paper_tables.shown_metrics(table)
    uneven_note = _uneven_note(results.uneven, metrics)
    num_images = results.compared["model"].value_counts().to_dict() if results.uneven else {}
    has_distances = bool(set(metrics) & set(DISTANCES))
    unit_note = f"Distances are in {results.unit_long}." if has_distances and results.unit else ""
    notes = " ".join(filter(None, ["Synthetic data." if results.synthetic else "", unit_note, uneven_note]))
    latex = paper_tables.table2_latex(
        table, results.unit, notes, results.uneven, num_images, results.average_words, results.labels
    )
    files = {"table2.csv": paper_tables.as_csv(table).encode(), "table2.tex": latex.encode()}
    chart = None
    if "dsc" in results.headline:
        figure, words = (
            curves.dsc_by_model(results.headline, results.labels),
            _in_words(results.headline, results.labels),
        )
        chart = picture(files, "dsc_by_model", figure, words)
    kinds, winners = {results.kind(model) for model in results.models}, _winners_beside(results)
    body = render(
        "performance.html",
        metrics=[_head(name, results.unit) for name in metrics],
        rows=[
            _row(results, row, results.kind(row["model"]), results.uneven, num_images.get(row["model"]))
            for row in table.to_dict("records")
        ]
        + [_row(results, row, ReportKind.WINNER, not_best=metrics) for row in winners.to_dict("records")],
        uneven_note=uneven_note,
        has_common=bool(metrics) and not paper_tables.common_images(results.headline, metrics[0]).empty,
        has_best=len(results.uneven) < len(metrics),
        several=len(table) > 1,
        several_models=len(results.models) > 1,
        has_distances=has_distances,
        unit_note=unit_note,
        nested=ReportKind.NESTED in kinds,
        beside=not winners.empty,
        doubts=list(doubts(results).values()),
        behind=behind_the_means(
            results.headline, results.target, results.analysis.average, results.labels, results.unit
        ),
        target=results.target,
        average=results.average_words,
        chart=chart,
        draws=bootstrap.DRAWS,
        interval_note=results.interval_note,
        num_folds=results.headline["fold"].nunique(),
        partial=bool(results.unfinished),
        undefined_auc="auc" in metrics and bool(results.headline["auc"].isna().any()),
        nsd_note=_nsd_note(results) if "nsd" in metrics else "",
        has_intervals=bool(table[[f"{name}_low" for name in metrics]].notna().any(axis=None)),
        paper=REFERENCES["seo"],
    )
    return Section(10, "performance", "Performance", body, files)


def _nsd_note(results: Results) -> str:
    """Return within which distance NSD counts a contour's pixels; a table from elsewhere does not say it."""
    if results.store is None:
        return "The table does not say at which tolerance NSD was measured."
    return f"NSD: share of both contours within {results.analysis.tolerance:g} {results.unit} of the other."


def _head(metric: str, unit: str) -> dict[str, str]:
    unit, better = (unit, "low") if metric in DISTANCES else ("", "high")
    return {"label": METRIC_LABELS[metric], "unit": unit, "better": better}


def _winners_beside(results: Results) -> pd.DataFrame:
    """Compute Table 2 of the winners that are not the headline."""
    shown = [model for model in results.models if results.kind(model) == ReportKind.WINNER]
    is_winner = results.images["kind"] == ReportKind.WINNER
    beside = results.images[is_winner & ~results.images["model"].isin(shown)]
    return paper_tables.table2(beside, average=results.analysis.average)


def _uneven_note(uneven: Sequence[str], metrics: Sequence[str]) -> str:
    """Return a sentence about metrics that models have of different images; empty if there are none."""
    listed = ", ".join(METRIC_LABELS[name] for name in uneven)
    tested = "were not tested on" if len(uneven) == len(metrics) else f"do not have {listed} of"
    return f"The models {tested} the same images, so do not compare these means; none is bold." if uneven else ""


def _row(
    results: Results, row: Mapping[Any, Any], kind: str, not_best: Sequence[str], num_images: int | None = None
) -> dict[str, Any]:
    """Return a row of Table 2; no mean of the metrics in `not_best` is bold."""
    cells, table = [], results.table2
    for name in paper_tables.shown_metrics(table):
        text = paper_tables.printed(name, row[name])
        cells.append(
            {
                "text": text,
                "interval": paper_tables.printed_interval(name, row[f"{name}_low"], row[f"{name}_high"]),
                "sort": sort_key(row[name]),
                "best": name not in not_best and text == paper_tables.best_printed(table, name),
            }
        )
    return {
        "model": results.labels[row["model"]],
        "num_images": num_images,
        "note": KIND_LABELS.get(kind, ""),
        "cells": cells,
    }


def behind_the_means(
    images: pd.DataFrame, target: str, average: Average, labels: Labels = UNLABELLED, unit: str = ""
) -> dict[str, Any]:
    """Return counts that a mean does not show, and what its distances owe to specks, one line per number.

    Args:
        images: The headline's rows. A line whose columns they lack is left out.
        target: What the masks show.
        average: As in `fold_table`.
        labels: The models' names for print.
        unit: The unit of distances.

    Returns:
        `models`; `lines` with `name` and `values`; `has_no_negatives`, whether all truths are known to show the target.
    """
    counts = {str(model): _counts(mine, target) for model, mine in images.groupby("model", sort=False)}
    if images["fold"].nunique() < 2:
        for mine in counts.values():
            del mine["Folds"]
    finite = images.assign(hd=images["hd"].where(~np.isinf(images["hd"]))) if "hd" in images else images
    for rows, metrics in ((finite, {"hd": "Mean HD of the finite ones"}), (images, _SPECK_MEANS)):
        means = fold_table(rows, list(metrics), average).groupby("model", sort=False).mean(numeric_only=True)
        for metric in [name for name in metrics if name in means]:
            for model, value in means[metric].items():
                name = f"{metrics[metric]}, {unit}" if unit else metrics[metric]
                counts[str(model)][name] = paper_tables.printed(metric, value)
    names = list(dict.fromkeys(name for mine in counts.values() for name in mine))
    has_lesion = _has_lesion(images)
    return {
        "models": [labels[model] for model in counts],
        "lines": [{"name": name, "values": [mine.get(name, DASH) for mine in counts.values()]} for name in names],
        "has_no_negatives": has_lesion is not None and bool(has_lesion.all()),
    }


_SPECK_MEANS = {
    "hd": "Mean HD",
    "hd_largest": "Mean HD with the largest piece alone",
    "hd95": "Mean HD95",
    "assd": "Mean ASSD",
}


def _has_lesion(images: pd.DataFrame) -> pd.Series[bool] | None:
    """Return whether the truth shows the target, by row; None if the table has no counts."""
    return images["tp"] + images["fn"] > 0 if {"tp", "fp", "fn"} <= set(images.columns) else None


def _counts(mine: pd.DataFrame, target: str) -> dict[str, str]:
    """Return one model's counts by name, as texts; each with the number of images that could have been so."""
    counts = {
        "Folds": str(mine["fold"].nunique()),
        "Patients": str(mine["patient_id"].nunique()),
        "Images": str(len(mine)),
    }
    names = {
        "missed": f"Missed: no pixel of the {target} is found",
        "empty": "Empty: nothing is predicted",
        "false_alarm": f"False alarm: something is predicted, and there is no {target}",
    }
    if "iou" in mine:
        counts["IoU above 0.5"] = _rate(mine["iou"] > 0.5, mine["iou"].notna())
    has_lesion = _has_lesion(mine)
    if has_lesion is not None:
        is_empty = mine["tp"] + mine["fp"] == 0
        counts[names["missed"]] = _rate(mine["tp"] == 0, has_lesion)
        counts[names["empty"]] = _rate(is_empty, is_empty.notna())
        counts[names["false_alarm"]] = _rate(~is_empty, ~has_lesion)
    else:  # how many images could be so is not known
        counts |= {name: str(int(mine[column].sum())) for column, name in names.items() if column in mine}
    if "components" in mine:
        counts["Predictions in several pieces"] = _rate(mine["components"] > 1, mine["components"] > 0)
    if "hd" in mine:
        counts["Distances not finite, because one mask is empty"] = str(int(np.isinf(mine["hd"]).sum()))
    if "auc" in mine and mine["auc"].notna().any():
        counts["AUC undefined"] = str(int(mine["auc"].isna().sum()))
    return counts


def _rate(is_so: pd.Series[bool], could_be: pd.Series[bool]) -> str:
    """Return a rate such as `6 of 200 (3.0 %)`; a dash if no image could be so."""
    number, total = int((is_so & could_be).sum()), int(could_be.sum())
    return f"{number} of {total} ({paper_tables.percent(number, total)} %)" if total else DASH


def _in_words(images: pd.DataFrame, labels: Labels) -> str:
    parts = []
    for model, mine in images.groupby("model", sort=False):
        low, middle, high = np.percentile(mine["dsc"], [25, 50, 75])
        parts.append(f"{labels[str(model)]}: median {middle:.2f}, quartiles {low:.2f} and {high:.2f}")
    return "Box plot of the DSC of each image. " + "; ".join(parts) + "."
