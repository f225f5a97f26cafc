"""The head of the report, on images that one fixed mask fits best."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.comparison.search_statements import headline as closing_lines
from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.report.headline import headline, what_to_believe
from eus_ray.analysis.report.results import Results, read_study
from eus_ray.analysis.report.sections import claims as claims_section
from eus_ray.store import Store
from tests.analysis.conftest import disc, write_study
from tests.analysis.search_example import trial_row, write_scores, write_search

SHAPE = (40, 40)


def centred(folder: Path, shift: int = 4) -> Store:
    """Write a study of 60 images of 30 patients: a disc at the centre with little variation, and two weak models."""
    rng = np.random.default_rng(0)
    names = [f"i{number:02d}" for number in range(60)]
    patients = [f"p{number // 2:02d}" for number in range(60)]
    manifest = pd.DataFrame({"image_id": names, "patient_id": patients, "fold": [n // 2 % 5 for n in range(60)]})
    truths = {name: disc(20, 20, 10 + rng.uniform(-1, 1), SHAPE) for name in names}
    images = {name: rng.integers(0, 255, SHAPE, np.uint8) for name in names}
    probabilities = {
        (model, name): np.roll(truths[name], (steps, rng.integers(-1, 2)), (0, 1)).astype(np.float64)
        for model, steps in (("unet", shift), ("daf_net", shift + 1))
        for name in names
    }
    return write_study(folder / "study", manifest, truths, images, probabilities)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_study(centred(tmp_path_factory.mktemp("centred")))


def test_the_head_says_that_no_model_is_better_than_the_fixed_mask(results: Results) -> None:
    said = what_to_believe(results)
    assert [each["is_doubt"] for each in said] == [True, True, False]
    for each, model in zip(said, ("U-Net", "DAF-Net"), strict=False):
        start = f"{model} is worse in DSC than one fixed mask that looks at no image, on average by 0."
        assert each["text"].startswith(start)
    of_these = "Of these trained models, on patients like these, U-Net has a higher DSC than DAF-Net, on average by 0."
    assert said[2]["text"].startswith(of_these) or "by more than other trainings would change" in said[2]["text"]
    head = headline(results)
    assert head is not None
    assert [row["model"] for row in head["rows"]] == ["U-Net", "DAF-Net", "Fixed mask (baseline)"]
    best = max(head["rows"], key=lambda row: row["text"])
    assert best["model"] == "Fixed mask (baseline)"
    assert float(best["text"]) > 0.9


def test_the_claims_say_it(results: Results) -> None:
    section = claims_section.build(results)
    assert section is not None
    table = pd.read_csv(io.BytesIO(section.files["claims.csv"]))
    mine = table[(table["model_b"] == "baseline") & (table["metric"] == "dsc")]
    assert set(mine["better"]) == {"baseline"}
    for model in ("U-Net", "DAF-Net"):
        assert f"So {model} is worse than it." in section.body


def test_a_claims_difference_is_that_of_the_rows_of_table_2(results: Results) -> None:
    rows = results.table2.set_index("model")
    for pair in results.pairs:
        expected = rows.loc[pair.first, pair.metric] - rows.loc[pair.second, pair.metric]
        assert pair.difference == pytest.approx(expected, abs=1e-9)


def test_a_search_ends_by_saying_it(tmp_path: Path) -> None:
    study = centred(tmp_path)
    patients = {f"p{number:02d}": 0.6 + 0.005 * (number % 3) for number in range(30)}
    validation = {
        fold: {name: score for name, score in patients.items() if int(name[1:]) % 5 != fold} for fold in range(5)
    }
    for trial in (1, 2):
        write_scores(study, "unet", trial, {name: score - 0.01 * trial for name, score in patients.items()}, validation)
    write_search(study, "unet", [trial_row("unet", trial, folds_done=5) for trial in (1, 2)])
    lines = closing_lines(write_selection(study))
    assert lines[-1].endswith("Worse than one fixed mask that looks at no image: the interval lies below 0.")
    assert "Gain over it" in lines[-1]
    assert any(line.strip().startswith("Fixed mask") and " 0.9" in line for line in lines)
