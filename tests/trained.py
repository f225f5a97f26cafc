"""A study that is trained in a second by `fold.py` alone, and what predictions are tested with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from eus_ray.config import Study
from eus_ray.data.dataset import check_data
from eus_ray.data.io.images import read_mask
from eus_ray.store import PARTS, PartKey, Store, checkpoint_name, write_trials
from eus_ray.study.prepare import write_study
from eus_ray.study.trials import settings_row
from eus_ray.training.determinism import prepare_process
from eus_ray.training.fold import Fold, FoldData
from eus_ray.training.records import Record
from tests.helpers import light_study

CPU = torch.device("cpu")
HEIGHT, WIDTH = 40, 56
ROW_MM, COL_MM = 0.2, 0.1


def write_images(folder: Path, count: int = 10) -> Path:
    """The manifest of dark discs on a noisy ground, 40 x 56 pixels, two images a patient: gray, 16-bit and colour."""
    random = np.random.default_rng(7)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    table = []
    for index in range(count):
        row, column = random.uniform(12, 28), random.uniform(16, 40)
        mask = (rows - row) ** 2 + (columns - column) ** 2 < 81
        gray = np.clip(random.normal(150, 25, mask.shape) - 90 * mask, 0, 255)
        pixels = gray.astype(np.uint8)
        if index % 5 == 1:
            pixels = (gray * 17).astype(np.uint16)
        if index % 5 == 2:
            pixels = np.dstack([pixels, pixels // 2, pixels])
        cv2.imwrite(str(folder / f"images/i{index}.png"), pixels)
        cv2.imwrite(str(folder / f"masks/i{index}.png"), mask * np.uint8(255))
        patient = f"p{index // 2}"
        table.append({"image": f"images/i{index}.png", "mask": f"masks/i{index}.png", "patient_id": patient})
    frame = pd.DataFrame(table).assign(spacing_row_mm=ROW_MM, spacing_col_mm=COL_MM)
    frame.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def train_study(folder: Path, study: Study) -> Store:
    """A study folder in which every model of the study is trained to its end, as kind `fixed`, trial 0."""
    dataset, store, threads = check_data(study), Store(folder), torch.get_num_threads()
    arrays = dataset.arrays()
    write_study(store, dataset, arrays)
    truths = [read_mask(path) for path in dataset.frame["mask"]]
    trials = []
    for model in study.models:
        settings = study.for_model(model)
        prepare_process(settings, CPU)
        for number in range(study.folds.count):
            data = FoldData(
                fold=number,
                images=arrays.images,
                masks=arrays.masks,
                train=np.flatnonzero(dataset.folds != number),
                test=np.flatnonzero(dataset.folds == number),
                image_ids=dataset.frame["image_id"].tolist(),
                patient_ids=dataset.frame["patient_id"].tolist(),
                truth_of=truths.__getitem__ if study.evaluate.grid == "original" else None,
            )
            fold, record = Fold(settings, data, CPU), Record()
            while not fold.is_finished:
                record.epochs.append(fold.train_epoch())
            record.epochs.append(fold.evaluate(record))
            store.write_bytes(checkpoint_name(model, 0, number), fold.state())
            key = {"model": model, "trial": 0, "repeat": 0, "fold": number}
            for table, schema in PARTS.items():
                rows = [key | row for row in getattr(record, table)]
                store.write_part(table, PartKey(model, 0, 0, number), pa.Table.from_pylist(rows, schema=schema))
        trials.append(trial_row(model, "fixed", 0, settings))
    write_trials(store, trials)
    torch.set_num_threads(threads)
    return store


def trial_row(model: str, kind: str, trial: int, settings: Study, state: str = "complete") -> dict[str, object]:
    """A row of `trials.parquet`."""
    row = {"model": model, "kind": kind, "trial": trial, "state": state, "reason": "", "value": 0.5}
    return row | {"folds_done": settings.folds.count} | settings_row(settings)


def trained_unet(folder: Path) -> Path:
    """A study of U-Net on 32 x 32 pixels, 2 folds, batches of 4; its images are in `images` beside it."""
    settings = light_study(write_images(folder / "images"), "folds.count=2", "train.epochs=1")
    return Path(train_study(folder / "study", settings).root)


# ---- predictions ------------------------------------------------------------------------------------


@dataclass
class DarkIsLesion:
    """Two networks for which p = 1 - gray / 255; they remember the sizes of their batches."""

    batches: list[int] = field(default_factory=list)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (32, 32)
        self.batches.append(len(images))
        return two_alike((1 - images / 255).astype(np.float32))


def two_alike(maps: np.ndarray) -> np.ndarray:
    """What an ensemble of two networks that say the same gives, `(2, B, S, S)`."""
    return np.stack([maps, maps])


def white(height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width), 255, np.uint8)


def written(out: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    """A file's pixels in its own depth."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
