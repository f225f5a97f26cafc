"""The section on ROC curves: its numbers, its files, and what it says where an area is not defined."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.report.results import Results, Section, read_study
from eus_ray.analysis.report.sections import roc as section
from eus_ray.store import Store

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]


def built(results: Results) -> Section:
    found = section.build(results)
    assert found is not None
    return found


def text(found: Section) -> str:
    """Return words and numbers without markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", str(found.body)).split())


def test_figure_tables_and_files(make_study: MakeStudy) -> None:
    found = built(read_study(make_study()))
    assert set(found.files) == {"auc.csv", "roc.csv", "figures/roc.svg", "figures/roc.png"}
    assert len(found.files["figures/roc.svg"]) < 250_000
    areas = pd.read_csv(io.BytesIO(found.files["auc.csv"]), keep_default_na=False, na_values={"fold": [""]})
    mean = areas[areas["fold"].isna() & (areas["minus"] == "")].set_index(["model", "pixels"])["auc"].astype(float)
    said = text(found)
    for model, label in (("unet", "U-Net"), ("daf_net", "DAF-Net")):
        image, fold = (f"{mean[model, pixels]:.3f}" for pixels in ("image", "fold"))
        assert re.search(
            rf"{label} {image} [01]\.\d+–[01]\.\d+ {fold} [01]\.\d+–[01]\.\d+ [01]\.\d+ [01]\.\d+ [01]\.\d+ ", said
        )
        assert f"{label}: {image} of each image, {fold} of a fold&#39;s pixels" in str(found.body)
    difference = f"{mean['unet', 'image'] - mean['daf_net', 'image']:+.3f}".replace("-", "\N{MINUS SIGN}")
    assert f"U-Net \N{MINUS SIGN} DAF-Net {difference} " in said
    curves = pd.read_csv(io.BytesIO(found.files["roc.csv"]))
    assert curves["tpr"].between(0, 1).all()
    assert curves["fold"].dropna().unique().tolist() == [0, 1, 2]
    assert "2 images have one class only" in said


@pytest.mark.usefixtures("undrawn")
def test_a_fold_without_lesions_is_said_to_be_undefined(make_study: MakeStudy, example: Example) -> None:
    manifest, truths, _ = example
    blank = set(manifest.loc[manifest["fold"] == 2, "image_id"])
    truths = {image: np.zeros_like(truth) if image in blank else truth for image, truth in truths.items()}
    said = text(built(read_study(make_study(truths=truths))))
    assert "In fold 2 all pixels have one class" in said
    assert re.search(r"U-Net 0\.\d+ [01]\.\d+–[01]\.\d+ 0\.\d+ [01]\.\d+–[01]\.\d+ 0\.\d+ 0\.\d+ –", said)


@pytest.mark.usefixtures("undrawn")
def test_without_any_lesion_there_is_no_section(make_study: MakeStudy, example: Example) -> None:
    blank = {image: np.zeros_like(truth) for image, truth in example[1].items()}
    assert section.build(read_study(make_study(truths=blank))) is None


@pytest.mark.usefixtures("undrawn")
def test_one_fold_of_one_model(make_study: MakeStudy) -> None:
    absent = [("unet", fold) for fold in range(3)] + [("daf_net", 0), ("daf_net", 2)]
    found = built(read_study(make_study(state="running", whole=[], without=absent)))
    said = text(found)
    assert "Curves of one fold" in said
    assert "Differences" not in said
    assert "Fold 1" in said
    assert "Fold 0" not in said
    assert pd.read_csv(io.BytesIO(found.files["roc.csv"]))["sd"].isna().all()


@pytest.mark.usefixtures("undrawn")
def test_models_with_different_folds(make_study: MakeStudy) -> None:
    said = text(built(read_study(make_study(state="running", whole=[], without=[("unet", 1), ("daf_net", 2)]))))
    # Only fold 0 has both: one difference, and dashes.
    pair = re.search(r"U-Net − DAF-Net (.*?) AUC of each image:", said)
    assert pair is not None
    assert pair[1].endswith("– –")


def test_a_table_of_scores_has_areas_of_images_alone() -> None:
    images = pd.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "kind": "fixed",
            "fold": 0,
            "image_id": ["1", "2", "1", "2"],
            "patient_id": ["p", "q", "p", "q"],
            "auc": [0.9, 0.7, 0.6, 0.8],
        }
    )
    found = built(Results("scores.csv", images, images))
    assert set(found.files) == {"auc.csv"}
    said = text(found)
    # Two patients drawn again: means from 0.7 to 0.9. Flips of two patients reject no difference.
    assert "a 0.800 0.700–0.900" in said
    assert "a − b +0.100 AUC of each image" in said
    assert "fold’s pixels" not in said
    assert "roc.csv" not in said
    assert section.build(Results("scores.csv", images.drop(columns="auc"), images)) is None
    assert section.build(Results("scores.csv", images.assign(auc=np.nan), images)) is None


def test_a_limit_next_to_0_shows_its_sign_as_in_its_claim() -> None:
    assert section._printed(-0.000365, signed=True) == "\N{MINUS SIGN}0.0004"
    assert section._printed(-0.0304, signed=True) == "\N{MINUS SIGN}0.030"
    assert section._printed(0.99996) == "1.000"
