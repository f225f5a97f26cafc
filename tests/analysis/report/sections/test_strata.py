"""The section on strata: its title, what does not add up, and what is left out and why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.report.sections import strata

pytestmark = pytest.mark.usefixtures("undrawn")


def scores(**columns: object) -> pd.DataFrame:
    """Return two images for each of 24 patients, whose number is even or odd for two stages."""
    patient = np.repeat(np.arange(24), 2)
    frame = pd.DataFrame(
        {
            "model": "a",
            "kind": "fixed",
            "fold": 0,
            "image_id": [f"i{place}" for place in range(48)],
            "patient_id": [f"p{number}" for number in patient],
            "dsc": 0.5 + patient / 100,
            "diagonal": 10.0,
        }
    )
    return frame.assign(**columns)


def section(frame: pd.DataFrame, settings: str = "") -> Section | None:
    return strata.build(Results(source="table", images=frame, patients=frame, settings_text=settings))


def built(frame: pd.DataFrame, settings: str = "") -> Section:
    found = section(frame, settings)
    assert found is not None
    return found


STAGE = np.repeat(np.resize(["T1", "T2"], 24), 2)
SEX = np.repeat(np.resize(["male", "male", "female"], 24), 2)


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({"t_stage": STAGE}, "By T-stage"),
        ({"t_stage": STAGE, "sex": SEX}, "By T-stage and sex"),
        ({"t_stage": STAGE, "sex": SEX, "size_mm": np.arange(48.0)}, "By T-stage, sex and size"),
        ({"her2": SEX, "ER": STAGE, "sex": SEX, "grade": STAGE}, "By her2, ER, sex and grade"),
        ({f"Class {k}": STAGE for k in range(5)}, "By class 0, class 1, class 2 and other subgroups"),
    ],
)
def test_the_title_names_what_divides(columns: dict[str, object], title: str) -> None:
    assert built(scores(**columns)).title == title


def test_patients_in_several_strata_or_in_none_are_counted() -> None:
    age = np.repeat(np.arange(24.0), 2)
    age[:6] = np.nan
    size = np.repeat(np.arange(24.0), 2)
    size[0] = 100
    body = built(scores(t_stage=STAGE, age=age, size_mm=size)).body
    told = "Of the 24 patients, not each is in one stratum: Age, years (3 in none); Size, mm (1 in several strata). So"
    assert told in body
    assert "add up" not in built(scores(t_stage=STAGE)).body


def test_columns_left_out_are_listed_with_the_reason() -> None:
    frame = scores(t_stage=STAGE, source_kfold5=np.repeat(np.arange(24) % 5, 2), hospital="one")
    assert "Not shown: Source kfold5 (a part of a split); Hospital (one value only)." in built(frame).body
    alone = built(frame.drop(columns="t_stage"))
    assert alone.title == "By subgroup"
    assert "Not shown: Source kfold5" in alone.body
    assert "<table" not in alone.body
    assert section(scores()) is None


def test_the_columns_that_the_study_names_are_the_ones_shown() -> None:
    view = np.resize(["long", "cross"], 48)
    body = built(scores(t_stage=STAGE, view=view), '[analysis]\nclinical = ["view"]\n').body
    assert "View" in body
    assert "T-stage" not in body
    assert "Of the 24 patients, not each is in one stratum: View (24 in several strata)." in body


def test_few_patients_are_told_where_the_number_stands() -> None:
    few = np.repeat(["T1"] * 9 + ["T2"] * 15, 2)
    body = built(scores(t_stage=few)).body
    assert "A stratum of fewer than 10 patients is marked “too few”" in body
    assert body.count('<span class="tag">too few</span>') == 1
    assert "too few" not in built(scores(t_stage=STAGE)).body


@pytest.mark.parametrize("average", ["patients", "images"])
def test_the_mean_is_named(average: str) -> None:
    body = built(scores(t_stage=STAGE), f'[analysis]\naverage = "{average}"\n').body
    assert f"DSC of each model from the images of one stratum alone: mean over {average}, with the" in body
