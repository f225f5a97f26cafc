"""The methods paragraph says what was done, and cites what it says and nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eus_ray import store
from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.report.references import REFERENCES
from eus_ray.analysis.report.results import Results, read_study, read_table
from eus_ray.analysis.report.sections import methods
from eus_ray.config import Study
from eus_ray.config_file import study_toml
from eus_ray.store import Store
from eus_ray.study.trials import settings_row
from tests.analysis.conftest import PROVENANCE
from tests.analysis.retraining import change_rows, write_epochs
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
        "The models were U-Net (Ronneberger et al., 2015) and DAF-Net (Wang et al., 2018; Seo et al., 2022)",
        "U-Net had 64 channels at its first level.",
        "DAF-Net had 64 channels in its decoder and the encoder resnext101_32x8d.tv_in1k (Wightman, 2019), begun from "
        "random weights.",
        "Images were stretched, whatever their aspect, to squares of 256 × 256 pixels",
        "Both models were trained for 6 epochs in batches of 16, with AdamW, learning rate 0.001, weight decay 0.01 "
        "and a one-cycle schedule.",
        "Weights were taken after the last epoch. No test image chose an epoch.",
        "The loss was the Dice loss (smooth 1). For DAF-Net it was added up over single-layer features (weight 1) and "
        "single images (weight 1).",
        "Training images were augmented at random by rotation by −5, −2.5, 0, 2.5 or 5 degrees, scaling by 0.9, 1 or "
        "1.1 and flips",
        "All models had the same folds and the same seed, 0.",
        "PyTorch (Paszke et al., 2019); the study was begun with PyTorch 2.14.1",
        "predicted as lesion if its probability was at least 0.5. No piece of a predicted mask was removed, and no",
        "DSC was the primary metric, all others were exploratory",
        "two-sided permutation test (Pitman, 1937) that flips the signs of patients' differences",
        "over all 2ⁿ flips of up to 16 patients, else over 10,000 flips drawn with a fixed seed",
        "adjusted over the pairs within a metric by Holm's method (Holm, 1979); the level was 0.05",
        "holds the shifts that this test does not reject",
        "The Wilcoxon signed rank test of patients' means (Wilcoxon, 1945) stands beside it",
        "within ±0.02, of distances within ±2 px",
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
    assert "not trained with the same settings" not in text


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
        "Images were scaled, with their aspect kept and black borders, to squares of 256 × 256 pixels",
        "with SGD (momentum 0.9), learning rate 0.007, weight decay 0.01 and a learning rate multiplied by 0.02 after "
        "5 epochs.",
        "64 channels in its decoder and the encoder resnet18 (Wightman, 2019), begun from published weights.",
        "The loss was 0.5 times the Dice loss plus binary cross-entropy (smooth 1)",
        "Training images were not augmented",
        "of distances within ±2 mm",
    ):
        assert said in text, said
    assert "augmented at random" not in text


def test_a_nested_search(tuned: Callable[..., str]) -> None:
    text = tuned()
    for said in (
        "For U-Net settings were searched (optim.lr, optim.schedule, optim.gamma, optim.milestones and train.batch",
        "4 trials, each a cross-validation, proposed by a tree-structured Parzen estimator (Bergstra et al., 2011)",
        "3 were completed",
        "stopped if it was worse at α = 0.05",
        "chosen on the validation patients alone",
        "the nested estimate, which is the one that is reported",
        "BBC-CV over the complete trials, with 2,000 bootstrap samples of patients (Tsamardinos et al., 2018)",
        "may flatter",
    ):
        assert said in text, said
    assert "on the test folds themselves" not in text
    assert "ASHA" not in text
    assert "has not ended" not in text


def test_the_papers_search(tuned: Callable[..., str]) -> None:
    text = tuned(protocol="paper", scheduler="none", sampler="random")
    assert "Settings were chosen on the test folds themselves, so the best score found is optimistic" in text
    assert "BBC-CV" in text
    assert "proposed by random draws" in text
    for word in ("nested", "validation patients alone", "Bergstra", "leading"):
        assert word not in text


def test_a_search_that_goes_on_has_not_ended(tuned: Callable[..., str]) -> None:
    text = tuned(select=False, scheduler="asha", trials=9)
    assert "The search for U-Net has not ended." in text
    assert "(ASHA; Li et al., 2020)" in text
    assert "BBC-CV" not in text
    assert "nested estimate" not in text


def test_one_model_is_compared_with_the_baseline_alone(make_study: MakeStudy) -> None:
    text = methods_of(read_study(make_study(models=["daf_net"])))
    assert "The model was DAF-Net" in text
    assert "DAF-Net was trained for 6 epochs" in text
    assert "The model was compared with the baseline." in text
    assert "The loss was the Dice loss (smooth 1). It was added up over" in text
    assert "The baseline looks at no image" in text
    assert "compared in pairs" not in text
    assert "All models" not in text
    assert "architectures" not in text
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


# ---- each model's own ---------------------------------------------------------------------------

TRAINED = re.compile(
    r"([A-Z][\w-]+) was trained for ([\d to]+) epochs? in batches of ([\d to]+), with ([^,]+), "
    r"learning rate ([\d.e to-]+), weight decay ([\d.e to-]+) and ([^.]+(?:\.\d+[^.]*)?)\."
)
"""A model, and its epochs, batch size, optimiser, learning rate, weight decay and schedule."""


def settings_of(results: Results) -> dict[str, dict[str, str]]:
    """Return the tables of `All settings`, by their heads."""
    section = methods.build(results)
    assert section is not None
    listed = str(section.body).partition("<summary>All settings</summary>")[2].partition("</details>")[0]
    tables = {}
    for table in listed.split("<h3>")[1:]:
        head = re.sub("<.*?>", "", table.partition("</h3>")[0]).strip()
        tables[head] = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", table))
    return tables


def test_a_model_that_was_added_later_has_its_own_numbers(make_study: MakeStudy) -> None:
    study = make_study()
    later = Study.model_validate(
        {
            "models": ["daf_net"],
            "train": {"epochs": 3, "batch_size": 4},
            "optim": {"lr": 0.007, "optimizer": "sgd", "weight_decay": 0.0, "schedule": "cosine"},
            "augment": {"rotations_degrees": [0.0], "scales": [1.0], "flip_probability": 0.0},
            "loss": {"bce_weight": 2.0},
        }
    )
    change_rows(study, "daf_net", **settings_row(later.for_model("daf_net")))
    write_epochs(study, "daf_net", 0, {0: 2, 1: 2, 2: 2})
    results = read_study(study)
    text = methods_of(results)
    assert TRAINED.findall(text) == [
        ("U-Net", "6", "16", "AdamW", "0.001", "0.01", "a one-cycle schedule"),
        ("DAF-Net", "3", "4", "SGD (momentum 0.9)", "0.007", "0", "a cosine schedule"),
    ]
    assert (
        "not trained with the same settings: they differ in augmentation, optimiser, learning rate, weight decay, "
        "schedule of the learning rate, loss, epochs and batch size. " in text
    )
    assert "The loss of U-Net was the Dice loss (smooth 1). The loss of DAF-Net was the Dice loss plus 2 times" in text
    assert "Training images of DAF-Net were not augmented" in text
    tables = settings_of(results)
    assert tables["Shared by all models"]["train.seed"] == "0"
    assert "optim.lr" not in tables["Shared by all models"]
    assert (tables["U-Net"]["optim.lr"], tables["U-Net"]["train.epochs"]) == ("0.001", "6")
    assert (tables["DAF-Net"]["optim.lr"], tables["DAF-Net"]["train.epochs"]) == ("0.007", "3")
    assert "lr = 0.001" in results.settings_text  # the study file knows the first run alone


def test_a_tuned_model_beside_an_untuned_one(make_study: MakeStudy, example: Example) -> None:
    study = make_study(whole=[])
    example_search(study, example[0], example[1])
    write_selection(study)
    write_epochs(study, "unet", 2, {0: 5, 2: 1})
    write_epochs(study, "unet", 4, {1: 3})
    write_epochs(study, "unet", 5, {0: 0, 1: 0, 2: 0})
    change_rows(study, "unet", parameters=1234567, device="H200", gpus=1.0, threads=1, precision="bfloat16")
    change_rows(study, "daf_net", parameters=7654321, device="H200", gpus=1.0, threads=1, precision="bfloat16")
    results = read_study(study)
    text = methods_of(results)
    schedule = "a one-cycle schedule, in bfloat16 arithmetic"
    # folds 0 and 2 chose trial 2, fold 1 chose trial 4
    assert TRAINED.findall(text) == [
        ("U-Net", "2 to 6", "8 to 12", "AdamW", "0.001 to 0.01", "0.01", schedule),
        ("DAF-Net", "6", "16", "AdamW", "0.001", "0.01", schedule),
    ]
    assert "The settings of U-Net were chosen by a search, in each fold anew." in text
    assert "Ranges and alternatives of U-Net are over the folds." in text
    scored = "the epoch at which the fold's validation patients scored best (2 to 6 epochs)"
    assert f"Weights of U-Net were taken after {scored}. Weights of DAF-Net were taken after" in text
    assert "With its best setting U-Net was then trained for 1 epoch in batches of 12, with AdamW, learning" in text
    assert "U-Net had 64 channels at its first level and 1,234,567 trainable parameters." in text
    assert "7,654,321 trainable parameters" in text
    # 18 + 8 + 4 + 6 training and test rows of a second each are .01 hours, and 18 of DAF-Net .005
    cost = "0.011 GPU hours for U-Net and 0.005 GPU hours for DAF-Net, on H200."
    assert f"Training and scoring, with all trials of searches, took {cost}" in text
    tables = settings_of(results)
    assert tables["U-Net nested estimate"]["optim.lr"] == "0.01 (folds 0 and 2); 0.001 (fold 1)"
    assert tables["U-Net nested estimate"]["train.batch_size"] == "12 (folds 0 and 2); 8 (fold 1)"
    assert tables["U-Net tuned on these folds"]["optim.lr"] == "0.01"
    assert tables["DAF-Net"]["optim.lr"] == "0.001"


def test_settings_of_one_architecture_alone(make_study: MakeStudy) -> None:
    only = {"unet": {"model.width": 16, "train.epochs": 9}, "daf_net": {"model.encoder": "resnet18"}}
    study = make_study(settings=Study.model_validate({"models": ["unet", "daf_net"], "only": only}), whole=[])
    change_rows(study, "unet", parameters=1942289)
    write_epochs(study, "unet", 0, {0: 8, 1: 8, 2: 8})
    results = read_study(study)
    text = methods_of(results)
    assert "U-Net had 16 channels at its first level and 1,942,289 trainable parameters." in text
    assert "the encoder resnet18 (Wightman, 2019), begun from random weights." in text
    assert [found[:2] for found in TRAINED.findall(text)] == [("U-Net", "9"), ("DAF-Net", "6")]
    assert settings_of(results)["U-Net"]["model.width"] == "16"
    assert "model.width" not in settings_of(results)["DAF-Net"]


def test_one_epoch_is_one(make_study: MakeStudy) -> None:
    text = methods_of(read_study(make_study(epochs=1)))
    assert "trained for 1 epoch in" in text
    assert "1 epochs" not in text


def test_a_schedule_tells_the_milestones_that_were_reached(make_study: MakeStudy) -> None:
    steps = {"schedule": "steps", "milestones": [1, 5, 6, 20], "gamma": 0.5}
    study = make_study(settings=Study.model_validate({"models": ["unet", "daf_net"], "optim": steps}), whole=[])
    write_epochs(study, "unet", 0, {0: 0, 1: 0, 2: 0})
    text = methods_of(read_study(study))
    assert [(found[0], found[-1]) for found in TRAINED.findall(text)] == [
        ("U-Net", "a constant schedule"),
        ("DAF-Net", "a learning rate multiplied by 0.5 after 1 and 5 epochs"),
    ]


def test_an_older_study_says_what_it_knows(make_study: MakeStudy) -> None:
    study = make_study()
    table = study.read_table(store.TRIALS_FILE)
    study.write_table(store.TRIALS_FILE, table.select([*store.TRIALS.names[:7], "optim.lr"]))
    text = methods_of(read_study(study))
    assert "Both models were trained for 6 epochs, with learning rate 0.001." in text
    assert "took 0.005 hours for U-Net and 0.005 hours for DAF-Net, added up over folds." in text
    for word in ("batches", "parameters", "arithmetic", "The loss was"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({"threshold": 0.3}, "if its probability was at least 0.3. No piece"),
        ({"keep": "largest"}, "Of each predicted mask the largest connected piece was kept."),
        ({"keep": "largest", "fill_holes": True}, "the largest connected piece was kept, and its holes were filled."),
        ({"fill_holes": True}, "Holes of predicted masks were filled, and no piece was removed."),
    ],
)
def test_how_masks_are_made(make_study: MakeStudy, evaluate: dict[str, Any], said: str) -> None:
    settings = Study.model_validate({"evaluate": evaluate, "analysis": {"target": "tumour"}})
    text = methods_of(dataclasses.replace(read_study(make_study()), settings_text=study_toml(settings)))
    assert said in text
    assert "A pixel was predicted as tumour" in text


def test_what_is_averaged(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    by_image = study_toml(Study.model_validate({"analysis": {"average": "images"}}))
    assert (
        "A model's value is the mean over folds of the mean over their patients; a patient's value is the mean over"
        in methods_of(results)
    )
    assert "A model's value is the mean over folds of the mean over their images. " in methods_of(
        dataclasses.replace(results, settings_text=by_image)
    )


def test_names_of_strata_are_written_as_within_a_sentence(make_study: MakeStudy) -> None:
    folds = PROVENANCE["folds"] | {"stratify": ["t_stage", "lesion_size"]}
    text = methods_of(read_study(make_study(provenance=PROVENANCE | {"folds": folds})))
    assert "divided into 3 folds (seed 0), balanced by T-stage and lesion size." in text


def test_epochs_of_a_winner_are_a_sentence_of_their_own(tuned: Callable[..., str]) -> None:
    text = tuned()
    assert "on all training patients of each fold. Its number of epochs is the median of those that the" in text
    assert "for the median" not in text
