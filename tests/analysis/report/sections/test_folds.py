"""The table of folds in the report."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from eus_ray.analysis.report.results import Results
from eus_ray.analysis.report.sections import folds
from tests.analysis.test_analyze import Page


def scores(num_folds: int) -> Results:
    """Return one image a patient and ten patients a fold; the HD of fold 0 is far larger than that of the others."""
    fold = np.repeat(np.arange(num_folds), 10)
    named = [f"i{number}" for number in range(len(fold))]
    images = pd.DataFrame(
        {"model": "ours", "kind": "fixed", "fold": fold, "image_id": named, "patient_id": named}
        | {"dsc": 0.8 - 0.1 * (fold == 0), "hd": np.where(fold == 0, 37.3, 6.4), "iou": 0.6, "assd": 2.0}
    )
    return Results(source="table", images=images, patients=images[["image_id", "patient_id", "fold"]])


def test_the_spread_between_folds_is_plain() -> None:
    section = folds.build(scores(3))
    assert section is not None
    text = Page(str(section.body)).text
    assert "ours 0 10 10 0.700 37.30 1 10 10 0.800 6.40 2 10 10 0.800 6.40 Mean 0.767 16.70 SD 0.058 17.84" in text
    table = pd.read_csv(io.BytesIO(section.files["folds.csv"]))
    assert table[["model", "fold", "patients", "images"]].to_numpy().tolist() == [["ours", n, 10, 10] for n in range(3)]
    assert {"dsc", "iou", "hd", "assd"} <= set(table)
    assert table["hd"].tolist() == [37.3, 6.4, 6.4]


def test_one_fold_has_no_table() -> None:
    assert folds.build(scores(1)) is None
