"""Section on performance: the paper's Table 2, and what its means hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.figures import curves
from eus_ray.analysis.labels import DASH, KIND_LABELS, METRIC_LABELS, ReportKind, model_label
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.page import picture, render, sort_key
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics import bootstrap


def build(results: Results) -> Section | None:
    """Build the section; None without predicted images."""
    if results.headline.empty:
        return None
    table = results.table2
    metrics = paper_tables.shown_metrics(table)
    uneven_note = _uneven_note(results.uneven, metrics)
    num_images = results.headline["model"].value_counts().to_dict() if results.uneven else {}
    notes = " ".join(filter(None, ["Synthetic data." if results.synthetic else "", uneven_note]))
    latex = paper_tables.table2_latex(table, results.unit, notes, results.uneven, num_images)
    files = {"table2.csv": paper_tables.as_csv(table).encode(), "table2.tex": latex.encode()}
    chart = None
    if "dsc" in results.headline:
        chart = picture(files, "dsc_by_model", curves.dsc_by_model(results.headline), _in_words(results.headline))
    kinds, winners = {results.kind(model) for model in results.models}, _winners_beside(results)
    body = render(
        "performance.html",
        metrics=[_head(name, results.unit) for name in metrics],
        rows=[
            _row(row, table, results.kind(row["model"]), results.uneven, num_images.get(row["model"]))
            for row in table.to_dict("records")
        ]
        + [_row(row, table, ReportKind.WINNER, not_best=metrics) for row in winners.to_dict("records")],
        uneven_note=uneven_note,
        has_common=bool(metrics) and not paper_tables.common_images(results.headline, metrics[0]).empty,
        has_best=len(results.uneven) < len(metrics),
        several=len(table) > 1,
        nested=ReportKind.NESTED in kinds,
        beside=not winners.empty,
        behind=behind_the_means(results.headline),
        chart=chart,
        draws=bootstrap.DRAWS,
        interval_note=results.interval_note,
        num_folds=results.headline["fold"].nunique(),
        partial=bool(results.unfinished),
        undefined_auc="auc" in results.headline and bool(results.headline["auc"].isna().any()),
    )
    return Section(10, "performance", "Performance", body, files)


def _head(metric: str, unit: str) -> dict[str, str]:
    unit, better = (unit, "low") if metric in DISTANCES else ("", "high")
    return {"label": METRIC_LABELS[metric], "unit": unit, "better": better}


def _winners_beside(results: Results) -> pd.DataFrame:
    """Compute Table 2 of the winners that are not the headline."""
    shown = [model for model in results.models if results.kind(model) == ReportKind.WINNER]
    is_winner = results.images["kind"] == ReportKind.WINNER
    return paper_tables.table2(results.images[is_winner & ~results.images["model"].isin(shown)])


def _uneven_note(uneven: Sequence[str], metrics: Sequence[str]) -> str:
    """Return a sentence about metrics that models have of different images; empty if there are none."""
    listed = ", ".join(METRIC_LABELS[name] for name in uneven)
    tested = "were not tested on" if len(uneven) == len(metrics) else f"do not have {listed} of"
    return f"The models {tested} the same images, so do not compare these means; none is bold." if uneven else ""


def _row(
    row: Mapping[Any, Any], table: pd.DataFrame, kind: str, not_best: Sequence[str], num_images: int | None = None
) -> dict[str, Any]:
    """Return a row of Table 2; no mean of the metrics in `not_best` is bold."""
    cells = []
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
        "model": model_label(row["model"]),
        "num_images": num_images,
        "note": KIND_LABELS.get(kind, ""),
        "cells": cells,
    }


def behind_the_means(images: pd.DataFrame) -> dict[str, Any]:
    """Return counts that a mean does not show, one line per count.

    A count whose columns `images` lacks is left out.
    """
    counts = {
        model_label(str(model)): _counts(mine.reset_index(drop=True))
        for model, mine in images.groupby("model", sort=False)
    }
    names = list(dict.fromkeys(name for mine in counts.values() for name in mine))
    lines = [{"name": name, "values": [mine.get(name, DASH) for mine in counts.values()]} for name in names]
    return {"models": list(counts), "lines": lines}


def _counts(mine: pd.DataFrame) -> dict[str, str]:
    counts = {
        "Folds": str(mine["fold"].nunique()),
        "Patients": str(mine["patient_id"].nunique()),
        "Images": str(len(mine)),
    }
    if "iou" in mine:
        over = int((mine["iou"] > 0.5).sum())
        counts["IoU above 0.5"] = f"{over} ({100 * over / len(mine):.1f} %)"
    for column, name in (("missed", "Missed lesions"), ("false_alarm", "False alarms where there is no lesion")):
        if column in mine:
            counts[name] = str(int(mine[column].astype(bool).sum()))
    if {"tp", "fp", "fn"} <= set(mine.columns):
        counts["No lesion, and none found"] = str(int((mine[["tp", "fp", "fn"]].sum(axis=1) == 0).sum()))
    if "components" in mine:
        counts["Predictions in several pieces"] = str(int((mine["components"] > 1).sum()))
    if "hd" in mine:
        finite = ~np.isinf(mine["hd"])
        others = bootstrap.mean_of_fold_means(
            bootstrap.fold_means(mine.loc[finite, ["hd"]].to_numpy(), mine["fold"][finite])
        )
        counts["Distances not finite"] = str(int((~finite).sum()))
        counts["Mean HD of the others"] = paper_tables.printed("hd", float(others[0]))
    if "auc" in mine and mine["auc"].notna().any():
        counts["AUC undefined"] = str(int(mine["auc"].isna().sum()))
    return counts


def _in_words(images: pd.DataFrame) -> str:
    parts = []
    for model, mine in images.groupby("model", sort=False):
        low, middle, high = np.percentile(mine["dsc"], [25, 50, 75])
        parts.append(f"{model_label(str(model))}: median {middle:.2f}, quartiles {low:.2f} and {high:.2f}")
    return "Box plot of the DSC of each image. " + "; ".join(parts) + "."
