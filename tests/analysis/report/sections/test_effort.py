"""The table of efforts says what went into each model."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.report.results import Results, Section, read_study, read_table
from eus_ray.analysis.report.sections import effort
from eus_ray.store import Store
from tests.analysis.retraining import change_rows, write_epochs
from tests.analysis.search_example import example_search
from tests.analysis.test_analyze import Page

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]


def shown(results: Results) -> tuple[list[list[str]], str, pd.DataFrame]:
    """Return the section's table, head first, its text, and effort.csv."""
    section = effort.build(results)
    assert isinstance(section, Section)
    rows = [
        [
            " ".join(re.sub("<.*?>", "", cell).split())
            for cell in re.findall(r"<t[hd] .*?>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in str(section.body).split("<tr>")[1:]
    ]
    return rows, Page(str(section.body)).text, pd.read_csv(io.BytesIO(section.files["effort.csv"]))


def test_a_tuned_model_beside_an_untuned_one(make_study: MakeStudy, example: Example) -> None:
    study = make_study(whole=[])
    example_search(study, example[0], example[1])
    write_selection(study)
    write_epochs(study, "unet", 2, {0: 5, 2: 1}, seconds=3600)
    write_epochs(study, "unet", 4, {1: 3}, seconds=3600)
    change_rows(study, "unet", parameters=1234567, device="H200", gpus=0.25, threads=1)
    change_rows(study, "daf_net", parameters=7654321, device="EPYC", gpus=0.0, threads=2)
    rows, text, table = shown(read_study(study))
    # 18 fold-epochs of the fixed trial and 12 of the search; these and 3 tests take 15 hours on a quarter of a GPU
    assert rows == [
        ["Model", "Settings tried", "Epochs", "Parameters", "Pretrained", "Fold-epochs", "GPU hours", "CPU hours"],
        ["U-Net nested estimate", "4", "2 to 6", "1,234,567", "no", "30", "3.8", "–"],
        ["DAF-Net", "1", "6", "7,654,321", "no", "18", "–", "0.01"],
    ]
    assert "The models differ in settings tried and epochs" in text
    assert "U-Net: H200. DAF-Net: EPYC." in text
    assert "added up" not in text
    unet, daf_net = table.to_dict("records")
    assert (unet["settings_tried"], unet["epochs_min"], unet["epochs_max"], unet["fold_epochs"]) == (4, 2, 6, 30)
    assert unet["gpu_hours"] == (15 + 18 / 3600) / 4
    assert (daf_net["kind"], daf_net["pretrained"], daf_net["parameters_max"]) == ("fixed", False, 7654321)


def test_epochs_of_training_and_of_the_weights_stand_together(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    changed = replace(results.efforts["unet"], epochs=(8, 8, 8), chosen_epochs=(5, 7, 8))
    rows, text, _ = shown(replace(results, all_efforts=results.all_efforts | {("unet", "fixed"): changed}))
    assert [row[2] for row in rows[1:]] == ["8, kept 5 to 8", "6"]
    assert "Kept: the epochs after which the weights were taken." in text
    assert "Kept:" not in shown(results)[1]


def test_equal_efforts(make_study: MakeStudy) -> None:
    rows, text, _ = shown(read_study(make_study()))
    assert rows[0][-1] == "Hours"
    assert [row[1:] for row in rows[1:]] == [["1", "6", "–", "no", "18", "0.005"]] * 2
    assert "They had equally many settings and epochs, and the same pretraining." in text
    assert "hours are added up over folds that may have trained at the same time" in text


def test_a_single_model_differs_from_none(make_study: MakeStudy) -> None:
    _, text, _ = shown(read_study(make_study(models=["unet"])))
    assert "differ" not in text
    assert "They had" not in text


def test_a_table_of_scores_has_no_section(tmp_path: Any) -> None:
    (Path(tmp_path) / "scores.csv").write_text("model,image_id,patient_id,dsc\na,1,p,0.5\n")
    assert effort.build(read_table(Store(tmp_path), "scores.csv")) is None
