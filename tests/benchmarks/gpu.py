"""Five folds of DAF-Net on one GPU: packed in several ways and as the planner chooses, beside the plain loop.

    python -m tests.benchmarks gpu [--full]

ResNeXt-101 32x8d at 256 x 256 in batches of 32, the paper's network, on a phantom of 330 images. Images a second
are those of training alone, without each fold's first epoch (in which libraries choose their kernels) and without its
last, which is also scored and saved; wall time is that of the whole command. Needs a GPU that is otherwise idle.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

from eus_ray.config import Study
from eus_ray.config_file import load_study, study_toml
from eus_ray.store import Store, TrialKey
from eus_ray.store.event_log import FoldReport, read_reports
from tests.benchmarks.data import phantom
from tests.benchmarks.turns import Command, in_turns

IMAGES = 330
_WAYS = {
    "one fold after another": ("run.workers=1", "run.gpus_per_fold=1", "run.order=by_fold"),
    "2 folds at once": ("run.workers=2", "run.gpus_per_fold=0.5"),
    "5 folds at once": ("run.workers=5", "run.gpus_per_fold=0.2"),
    "as planned": (),
}


def run(full: bool) -> None:
    """Print the table, without `full` for bfloat16 alone."""
    if not torch.cuda.is_available():
        print("\nNo GPU here; the benchmark of folds on a GPU needs one")
        return
    epochs = 4
    print(f"\nDAF-Net (ResNeXt-101 32x8d), 256 x 256, batch 32, 5 folds, {epochs} epochs")
    print(f"on one {torch.cuda.get_device_name()}, {os.cpu_count()} cores")
    print("precision  way                     images/s  GiB  wall s  plan")
    with tempfile.TemporaryDirectory() as name:
        manifest = phantom(Path(name))
        for precision in ("bfloat16", "float32") if full else ("bfloat16",):
            settings = (f"data.manifest={manifest}", f"train.precision={precision}", f"train.epochs={epochs}")
            study = load_study(None, models=("daf_net",), overrides=[*settings, "train.batch_size=32"])
            _plain(Path(name), study)
            for way, options in _WAYS.items():
                _ours(Path(name), study, way, options)


def _plain(folder: Path, study: Study) -> None:
    path = folder / "plain.toml"
    path.write_text(study_toml(study))
    with _Memory() as memory:
        in_turns(loop := Command([sys.executable, "-m", "tests.benchmarks.plain_loop", str(path)]))
    speed = re.search(r"([\d.]+) images/s", loop.said)
    assert speed is not None
    _print(study, "plain PyTorch loop", float(speed[1]), memory.most_mib, loop.seconds, "")


def _ours(folder: Path, study: Study, way: str, options: tuple[str, ...]) -> None:
    path, out = folder / "study.toml", folder / f"{study.train.precision}-{way.replace(' ', '-')}"
    path.write_text(study_toml(study))
    sets = [part for option in options for part in ("--set", option)]
    command = Command([sys.executable, "-m", "eus_ray.cli", "cv", str(path), "--out", str(out), *sets])
    with _Memory() as memory:
        in_turns(command)
    plan = next((line for line in command.said.splitlines() if " folds on " in line), "")
    speed = images_a_second(read_reports(Store(out), TrialKey("daf_net", 0)), IMAGES * (1 - 1 / study.folds.count))
    _print(study, way, speed, memory.most_mib, command.seconds, plan if not options else "")


def _print(study: Study, way: str, speed: float, mib: int, seconds: float, plan: str) -> None:
    print(f"{study.train.precision:9}  {way:22}  {speed:8.0f}  {mib / 1024:3.0f}  {seconds:6.0f}  {plan}", flush=True)


def images_a_second(epochs: list[FoldReport], images_an_epoch: float) -> float:
    """Return the training images per second of all folds together.

    Only the epochs between each fold's first and last count, over the time in which at least one of them ran.

    >>> spans = [(0, 9), (9, 10), (10, 12), (12, 20)]
    >>> told = {"train_dsc": 0, "monitor_split": "test", "monitor_dsc": None, "finished": False}
    >>> epochs = [FoldReport(0, epoch, 0, **told, started=a, ended=b) for epoch, (a, b) in enumerate(spans)]
    >>> images_a_second(epochs, 30)
    20.0
    """
    last = max(epoch.epoch for epoch in epochs)
    counted = sorted((each for each in epochs if 0 < each.epoch < last), key=lambda each: each.started)
    seconds, covered = 0.0, 0.0
    for each in counted:
        seconds += max(0.0, each.ended - max(each.started, covered))
        covered = max(covered, each.ended)
    return len(counted) * images_an_epoch / seconds


class _Memory:
    """Watches the memory of the GPU that all its users take, and keeps the maximum in MiB."""

    def __init__(self) -> None:
        self.most_mib = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.5):
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            self.most_mib = max(self.most_mib, int(answer.stdout.split()[0]))
