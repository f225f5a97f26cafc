"""A cross-validation as it travels to its workers.

Nothing here loads PyTorch: the processes that only wait for workers do without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from eus_ray import store as names
from eus_ray.config import Order, Study
from eus_ray.config_file import with_settings
from eus_ray.data.io.images import decode
from eus_ray.distributed.shared_code import NO_CODE, SharedCode
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey, TrialKind

if TYPE_CHECKING:
    from eus_ray.distributed.shared_arrays import SharedArrays
    from eus_ray.training.fold import FoldData


@dataclass(frozen=True)
class CrossValidation:
    """One cross-validation of one model: settings, folds, and where things are."""

    study: Study
    """One architecture's (`Study.for_model`)."""
    model: str
    trial: int
    store: Store
    token: str
    """The token of the study folder's lock."""
    folds: npt.NDArray[np.int64]
    """The fold in which each image is tested, `(N,)`."""
    image_ids: list[str]
    patient_ids: list[str]
    arrays: SharedArrays
    """The way in which each worker opens the images and masks."""
    code: SharedCode = NO_CODE
    """What each worker installs before it builds a network."""
    order: Order = Order.ABREAST
    kind: TrialKind = TrialKind.FIXED
    validation: npt.NDArray[np.bool_] | None = None
    """Images that each fold sets aside of those that it would train on, `(K, N)`."""

    @property
    def key(self) -> TrialKey:
        """Which trial it is."""
        return TrialKey(self.model, self.trial)

    def as_trial(self, trial: int, settings: Mapping[str, Any]) -> CrossValidation:
        """Return the same cross-validation under another number, with some settings changed.

        Raises:
            UserError: If a setting is not valid, or names another network: settings may come from the study folder,
                and only the study file says whose code runs.
        """
        source = f"{self.model}, trial {trial}"
        study = with_settings(self.study, settings, source)
        if study.model.arch != self.study.model.arch:
            raise UserError(
                f"{source}: model.arch is {study.model.arch} in the study folder and {self.study.model.arch} in the "
                "study file; choose another output folder"
            )
        return replace(self, trial=trial, study=study)

    @cached_property
    def patient_number(self) -> dict[str, int]:
        """The place of each patient in arrays of patients' scores: sorted by id."""
        return {patient: number for number, patient in enumerate(sorted(set(self.patient_ids)))}

    @property
    def num_folds(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    def data(self, fold: int, images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]) -> FoldData:
        """Return what a fold sees: its own images to test, all others but its validation images to train on."""
        from eus_ray.training.fold import FoldData

        test = self.folds == fold
        validation = np.zeros_like(test) if self.validation is None else self.validation[fold]
        scored = np.flatnonzero(test | validation)
        return FoldData(
            fold=fold,
            images=images,
            masks=masks,
            train=np.flatnonzero(~(test | validation)),
            validation=np.flatnonzero(validation),
            test=np.flatnonzero(test),
            image_ids=self.image_ids,
            patient_ids=self.patient_ids,
            truth_of=CaseTruths(self.store, self.image_ids, scored) if self.study.evaluate.grid == "original" else None,
        )


class CaseTruths:
    """The truths of a fold's scored images on the evaluation grid, from the study folder's `cases`."""

    def __init__(self, store: Store, image_ids: list[str], rows: npt.NDArray[np.int64]) -> None:
        self._store, self._image_ids, self._rows = store, image_ids, rows

    @cached_property
    def _png(self) -> dict[str, bytes]:
        wanted = pa.array([self._image_ids[row] for row in self._rows])
        table = self._store.read_table(names.CASES_FILE, ["image_id", "truth"])
        table = table.filter(pa.compute.is_in(table["image_id"], wanted))
        return dict(zip(table["image_id"].to_pylist(), table["truth"].to_pylist(), strict=True))

    def __call__(self, row: int) -> npt.NDArray[np.uint8]:
        """Return the truth of one image."""
        return decode(self._png[self._image_ids[row]]).mask()


def num_folds_done(store: Store, key: TrialKey) -> int:
    """Count the folds of a trial that have their test rows in the study folder."""
    rows = store.read_trial("epochs", key, ["fold", "split"]).to_pandas()
    return int(rows.loc[rows["split"] == "test", "fold"].nunique())
