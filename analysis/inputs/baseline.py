"""The baseline: for each fold the one mask that fits its training patients best, as if it were a network's prediction.

It looks at no image, so a model that is not better has learnt no more than where lesions usually lie.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.inputs.cases import Case, read_cases
from eus_ray.analysis.inputs.process_pool import in_processes
from eus_ray.analysis.labels import ReportKind
from eus_ray.analysis.measures.distances import diagonal
from eus_ray.analysis.measures.image_metrics import image_metrics
from eus_ray.config import Study
from eus_ray.data.resizing import Resize, resize_mask, to_original_grid
from eus_ray.errors import UserError
from eus_ray.metrics import FixedMask, fixed_masks, patient_weights, quantise
from eus_ray.store import CASES_FILE, Store

_NUM_IMAGES_IN_JOB = 64


def baseline_masks(
    manifest: pd.DataFrame, cases: Mapping[str, Case], folds: Collection[int], settings: Study
) -> dict[int, FixedMask]:
    """Find the fixed mask of each fold: of the truths of all patients of the other folds.

    The truths are those of the evaluation grid. If they differ in size (`evaluate.grid` is `original`), they are taken
    to the training grid first, as a network's truths are.

    Args:
        manifest: `image_id, patient_id, fold`.
        cases: Truths by image_id.
        folds: Which folds.
        settings: `data` says what the training grid is.

    Returns:
        By fold; none for a fold without patients in other folds, so none for a study of one fold.

    Raises:
        UserError: If a truth cannot be decoded; with the image's name.
    """
    known = manifest[manifest["image_id"].isin(cases.keys())]
    weights = {
        int(fold): patient_weights(known["patient_id"], others)
        for fold in sorted(folds)
        if (others := (known["fold"] != fold).to_numpy()).any()
    }
    if not weights:
        return {}
    truths = _Truths({image_id: cases[image_id] for image_id in known["image_id"]}, settings)
    return dict(zip(weights, fixed_masks(truths, np.stack([*weights.values()])), strict=True))


def measure_baseline(
    store: Store,
    manifest: pd.DataFrame,
    cases: dict[str, Case],
    masks: Mapping[int, FixedMask],
    settings: Study,
    processes: int | None = None,
) -> list[dict[str, Any]]:
    """Measure each fold's mask on all its test images.

    The mean of the training truths is the probability that the AUC ranks and the calibration judges.

    Args:
        store: The study folder.
        manifest: `image_id, fold`.
        cases: Truths by image_id.
        masks: `baseline_masks`.
        settings: `data.resize` and `analysis.tolerance` are used.
        processes: How many processes measure; by default all cores share many images.

    Returns:
        `model, kind, fold, image_id`, metrics and `diagonal` of each image.
    """
    jobs = []
    for fold, mask in masks.items():
        names = [name for name in manifest.loc[manifest["fold"] == fold, "image_id"] if name in cases]
        parts = (names[at : at + _NUM_IMAGES_IN_JOB] for at in range(0, len(names), _NUM_IMAGES_IN_JOB))
        jobs += [_Job(fold, mask, tuple(part)) for part in parts]
    measurer = _Measurer(store, cases, settings.data.resize, settings.analysis.tolerance)
    measured = in_processes(measurer, jobs, processes, sum(len(job.images) for job in jobs))
    return [row for rows in measured for row in rows]


class _Truths:
    """Truths of one size, each decoded when it is asked for."""

    def __init__(self, cases: Mapping[str, Case], settings: Study) -> None:
        self._cases = list(cases.items())
        sizes = {(case.height, case.width) for case in cases.values()}
        self._grid = (settings.data.image_size, settings.data.resize) if len(sizes) > 1 else None

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, place: int) -> npt.NDArray[np.bool_]:
        truth = _truth(*self._cases[place])
        return truth if self._grid is None else resize_mask(truth.view(np.uint8), *self._grid) > 0


def _truth(image_id: str, case: Case) -> npt.NDArray[np.bool_]:
    try:
        truth = case.truth()
    except ValueError as error:
        raise UserError(f"{CASES_FILE}: the truth of image {image_id} {error}") from None
    if truth.shape != (case.height, case.width):
        raise UserError(
            f"{CASES_FILE}: the truth of image {image_id} is {truth.shape[0]} x {truth.shape[1]}, "
            f"not {case.height} x {case.width}"
        )
    return truth


class _Job(NamedTuple):
    """Some test images of one fold."""

    fold: int
    mask: FixedMask
    images: tuple[str, ...]


@dataclass(frozen=True)
class _Measurer:
    """Measure jobs. Cases are not sent to another process, which reads its own."""

    store: Store
    cases: Mapping[str, Case]
    resize: Resize
    tolerance: float

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_measurer, (self.store, self.resize, self.tolerance)

    def __call__(self, job: _Job) -> list[dict[str, Any]]:
        predictions: dict[tuple[int, int], tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]] = {}
        rows = []
        for image_id in job.images:
            case = self.cases[image_id]
            size = case.height, case.width
            if size not in predictions:
                fixed = self._on_grid(job.mask, size)
                predictions[size] = quantise(fixed.mean), fixed.mask
            levels, mask = predictions[size]
            metrics = image_metrics(
                _truth(image_id, case),
                mask,
                scores=levels,
                levels=levels,
                spacing=case.spacing,
                tolerance=self.tolerance,
            )
            key = {"model": ReportKind.BASELINE.value, "kind": ReportKind.BASELINE.value, "fold": job.fold}
            rows.append({**key, "image_id": image_id, **metrics, "diagonal": diagonal(size, case.spacing)})
        return rows

    def _on_grid(self, fixed: FixedMask, size: tuple[int, int]) -> FixedMask:
        """Bring a mask's mean to an image's own pixels, as a network's probabilities are."""
        if fixed.mean.shape == size:
            return fixed
        mean = to_original_grid(fixed.mean.astype(np.float32), *size, self.resize)
        return fixed._replace(mean=mean.astype(np.float64))


def _read_measurer(store: Store, resize: Resize, tolerance: float) -> _Measurer:
    return _Measurer(store, read_cases(store), resize, tolerance)
