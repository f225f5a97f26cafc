"""A small study folder as training writes it: 2 models, 3 folds, 12 images of 8 patients, 48 x 64 pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eus_ray import metrics, store
from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.figures import style
from eus_ray.config import Study
from eus_ray.config_file import study_toml
from eus_ray.store import PartKey, Store, TrialKey, TrialKind, TrialState
from eus_ray.study.trials import settings_row

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.analysis.browsing import Opened

HEIGHT, WIDTH = 48, 64
MODELS = ("unet", "daf_net")
PATIENTS = ["A", "A", "B", "B", "C", "C", "D", "E", "F", "F", "G", "H"]
FOLDS = dict(zip("ABCDEFGH", [0, 0, 1, 1, 1, 2, 2, 2], strict=True))
NO_LESION = {"i06", "i11"}
"""Images whose truth is empty; unet raises a false alarm in i06, both find nothing in i11."""
MISSED = ("unet", "i03")


def disc(row: float, column: float, radius: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def example_manifest() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"i{index:02d}" for index in range(len(PATIENTS))],
            "patient_id": PATIENTS,
            "fold": [FOLDS[patient] for patient in PATIENTS],
            "t_stage": ["T2", "T2", "T1", "T1", "T3", "T3", "T2", "T2", "T1", "T1", None, "T2"],
            "age": [71.0, 71, 40, 40, 94, 94, 63, 68, 55, 55, 80, 77],
            "sex": [
                "male",
                "male",
                "female",
                "female",
                "male",
                "male",
                "male",
                "female",
                "male",
                "male",
                "male",
                "female",
            ],
        }
    )


def example_truths() -> dict[str, np.ndarray]:
    truths = {}
    for index, image_id in enumerate(example_manifest()["image_id"]):
        lesion = disc(20 + index % 5, 24 + 2 * (index % 7), 8 + index % 4)
        truths[image_id] = np.zeros_like(lesion) if image_id in NO_LESION else lesion
    return truths


def example_probabilities(truths: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Return masks moved by a few pixels for unet and by one for daf_net, with smooth probabilities."""
    rng = np.random.default_rng(0)
    probabilities = {}
    for (place, model), (image_id, truth) in ((m, t) for m in enumerate(MODELS) for t in truths.items()):
        shift = (3 - 2 * place) * rng.choice([-1, 1], 2)
        found = np.roll(truth, tuple(shift), (0, 1))
        if (model, image_id) == MISSED:
            found = np.zeros_like(truth)
        if (model, image_id) == ("unet", "i06"):
            found = disc(10, 10, 3)
        probability = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 1.0) * 0.95
        probabilities[model, image_id] = np.clip(probability + rng.uniform(0, 0.02, truth.shape), 0, 1)
    return probabilities


def write_study(
    folder: Path,
    manifest: pd.DataFrame,
    truths: dict[str, np.ndarray],
    images: dict[str, np.ndarray],
    probabilities: dict[tuple[str, str], np.ndarray],
    *,
    models: Iterable[str] = (),
    settings: Study | None = None,
    provenance: dict[str, Any] | None = None,
    spacing: tuple[float, float] = (float("nan"), float("nan")),
    state: str = TrialState.COMPLETE,
    kind: str = TrialKind.FIXED,
    epochs: int = 6,
    whole: Iterable[str] = (),
) -> Store:
    """Write a study folder with one trial per model; models in `whole` have one file per table."""
    study = Store(folder)
    models = list(models or dict.fromkeys(model for model, _ in probabilities))
    settings = settings or Study(models=models)
    study.write_text(store.STUDY, study_toml(settings))
    if provenance is not None:
        study.write_json(store.PROVENANCE, provenance)
    study.write_frame(store.MANIFEST, manifest)
    study.write_table(store.CASES_FILE, _cases(manifest, truths, images, spacing))
    store.write_trials(study, [_trial(model, kind, state, manifest, settings, epochs) for model in models])
    for model in models:
        folds = sorted(manifest["fold"].unique())
        for fold in folds:
            mine = [
                image for image in manifest.loc[manifest["fold"] == fold, "image_id"] if (model, image) in probabilities
            ]
            key = {"model": model, "trial": 0, "repeat": 0, "fold": int(fold)}
            rng = np.random.default_rng([len(model), fold])
            curve = 0.3 + 0.6 * np.exp(-np.arange(epochs) / 2.0) + rng.normal(0, 0.01, epochs)
            rows = [
                {**key, "epoch": epoch, "split": "train", "loss": loss, "dsc": 1 - loss, "lr": 0.001, "seconds": 1.0}
                for epoch, loss in enumerate(curve)
            ]
            study.write_part("epochs", PartKey(model, 0, 0, fold), pa.Table.from_pylist(rows, store.EPOCHS))
            if not mine:
                continue
            levels = {image: metrics.quantise(probabilities[model, image]) for image in mine}
            patient = dict(zip(manifest["image_id"], manifest["patient_id"], strict=True))
            counted = []
            for image, level in levels.items():
                how = settings.evaluate
                found = metrics.predicted_mask(level, how.threshold, how.keep, how.fill_holes)
                tp, fp, fn, tn = metrics.counts(found, truths[image]).tolist()
                counted.append(
                    {**key, "epoch": epochs - 1, "image_id": image, "patient_id": patient[image], "split": "test"}
                    | {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
                )
            study.write_part("scores", PartKey(model, 0, 0, fold), pa.Table.from_pylist(counted, store.SCORES))
            predicted = [
                {
                    **key,
                    "image_id": image,
                    "height": level.shape[0],
                    "width": level.shape[1],
                    "probability": level.ravel(),
                }
                for image, level in levels.items()
            ]
            study.write_part(
                "predictions", PartKey(model, 0, 0, fold), pa.Table.from_pylist(predicted, store.PREDICTIONS)
            )
        if model in whole:
            study.finish_trial(TrialKey(model, 0), len(folds))
    return study


def _cases(
    manifest: pd.DataFrame, truths: dict[str, np.ndarray], images: dict[str, np.ndarray], spacing: tuple[float, float]
) -> pa.Table:
    def png(pixels: np.ndarray) -> bytes:
        return cv2.imencode(".png", pixels)[1].tobytes()

    rows = []
    for image in manifest["image_id"]:
        height, width = truths[image].shape
        rows.append(
            {"image_id": image, "height": height, "width": width, "image": png(images[image])}
            | {"truth": png(truths[image].astype(np.uint8) * 255), "spacing_row": spacing[0], "spacing_col": spacing[1]}
        )
    return pa.Table.from_pylist(rows, store.CASES)


def _trial(model: str, kind: str, state: str, manifest: pd.DataFrame, settings: Study, epochs: int) -> dict[str, Any]:
    folds = manifest["fold"].nunique()
    row = {"model": model, "kind": str(kind), "trial": 0, "state": str(state), "reason": "", "folds_done": folds}
    return row | {"value": 0.8} | settings_row(settings.for_model(model)) | {"train.epochs": epochs}


PROVENANCE = {
    "eus_ray": "0.1.0",
    "versions": {"torch": "2.14.1", "numpy": "2.4.6"},
    "started": "2026-01-02T03:04:05+00:00",
    "commit": "0123abc",
    "data": {
        "fingerprint": "f" * 64,
        "images": 12,
        "patients": 8,
        "synthetic": True,
        "manifest": "manifest.csv",
        "near_duplicates_within": 0,
    },
    "folds": {"count": 3, "seed": 0, "stratify": ["t_stage"]},
    "hardware": {"cpu": "a processor", "gpus": []},
}


@pytest.fixture
def example() -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """Return manifest, truths by image_id, and probabilities by model and image_id of the example study."""
    truths = example_truths()
    return example_manifest(), truths, example_probabilities(truths)


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Store]:
    """Return `make_study(**changes)`, which writes the example study with changed arguments of `write_study`."""

    def make(folder: str = "study", without: Iterable[tuple[str, int]] = (), **changes: Any) -> Store:
        """Leave out the test predictions of the (model, fold) pairs in `without`."""
        manifest, truths = example_manifest(), example_truths()
        rng = np.random.default_rng(1)
        given: dict[str, Any] = {
            "manifest": manifest,
            "truths": truths,
            "images": {name: rng.integers(20, 180, truth.shape).astype(np.uint8) for name, truth in truths.items()},
            "probabilities": example_probabilities(truths),
            "models": MODELS,
            "provenance": PROVENANCE,
            "whole": ["unet"],
        } | changes
        fold = dict(zip(given["manifest"]["image_id"], given["manifest"]["fold"], strict=True))
        given["probabilities"] = {
            (model, image): value
            for (model, image), value in given["probabilities"].items()
            if (model, fold[image]) not in list(without)
        }
        return write_study(tmp_path / folder, **given)

    return make


VARIANTS = Study.model_validate(
    {
        "models": ["unet", "daf_small", "daf_trained", "nested", "ours"],
        "only": {
            "daf_small": {"model.arch": "daf_net", "model.encoder": "resnet18", "model.label": "DAF small"},
            "daf_trained": {
                "model.arch": "daf_net",
                "model.encoder": "resnet18",
                "model.pretrained": True,
                "model.label": "DAF trained",
                "optim.encoder_lr_factor": 0.1,
                "train.freeze_encoder_epochs": 2,
            },
            "nested": {"model.arch": "smp:UnetPlusPlus", "model.encoder": "resnet34", "model.label": "U-Net++"},
            "ours": {"model.arch": "ourlab.nets:BoundaryNet", "model.args": {"depth": 5, "mode": "thin"}},
        },
    }
)
"""A study of variants: two of one architecture, one of SMP, and the authors' own without a label."""
NETWORKS = {
    "nested": {"arch": "smp:UnetPlusPlus", "module": "segmentation_models_pytorch", "version": "0.6.0", "sha256": None},
    "ours": {
        "arch": "ourlab.nets:BoundaryNet",
        "module": "ourlab.nets",
        "version": "1.2",
        "sha256": "0123456789ab" * 5,
    },
}


@pytest.fixture
def variants(make_study: Callable[..., Store]) -> Store:
    """Return the study folder of `VARIANTS`: the predictions of every other model are those of unet or of daf_net."""
    given = example_probabilities(example_truths())
    probabilities = {
        (model, image): given[MODELS[place % 2], image]
        for place, model in enumerate(VARIANTS.models)
        for image in example_truths()
    }
    provenance = PROVENANCE | {"networks": NETWORKS}
    return make_study(
        models=VARIANTS.models, settings=VARIANTS, probabilities=probabilities, provenance=provenance, whole=[]
    )


# ---- in a browser -------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="300"/>'
PNG = cv2.imencode(".png", np.zeros((30, 70, 3), np.uint8))[1].tobytes()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace figures by empty ones: they have tests of their own and take most of an analysis' time."""
    leave_out_figures(monkeypatch)


def leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    """Replace the files of every figure by empty ones."""
    patch.setattr(style, "files", lambda name, _figure: dict(zip(style.names(name), (SVG, PNG), strict=True)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the installed Chromium, once per module: playwright's loop must not outlive the tests that need it."""
    from playwright.sync_api import sync_playwright  # for these tests alone

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of 30 images with markup in names, and its report without figures."""
    from tests.analysis.browsing import write_thirty

    folder = tmp_path_factory.mktemp("thirty") / "study"
    study = write_thirty(folder)
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        analyze(study.location)
    return folder


@pytest.fixture
def opened(browser: Browser, thirty: Path) -> Iterator[Opened]:
    """Open its report in the browser; the console must be silent at the end of the test."""
    from tests.analysis.browsing import Opened

    shown = Opened(browser, thirty / "report/report.html")
    yield shown
    shown.finish()
