"""A search in a study folder as `eus-ray tune` writes it, with scores that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from eus_ray import store
from eus_ray.config import Study
from eus_ray.metrics import counts, quantise
from eus_ray.store import PartKey, Store, TrialKind, TrialState
from eus_ray.study.trials import settings_row

EPOCHS = 6
DIMENSIONS = [
    {"name": "optim.lr", "kind": "log_float", "low": 1e-5, "high": 1e-1, "step": None, "choices": [], "when": {}},
    {"name": "optim.schedule", "kind": "choice", "low": 0.0, "high": 0.0, "step": None, "when": {}}
    | {"choices": ["steps", "one_cycle"]},
    {"name": "optim.gamma", "kind": "float", "low": 0.01, "high": 0.5, "step": None, "choices": []}
    | {"when": {"optim.schedule": ["steps"]}},
    {"name": "optim.milestones", "kind": "choice", "low": 0.0, "high": 0.0, "step": None}
    | {"choices": [[5, 20], [10, 30]], "when": {"optim.schedule": ["steps"]}},
    {"name": "train.batch_size", "kind": "int", "low": 4, "high": 32, "step": 4, "choices": [], "when": {}},
]


def trial_row(
    model: str, number: int, state: str = TrialState.COMPLETE, kind: str = TrialKind.TRIAL, **changes: Any
) -> dict[str, Any]:
    """Return a row of `trials.parquet`."""
    row: dict[str, Any] = {"model": model, "kind": str(kind), "trial": number, "state": str(state), "reason": ""}
    row |= {"folds_done": 3, "value": 0.7} | settings_row(Study().for_model(model)) | {"train.epochs": EPOCHS}
    row |= {"optim.lr": 1e-3, "optim.schedule": "steps" if number % 2 else "one_cycle", "optim.gamma": 0.1}
    return row | {"optim.milestones": "[5, 20]", "train.batch_size": 4 * (1 + number % 3)} | changes


def write_search(study: Store, model: str, rows: Sequence[Mapping[str, Any]], **changes: Any) -> None:
    """Write the rules of a search, and add its rows to `trials.parquet`."""
    numbers = [row["trial"] for row in rows if row["kind"] == TrialKind.TRIAL]
    said = {"protocol": "nested", "metric": "dsc", "scheduler": "racing", "racing_alpha": 0.05, "sampler": "tpe"}
    said |= {"seed": 0, "first_trial": min(numbers, default=0), "trials": len(numbers), "default_trial": None}
    said |= {"paper_trial": None, "space": {"source": "a file", "paper": {}, "dimensions": DIMENSIONS}}
    study.write_json(store.search_name(model), said | changes)
    before = store.read_trials(study).to_dict("records")
    store.write_trials(study, [*before, *rows])


def write_scores(
    study: Store,
    model: str,
    trial: int,
    test: Mapping[str, float],
    validation: Mapping[int, Mapping[str, float]],
    folds: Sequence[int] | None = None,
) -> None:
    """Write counts of one trial that give a DSC by patient: on `test`, and on each fold's `validation`.

    If a patient has two images, the first has .04 more and the second .04 less. Each fold has another chosen epoch;
    validation scores of the other epochs are wrong.
    """
    manifest = store.read_manifest(study)
    for fold in sorted(manifest["fold"].unique()) if folds is None else folds:
        chosen = 1 + int(fold)
        rows = []
        for patient, mine in manifest.groupby("patient_id"):
            offsets = [0.04, -0.04] if len(mine) == 2 else [0.0] * len(mine)
            for image, fold_of, offset in zip(mine["image_id"], mine["fold"], offsets, strict=True):
                key = {"image_id": image, "patient_id": patient}
                if fold_of == fold and patient in test:
                    rows.append(key | {"split": "test", "epoch": chosen} | _counts(test[patient] + offset))
                if patient in validation.get(int(fold), {}):
                    score = validation[int(fold)][patient] + offset
                    rows += [
                        key | {"split": "validation", "epoch": e} | _counts(score if e == chosen else 1 - score)
                        for e in range(EPOCHS)
                    ]
        key = {"model": model, "trial": trial, "repeat": 0, "fold": int(fold)}
        study.write_part(
            "scores", PartKey(model, trial, 0, int(fold)), pa.Table.from_pylist([key | r for r in rows], store.SCORES)
        )


def _counts(dsc: float) -> dict[str, int]:
    """Return counts that give a DSC, to four decimals."""
    tp = round(10_000 * dsc)
    return {"tp": tp, "fp": 10_000 - tp, "fn": 10_000 - tp, "tn": 50_000}


def write_predictions(
    study: Store, model: str, trial: int, fold: int, probabilities: Mapping[str, np.ndarray], truths: Mapping[str, Any]
) -> None:
    """Write predictions of a fold's test images, and replace its test rows of `scores` by theirs."""
    manifest = store.read_manifest(study)
    mine = manifest[manifest["fold"] == fold]
    key = {"model": model, "trial": trial, "repeat": 0, "fold": fold}
    rows, counted = [], []
    for image, patient in zip(mine["image_id"], mine["patient_id"], strict=True):
        level = quantise(probabilities[image])
        tp, fp, fn, tn = counts(level >= 32768, truths[image]).tolist()
        size = {"height": level.shape[0], "width": level.shape[1]}
        rows.append(key | {"image_id": image} | size | {"probability": level.ravel()})
        ids = {"epoch": 1 + fold, "image_id": image, "patient_id": patient, "split": "test"}
        counted.append(key | ids | {"tp": tp, "fp": fp, "fn": fn, "tn": tn})
    others = [
        row for row in study.read_part("scores", PartKey(model, trial, 0, fold)).to_pylist() if row["split"] != "test"
    ]
    study.write_part("scores", PartKey(model, trial, 0, fold), pa.Table.from_pylist(others + counted, store.SCORES))
    study.write_part("predictions", PartKey(model, trial, 0, fold), pa.Table.from_pylist(rows, store.PREDICTIONS))


def example_search(study: Store, manifest: pd.DataFrame, truths: Mapping[str, np.ndarray], **changes: Any) -> None:
    """Write a nested search of unet beside a fixed trial 0: trials 1 to 4 (3 is pruned) and the winner, 5.

    Folds 0 and 2 choose trial 2, fold 1 chooses trial 4; trial 2 is best as found. A trial's predictions are the truth
    moved by as many pixels as the trial's number. They are kept for the fold winners and the winner.
    """
    rows = [
        trial_row("unet", 1, value=0.60),
        trial_row("unet", 2, value=0.80, **{"optim.lr": 0.01}),
        trial_row(
            "unet", 3, TrialState.PRUNED, value=0.5, folds_done=1, reason="plainly worse than trial 2 on 3 patients"
        ),
        trial_row("unet", 4, value=0.75),
        trial_row("unet", 5, kind=TrialKind.WINNER, value=None, **{"optim.lr": 0.01}),
    ]
    write_search(study, "unet", rows, **({"default_trial": 1} | changes))
    levels = {1: (0.6, 0.6, 0.6), 2: (0.9, 0.6, 0.9), 3: (0.5, 0.5, 0.5), 4: (0.7, 0.85, 0.7)}
    kept = {1: (), 2: (0, 2), 3: (), 4: (1,), 5: (0, 1, 2)}
    in_fold = dict(zip(manifest["patient_id"], manifest["fold"], strict=True))
    for trial, folds in kept.items():
        for fold in range(1 if trial == 3 else 3):
            if trial in levels:
                others = {patient: levels[trial][fold] for patient, test_fold in in_fold.items() if test_fold != fold}
                write_scores(study, "unet", trial, {}, {fold: others}, [fold])
            moved = {image: np.roll(truth, trial, 0).astype(np.float32) for image, truth in truths.items()}
            write_predictions(study, "unet", trial, fold, moved, truths)
            if fold not in folds:
                study.delete(store.part_name("predictions", PartKey("unet", trial, 0, fold)))
