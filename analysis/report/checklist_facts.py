"""What follows from results about the topics of reporting guidelines: statements of fact, and what does not apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eus_ray import store as layout
from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.labels import METRIC_LABELS, ReportKind, column_label, in_sentence
from eus_ray.analysis.report.checklist import Fact
from eus_ray.analysis.report.recipe import listed
from eus_ray.analysis.report.results import Results

_GROUP_WORDS = {"sex", "gender", "age", "ethnicity", "race"}
_SITE_WORDS = {"site", "centre", "center", "hospital", "institution", "country", "device", "scanner"}
"""Words in the names of columns that tell groups of people, or places, apart."""
_NO_PATIENTS = "A phantom made the images: no person was examined."
_ABOUT_PATIENTS = (
    *("inequalities", "design", "dates", "sites", "eligibility", "treatments", "deidentification"),
    *("ethics", "patient_involvement"),
)
_NO_READERS = "A phantom made the masks: nobody drew them."
_ABOUT_READERS = ("readers", "blinding", "reader_agreement")
"""Topics that do not apply to synthetic data."""


def reasons(results: Results) -> dict[str, str]:
    """Return why topics do not apply to these results, by topic."""
    found = {}
    if results.synthetic:
        found = dict.fromkeys(_ABOUT_PATIENTS, _NO_PATIENTS) | dict.fromkeys(_ABOUT_READERS, _NO_READERS)
    if results.store is not None:
        found |= {
            "predictor_readers": "The networks read pixels: nobody judges them first.",
            "explanations": "An outline can be checked on the image itself; no method explains it.",
            "updating": "No model was changed after its test.",
        }
    return found


def facts(results: Results) -> dict[str, Fact]:
    """Return what follows from these results, by topic; a topic about which nothing follows is left out.

    A table of scores says nothing of how its models were made.
    """
    found = _of_data(results)
    if results.models and (metrics := paper_tables.shown_metrics(results.table2)):
        found |= _of_scores(results, metrics)
    if results.store is not None:
        found |= _of_study(results) | _of_software(results.provenance)
        if results.models:
            found |= _of_networks(results) | _of_choices(results) | _of_weights(results)
    return found


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "patient"), counted(1200, "image")
    ('1 patient', '1,200 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---- any source ---------------------------------------------------------------------------------


def _of_data(results: Results) -> dict[str, Fact]:
    """Return what the images and their clinical columns say."""
    patients = results.patients
    if patients.empty:
        return {}
    size = f"{counted(patients['patient_id'].nunique(), 'patient')} with {counted(len(patients), 'image')}"
    found = {
        "participants": Fact(f"{size}.{_with_target(results)}", "patients"),
        "missing_data": Fact(
            "Missing clinical values are counted, not filled in. A missing or undefined score is left out of its mean.",
            "patients",
        ),
    }
    names = set(paper_tables.table1(patients)["characteristic"]) - {"Patients", "Images"}
    if names:
        found["characteristics"] = Fact(
            f"{counted(len(names), 'characteristic')}{', of all folds together' if _num_folds(patients) > 1 else ''}.",
            "patients",
        )
    return found


def _num_folds(patients: pd.DataFrame) -> int:
    return patients["fold"].nunique() if "fold" in patients else 0


def _with_target(results: Results) -> str:
    """Return a sentence about how many tested images show the target; empty if no counts are known."""
    images = results.headline
    if images.empty or not {"tp", "fn"} <= set(images):
        return ""
    tested = images.drop_duplicates("image_id")
    number = int((tested["tp"] + tested["fn"] > 0).sum())
    verb = "shows" if number == 1 else "show"
    return f" Of {counted(len(tested), 'tested image')}, {number:,} {verb} the {results.target}."


def _of_scores(results: Results, metrics: list[str]) -> dict[str, Fact]:
    """Return what the scores of the models say."""
    models, has_pairs = listed(results.labels[model] for model in results.models), len(results.models) > 1
    primary = "DSC is the primary metric" if "dsc" in metrics else "DSC, the primary metric, is not among the scores"
    aim = f"To compare {models}, pair by pair" if has_pairs else f"To measure how well {models} performs"
    matters = f"; a difference below {results.analysis.margin:g} counts as too small to matter" if has_pairs else ""
    has_intervals = bool(results.table2[[f"{name}_low" for name in metrics]].notna().any(axis=None))
    number = f"{counted(len(metrics), 'metric')} of {counted(len(results.models), 'model')}"
    found = {
        "objectives": Fact(f"{aim}. {primary}{matters}.", "claims"),
        "metrics": Fact(
            f"{listed([METRIC_LABELS[name] for name in metrics])}, as {results.average_words}. {primary}.",
            "performance",
        ),
        "performance": Fact(f"{number}, {'with 95 %' if has_intervals else 'without'} intervals.", "performance"),
    }
    if has_intervals:
        tests = " Differences between models are tested over patients." if has_pairs else ""
        found["uncertainty"] = Fact(f"Patients are resampled for 95 % intervals of the means.{tests}", "performance")
    by_fold = results.headline.groupby("fold")["patient_id"].nunique()
    if len(by_fold) > 1:
        least, most = int(by_fold.min()), int(by_fold.max())
        size = f"{least:,} to {counted(most, 'patient')}" if least < most else f"{counted(most, 'patient')} each"
        found["analysed"] = Fact(f"{counted(len(by_fold), 'fold')} of {size}, with the number of images.", "folds")
        found["robustness"] = Fact("The means of each fold show how far results differ between them.", "folds")
    if {"iou", "missed", "false_alarm"} <= set(results.headline):
        found["failures"] = Fact("Images with an IoU of 0.5 or less are counted by what is wrong.", "failures")
    divisions, _ = results.divided
    for topic, words in (("fairness", _GROUP_WORDS), ("heterogeneity", _SITE_WORDS)):
        labels = [in_sentence(each.label) for each in divisions if words & set(each.column.lower().split("_"))]
        if labels:
            found[topic] = Fact(f"Scores are given by {listed(labels)}, with the number of patients.", "strata")
    return found


# ---- studies ------------------------------------------------------------------------------------


def _of_study(results: Results) -> dict[str, Fact]:
    """Return what a study's settings and provenance say of its data."""
    data, provenance = results.settings.get("data", {}), results.provenance
    found = {
        "outcome": Fact(f"The mask of the {results.target}: each pixel of an image belongs to it or not.", "methods"),
        "predictors": Fact("The pixels of one image and nothing else: no clinical column.", "methods"),
    }
    if size := data.get("image_size"):
        how = "scaled with black borders" if data.get("resize") == "pad" else "stretched"
        is_checked = provenance.get("data", {}).get("near_duplicates_within") is not None
        colour = ", in colour" if data.get("channels") == "rgb" else ""
        checked = " Before, copies of pictures were looked for." if is_checked else ""
        found["preparation"] = Fact(f"Images were {how} to {size} × {size} pixels{colour}.{checked}", "methods")
    if results.synthetic:
        found |= {
            "data_source": Fact("A phantom made the images. They stand for no patients.", "methods"),
            "subsets": Fact("Whole images: all that the phantom made for this study."),
            "acquisition": Fact("A phantom computed the images: there was no scanner."),
            "reference_standard": Fact(f"The phantom knows where the {results.target} is, so the truth is exact."),
        }
    num_folds = _num_folds(results.patients)
    if num_folds > 1:
        folds = provenance.get("folds", {})
        seed = f" (seed {folds['seed']})" if "seed" in folds else ""
        stratify = listed([in_sentence(column_label(str(name))) for name in folds.get("stratify", ())])
        strata = f", balanced by {stratify}" if stratify else ""
        found |= {
            "partitions": Fact(
                f"Whole patients were divided into {num_folds} folds{seed}{strata}. Nobody is in two of them.",
                "methods",
            ),
            "differences": Fact(
                "Training and test patients come from one set of data: only the folds tell them apart.", "methods"
            ),
        }
    return found


def _of_software(provenance: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the versions that made the numbers."""
    found = {}
    if version := provenance.get("eus_ray"):
        commit = f", commit {provenance['commit'][:12]}" if provenance.get("commit") else ""
        found["code_availability"] = Fact(f"eus-ray {version}{commit} trained and measured.", "methods")
    if versions := provenance.get("versions"):
        texts = ", ".join(f"{name} {text}" for name, text in sorted(versions.items()))
        found["software"] = Fact(f"{texts}.", "methods")
    return found


def _of_networks(results: Results) -> dict[str, Fact]:
    """Return how the reported networks of a study were trained and used."""
    models = listed(results.labels[model] for model in results.models)
    size = counted(results.headline["patient_id"].nunique(), "synthetic patient" if results.synthetic else "patient")
    evaluate = results.settings.get("evaluate", {})
    threshold = f"{evaluate.get('threshold', 0.5):g}"
    kept = ", and only the largest piece is kept" if evaluate.get("keep") == "largest" else ""
    filled = " Holes are filled." if evaluate.get("fill_holes") else ""
    flipped = " It sees the image and its mirror image." if evaluate.get("tta") == "flip" else ""
    return {
        "title": Fact(
            f"Possible: “Neural networks that outline the {results.target}: {models} in a cross-validation of {size}”."
        ),
        "models": Fact(f"{models}, with citations and settings.", "methods"),
        "training": Fact("Loss, optimiser, learning rate, epochs and augmentation are given by model.", "methods"),
        "handling": Fact("Scaling of images, and augmentation in training, are given by model.", "methods"),
        "ensembles": Fact(
            f"None is scored: each image is predicted by one network, that of its fold.{flipped}", "methods"
        ),
        "predictions": Fact("Each test image was predicted by the network that did not train on its fold.", "methods"),
        "imbalance": Fact("No image was weighted, or drawn more often than another.", "methods"),
        "output": Fact(
            f"A probability for each pixel; it is predicted from {threshold} on, which no score chose{kept}.{filled}",
            "methods",
        ),
        "internal_test": Fact("All scores are of patients whose fold the network did not train on.", "performance"),
        "limitations": Fact(" ".join(_limits(results)), "performance"),
    }


def _limits(results: Results) -> list[str]:
    """Return what limits a study for certain."""
    headline = results.headline
    sentences = {
        "All patients come from one set of data, so nothing here says how the models do elsewhere.": True,
        results.interval_note: bool(results.interval_note),
        "The data are synthetic.": results.synthetic,
        f"No image is without the {results.target}.": bool((headline["tp"] + headline["fn"] > 0).all()),
    }
    return [text for text, is_so in sentences.items() if is_so]


def _of_choices(results: Results) -> dict[str, Fact]:
    """Return how the settings of the reported models were chosen."""
    words = {
        ReportKind.FIXED: "the settings were given, and the last epoch counts",
        ReportKind.NESTED: "validation patients chose settings and epochs in each fold",
        ReportKind.WINNER: "a search chose the settings on these folds",
    }
    kinds = {model: results.kind(model) for model in results.models}
    sentences = [
        f"{listed([results.labels[model] for model in kinds if kinds[model] == kind])}: {said}."
        for kind, said in words.items()
        if kind in kinds.values()
    ]
    return {
        "selection": Fact(" ".join(sentences), "methods" if set(kinds.values()) == {ReportKind.FIXED} else "search")
    }


def _of_weights(results: Results) -> dict[str, Fact]:
    """Return what the weights of the reported networks were at first, and where they are, as far as this is known."""
    efforts, found = list(results.efforts.values()), {}
    is_told = all({"model.width", "model.encoder"} & settings.keys() for each in efforts for settings in each.settings)
    if efforts and is_told and not any(each.is_foreign for each in efforts):
        trained = [each.label for each in efforts if each.pretrained]
        text = f"The encoder of {listed(trained)} began from trained weights. All other" if trained else "All"
        found["initialisation"] = Fact(f"{text} weights were random.", "methods")
    there = set(results.store.names("checkpoints")) if results.store is not None else set()
    wanted = {
        layout.checkpoint_name(each.model, trial, fold)
        for each in efforts
        for fold, trial in zip(each.folds, each.trials, strict=True)
    }
    if wanted and wanted <= there:
        found["specification"] = Fact("The weights of each fold’s network are in the study folder.", "methods")
    return found
