"""Section on scores by stratum (the paper's figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray.analysis.comparison import paper_tables, verdicts
from eus_ray.analysis.comparison.claims import p_text
from eus_ray.analysis.comparison.score_matrix import Aligned, align
from eus_ray.analysis.comparison.subgroups import Division, LevelTest, Stratum, level_tests, stratum_means
from eus_ray.analysis.figures import box_plots, style
from eus_ray.analysis.labels import DASH, METRIC_LABELS, Labels, in_sentence
from eus_ray.analysis.report.page import p_cell, picture, render
from eus_ray.analysis.report.recipe import listed
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.bootstrap import FEWEST_PATIENTS

MAX_FIGURES = 4
_MAX_IN_TITLE = 4


def build(results: Results) -> Section | None:
    """Build the section; None if no column could divide the images."""
    metrics = [] if results.headline.empty else paper_tables.shown_metrics(results.table2)
    divisions, left_out = results.divided if metrics else ((), ())
    if not divisions and not left_out:
        return None
    main = verdicts.PRIMARY if verdicts.PRIMARY in metrics else metrics[0]
    aligned = align(results.headline, [main])
    strata = stratum_means(aligned, divisions, results.analysis.average)
    tests = level_tests(aligned, divisions)
    drawn = sorted(divisions, key=lambda division: not division.is_clinical)[:MAX_FIGURES]
    everything = align(results.headline, metrics)
    files: dict[str, bytes] = {}
    body = render(
        "strata.html",
        metric=METRIC_LABELS[main],
        average=results.average_words,
        models=[results.labels[model] for model in aligned.models],
        divisions=[_division(division, strata, aligned.models, main) for division in divisions],
        tests=[_test(over_images, tests, results.labels) for over_images in tests if over_images.unit == "images"],
        few=any(each.has_few_patients and each.num_images for each in strata),
        fewest=FEWEST_PATIENTS,
        num_patients=len(np.unique(aligned.patients)),
        overlaps=[text for division in divisions if (text := _overlap(division, aligned.patients))],
        left_out=left_out,
        is_study=results.store is not None,
        uneven=any(
            len({each.num_images for each in strata if each.division is division and each.level == level}) > 1
            for division in divisions
            for level in division.levels
        ),
        draws=bootstrap.DRAWS,
        pictures=[_picture(everything, division, main, results, files) for division in drawn],
    )
    return Section(25, "strata", _title(divisions), body, files)


def _title(divisions: Sequence[Division]) -> str:
    """Return a title that names what divides, as `By T-stage, location and age`."""
    names = [in_sentence(division.label) for division in divisions]
    if not names:
        return "By subgroup"
    return "By " + listed(names if len(names) <= _MAX_IN_TITLE else [*names[: _MAX_IN_TITLE - 1], "other subgroups"])


def _overlap(division: Division, patients: npt.NDArray[np.generic]) -> str:
    """Return how many patients are in several strata, or in none; empty if each is in one."""
    known = division.level >= 0
    strata = np.unique(np.stack([np.unique(patients, return_inverse=True)[1][known], division.level[known]]), axis=1)
    _, num_strata = np.unique(strata[0], return_counts=True)
    several, none = int((num_strata > 1).sum()), len(np.unique(patients)) - len(num_strata)
    parts = [f"{number} in {where}" for number, where in ((several, "several strata"), (none, "none")) if number]
    return f"{division.label} ({', '.join(parts)})" if parts else ""


def _division(division: Division, strata: Sequence[Stratum], models: Sequence[str], metric: str) -> dict[str, Any]:
    rows = []
    for level in division.levels:
        mine = {each.model: each for each in strata if each.division is division and each.level == level}
        cells = [
            {
                "text": paper_tables.printed(metric, each.mean),
                "interval": paper_tables.printed_interval(metric, each.low, each.high),
                "few": each.has_few_patients and each.num_images > 0,
            }
            for each in map(mine.__getitem__, models)
        ]
        rows.append(
            {
                "level": level,
                "patients": max(each.num_patients for each in mine.values()),
                "images": max(each.num_images for each in mine.values()),
                "cells": cells,
            }
        )
    return {"label": division.label, "rows": rows}


def _test(over_images: LevelTest, tests: Sequence[LevelTest], labels: Labels) -> dict[str, Any]:
    """Return the tests of one model by one category, over images and patients.

    Pairs are those that differ in the test over patients.
    """
    over_patients = next(
        (
            each
            for each in tests
            if each.unit == "patients"
            and each.division is over_images.division
            and (each.model, each.metric) == (over_images.model, over_images.metric)
        ),
        None,
    )
    apart = [
        f"{pair.first} and {pair.second} ({p_text(pair.pair.p_adjusted)}"
        + (f"; one has fewer than {FEWEST_PATIENTS} patients)" if pair.has_few_patients else ")")
        for pair in (over_patients.pairs if over_patients else ())
        if pair.pair.p_adjusted < verdicts.LEVEL
    ]
    found = over_patients.test if over_patients else None
    return {
        "label": over_images.division.label,
        "model": labels[over_images.model],
        "n": found.n if found else 0,
        "patients": p_cell(over_patients.p_adjusted if over_patients else float("nan")),
        "effect": DASH if found is None or np.isnan(found.effect_size) else f"{found.effect_size:.2f}",
        "images": p_cell(over_images.test.p_value),
        "apart": "; ".join(apart) or "none",
    }


def _picture(
    aligned: Aligned, division: Division, metric: str, results: Results, files: dict[str, bytes]
) -> dict[str, str]:
    name = f"boxes_by_{_file_name(division.column)}"
    while style.names(name)[0] in files:  # two columns may give the same file name
        name += "_"
    medians = []
    place = aligned.metrics.index(metric)
    for number, level in enumerate(division.levels):
        here = aligned.bounded[division.level == number][:, :, place]
        found = [
            f"{results.labels[model]} {np.median(values[~np.isnan(values)]):.2f}"
            for model, values in zip(aligned.models, here.T, strict=True)
            if not np.isnan(values).all()
        ]
        medians.append(f"{level}: {', '.join(found)}")
    alt = f"Box plots of each metric by {division.label}. Median {METRIC_LABELS[metric]}. {'; '.join(medians)}."
    figure = box_plots.boxes_by_level(aligned, division, results.unit, results.labels)
    return picture(files, name, figure, alt, f"{division.label}: values of the images, one box per model.")


def _file_name(column: str) -> str:
    """Return a column's name with only characters that a file name may have."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in column)[:60]
