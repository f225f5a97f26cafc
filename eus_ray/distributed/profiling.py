"""Time and profile a few real steps of a fold, for the planner."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
import torch

from eus_ray.config import Study
from eus_ray.distributed.resources import Probe, worst
from eus_ray.distributed.session import Session
from eus_ray.distributed.shared_code import SharedCode
from eus_ray.training.determinism import prepare_process
from eus_ray.training.fold import Fold, FoldData
from eus_ray.training.records import Record

_NUM_STEPS = 4


def probe_cluster(study: Study, session: Session) -> Probe | None:
    """Measure each architecture on the cluster's GPUs.

    Returns:
        The worst case of all architectures; None if the folds use no GPU, since the plan does not depend on it then.
    """
    if not session.machines.gpus or study.run.gpus_per_fold == 0:
        return None
    remote = ray.remote(num_gpus=1, max_calls=1)(_measure_there)
    return worst(ray.get([remote.remote(study.for_model(model), session.code) for model in study.models]))


def _measure_there(study: Study, code: SharedCode) -> Probe:
    code.install()
    return measure(study)


def measure(study: Study, device: torch.device | None = None) -> Probe:
    """Train and score a few batches of noise with one architecture's settings.

    Args:
        study: The study of one architecture (`Study.for_model`).
        device: A GPU by default, if there is one.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    prepare_process(study, device)
    try:
        return _measure(study, device)
    finally:
        torch.set_num_threads(threads)


def _measure(study: Study, device: torch.device) -> Probe:
    size, batch = study.data.image_size, study.train.batch_size
    random = np.random.default_rng(0)
    gray = random.integers(0, 256, (batch, size, size), dtype=np.uint8)
    masks = (gray > 200).astype(np.uint8)
    images = gray if study.data.channels == "gray" else np.repeat(gray[..., None], study.data.num_channels, axis=3)
    rows, is_gpu = np.arange(batch), device.type == "cuda"

    def fold(steps: int) -> Fold:
        names = [str(row) for row in rows]
        data = FoldData(0, images, masks, np.tile(rows, steps * study.train.accumulate), rows, names, names)
        train = study.train.model_copy(update={"epochs": 2, "freeze_encoder_epochs": 0})  # what takes most
        return Fold(study.model_copy(update={"train": train}), data, device)

    fold(1).train_epoch()  # a warm-up: libraries choose their kernels and allocate memory the first time
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    measured = fold(_NUM_STEPS)
    row, busy_share = _profiled(measured) if is_gpu else (measured.train_epoch(), 1.0)
    started = time.perf_counter()
    measured.evaluate(Record(epochs=[row]))
    score_s = time.perf_counter() - started
    memory = (torch.cuda.max_memory_reserved(device), torch.cuda.mem_get_info(device)[1]) if is_gpu else (0, 0)
    return Probe(row["seconds"] / _NUM_STEPS, score_s, busy_share, *memory)


def _profiled(fold: Fold) -> tuple[dict[str, Any], float]:
    """Train an epoch; return its row, and the share of its time in which the GPU computed."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        row = fold.train_epoch()
        torch.cuda.synchronize(fold.device)
    computed_s = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return row, min(1.0, computed_s / row["seconds"])
