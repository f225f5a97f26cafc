"""Calibration in the report: scores with intervals, curves, and tables that have neither."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.figures.reliability_curves import reliability_curves
from eus_ray.analysis.report.results import read_study
from eus_ray.analysis.report.sections import calibration
from eus_ray.store import Store
from tests.analysis.test_analyze import Page

MakeStudy = Callable[..., Store]


@pytest.mark.usefixtures("undrawn")
def test_a_study_has_scores_and_curves_of_its_models(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    section = calibration.build(results)
    assert section is not None
    text = Page(str(section.body)).text
    curves = pd.read_csv(io.BytesIO(section.files["calibration.csv"]))
    assert curves.groupby(["model", "region"]).size().to_dict() == {
        (model, region): 15 for model in results.models for region in ("box", "image")
    }
    for model in results.models:
        mine = results.headline[results.headline["model"] == model]
        by_fold = mine.groupby(["fold", "patient_id"])["brier_box"].mean().groupby("fold").mean()
        assert f"{by_fold.mean():.3f}" in text
    assert "3 predictions have no box" in text  # in i11 both models rightly find nothing, in i06 one does
    assert "mean over folds of the mean over their patients" in text


@pytest.mark.usefixtures("undrawn")
def test_without_bins_there_is_a_table_and_without_scores_no_section(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    section = calibration.build(replace(results, bins={}))
    assert section is not None
    assert not section.files
    scores = ["brier", "ece", "brier_box", "ece_box"]
    assert calibration.build(replace(results, images=results.images.drop(columns=scores))) is None
    assert calibration.build(replace(results, images=results.images.assign(**dict.fromkeys(scores, np.nan)))) is None


def test_curves_are_drawn_where_there_are_pixels() -> None:
    curves = pd.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "low": [0.0, 0.5] * 2,
            "high": [0.5, 1.0] * 2,
            "share": [1.0, 0.0, np.nan, np.nan],
            "probability": [0.2, np.nan, np.nan, np.nan],
            "observed": [0.1, np.nan, np.nan, np.nan],
        }
    )
    upper, lower = reliability_curves(curves, {"a": "A", "b": "B"}).axes
    _, line = upper.get_lines()  # the first is the diagonal
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.2], [0.1])
    assert len(lower.patches) == 1
