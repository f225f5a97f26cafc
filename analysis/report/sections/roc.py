"""Section on ROC curves and their areas (the paper's figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison import claims, paper_tables
from eus_ray.analysis.comparison.roc_tables import areas, curves
from eus_ray.analysis.figures import roc_curves, style
from eus_ray.analysis.labels import DASH, KIND_LABELS, Labels
from eus_ray.analysis.measures.roc import MOST_PATIENTS, FoldRoc
from eus_ray.analysis.report.page import picture, render, true_minus
from eus_ray.analysis.report.recipe import listed
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics import bootstrap

_MINUS = "\N{MINUS SIGN}"


def build(results: Results) -> Section | None:
    """Build the section; None if no image has an AUC."""
    images = results.headline
    if images.empty or "auc" not in images or images["auc"].isna().all():
        return None
    rocs = headline_rocs(results)
    tests = {(pair.first, pair.second): pair.mean for pair in results.pairs if pair.metric == "auc"}
    table = areas(images, rocs, tests, results.analysis.average)
    files = {"auc.csv": paper_tables.as_csv(table).encode()}
    points, shown = curves(rocs), None
    if not points.empty:
        files["roc.csv"] = paper_tables.as_csv(points).encode()
        figure = roc_curves.roc_curves(points, _legend(results, table))
        shown = picture(files, "roc", figure, _in_words(results, table), _caption(points))
    folds = sorted({fold.fold for mine in rocs.values() for fold in mine})
    one_class = sorted({fold.fold for mine in rocs.values() for fold in mine if np.isnan(fold.pooled.auc)})
    pairs = table.loc[table["minus"] != "", ["model", "minus"]].drop_duplicates()
    body = render(
        "roc.html",
        target=results.target,
        picture=shown,
        pooled=bool(rocs),
        folds=folds,
        rows=[
            {**_row(table, model, "", folds, results.labels), "note": KIND_LABELS.get(results.kind(model), "")}
            for model in results.models
        ],
        differences=[
            _row(table, first, second, folds, results.labels) for first, second in pairs.itertuples(index=False)
        ],
        undefined=images[images["auc"].isna()]["image_id"].nunique(),
        one_class=f"fold{'s' if len(one_class) > 1 else ''} {listed(one_class)}" if one_class else "",
        interval_note=results.interval_note,
        no_interval=any(fold.wins is None for mine in rocs.values() for fold in mine),
        most_patients=MOST_PATIENTS,
        draws=bootstrap.DRAWS,
    )
    return Section(14, "roc", "ROC curves", body, files)


def headline_rocs(results: Results) -> dict[str, list[FoldRoc]]:
    """Return the folds of each model's headline kind, ascending.

    A model without folds is left out.
    """
    keys = sorted(results.rocs)
    found = {
        model: [results.rocs[key] for key in keys if key[:2] == (model, results.kind(model))]
        for model in results.models
    }
    return {model: folds for model, folds in found.items() if folds}


def _legend(results: Results, table: pd.DataFrame) -> dict[str, str]:
    legend = {}
    for model in results.models:
        image, fold = (_mean(table, model, "", pixels) for pixels in ("image", "fold"))
        legend[model] = f"{style.fitted(results.labels[model])}: AUC {_printed(image)} (image), {_printed(fold)} (fold)"
    return legend


def _caption(points: pd.DataFrame) -> str:
    means = points[points["fold"].isna()]
    band = "Mean over folds, with a band of ± 1 standard deviation over folds"
    return (
        f"{band if means['sd'].notna().any() else 'Curves of one fold'}. “{roc_curves.PANELS['image']}”: the curves of "
        f"the images, averaged at each false positive rate. “{roc_curves.PANELS['fold']}”: the curve of all pixels "
        "together. Gray: guessing. If all models are near the top early, that corner is enlarged."
    )


def _in_words(results: Results, table: pd.DataFrame) -> str:
    parts = [
        f"{results.labels[model]}: {_printed(_mean(table, model, '', 'image'))} of each image, "
        f"{_printed(_mean(table, model, '', 'fold'))} of a fold's pixels"
        for model in results.models
    ]
    return f"ROC curves, one line per model. Mean area under the curve. {'; '.join(parts)}."


def _mean(table: pd.DataFrame, model: str, minus: str, pixels: str) -> float:
    row = _find(table, model, minus, pixels).get(None)
    return float("nan") if row is None else float(row["auc"])


def _find(table: pd.DataFrame, model: str, minus: str, pixels: str) -> dict[int | None, Mapping[Any, Any]]:
    """Return rows by fold; the mean over folds has the key None."""
    here = (table["model"] == model) & (table["minus"] == minus) & (table["pixels"] == pixels)
    return {None if pd.isna(row["fold"]) else int(row["fold"]): row for row in table[here].to_dict("records")}


def _row(table: pd.DataFrame, model: str, minus: str, folds: Sequence[int], labels: Labels) -> dict[str, Any]:
    name = labels[model] + (f" {_MINUS} {labels[minus]}" if minus else "")
    cells = [_cell(_find(table, model, minus, "image").get(None), bool(minus))]
    if folds:
        pooled = _find(table, model, minus, "fold")
        cells += [_cell(pooled.get(fold), bool(minus)) for fold in (None, *folds)]
    return {"name": name, "note": "", "cells": cells}


def _cell(row: Mapping[Any, Any] | None, signed: bool) -> dict[str, str]:
    if row is None:
        return {"text": DASH, "interval": ""}
    low, high = (_printed(row[end], signed) for end in ("low", "high"))
    between = " to " if signed else DASH
    return {"text": _printed(row["auc"], signed), "interval": "" if low == DASH else f"{low}{between}{high}"}


def _printed(value: float, signed: bool = False) -> str:
    """Format an area with three decimals; a difference gets a sign, with a true minus, as in its claim."""
    if np.isnan(value):
        return DASH
    return true_minus(claims.signed("auc", value)) if signed else f"{value:.3f}"
