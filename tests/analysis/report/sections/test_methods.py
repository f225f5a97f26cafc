"""The methods paragraph says what was done, and cites what it says and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eus_ray import store
from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.report.references import REFERENCES, Citations
from eus_ray.analysis.report.results import Results, read_study, read_table
from eus_ray.analysis.report.sections import methods
from eus_ray.config import Study
from eus_ray.store import Store
from tests.analysis.search_example import example_search
from tests.analysis.test_analyze import Page

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]
SEARCH_WORDS = ("searched", "Optuna", "BBC-CV", "optimistic", "nested", "validation patients alone")


def methods_of(results: Results) -> str:
    """Return the text and its references, without settings and versions."""
    section = methods.build(results)
    assert section is not None
    return Page(str(section.body)).text.partition(" Provenance and versions ")[0]


@pytest.fixture
def tuned(make_study: MakeStudy, example: Example) -> Callable[..., str]:
    """Return `tuned(**rules)`: the methods of the example study with a search of unet."""

    def make(select: bool = True, **rules: Any) -> str:
        study = make_study(whole=[])
        example_search(study, example[0], example[1], **rules)
        if select:
            write_selection(study)
        return methods_of(read_study(study))

    return make


def test_a_cross_validation_has_no_search(make_study: MakeStudy) -> None:
    text = methods_of(read_study(make_study()))
    for said in (
        "12 synthetic images of 8 patients",
        "divided into 3 folds (seed 0), balanced by T-stage",
        "follow Seo et al. (2022)",
        "with AdamW, learning rate 0.001, weight decay 0.01 and a one-cycle schedule",
        "The encoder of DAF-Net was resnext101_32x8d.tv_in1k (Wightman, 2019), begun from random weights",
        "The loss was the Dice loss (smooth 1), for DAF-Net added up over its single-layer features",
        "augmented at random by rotation by -5, -2.5, 0, 2.5 and 5 degrees, scaling by 0.9, 1 and 1.1 and flips",
        "PyTorch 2.14.1 (Paszke et al., 2019)",
        "no test image chose an epoch",
        "DSC was the primary metric, all others were exploratory",
        "two-sided Wilcoxon signed rank test (Wilcoxon, 1945), adjusted over the pairs within a metric",
        "within ±0.02, of distances within ±2 pixels",
        "corrected resampled t-test (Nadeau and Bengio, 2003)",
        "Kruskal–Wallis test (Kruskal and Wallis, 1952)",
    ):
        assert said in text, said
    assert not [word for word in SEARCH_WORDS if word in text]
    assert "Friedman" not in text
    assert "Demšar" not in text  # two models are a pair
    assert "elastic" not in text
    assert "Att-U-Net" not in text
    assert "Oktay" not in text


def test_settings_are_told_as_they_are(make_study: MakeStudy) -> None:
    changed = Study.model_validate(
        {
            "models": ["unet", "daf_net"],
            "data": {"resize": "pad"},
            "optim": {"optimizer": "sgd", "schedule": "steps", "lr": 0.007},
            "loss": {"dice_weight": 0.5, "bce_weight": 1.0},
            "augment": {"rotations_degrees": [0.0], "scales": [1.0], "flip_probability": 0.0},
            "only": {"daf_net": {"model.encoder": "resnet18", "model.pretrained": True}},
        }
    )
    text = methods_of(read_study(make_study(settings=changed, spacing=(0.1, 0.2))))
    for said in (
        "with their aspect kept and black borders",
        "SGD, learning rate 0.007, weight decay 0.01 and a learning rate multiplied by 0.02 from epochs 5 and 20 on",
        "The encoder of DAF-Net was resnet18 (Wightman, 2019), begun from published weights",
        "The loss was 0.5 times the Dice loss plus binary cross-entropy (smooth 1)",
        "Settings of DAF-Net differ",
        "of distances within ±2 millimetres",
    ):
        assert said in text, said
    assert "augmented" not in text


def test_a_nested_search(tuned: Callable[..., str]) -> None:
    text = tuned()
    for said in (
        "For U-Net settings were searched (optim.lr, optim.schedule, optim.gamma, optim.milestones and train.batch",
        "4 trials, each a cross-validation, proposed by a tree-structured Parzen estimator (Bergstra et al., 2011)",
        "3 were completed",
        "stopped if it was worse at α = 0.05",
        "chosen on the validation patients alone",
        "the nested estimate, which is the one that is reported",
        "BBC-CV over the complete trials, with 2000 bootstrap samples of patients (Tsamardinos et al., 2018)",
        "labelled optimistic",
    ):
        assert said in text, said
    assert "on the test folds themselves" not in text
    assert "ASHA" not in text


def test_the_papers_search(tuned: Callable[..., str]) -> None:
    text = tuned(protocol="paper", scheduler="none", sampler="random")
    assert "Settings were chosen on the test folds themselves, so the best score found is optimistic" in text
    assert "BBC-CV" in text
    assert "proposed by random draws" in text
    for word in ("nested", "validation patients alone", "Bergstra", "leading"):
        assert word not in text


def test_a_search_that_goes_on_has_chosen_nothing(tuned: Callable[..., str]) -> None:
    text = tuned(select=False, scheduler="asha")
    assert "For U-Net the search has chosen no setting" in text
    assert "(ASHA; Li et al., 2020)" in text
    assert "BBC-CV" not in text
    assert "nested estimate" not in text


def test_one_model_is_compared_with_none(make_study: MakeStudy) -> None:
    text = methods_of(read_study(make_study(models=["daf_net"])))
    assert "Wilcoxon" not in text
    assert "Holm" in text  # cited for the strata
    assert "Wang et al., 2018" in text
    assert "Ronneberger" not in text


def test_a_table_of_scores_says_nothing_of_training(tmp_path: Path) -> None:
    rows = [f"{model},{image},p{image // 2},{0.5 + image / 40}" for model in "abc" for image in range(12)]
    (tmp_path / "scores.csv").write_text("\n".join(["model,image_id,patient_id,dsc", *rows]))
    text = methods_of(read_table(Store(tmp_path), "scores.csv"))
    assert "as the table has them" in text
    assert "Friedman's test" in text
    assert "Demšar J." in text
    for word in ("trained on", "Ray", "Seo et al. (2022). ", "probability", "Nadeau", "Kruskal", "diagonal"):
        assert word not in text, word


def test_what_is_cited_is_listed_and_nothing_else(tuned: Callable[..., str]) -> None:
    text, _, rest = tuned().partition(" References ")
    listed = rest.partition(" As BibTeX ")[0]
    for reference in REFERENCES.values():
        names, year = reference.short.rsplit(", ", 1)
        cited = f"{names}, {year}" in text or f"{names} ({year})" in text
        assert cited == (reference.title in listed), reference.short


def test_names_are_text(make_study: MakeStudy) -> None:
    study = make_study()
    frame = store.read_manifest(study).rename(columns={"sex": "<b>sex</b>"})
    study.write_frame(store.MANIFEST, frame)
    section = methods.build(read_study(study))
    assert section is not None
    assert "&lt;b&gt;sex" in section.body
    assert "<b>sex" not in section.body


# ---- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", REFERENCES)
def test_a_reference_is_whole(key: str) -> None:
    reference = REFERENCES[key]
    assert re.fullmatch(r"[^,]+ [A-Z].*\. .+ \d{4}(; .+)?\.( (doi|arXiv):\S+\.)?", reference.text), reference.text
    assert ".." not in reference.text
    assert "  " not in reference.text
    assert "http" not in reference.text
    entry = reference.bibtex(key)
    assert entry.count("{") == entry.count("}")
    assert entry.startswith(f"@{reference.entry}{{{key}{reference.year},\n")
    assert "–" not in entry


def test_a_reference_in_print() -> None:
    cite = Citations()
    assert cite("tsamardinos", "holm") == "Tsamardinos et al., 2018; Holm, 1979"
    assert cite.named("seo") == "Seo et al. (2022)"
    assert cite.texts == [
        "Holm S. A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 1979; "
        "6(2):65–70.",
        "Seo K, Lim J-H, Seo J, Nguon LS, Yoon H, Park J-S, Park S. Semantic Segmentation of Pancreatic Cancer in "
        "Endoscopic Ultrasound Images Using Deep Learning Approach. Cancers 2022; 14(20):5111. "
        "doi:10.3390/cancers14205111.",
        "Tsamardinos I, Greasidou E, Borboudakis G. Bootstrapping the out-of-sample predictions for efficient and "
        "accurate cross-validation. Machine Learning 2018; 107:1895–1922. doi:10.1007/s10994-018-5714-4.",
    ]
    with pytest.raises(KeyError):
        cite("nobody")


def test_bibtex_of_an_article() -> None:
    assert REFERENCES["holm"].bibtex("holm") == (
        "@article{holm1979,\n  author = {Holm, S.},\n"
        "  title = {{A Simple Sequentially Rejective Multiple Test Procedure}},\n"
        "  journal = {Scandinavian Journal of Statistics},\n  year = {1979},\n  volume = {6},\n  number = {2},\n"
        "  pages = {65--70}\n}"
    )
