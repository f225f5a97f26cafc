"""The audit accuses no honest table: averages of any images, taken and rounded in any of the usual ways."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kruskal

from eus_ray.analysis.audit import audit, read_statements
from eus_ray.analysis.audit.statements import COLUMNS
from eus_ray.metrics import from_counts

RATIOS = ("dsc", "iou", "sen", "sp", "pc", "acc")
Print = Callable[[float], str]


@dataclass(frozen=True)
class Reporting:
    """How authors make a table of their images."""

    unit: str
    """What mean and SD are over: images, patients, folds."""
    ddof: int
    says_n: bool
    says_sd: bool
    percent: bool


REPORTING = st.builds(
    Reporting,
    st.sampled_from(["image", "patient", "fold"]),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
SHAPES = st.sampled_from(["lesions", "extremes", "alike", "two", "perfect"])


def image_metrics(rng: np.random.Generator, n: int, shape: str) -> dict[str, np.ndarray]:
    """Metrics `(n,)` of images from pixel counts and contour distances that masks could have."""
    if shape == "lesions":
        counts = rng.integers(0, [900, 400, 400, 9000], (n, 4))
    elif shape == "extremes":  # hits, misses, false alarms, empty frames
        counts = rng.choice([0, 0, 1, 5000], (n, 4))
        counts[:, 3] += 1
    elif shape == "two":
        counts = rng.integers(1, 99, (2, 4))[rng.integers(0, 2, n)]
    else:
        counts = np.tile(rng.integers(1, 99, 4) if shape == "alike" else [7, 0, 0, 9], (n, 1))
    metrics = {name: from_counts(name, counts) for name in RATIOS}
    lengths = []
    for _ in range(n):
        to_pred, to_truth = (np.sqrt(rng.integers(0, rng.choice([1, 3, 9000]), rng.integers(1, 30))) for _ in range(2))
        one_way, other_way, all_ = to_pred.mean(), to_truth.mean(), np.concatenate([to_pred, to_truth])
        lengths.append(
            {
                "avd": max(one_way, other_way),
                "mad": (one_way + other_way) / 2,
                "assd": all_.mean(),
                "hd": all_.max(),
                "hd95": max(np.percentile(to_pred, 95), np.percentile(to_truth, 95)),
                "hd95_pooled": np.percentile(all_, 95),
                "avd_truth_to_pred": one_way,
                "avd_pred_to_truth": other_way,
            }
        )
    return metrics | {name: np.array([one[name] for one in lengths]) for name in lengths[0]}


def printers(rng: np.random.Generator) -> Print:
    """One of the ways in which a number is rounded; digits vary from cell to cell."""

    def fixed(value: float) -> str:
        return f"{value:.{rng.integers(0, 7)}f}"

    def half_up(value: float) -> str:
        return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-int(rng.integers(0, 6))), ROUND_HALF_UP))

    def significant(value: float) -> str:
        return f"{value:.{rng.integers(1, 9)}g}"

    def single(value: float) -> str:
        return repr(float(np.float32(value)))

    def full(value: float) -> str:
        return repr(value)

    ways = (fixed, half_up, significant, single, full)
    return lambda value: ways[rng.integers(len(ways))](float(value))


def of_units(values: np.ndarray, unit: str, patients: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The values that mean and SD are over."""
    if unit == "image":
        return values
    index = np.unique(patients if unit == "patient" else folds, return_inverse=True)[1]
    return np.bincount(index, weights=values) / np.bincount(index)


def honest_rows(seed: int, n: int, shape: str, reporting: Reporting) -> list[list[str]]:
    """Tables about one data set and two models: means twice, ranges, intervals, tests, counts, shares, strata."""
    rng = np.random.default_rng(seed)
    show = printers(rng)
    patients = rng.integers(0, max(1, n // 2), n)
    folds = patients % 3
    sizes = {"image": n, "patient": len(np.unique(patients)), "fold": len(np.unique(folds))}
    stage = patients % 2
    rows = [
        ["Text", "all", "count", str(n), "", "", "images"],
        ["Text", "all", "count", str(sizes["patient"]), "", "", "patients"],
    ]
    for level in np.unique(stage):
        members = len(np.unique(patients[stage == level]))
        whole = str(sizes["patient"]) if reporting.says_n else ""
        rows.append(["Table 1", f"stage: {level}", "count", str(members), "", whole, "patients"])
    age = rng.integers(18, 99, sizes["patient"]).astype(float)
    spread = f"{age.std(ddof=0):.1f}"
    rows += [
        ["Table 1", "all", "age", f"{age.mean():.1f}", spread, str(len(age)) if reporting.says_n else "", "years"],
        ["Table 1", "all", "age_min", f"{age.min():.0f}", "", "", "years"],
        ["Table 1", "all", "age_max", f"{age.max():.0f}", "", "", "years"],
    ]
    for model in ("U-Net", "DAF-Net"):
        metrics = image_metrics(rng, n, shape)
        over = metrics["iou"] > 0.5
        share = 100 * over.mean()
        rows += [
            ["Text", model, "share iou>0.5", show(share), "", str(n), "%"],
            ["Table 2", model, "share iou>0.5", show(share), "", str(n) if reporting.says_n else "", "%"],
            ["Table 2", model, "count iou>0.5", str(over.sum()), "", str(n), "images"],
        ]
        groups = [[metrics[name][stage == level] for level in np.unique(stage)] for name in ("dsc", "iou")]
        if len(groups[0]) > 1 and min(len(np.unique(metrics[name])) for name in ("dsc", "iou")) > 1:
            for name, samples in zip(("dsc", "iou"), groups, strict=True):
                rows.append(["Text", model, f"{name}_kruskal_p", show(kruskal(*samples).pvalue), "", "", ""])
        for name, per_image in metrics.items():
            values = of_units(per_image, reporting.unit, patients, folds)
            rows += mean_rows(name, values, model, reporting, show)
            for level in np.unique(stage):
                chosen = per_image[stage == level]
                known = str(len(chosen)) if reporting.says_n else ""
                rows.append(["Table 3", f"{model}, stage: {level}", name, show(chosen.mean()), "", known, ""])
    return rows


def mean_rows(name: str, values: np.ndarray, model: str, reporting: Reporting, show: Print) -> list[list[str]]:
    ratio = name in RATIOS
    scale, unit = (100, "%") if ratio and reporting.percent else (1, "" if ratio else "px")
    count = len(values)
    # n = 1 is read as one image, and what then looks odd is said to be so for a patient or a fold
    known = str(count) if reporting.says_n and (count > 1 or reporting.unit == "image") else ""
    mean, sd = scale * values.mean(), math.nan
    if count > reporting.ddof:
        sd = scale * values.std(ddof=reporting.ddof)
    says_sd = reporting.says_sd and not math.isnan(sd)
    rows = [
        ["Table 2", model, name, show(mean), show(sd) if says_sd else "", known, unit],
        ["Abstract", model, name, show(mean / scale), "", "", "" if ratio else "px"],
        ["Table 4", model, f"{name}_min", show(scale * values.min()), "", "", unit],
        ["Table 4", model, f"{name}_max", show(scale * values.max()), "", "", unit],
        ["Table 4", model, name, show(mean), show(sd) if says_sd else "", known, unit],
    ]
    if says_sd:
        half = 1.96 * sd / math.sqrt(count)
        rows += [
            ["Table 2", model, f"{name}_low", show(mean - half), "", "", unit],
            ["Table 2", model, f"{name}_high", show(mean + half), "", "", unit],
        ]
    return rows


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 16), SHAPES, REPORTING)
def test_no_honest_table_is_accused(seed: int, n: int, shape: str, reporting: Reporting) -> None:
    lines = findings(honest_rows(seed, n, shape, reporting))
    assert lines == []


@pytest.mark.parametrize(
    ("column", "metric", "factor"),
    [("value", "mad", 2.5), ("value", "iou", 0.6), ("value", "iou", 1.6), ("sd", "dsc", 9.0), ("value", "hd", 0.2)],
)
def test_a_table_that_was_changed_is_accused(column: str, metric: str, factor: float) -> None:
    """The same tables with one number of Table 2 multiplied, so that the test above can fail."""
    changed = 0
    for seed in range(10):
        rows = honest_rows(seed, 30, "lesions", Reporting("image", 1, True, True, False))
        rows = [row for row in rows if row[0] == "Table 2"]  # else the other tables contradict it, which is easy
        place = next(i for i, row in enumerate(rows) if row[1:3] == ["DAF-Net", metric])
        index = COLUMNS.index(column)
        rows[place][index] = f"{factor * float(rows[place][index]):.3f}"
        rows = [row for row in rows if not row[2].startswith(f"{metric}_")]
        changed += any("DAF-Net" in line for line in findings(rows))
    assert changed >= 9


def findings(rows: list[list[str]]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        return [finding.line for finding in audit(read_statements(path))]
