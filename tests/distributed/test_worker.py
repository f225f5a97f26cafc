"""A worker says of each epoch on what it was trained."""

from __future__ import annotations

from pathlib import Path

import torch

from eus_ray.data.dataset import check_data
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.worker import steps
from eus_ray.store import Hardware, Store
from eus_ray.store.lock import StudyLock
from eus_ray.training.determinism import device_name
from tests.helpers import light_study


def test_reports_name_the_processor_threads_and_precision(phantom: Path, tmp_path: Path) -> None:
    study = light_study(
        phantom, "folds.count=2", "train.epochs=1", "run.threads_per_fold=2", "train.precision=bfloat16"
    )
    dataset = check_data(study)
    arrays, store, threads = dataset.arrays(), Store(tmp_path / "study"), torch.get_num_threads()
    with StudyLock(store) as lock:
        run = CrossValidation(
            study=study.for_model("unet"),
            model="unet",
            trial=0,
            store=store,
            token=lock.token,
            folds=dataset.folds,
            image_ids=dataset.frame["image_id"].tolist(),
            patient_ids=dataset.frame["patient_id"].tolist(),
            arrays=lambda: (arrays.images, arrays.masks),
        )
        reports = [report for step in steps(run, 0, 1, 0) for report in step]
    torch.set_num_threads(threads)
    assert [report.fold for report in reports] == [0, 1]
    processor = device_name(torch.device("cpu"))
    assert processor
    assert {report.hardware for report in reports} == {Hardware(processor, 0.0, 2, "bfloat16")}
