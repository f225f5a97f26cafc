"""The decoded images and masks of a study, once on each machine: in Ray's object store, or in memory-mapped files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import ray

from eus_ray.data.arrays import Arrays
from eus_ray.data.dataset import Dataset
from eus_ray.distributed.session import Session
from eus_ray.distributed.shared_code import on_every_machine

Pair: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Images `(N, S, S)` or `(N, S, S, 3)` and masks `(N, S, S)`, which nobody writes."""
SharedArrays: TypeAlias = "ray.ObjectRef[Pair] | Callable[[], Pair]"

OBJECT_STORE_SHARE = 0.6
"""Arrays that would fill more of Ray's object store than this are mapped: workers' reports need room too."""
_FOLDER = "arrays"
"""Below a session's scratch, on each machine."""


def share_arrays(dataset: Dataset, session: Session) -> tuple[Arrays, SharedArrays]:
    """Decode a data set, and return the arrays and what workers open them by."""
    if dataset.num_bytes <= OBJECT_STORE_SHARE * session.object_store_bytes:
        arrays = dataset.arrays()
        return arrays, ray.put((arrays.images, arrays.masks))
    folder = session.scratch / _FOLDER
    return dataset.arrays(into=folder), partial(_open_mapped, dataset, folder)


def open_arrays(shared: SharedArrays) -> Pair:
    """Return images and masks in a worker."""
    opened: Pair = ray.get(shared) if isinstance(shared, ray.ObjectRef) else shared()
    return opened


def delete_arrays(shared: SharedArrays, session: Session) -> None:
    """Delete the mapped files of every machine, which are patients' images; one that does not answer keeps them."""
    if isinstance(shared, ray.ObjectRef):
        return
    on_every_machine(shutil.rmtree, session.scratch / _FOLDER, True)


def _open_mapped(dataset: Dataset, folder: Path) -> Pair:
    """The mapped arrays of this machine, which are made first if it has none yet."""
    arrays = dataset.arrays(into=folder)
    return arrays.images, arrays.masks
