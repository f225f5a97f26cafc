"""What the estimates of a search mean, in words: for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eus_ray.analysis.comparison.claims import signed
from eus_ray.analysis.labels import DASH, METRIC_LABELS, UNLABELLED, Labels


@dataclass(frozen=True)
class Statement:
    """An estimate in print, and what it means."""

    label: str
    value: str
    interval: str
    """Empty if it has none."""
    meaning: str
    is_headline: bool = False
    """Whether this is the number to believe."""


def statements(selection: pd.DataFrame) -> list[Statement]:
    """Explain one model's rows of `selection.parquet`, the number to believe first."""
    rows: dict[str, Mapping[Any, Any]] = {row["estimate"]: row for row in selection.to_dict("records")}
    if "naive" not in rows:
        return []
    naive, bbc, bias = rows["naive"], rows["bbc"], rows["bias"]["value"]
    number = int(naive["trials"])

    def best(row: Mapping[Any, Any]) -> str:
        return f"{'the best of ' + str(number) if number > 1 else 'the only one'}, trial {int(row['trial'])}"

    if "nested" in rows:
        nested, best_test = rows["nested"], rows["naive_test"]
        said = [
            _statement(
                "Nested estimate",
                nested,
                "Believe this one: each fold's setting and epochs were chosen without its test patients.",
                is_headline=True,
            ),
            _statement(
                "As found",
                naive,
                f"Validation score of {best(naive)}. Do not report it: {'the trial' if number > 1 else 'its epoch'} "
                f"was chosen by this score. Its difference from the nested estimate is "
                f"{naive['value'] - nested['value']:+z.3f}.",
            ),
            _statement(
                "BBC-CV",
                bbc,
                f"A second opinion, as if test scores had chosen the setting: {best_test['value']:.3f} "
                f"({best(best_test)}) minus a selection bias of {bias:z.3f}.",
            ),
        ]
    else:
        said = [
            _statement(
                "BBC-CV",
                bbc,
                "Believe this one: the score as found, corrected because the same patients chose the setting.",
                is_headline=True,
            ),
            _statement(
                "As found",
                naive,
                f"Test score of {best(naive)}. Do not report it: the search compared settings on these test folds. "
                f"The selection bias is {bias:z.3f}.",
            ),
        ]
    if "gain" in rows:
        default = rows["default"]
        meaning = f"Trial {int(default['trial'])}, on the same test patients."
        said += [_statement("Study's own settings", default, meaning), _gain(rows["gain"])]
    if "over_baseline" in rows:
        meaning = "One mask for all of a fold's test images, made of training masks: it looks at no image."
        said += [_statement("Fixed mask", rows["baseline"], meaning), _over_baseline(rows["over_baseline"])]
    return said


def _statement(label: str, row: Mapping[Any, Any], meaning: str, is_headline: bool = False) -> Statement:
    interval = f"{row['low']:.3f}{DASH}{row['high']:.3f}" if pd.notna(row["low"]) else ""
    return Statement(label, f"{row['value']:.3f}", interval, meaning, is_headline)


def _gain(row: Mapping[Any, Any]) -> Statement:
    if row["low"] == row["high"] == 0:
        meaning = "None: the study's own settings were chosen."
    else:
        meaning = _judged(
            row,
            "The search found better settings: the interval lies above 0.",
            "The search found worse settings: the interval lies below 0.",
            "Not shown to be better: the interval includes 0.",
        )
    return _difference("Gain over them", row, meaning)


def _over_baseline(row: Mapping[Any, Any]) -> Statement:
    meaning = _judged(
        row,
        "Better than one fixed mask: the interval lies above 0.",
        "Worse than one fixed mask that looks at no image: the interval lies below 0.",
        "Not shown to be better than one fixed mask that looks at no image: the interval includes 0.",
    )
    return _difference("Gain over it", row, meaning)


def _judged(row: Mapping[Any, Any], better: str, worse: str, unclear: str) -> str:
    """Return the words that an interval of a difference deserves."""
    if pd.isna(row["low"]):
        return "Too few patients to judge by."
    return better if row["low"] > 0 else worse if row["high"] < 0 else unclear


def _difference(label: str, row: Mapping[Any, Any], meaning: str) -> Statement:
    value, low, high = (signed(row["metric"], row[name]) for name in ("value", "low", "high"))
    return Statement(label, value, "" if pd.isna(row["low"]) else f"{low} to {high}", meaning)


def headline(selection: pd.DataFrame, average: str = "patients", labels: Labels = UNLABELLED) -> list[str]:
    """Return lines of text on searches: one per model, then one per estimate.

    Args:
        selection: `selection.parquet`.
        average: What a fold's mean is taken over.
        labels: The models' names.
    """
    over = "patients' means" if average == "patients" else "images"
    lines = []
    for model, mine in selection.groupby("model", sort=False):
        said = statements(mine)
        if not said:
            continue
        number, metric = int(mine["trials"].max()), METRIC_LABELS[mine["metric"].iloc[0]]
        lines.append(
            f"{labels[str(model)]}: {metric}, mean over folds of {over} (95 % interval); "
            f"{number} complete trial{'s' if number > 1 else ''}"
        )
        width = max(len(each.label) for each in said)
        lines += [
            f"  {each.label:<{width}}  {each.value}{f' ({each.interval})' if each.interval else ''}  {each.meaning}"
            for each in said
        ]
    return lines
