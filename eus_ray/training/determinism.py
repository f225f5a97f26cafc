"""Determinism: a fold's settings, the seeds that derive from them, and the switches of a process."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import cv2
import torch

from eus_ray.config import LATER, Study, to_dotted


def settings_text(study: Study) -> str:
    """Return everything in a study that changes a fold's training, apart from its data, as JSON without paths.

    How masks are made of probabilities is not among it: each epoch's network is the same.
    """
    settings = to_dotted(study, ("data", "model", "augment", "optim", "loss", "train"))
    # seeds derive from this text: it must stay as it was, whatever fields have come since
    settings = {name: value for name, value in settings.items() if name not in LATER or value != LATER[name]}
    settings["evaluate.grid"] = study.evaluate.grid
    for name in ("data.manifest", "data.duplicates", "model.label", "augment.preset"):
        del settings[name]
    settings["model.weights"] = Path(study.model.weights).name  # wherever the file lies
    return json.dumps(settings, sort_keys=True)


def settings_digest(study: Study) -> str:
    """Return a short name of `settings_text`."""
    return hashlib.sha256(settings_text(study).encode()).hexdigest()[:16]


def derive_seed(*parts: str | int) -> int:
    """Return a 63-bit seed from what it is for; other parts give an independent seed."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "big") >> 1


def prepare_process(study: Study, device: torch.device) -> None:
    """Set a process's threads and, if `train.deterministic` asks for it, deterministic algorithms on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_num_threads(study.run.threads_per_fold)
    cv2.setNumThreads(0)
    is_deterministic = study.train.deterministic and device.type == "cuda"
    if torch.are_deterministic_algorithms_enabled() != is_deterministic:
        torch.use_deterministic_algorithms(is_deterministic)  # this call alone imports torch's compiler: seconds
    torch.backends.cudnn.benchmark = device.type == "cuda" and not study.train.deterministic


def device_name(device: torch.device) -> str:
    """Return the maker's name of a GPU, or of the processor; its instruction set if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listed = Path("/proc/cpuinfo")  # Linux alone has it, and Python's own answer is empty there
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, named), platform.processor() or platform.machine())
