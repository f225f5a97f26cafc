"""A study's data set: what is checked of the settings before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from eus_ray.config import AnalysisSettings
from eus_ray.data.dataset import check_data
from eus_ray.data.manifest import read_manifest
from eus_ray.errors import UserError
from tests.helpers import light_study


def test_columns_that_the_analysis_names_must_be_there(phantom: Path) -> None:
    study = light_study(phantom)
    named = study.model_copy(update={"analysis": AnalysisSettings(clinical=("t_stage", "locations"))})
    with pytest.raises(UserError) as caught:
        check_data(named)
    assert caught.value.lines == ("analysis.clinical: the manifest has no column locations; did you mean location?",)
    for clinical in (("t_stage",), (), "auto"):
        check_data(study.model_copy(update={"analysis": AnalysisSettings(clinical=clinical)}))


def test_warnings_call_the_lesion_as_the_study_does(phantom: Path) -> None:
    assert check_data(light_study(phantom)).warnings == ()
    has_lesion = read_manifest(phantom).frame["lesion_share"] > 0
    table = phantom.parent / "with_lesion.csv"
    pd.read_csv(phantom)[has_lesion].to_csv(table, index=False)
    study = light_study(table).model_copy(update={"analysis": AnalysisSettings(target="nodule")})
    (line,) = check_data(study).warnings
    assert line.startswith(f"{table}: no image is without the nodule")
