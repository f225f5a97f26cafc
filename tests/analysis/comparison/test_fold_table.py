"""The table of folds: its means are those that the mean over folds is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.comparison.fold_table import fold_table
from eus_ray.analysis.comparison.paper_tables import table2
from eus_ray.analysis.statistics.bootstrap import Average


def images() -> pd.DataFrame:
    """Return two models, in reverse alphabetical order: p has two images and q one in fold 0, r one in fold 1."""
    return pd.DataFrame(
        {
            "model": ["z"] * 4 + ["a"] * 4,
            "kind": "fixed",
            "fold": [1, 0, 0, 0] * 2,
            "image_id": ["r1", "p1", "p2", "q1"] * 2,
            "patient_id": ["r", "p", "p", "q"] * 2,
            "dsc": [0.9, 0.2, 0.4, 0.9, 0.5, 0.5, 0.5, 0.5],
            "hd": [1.0, 2.0, np.inf, 6.0, 1.0, 1.0, 1.0, 1.0],
            "auc": [np.nan, 0.5, np.nan, 0.7, 1.0, 1.0, 1.0, 1.0],
            "diagonal": 10.0,
        }
    )


@pytest.mark.parametrize(
    ("average", "dsc", "hd", "auc"),
    [("patients", (0.3 + 0.9) / 2, (6.0 + 6.0) / 2, (0.5 + 0.7) / 2), ("images", 0.5, 6.0, 0.6)],
)
def test_means_of_a_fold_by_hand(average: Average, dsc: float, hd: float, auc: float) -> None:
    table = fold_table(images(), ["dsc", "hd", "auc", "nsd"], average)
    assert table.columns.tolist() == ["model", "fold", "patients", "images", "dsc", "hd", "auc"]
    assert table[["model", "fold"]].to_numpy().tolist() == [["z", 0], ["z", 1], ["a", 0], ["a", 1]]
    assert table[["patients", "images"]].to_numpy().tolist() == [[2, 3], [1, 1], [2, 3], [1, 1]]
    assert table.loc[0, ["dsc", "hd", "auc"]].tolist() == pytest.approx([dsc, hd, auc])
    assert table.loc[1, "dsc"] == 0.9
    assert np.isnan(table.loc[1, "auc"])  # its only image has none


@pytest.mark.parametrize("average", ["patients", "images"])
def test_the_mean_and_spread_of_its_rows_are_those_of_table_2(average: Average) -> None:
    found = fold_table(images(), ["dsc", "hd", "auc"], average).groupby("model", sort=False)[["dsc", "hd", "auc"]]
    expected = table2(images(), ["dsc", "hd", "auc"], average, draws=10).set_index("model")
    for metric in ("dsc", "hd", "auc"):
        assert found.mean()[metric].to_dict() == pytest.approx(expected[metric].to_dict())
        sd = expected[f"{metric}_sd"].to_dict()
        if metric != "auc":  # Table 2 takes the SD of a fold without a value as unknown
            assert found.std(ddof=1)[metric].to_dict() == pytest.approx(sd)


def test_no_images_give_no_rows() -> None:
    assert fold_table(images().iloc[:0], ["dsc"], "patients").empty
