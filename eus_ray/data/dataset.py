"""A study's data set: manifest, folds and arrays, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from eus_ray.config import Study
from eus_ray.data.arrays import Arrays, arrays_name, load_arrays, num_bytes
from eus_ray.data.manifest import Manifest, read_manifest
from eus_ray.data.split_solver import Ints
from eus_ray.data.splits import FoldPlan, assign_folds
from eus_ray.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Dataset:
    """A study's checked data: its settings, manifest and folds."""

    study: Study
    manifest: Manifest
    plan: FoldPlan

    @property
    def frame(self) -> pd.DataFrame:
        """Return the manifest's frame, one row an image."""
        return self.manifest.frame

    @property
    def folds(self) -> Ints:
        """Return the fold of each row of the frame `(N,)`, counted from 0."""
        return self.plan.fold

    @property
    def num_bytes(self) -> int:
        """Return how many bytes the decoded arrays take."""
        return num_bytes(self.frame, self.study.data)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Return what is odd about the data, and what to know before networks are trained on them."""
        return (*self.manifest.warnings, *self.manifest.training_warnings(self.study.analysis.target))

    def arrays(self, into: Path | None = None) -> Arrays:
        """Decode all images.

        With `into`, the arrays are memory-mapped files in that folder, which other processes open too.
        """
        name = arrays_name(self.manifest.fingerprint, self.study.data)
        return load_arrays(self.frame, self.study.data, into=into / name if into is not None else None)


def check_data(study: Study) -> Dataset:
    """Read and check the manifest, and the columns that the analysis names, and assign the folds.

    Raises:
        UserError: With one line for each defect.
    """
    if not study.data.manifest:
        raise UserError("data.manifest is not set: name the manifest in the study file")
    data = study.data
    manifest = read_manifest(Path(data.manifest), data.duplicates, study.analysis.target, data.channels)
    columns = [*map(str, manifest.frame.columns)]
    named = () if study.analysis.clinical == "auto" else study.analysis.clinical
    lines = [
        f"analysis.clinical: the manifest has no column {name}{did_you_mean(name, columns)}"
        for name in named
        if name not in columns
    ]
    if lines:
        raise UserError(*lines)
    plan = assign_folds(manifest.frame, study.folds.count, study.folds.seed, study.folds.stratify)
    return Dataset(study, manifest, plan)
