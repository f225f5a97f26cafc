"""All statistical tests as one table (`statistics.csv`, `statistics.parquet`).

`question` groups the rows, `unit` is what counts as one case (`patients`, `images` or `folds`), and `n` is the number
of cases. `groups` names the models as `A vs B`; a subgroup stands before a colon: `T1 vs T3: unet`. Rows over images
repeat the paper's tests and say in `test` that images are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eus_ray import store as layout
from eus_ray.analysis.comparison.failures import SUCCESS_IOU
from eus_ray.analysis.comparison.pairwise import Comparison
from eus_ray.analysis.comparison.score_matrix import Aligned
from eus_ray.analysis.comparison.subgroups import LevelTest, Stratum
from eus_ray.analysis.statistics import (
    Friedman,
    Nemenyi,
    friedman,
    nemenyi,
    patient_bootstrap,
    shapiro_wilk,
)
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("question", "metric", "test", "groups", "unit")),
        ("n", pa.int64()),
        *((name, pa.float64()) for name in ("statistic", "p_value", "p_adjusted", "effect_size")),
        ("effect_name", pa.string()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
AS_IN_THE_PAPER = "as in the paper: images are not independent"
_REMARKS = {"images": f", {AS_IN_THE_PAPER}", "patients": ""}
"""Remarks on a test by its unit."""
TOO_FEW = f"fewer than {FEWEST_PATIENTS} patients: too few to judge"

Row = dict[str, Any]


def statistics_table(
    aligned: Aligned,
    compared: Sequence[Comparison],
    tested: Sequence[LevelTest],
    strata: Sequence[Stratum],
) -> pd.DataFrame:
    """Return the rows of all tests.

    Args:
        aligned: Scores of all models.
        compared: Comparisons of pairs of models.
        tested: Tests by clinical category.
        strata: Means by stratum.

    Returns:
        The columns of `SCHEMA`; a value that a test does not give is NaN or an empty text.
    """
    rows = [
        *_normality(aligned),
        *_by_category(tested),
        *_share_above_half(aligned),
        *_all_models(aligned),
        *_model_pairs(compared),
        *_strata(strata),
    ]
    columns = {name: [row.get(name, _EMPTY.get(name, np.nan)) for row in rows] for name in SCHEMA.names}
    return pd.DataFrame(columns).astype({"n": "int64"})


def as_parquet(table: pd.DataFrame) -> bytes:
    """Return the table as Parquet, with the study folder's schema version."""
    rows = pa.Table.from_pandas(table, SCHEMA, preserve_index=False)
    metadata = {b"eus_ray_schema": layout.SCHEMA_VERSION.encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


_EMPTY: Mapping[str, Any] = {"n": 0} | dict.fromkeys(
    ("question", "metric", "test", "groups", "unit", "effect_name"), ""
)


def _normality(aligned: Aligned) -> Iterator[Row]:
    by_patient = aligned.patient_means(aligned.bounded)
    for k, model in enumerate(aligned.models):
        for m, metric in enumerate(aligned.metrics):
            row = {"question": "Are the values normal?", "metric": metric, "groups": model}
            for unit, values in (("images", aligned.bounded), ("patients", by_patient)):
                mine = values[:, k, m]
                test = shapiro_wilk(mine[~np.isnan(mine)])
                yield row | asdict(test) | {"test": f"{test.test}{_REMARKS[unit]}", "unit": unit}


def _by_category(tested: Sequence[LevelTest]) -> Iterator[Row]:
    for each in tested:
        row = {"question": f"Does it differ by {each.division.column}?", "metric": each.metric, "unit": each.unit}
        yield {
            **row,
            **asdict(each.test),
            "p_adjusted": each.p_adjusted,
            "test": f"{each.test.test}{_REMARKS[each.unit]}",
            "groups": f"{', '.join(each.levels)}: {each.model}",
        }
        for pair in each.pairs:
            few = f"; {TOO_FEW}" if pair.has_few_patients else ""
            yield row | {
                "test": f"Dunn{_REMARKS[each.unit]}{few}",
                "groups": f"{pair.first} vs {pair.second}: {each.model}",
                "n": pair.n,
                "statistic": pair.pair.z,
                "p_value": pair.pair.p_value,
                "p_adjusted": pair.pair.p_adjusted,
                "effect_size": pair.delta,
                "effect_name": "Cliff's delta",
            }


def shares_above_half(aligned: Aligned) -> list[tuple[str, int, float, float, float]]:
    """Compute each model's share of images with an IoU above 0.5.

    Returns:
        Model, number of images, share, and its 95 % interval (patients resampled; NaN with a single patient). Empty if
        IoU is not among the metrics.
    """
    if "iou" not in aligned.metrics:
        return []
    shares = []
    for k, model in enumerate(aligned.models):
        iou = aligned.values[:, k, aligned.metrics.index("iou")]
        known = ~np.isnan(iou)
        share = patient_bootstrap((iou[known] > SUCCESS_IOU).astype(np.float64), aligned.patients[known])
        several = len(np.unique(aligned.patients[known])) > 1
        limits = (share.low, share.high) if several else (np.nan, np.nan)
        shares.append((model, int(known.sum()), share.value, *limits))
    return shares


def _share_above_half(aligned: Aligned) -> Iterator[Row]:
    for model, number, share, low, high in shares_above_half(aligned):
        yield {
            "question": "How many images have an IoU above 0.5?",
            "metric": "iou",
            "test": "patient-cluster bootstrap",
            "groups": model,
            "unit": "images",
            "n": number,
            "effect_size": share,
            "effect_name": "share of images",
            "low": low,
            "high": high,
        }


def rank_models(aligned: Aligned, metric: str) -> tuple[Friedman, Nemenyi] | None:
    """Compare all models with the Friedman and Nemenyi tests.

    The tests take patients' means over the images that all models have.

    Returns:
        None for fewer than three models (a pair has its own tests) and for fewer than two common patients.
    """
    values = aligned.bounded[:, :, aligned.metrics.index(metric)]
    complete = ~np.isnan(values).any(axis=1, keepdims=True)
    means = aligned.patient_means(np.where(complete, values, np.nan))
    means = means[~np.isnan(means).any(axis=1)]
    if means.shape[1] < 3 or len(means) < 2:
        return None
    return friedman(means), nemenyi(means)


def _all_models(aligned: Aligned) -> Iterator[Row]:
    for metric in aligned.metrics:
        found = rank_models(aligned, metric)
        if found is None:
            continue
        whole, each = found
        row = {
            "question": "Do the models differ?",
            "metric": metric,
            "groups": " vs ".join(aligned.models),
            "unit": "patients",
            "n": whole.n,
            "effect_size": whole.kendall_w,
            "effect_name": "Kendall's W",
        }
        yield row | {"test": "Friedman", "statistic": whole.chi2, "p_value": whole.p_value}
        yield row | {"test": "Iman-Davenport", "statistic": whole.f, "p_value": whole.f_p_value}
        for i, j in combinations(range(len(aligned.models)), 2):
            yield {
                "question": "Which models differ?",
                "metric": metric,
                "test": "Nemenyi",
                "groups": f"{aligned.models[i]} vs {aligned.models[j]}",
                "unit": "patients",
                "n": whole.n,
                "statistic": each.q[i, j],
                # Nemenyi's p is for the whole family already
                "p_value": each.p_values[i, j],
                "p_adjusted": each.p_values[i, j],
                "effect_size": each.mean_ranks[i] - each.mean_ranks[j],
                "effect_name": "difference of mean ranks",
            }


def _model_pairs(compared: Sequence[Comparison]) -> Iterator[Row]:
    for pair in compared:
        row = {
            "question": "Which models differ?",
            "metric": pair.metric,
            "groups": f"{pair.first} vs {pair.second}",
            "unit": "patients",
            "n": pair.num_patients,
        }
        yield row | asdict(pair.mean) | {"p_adjusted": pair.p_adjusted}
        yield row | asdict(pair.ranks) | {"n": pair.num_patients, "p_adjusted": pair.ranks_p_adjusted}
        yield row | asdict(pair.folds) | {"unit": "folds"}
        yield {
            **row,
            **asdict(pair.images),
            "test": f"{pair.images.test}{_REMARKS['images']}",
            "unit": "images",
            "n": pair.num_images,
            "p_adjusted": pair.images_p_adjusted,
        }
        tost = pair.equivalence
        yield row | {
            "question": "Are the models equivalent?",
            "test": f"TOST within {pair.margin:g}, 90 % interval",
            "statistic": tost.t_low if tost.p_low >= tost.p_upp else tost.t_upp,
            "p_value": tost.p_value,
            "effect_size": pair.difference,
            "effect_name": "mean difference",
            "low": tost.ci_low,
            "high": tost.ci_high,
        }


def _strata(strata: Sequence[Stratum]) -> Iterator[Row]:
    for each in strata:
        if each.num_images:
            yield {
                "question": f"How good is it by {each.division.column}?",
                "metric": each.metric,
                "test": TOO_FEW if each.has_few_patients else "patient-cluster bootstrap",
                "groups": f"{each.level}: {each.model}",
                "unit": "images",
                "n": each.num_images,
                "effect_size": each.mean,
                "effect_name": "mean",
                "low": each.low,
                "high": each.high,
            }
