"""How even the folds are, beside scikit-learn's StratifiedGroupKFold on the same patients."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from eus_ray.data.manifest import read_manifest
from eus_ray.data.splits import assign_folds
from tests.benchmarks.data import busbra, phantom

COUNT = 5


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sets = [("phantom", phantom(Path(folder)), ["t_stage", "location"])]
        if (manifest := busbra()) is not None:
            sets.append(("BUS-BRA", manifest, ["pathology"]))
        rows = []
        for name, manifest, strata in sets:
            frame = read_manifest(manifest).frame
            started = time.perf_counter()
            ours = assign_folds(frame, COUNT, 0, strata).fold
            seconds = time.perf_counter() - started
            label = frame[strata].astype(str).agg("|".join, axis=1)
            theirs = np.empty(len(frame), dtype=int)
            splitter = StratifiedGroupKFold(COUNT, shuffle=True, random_state=0)
            for fold, (_, test) in enumerate(splitter.split(frame, label, frame["patient_id"])):
                theirs[test] = fold
            rows += [spread(f"{name}, eus-ray ({seconds:.1f} s)", frame, ours, strata)]
            rows += [spread(f"{name}, StratifiedGroupKFold", frame, theirs, strata)]
    print("\nFolds: smallest to largest number in a fold; strata: largest distance of a fold's patients from its share")
    print(pd.DataFrame(rows).to_string(index=False))


def spread(name: str, frame: pd.DataFrame, fold: np.ndarray, strata: list[str]) -> dict[str, str]:
    """Return one row: patients and images a fold, and how far each column's strata are from even."""
    patients = frame.assign(fold=fold).groupby("patient_id").first()
    counts = patients["fold"].value_counts()
    images = pd.Series(fold).value_counts()
    row = {"folds of": name, "patients": f"{counts.min()}-{counts.max()}", "images": f"{images.min()}-{images.max()}"}
    for column in strata:
        table = pd.crosstab(patients[column], patients["fold"])
        row[column] = f"{(table.sub(table.sum(axis=1) / COUNT, axis=0)).abs().to_numpy().max():.1f}"
    return row
