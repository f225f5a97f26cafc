"""A model is not its architecture: what a report prints, and says of each, if models are variants."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from eus_ray import store as layout
from eus_ray.analysis.analyze import report_files
from eus_ray.analysis.figures import style
from eus_ray.analysis.inputs.settings import read_labels
from eus_ray.analysis.labels import Labels
from eus_ray.analysis.report.recipe import settings_table
from eus_ray.analysis.report.results import read_study
from eus_ray.analysis.report.sections import methods
from eus_ray.config import LATER
from eus_ray.store import Store
from tests.analysis.conftest import PNG, SVG, VARIANTS
from tests.analysis.retraining import change_rows
from tests.analysis.test_analyze import Page

NAMES = re.compile(r"\b(daf_small|daf_trained)\b")
"""Names that are never printed: their models have labels."""


def methods_of(study: Store) -> str:
    section = methods.build(read_study(study))
    assert section is not None
    return Page(str(section.body)).text


def test_labels_are_printed_and_names_stay_in_tables(variants: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: set[str] = set()

    def keep_texts(name: str, figure: Figure) -> dict[str, bytes]:
        drawn.update(text.get_text() for text in figure.findobj(Text))
        return dict(zip(style.names(name), (SVG, PNG), strict=True))

    monkeypatch.setattr(style, "files", keep_texts)
    files = report_files(read_study(variants), warn=lambda _line: None)
    html, rest = files["report.html"].decode(), Page(files["report.html"].decode())
    printed, _, study_file = rest.text.partition("Study file of the first run")
    assert NAMES.search(study_file)
    for text in (printed, *rest.values("alt"), *drawn, files["table2.tex"].decode()):
        assert not NAMES.search(text), text
    assert not NAMES.search(" ".join(rest.values("aria-label")))
    assert {"DAF small", "DAF trained", "U-Net++", "ours"} <= drawn
    assert all("DAF trained" in alt for alt in rest.values("alt") if "U-Net" in alt)
    assert html.count("DAF trained") > 50
    for name, data in files.items():
        if name.endswith(".csv"):
            table = pd.read_csv(io.BytesIO(data))
            named = table[[column for column in ("model", "model_a", "model_b", "better") if column in table]]
            assert set(named.melt()["value"].dropna()) <= {*VARIANTS.models, "baseline"}, name
    assert b"daf_trained" in files["table2.csv"]


def test_equal_labels_have_the_names_beside() -> None:
    labels = Labels.of({"a": "Ours", "b": "Ours", "unet": "", "c": "", "d": "U-Net"})
    assert [labels[name] for name in "abcd"] == ["Ours (a)", "Ours (b)", "c", "U-Net (d)"]
    assert labels["unet"] == "U-Net (unet)"
    assert labels["baseline"] == "Fixed mask (baseline)"


def test_the_study_file_names_a_model_that_has_not_begun(variants: Store) -> None:
    trials = layout.read_trials(variants)
    layout.write_trials(variants, trials[trials["model"] != "daf_trained"].to_dict("records"))
    assert "DAF trained: not started" in read_study(variants).unfinished


def test_the_last_trial_says_the_label(variants: Store) -> None:
    change_rows(variants, "daf_small", model__label="Renamed")
    labels = read_labels(variants, layout.read_trials(variants))
    assert (labels["daf_small"], labels["daf_trained"]) == ("Renamed", "DAF trained")


def test_methods_describe_each_architecture_once(variants: Store) -> None:
    text = methods_of(variants)
    for said in (
        "The models were U-Net (Ronneberger et al., 2015), DAF small, DAF trained, U-Net++ and ours. "
        "The network of DAF small and DAF trained was DAF-Net (Wang et al., 2018; Seo et al., 2022).",
        "The network of U-Net++ was the decoder UnetPlusPlus (Zhou et al., 2018) of segmentation_models_pytorch 0.6.0 "
        "(Iakubovskii, 2019).",
        "The network of ours was the authors' own code: BoundaryNet of the module ourlab.nets 1.2 (SHA-256 of its "
        "file: 0123456789ab…).",
        "DAF small had 64 channels in its decoder and the encoder resnet18 (Wightman, 2019), begun from random "
        "weights. DAF trained had 64 channels in its decoder and the encoder resnet18 (Wightman, 2019), begun from "
        "published weights.",
        "U-Net++ had the encoder resnet34, begun from random weights.",
        "ours had the arguments depth = 5 and mode = thin.",
        "DAF trained was trained for 6 epochs in batches of 16, with AdamW, learning rate 0.001 (0.1 times that in "
        "the encoder), weight decay 0.01 and a one-cycle schedule, with the encoder left as it was for the first 2 "
        "epochs.",
        "For DAF small and DAF trained it was added up over single-layer features (weight 1) and single images",
        "For ours it was added up over the output and, if there are any, auxiliary outputs (weight 0.4 of their mean).",
        "they differ in encoder, pretraining, learning rate of the encoder and epochs in which the encoder stays.",
        "A claim about two models of one architecture is never about architectures",
        "Network of U-Net++ arch smp:UnetPlusPlus, module segmentation_models_pytorch, version 0.6.0 ",
        f"Network of ours arch ourlab.nets:BoundaryNet, module ourlab.nets, sha256 {'0123456789ab' * 5}, version 1.2",
    ):
        assert said in text, said
    assert "resnext101" not in text.partition("All settings")[0]  # the authors' own code may not use it


def test_models_of_one_architecture_that_are_alike_share_a_sentence(variants: Store) -> None:
    change_rows(variants, "daf_trained", model__pretrained=False)
    assert (
        "DAF small and DAF trained had 64 channels in their decoder and the encoder resnet18 (Wightman, 2019), begun "
        "from random weights." in methods_of(variants)
    )


def test_all_settings_say_the_architecture_of_a_variant(variants: Store) -> None:
    own = settings_table(list(read_study(variants).efforts.values()))["own"]
    archs = {each["label"]: [row["text"] for row in each["rows"] if row["name"] == "model.arch"] for each in own}
    assert archs["DAF small"] == ["daf_net"]
    assert archs["U-Net"] == []
    assert not [row for each in own for row in each["rows"] if row["name"] == "model.label"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "scaling by 0.9, 1 or 1.1 and flips (probability 0.5)."),
        ({"brightness": 0.3}, "changes of brightness by up to 20 % of the full range (probability 0.3)."),
        ({"contrast": 0.3}, "changes of contrast by factors of 0.8 to 1.2 (probability 0.3)."),
        ({"gamma": 0.3}, "gamma curves with exponents of 0.667 to 1.5 (probability 0.3)."),
        ({"blur": 0.1}, "Gaussian blur with σ of up to 1 pixel (probability 0.1)."),
        ({"noise": 0.1}, "added noise with an SD of up to 5 % of the full range (probability 0.1)."),
        ({"speckle": 0.1}, "multiplied noise (speckle) with an SD of up to 0.2 (probability 0.1)."),
        ({"downscale": 0.1}, "lower resolution, down to a factor of 0.5 (probability 0.1)."),
        ({"occlusion": 0.1}, "black rectangles with sides of up to 20 % of the image's (probability 0.1)."),
    ],
)
def test_changes_of_training_images_are_told(
    make_study: Callable[..., Store], changes: dict[str, float], said: str
) -> None:
    study = make_study()
    for model in ("unet", "daf_net"):
        change_rows(study, model, **{f"augment__{name}_probability": value for name, value in changes.items()})
    text = methods_of(study)
    assert said in text, text
    assert text.count("(probability") == 1 + len(changes)


def test_colour_and_mirror_images_are_told(make_study: Callable[..., Store]) -> None:
    plain = methods_of(make_study("plain"))
    assert "in colour" not in plain
    assert "mirror" not in plain
    study = make_study()
    text = study.read_text(layout.STUDY).replace('channels = "gray"', 'channels = "rgb"')
    study.write_text(layout.STUDY, text.replace('tta = "none"', 'tta = "flip"'))
    told = methods_of(study)
    assert "squares of 256 × 256 pixels, in colour." in told
    assert "A probability was the mean of those that a network gives for the image and for its mirror image" in told


def test_a_study_without_the_columns_is_read_as_ever(make_study: Callable[..., Store]) -> None:
    def old(trials: pd.DataFrame) -> list[dict[str, Any]]:
        later = [name for name in ("model.arch", "model.label", "augment.preset", *LATER) if name in trials]
        assert len(later) > 15
        return trials.drop(columns=later).to_dict("records")

    study = make_study()
    now = methods_of(study).partition(" Provenance and versions ")[0]
    layout.write_trials(study, old(layout.read_trials(study)))
    assert methods_of(study).partition(" Provenance and versions ")[0] == now
    efforts = read_study(study).efforts
    assert [(each.arch, each.label) for each in efforts.values()] == [("unet", "U-Net"), ("daf_net", "DAF-Net")]


def test_others_code_is_built_with_what_is_set(variants: Store) -> None:
    change_rows(variants, "ours", model__width=32, model__pretrained=True)
    text = methods_of(variants)
    assert "ours had the arguments width = 32, pretrained = True, depth = 5 and mode = thin." in text


def test_the_hash_of_another_architecture_is_not_told(variants: Store) -> None:
    change_rows(variants, "ours", model__arch="ourlab.nets:Other")
    text = methods_of(variants)
    assert "The network of ours was the authors' own code: Other of the module ourlab.nets." in text
