"""Section on claims about pairs of models, and the tests behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison import claims, paper_tables, statistics_table, verdicts
from eus_ray.analysis.comparison.claims import p_text, signed
from eus_ray.analysis.comparison.pairwise import Comparison
from eus_ray.analysis.comparison.score_matrix import Aligned, align
from eus_ray.analysis.comparison.subgroups import level_tests, stratum_means
from eus_ray.analysis.inputs.effort import has_variants
from eus_ray.analysis.labels import DASH, METRIC_LABELS, Labels
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.page import p_cell, render, sort_key
from eus_ray.analysis.report.recipe import listed
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics import bootstrap, sign_flips
from eus_ray.config import AnalysisSettings

_MAX_OPEN_CLAIMS = 10
"""A longer list of claims is folded."""


def build(results: Results) -> Section | None:
    """Build the section; None if no metric has a value."""
    metrics = [] if results.headline.empty else paper_tables.shown_metrics(results.table2)
    if not metrics:
        return None
    aligned = align(results.headline, metrics)
    said = claims.claims_table(results.pairs, results.background)
    divisions, _ = results.divided
    table = statistics_table.statistics_table(
        aligned,
        results.pairs,
        level_tests(aligned, divisions),
        stratum_means(aligned, divisions, results.analysis.average),
    )
    files = {
        "statistics.csv": paper_tables.as_csv(table).encode(),
        "statistics.parquet": statistics_table.as_parquet(table),
        "claims.csv": paper_tables.as_csv(said).encode(),
    }
    main = verdicts.PRIMARY if verdicts.PRIMARY in metrics else metrics[0]
    of_main = sorted(
        (pair for pair in results.pairs if pair.metric == main),
        key=lambda pair: not results.background.has_baseline(pair),
    )
    body = render(
        "claims.html",
        has_pairs=bool(of_main),
        has_baseline=any(results.background.has_baseline(pair) for pair in of_main),
        metric=METRIC_LABELS[main],
        has_variants=has_variants(results.efforts.values()),
        primary=main == verdicts.PRIMARY,
        listed=claims.claims_table(of_main, results.background).to_dict("records"),
        most_listed=_MAX_OPEN_CLAIMS,
        beside=[_beside(pair, results.labels) for pair in of_main],
        ranked=_ranked(aligned, main, results.labels),
        exploratory=_exploratory(said, [metric for metric in metrics if metric != main], results.labels),
        shares=_shares(aligned, "iou" in results.uneven, results.labels),
        margins=_margins(results.analysis, metrics, results.unit),
        mixed=" and " in results.unit,
        left_out=any(pair.left_out for pair in results.pairs),
        has_intervals=any(map(claims.has_interval, of_main)),
        has_folds=any(not np.isnan(pair.folds.p_value) for pair in of_main),
        adjusted=any(pair.num_tests > 1 for pair in results.pairs),
        draws=bootstrap.DRAWS,
        flips=sign_flips.DRAWS,
        most_exact=sign_flips.MOST_FOR_ALL_FLIPS,
        average=results.average_words,
        interval_note=results.interval_note,
        power=round(100 * verdicts.POWER),
    )
    return Section(12, "claims", "What can be claimed", body, files)


def _beside(pair: Comparison, labels: Labels) -> dict[str, Any]:
    """Return a pair's tests as a table row, the one to believe first."""
    return {
        "pair": f"{labels[pair.first]} {DASH} {labels[pair.second]}",
        "num_patients": pair.num_patients,
        "difference": signed(pair.metric, pair.difference),
        "interval": " to ".join(signed(pair.metric, end) for end in (pair.mean.low, pair.mean.high))
        if claims.has_interval(pair)
        else "",
        "cells": [
            p_cell(pair.p_adjusted),
            p_cell(pair.ranks_p_adjusted),
            p_cell(pair.folds.p_value),
            p_cell(pair.equivalence.p_value),
            p_cell(pair.images_p_adjusted),
        ],
    }


def _ranked(aligned: Aligned, metric: str, labels: Labels) -> dict[str, Any] | None:
    """Return the Friedman and Nemenyi tests of all models; None without a result.

    The best mean rank is first.
    """
    found = statistics_table.rank_models(aligned, metric)
    if found is None or np.isnan(found[0].chi2):
        return None
    whole, each = found
    # rank 1 is the smallest value, which is the worst ratio
    ranks = whole.mean_ranks if metric in DISTANCES else whole.k + 1 - whole.mean_ranks
    order = np.argsort(ranks, kind="stable")
    apart = [
        f"{labels[aligned.models[i]]} and {labels[aligned.models[j]]} ({p_text(each.p_values[i, j])})"
        for place, i in enumerate(order)
        for j in order[place + 1 :]
        if each.p_values[i, j] < verdicts.LEVEL
    ]
    return {
        "n": whole.n,
        "chi2": f"{whole.chi2:.2f}",
        "p": p_text(whole.p_value),
        "w": f"{whole.kendall_w:.2f}",
        "ranks": listed(f"{labels[aligned.models[i]]} {ranks[i]:.2f}" for i in order),
        "apart": "; ".join(apart),
        "critical": f"{each.critical_difference:.2f}",
    }


def _exploratory(said: pd.DataFrame, metrics: Sequence[str], labels: Labels) -> dict[str, Any] | None:
    """Return the other metrics' differences and verdicts, one row per pair."""
    if said.empty or not metrics:
        return None
    rows = []
    for (a, b), mine in said.groupby(["model_a", "model_b"], sort=False):
        by_metric = {row["metric"]: row for row in mine.to_dict("records")}
        cells = [
            {
                "text": signed(metric, by_metric[metric]["difference"]),
                "sort": sort_key(by_metric[metric]["difference"]),
                "verdict": _short_verdict(by_metric[metric]),
                "believed": by_metric[metric]["verdict"] == verdicts.SUPPORTED,
            }
            for metric in metrics
        ]
        rows.append({"pair": f"{labels[str(a)]} {DASH} {labels[str(b)]}", "cells": cells})
    return {"metrics": [METRIC_LABELS[metric] for metric in metrics], "rows": rows}


def _short_verdict(row: Mapping[Any, Any]) -> str:
    """Return a verdict in few words.

    It says so if a supported difference is smaller than the margin.
    """
    if row["verdict"] == verdicts.SUPPORTED and row["equivalent_p"] < verdicts.LEVEL:
        return "supported, small"
    return "too few" if row["verdict"] == verdicts.TOO_FEW else str(row["verdict"])


def _shares(aligned: Aligned, has_numbers: bool, labels: Labels) -> str:
    return listed(
        f"{labels[model]} {paper_tables.percent(round(share * number), number)} %"
        + (f" of {number} images" if has_numbers else "")
        + ("" if np.isnan(low) else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})")
        for model, number, share, low, high in statistics_table.shares_above_half(aligned)
    )


def _margins(settings: AnalysisSettings, metrics: Sequence[str], unit: str) -> str:
    """Return the margins of equivalence, such as `±0.02, for distances ±2 px`."""
    parts = [f"±{settings.margin:g}"] if set(metrics) - set(DISTANCES) else []
    if set(metrics) & set(DISTANCES):
        parts.append(f"{'for distances ' if parts else ''}±{settings.distance_margin:g} {unit}".rstrip())
    return ", ".join(parts)
