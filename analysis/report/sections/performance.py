"""Section on performance: the paper's Table 2, and what its means hide."""

from __future__ import annotations

from collections.abc import Mapping
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
    latex = paper_tables.table2_latex(table, results.unit, "Synthetic data." if results.synthetic else "")
    files = {"table2.csv": paper_tables.as_csv(table).encode(), "table2.tex": latex.encode()}
    chart = None
    if "dsc" in results.headline:
        chart = picture(files, "dsc_by_model", curves.dsc_by_model(results.headline), _in_words(results.headline))
    kinds, winners = {results.kind(model) for model in results.models}, _winners_beside(results)
    body = render(
        "performance.html",
        metrics=[_head(name, results.unit) for name in paper_tables.shown_metrics(table)],
        rows=[_row(row, table, results.kind(row["model"])) for row in table.to_dict("records")]
        + [_row(row, table, ReportKind.WINNER, can_be_best=False) for row in winners.to_dict("records")],
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


def _row(row: Mapping[Any, Any], table: pd.DataFrame, kind: str, can_be_best: bool = True) -> dict[str, Any]:
    cells = []
    for name in paper_tables.shown_metrics(table):
        text = paper_tables.printed(name, row[name])
        cells.append(
            {
                "text": text,
                "interval": paper_tables.printed_interval(name, row[f"{name}_low"], row[f"{name}_high"]),
                "sort": sort_key(row[name]),
                "best": can_be_best and text == paper_tables.best_printed(table, name),
            }
        )
    return {"model": model_label(row["model"]), "note": KIND_LABELS.get(kind, ""), "cells": cells}


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
