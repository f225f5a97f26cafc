"""The paper's Table 1 (patients) and Table 2 (performance), as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison.subgroup_columns import (
    MAX_LEVELS,
    MOST_PRINTED,
    is_category,
    known_values,
    level_order,
    level_text,
    overflow_scale,
    purpose,
)
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.analysis.labels import DASH, METRIC_LABELS, UNLABELLED, Labels, column_label
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.statistics import bootstrap

PAPER_METRICS = ("dsc", "iou", "avd", "hd", "mad", "sen", "sp", "pc", "auc")
"""In the paper's order, with AUC last."""
TABLE2_METRICS = (*PAPER_METRICS, "hd95", "assd", "nsd")


# ---- Table 1 ------------------------------------------------------------------------------------


def table1(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the characteristics of the patients: the paper's Table 1.

    A measurement becomes a mean (range) of one value per patient, the mean over their images. A category is counted
    per patient, or per image if it differs between images of a patient. Ids and parts of splits are left out, and so is
    a column with a text of its own for each image; of more than 12 categories only their number is given.

    Args:
        frame: One row per image with `image_id`, `patient_id` and clinical columns.

    Returns:
        `characteristic`, `value` (text), `unit` (`patients` or `images`: what is counted) and `missing` (how many of
        these have no value). Zero patients if `frame` is empty.
    """
    rows: list[dict[str, str | int]] = [
        {"characteristic": "Patients", "value": str(frame["patient_id"].nunique()), "unit": "patients", "missing": 0},
        {"characteristic": "Images", "value": str(frame["image_id"].nunique()), "unit": "images", "missing": 0},
    ]
    images = frame.drop_duplicates("image_id")
    rows += [row for column in clinical_columns(frame) if (row := _characteristic(images, column)) is not None]
    return pd.DataFrame(rows, columns=["characteristic", "value", "unit", "missing"])


def _characteristic(images: pd.DataFrame, column: str) -> dict[str, str | int] | None:
    values = known_values(images[column])
    if purpose(values, images["patient_id"]):
        return None
    if not is_category(values, images["patient_id"]):
        scale = overflow_scale(values.to_numpy(np.float64, na_value=np.nan))
        each = (values.astype(float) / scale).groupby(images["patient_id"]).mean()
        known = each.dropna()
        mean, low, high = (float(number) * scale for number in (known.mean(), known.min(), known.max()))
        digits = ".1f" if known.max() - known.min() >= 1 / scale and abs(mean) < MOST_PRINTED else ".4g"
        text = f"{mean:{digits}} ({low:.4g}{DASH}{high:.4g})" if len(known) else DASH
        name, unit = f"{column_label(column)}, mean (range)", "patients"
    else:
        by_patient = values.groupby(images["patient_id"])
        unit = "images" if (by_patient.nunique() > 1).any() else "patients"
        each = values if unit == "images" else by_patient.first()
        counts = each.dropna().value_counts()
        if len(counts) == len(images) > MAX_LEVELS:
            return None
        levels = sorted(counts.index, key=level_order)
        listed = len(levels) <= MAX_LEVELS
        name = column_label(column)
        if listed and levels:
            name += f" ({', '.join(map(level_text, levels))})"
        text = "/".join(str(counts[level]) for level in levels) if listed else f"{len(levels)} different"
    return {"characteristic": name, "value": text or DASH, "unit": unit, "missing": int(each.isna().sum())}


# ---- Table 2 ------------------------------------------------------------------------------------


def table2(
    images: pd.DataFrame,
    metrics: Sequence[str] = TABLE2_METRICS,
    average: bootstrap.Average = "patients",
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> pd.DataFrame:
    """Compute the paper's Table 2 with its uncertainty, one row per model.

    An infinite distance enters the mean as the image's diagonal; an undefined AUC is left out.

    Args:
        images: One row per model and image with `model`, `fold`, `patient_id`, `diagonal` and metrics; one kind per
            model.
        metrics: Which metrics; one that `images` lacks is NaN.
        average: What a fold's mean is taken over.
        draws: Number of bootstrap samples of patients.
        seed: Seed of these samples.

    Returns:
        `model`, the mean of the fold means of each of the paper's metrics, then for each of them `_low`, `_high` (95 %
        percentile interval, patients resampled within folds; NaN if a fold has a single patient), `_sd` (over fold
        means, ddof 1; NaN for one fold), and for distances `_not_finite` (number of images) and `_finite` (mean of the
        fold means of the others). The other metrics follow in the same way.

    Raises:
        ValueError: If a model has several rows for one image.
    """
    if images.duplicated(["model", "image_id"]).any():
        raise ValueError("a model has several rows for one image: choose one kind of trial a model first")
    present = [name for name in metrics if name in images]
    finite_only = [name for name in present if name in DISTANCES]
    rows = []
    for model, mine in images.groupby("model", sort=False):
        averaged = bootstrap.rows_to_average(mine, present, average)
        values, patients, folds = averaged[present].to_numpy(np.float64), averaged["patient_id"], averaged["fold"]
        means = bootstrap.fold_means(values, folds)
        low, high = bootstrap.interval(bootstrap.bootstrap(values, patients, folds, draws, seed))
        if not bootstrap.has_interval(patients, folds):
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        headline = bootstrap.mean_of_fold_means(means)
        infinite = np.isinf(mine[finite_only].to_numpy(np.float64))
        rest = bootstrap.rows_to_average(mine.assign(**_finite(mine, finite_only)), finite_only, average)
        finite = bootstrap.mean_of_fold_means(bootstrap.fold_means(rest[finite_only].to_numpy(), rest["fold"]))
        row = {"model": model}
        for place, name in enumerate(present):
            sd = float(np.std(means[:, place], ddof=1)) if len(means) > 1 else np.nan
            row |= {name: headline[place], f"{name}_low": low[place], f"{name}_high": high[place], f"{name}_sd": sd}
        for place, name in enumerate(finite_only):
            row |= {f"{name}_not_finite": int(infinite[:, place].sum()), f"{name}_finite": float(finite[place])}
        rows.append(row)
    return pd.DataFrame(rows, columns=_table2_columns(metrics))


def _finite(images: pd.DataFrame, distances: Sequence[str]) -> dict[str, pd.Series]:
    """Return distances with NaN for infinite ones."""
    return {name: images[name].where(~np.isinf(images[name])) for name in distances}


def _table2_columns(metrics: Sequence[str]) -> list[str]:
    columns = ["model"]
    for some in (
        [name for name in metrics if name in PAPER_METRICS],
        [each for each in metrics if each not in PAPER_METRICS],
    ):
        columns += some
        for name in some:
            columns += [f"{name}_low", f"{name}_high", f"{name}_sd"]
            columns += [f"{name}_not_finite", f"{name}_finite"] if name in DISTANCES else []
    return columns


def printed(metric: str, value: float) -> str:
    """Format a value: three decimals for ratios, two for distances, a dash for NaN."""
    return DASH if np.isnan(value) else f"{value:.2f}" if metric in DISTANCES else f"{value:.3f}"


def percent(number: int, total: int) -> str:
    """Format a share of a count with one decimal, exactly and halves up, so that one share is printed in one way.

    >>> percent(49, 80), percent(0, 3), percent(5, 5)
    ('61.3', '0.0', '100.0')
    """
    tenths = (2000 * number + total) // (2 * total)
    return f"{tenths // 10}.{tenths % 10}"


def printed_interval(metric: str, low: float, high: float) -> str:
    """Format an interval; empty if a limit is NaN."""
    limits = [printed(metric, limit) for limit in (low, high)]
    return "" if DASH in limits else DASH.join(limits)


def best_printed(table: pd.DataFrame, metric: str) -> str | None:
    """Return the best mean as printed; None if all models print the same.

    All models that print it are bold.
    """
    values = table[metric].dropna()
    texts = {printed(metric, value) for value in values}
    if len(texts) < 2:
        return None
    return printed(metric, values.min() if metric in DISTANCES else values.max())


def common_images(images: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of the images for which all models have a value, if they have any of this metric."""
    known = images[images[metric].notna()]
    num_models = known.groupby("image_id")["model"].nunique()
    return images[images["image_id"].isin(num_models.index[num_models == known["model"].nunique()])]


def has_same_images(images: pd.DataFrame, metric: str) -> bool:
    """Return whether all models have values of the same images, so that their means can be compared."""
    return len(common_images(images, metric).dropna(subset=metric)) == images[metric].notna().sum()


def shown_metrics(table: pd.DataFrame) -> list[str]:
    """Return the metrics of a Table 2 for which some model has a value."""
    metrics = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    return [name for name in metrics if table[name].notna().any()]


def as_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV text; each number reads back to the same bits."""
    return table.to_csv(index=False, lineterminator="\n")


# ---- LaTeX --------------------------------------------------------------------------------------

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    DASH: "--",
} | {char: f"\\{char}" for char in "&%$#_{}"}


def escape_latex(text: str) -> str:
    r"""Escape a text for LaTeX.

    >>> print(escape_latex("T1_a & 5 %"))
    T1\_a \& 5 \%
    """
    return "".join(_SPECIAL.get(char, char) for char in " ".join(text.split()))


def table1_latex(table: pd.DataFrame) -> str:
    """Return Table 1 as LaTeX; needs the package booktabs."""
    lines = []
    for row in table.to_dict("records"):
        per_image = row["unit"] == "images" and row["characteristic"] != "Images"
        name = row["characteristic"] + (" (images)" if per_image else "")
        value = row["value"] + (f" ({row['missing']} missing)" if row["missing"] else "")
        lines.append([escape_latex(name), escape_latex(value)])
    return _booktabs("Characteristics of the patients.", "tab:patients", "ll", ["Characteristic", "Value"], lines)


def table2_latex(
    table: pd.DataFrame,
    unit: str,
    note: str = "",
    uneven: Sequence[str] = (),
    num_images: Mapping[Any, int] = MappingProxyType({}),
    average: str = "mean of the fold means",
    labels: Labels = UNLABELLED,
) -> str:
    """Return Table 2 as LaTeX; needs the package booktabs.

    The best means are bold, and intervals are below the means.

    Args:
        table: What `table2` returns.
        unit: Unit of distances.
        note: Sentences to add to the caption.
        uneven: Metrics that models have of different images: no mean is bold.
        num_images: Number of images by model, to be printed beside it if it is not empty.
        average: What the values are the mean of.
        labels: The models' names.
    """
    metrics = shown_metrics(table)
    best = {name: None if name in uneven else best_printed(table, name) for name in metrics}
    lines = []
    for row in table.to_dict("records"):
        means, limits = [], []
        for name in metrics:
            text = printed(name, row[name])
            means.append(rf"\textbf{{{text}}}" if text == best[name] else escape_latex(text))
            low, high = (printed(name, row[f"{name}_{end}"]) for end in ("low", "high"))
            limits.append("" if low == DASH else rf"{{\scriptsize {low}--{high}}}")
        number = f" ({num_images[row['model']]} images)" if num_images else ""
        lines.append([escape_latex(labels[row["model"]] + number), *means])
        if any(limits):
            lines.append(["", *limits])
    heads = [f"{METRIC_LABELS[name]}{f' ({unit})' if unit and name in DISTANCES else ''}" for name in metrics]
    has_interval = len(lines) > len(table)
    within = " within folds" if "fold" in average else ""
    interval = f" and its 95\\,\\% interval (patients resampled{within})" if has_interval else ""
    bold = "" if set(metrics) <= set(uneven) else " Best mean in bold."
    said = f" {escape_latex(note)}" if note else ""
    caption = f"Segmentation performance: {average}{interval}.{bold}{said}"
    return _booktabs(caption, "tab:performance", "l" + "c" * len(metrics), ["Model", *heads], lines)


def _booktabs(caption: str, label: str, columns: str, heads: list[str], lines: Iterable[list[str]]) -> str:
    body = "\n".join("    " + " & ".join(cells) + r" \\" for cells in lines)
    return (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n  \\centering\n"
        f"  \\caption{{{caption}}}\n  \\label{{{label}}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n"
        f"    {' & '.join(heads)} \\\\\n    \\midrule\n{body}\n    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n"
    )
