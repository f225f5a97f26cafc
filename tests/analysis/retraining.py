"""Change how the models of an example study were trained."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eus_ray import store as layout
from eus_ray.store import PartKey, Store


def change_rows(study: Store, model: str, **changes: Any) -> None:
    """Change fields of all rows of a model in `trials.parquet`; `__` in a name is a dot."""
    rows = layout.read_trials(study).to_dict("records")
    new = {name.replace("__", "."): value for name, value in changes.items()}
    layout.write_trials(study, [row | (new if row["model"] == model else {}) for row in rows])


def write_epochs(study: Store, model: str, trial: int, last: dict[int, int], seconds: float = 1.0) -> None:
    """Write epochs of some folds up to the last one, and a test row after it."""
    for fold, end in last.items():
        row = {"model": model, "trial": trial, "repeat": 0, "fold": fold, "loss": 0.5, "dsc": 0.5, "lr": 0.1}
        splits = [(epoch, "train") for epoch in range(end + 1)] + [(end, "test")]
        rows = [row | {"epoch": epoch, "split": split, "seconds": seconds} for epoch, split in splits]
        study.write_part("epochs", PartKey(model, trial, 0, fold), pa.Table.from_pylist(rows, layout.EPOCHS))
