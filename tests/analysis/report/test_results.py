"""Words of the results that every section uses: what is averaged, and in which unit distances are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from eus_ray.analysis.comparison.subgroups import divide
from eus_ray.analysis.inputs.cases import Case
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.analysis.report.remarks import remarks
from eus_ray.analysis.report.results import Results, read_table
from eus_ray.errors import UserError
from eus_ray.store import Store


def _table(patients: list[str], folds: list[int], **columns: list[str]) -> Results:
    images = pd.DataFrame(
        {"model": "a", "kind": "fixed", "fold": folds, "image_id": list("vwxyz")[: len(folds)], "patient_id": patients}
        | {"hd": 1.0}
        | columns
    )
    return Results(source="table", images=images, patients=images)


def _case(height: int, width: int, in_mm: bool = False) -> Case:
    return Case(b"", height, width, (1.0, 1.0), in_mm)


def _study(cases: list[Case], grid: str) -> Results:
    named = {str(place): case for place, case in enumerate(cases)}
    return replace(_table([], []), cases=named, settings_text=f'[evaluate]\ngrid = "{grid}"\n')


@pytest.mark.parametrize(
    ("folds", "settings", "words"),
    [
        ([0, 1, 1], "", "mean over folds of the mean over their patients"),
        ([0, 1, 1], '[analysis]\naverage = "images"', "mean over folds of the mean over their images"),
        ([0, 0, 0], "", "mean over patients"),
        ([0, 0, 0], '[analysis]\naverage = "images"', "mean over images"),
    ],
)
def test_the_average_is_named_by_folds_and_setting(folds: list[int], settings: str, words: str) -> None:
    assert replace(_table(["p", "q", "q"], folds), settings_text=settings).average_words == words


def test_images_that_stand_for_patients_are_called_images() -> None:
    assert _table(["v", "w", "x"], [0, 0, 0]).average_words == "mean over images"
    assert _table(["p", "q", "r"], [0, 0, 0]).average_words == "mean over patients"


@pytest.mark.parametrize(
    ("cases", "grid", "unit", "unit_long"),
    [
        ([_case(128, 128)], "resized", "px", "px of the 128 × 128 grid"),
        ([_case(48, 64), _case(100, 90)], "original", "px", "px of the original pictures"),
        ([_case(48, 64)], "original", "px", "px of the original pictures"),
        ([_case(128, 128, in_mm=True)], "resized", "mm", "mm"),
        ([_case(64, 64), _case(64, 64, in_mm=True)], "resized", "px and mm", "px of the 64 × 64 grid and mm"),
        ([], "resized", "", ""),
    ],
)
def test_the_unit_of_a_study_names_its_grid(cases: list[Case], grid: str, unit: str, unit_long: str) -> None:
    results = _study(cases, grid)
    assert (results.unit, results.unit_long) == (unit, unit_long)


@pytest.mark.parametrize(
    ("columns", "unit", "unit_long"),
    [
        ({"unit": ["px", "px"], "grid": ["48 x 64", "48 x 64"]}, "px", "px of the 48 × 64 grid"),
        ({"unit": ["px", "px"], "grid": ["48 x 64", "50 x 50"]}, "px", "px of each mask's own grid"),
        ({"unit": ["px", "px"]}, "px", "px"),
        ({"unit": ["mm", "mm"], "grid": ["48 x 64", "50 x 50"]}, "mm", "mm"),
        ({}, "", ""),
    ],
)
def test_the_unit_of_a_table_is_what_the_table_says(columns: dict[str, list[str]], unit: str, unit_long: str) -> None:
    results = _table(["p", "q"], [0, 0], **columns)
    assert (results.unit, results.unit_long) == (unit, unit_long)


def test_the_baseline_is_compared_but_is_no_model() -> None:
    """A table with the baseline's rows first: they come last, whatever the order of the table."""
    images = pd.DataFrame(
        {
            "model": ["baseline", "baseline", "a", "a", "a", "a"],
            "kind": ["baseline", "baseline", "winner", "winner", "fixed", "fixed"],
            "fold": 0,
            "image_id": ["v", "w"] * 3,
            "patient_id": ["p", "q"] * 3,
            "dsc": [0.5, 0.7, 0.9, 0.9, 0.7, 0.9],
            "diagonal": 9.0,
        }
    )
    results = Results(source="table", images=images, patients=images)
    assert results.models == ["a"]
    assert results.headline["kind"].tolist() == ["fixed", "fixed"]
    assert results.compared["model"].tolist() == ["a", "a", "baseline", "baseline"]
    assert results.table2[["model", "dsc"]].to_numpy().tolist() == [["a", 0.8], ["baseline", 0.6]]
    assert (results.kind("a"), results.kind("baseline")) == ("fixed", "baseline")
    assert not results.uneven


def test_without_a_baseline_the_compared_rows_are_the_headline() -> None:
    table = _table(["p", "q"], [0, 0])
    assert table.compared.equals(table.headline)
    nothing = replace(table, images=table.images[:0])
    assert nothing.compared.empty


DIFFERING = """model,image_id,patient_id,dsc,t_stage,Dice,seconds,size_mm
a,1,p,0.9,T1,0.91,0.5,
a,2,q,0.8,,0.81,0.5,20
b,1,p,0.7,T1,0.71,2.5,10
b,2,q,0.6,T2,0.61,0.5,20
"""


def test_a_column_that_differs_between_models_is_no_patients_own(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(DIFFERING)
    read = read_table(Store(tmp_path), "scores.csv")
    assert clinical_columns(read.patients) == ["t_stage", "size_mm"]
    assert [line for line in remarks(read) if "differ" in line] == [
        "Dice, seconds differ between models, so they are no patient's own: left out of patients and subgroups"
    ]
    divisions, left_out = read.divided
    assert "Dice" not in {division.column for division in divisions}
    assert {"Dice (differs between models)", "Seconds (differs between models)"} <= set(left_out)
    with pytest.raises(UserError, match=r"^analysis\.clinical: seconds differs between models") as caught:
        divide(read.headline, ["t_stage", "seconds"])
    assert len(caught.value.lines) == 1


def test_a_value_that_one_models_row_lacks_is_that_of_the_other(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(DIFFERING)
    read = read_table(Store(tmp_path), "scores.csv")
    for frame in (read.patients, read.images):
        assert frame.groupby("image_id")["t_stage"].unique().map(list).to_dict() == {"1": ["T1"], "2": ["T2"]}
        assert frame.groupby("image_id")["size_mm"].unique().map(list).to_dict() == {"1": [10], "2": [20]}
