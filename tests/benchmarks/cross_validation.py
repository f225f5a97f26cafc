"""One cross-validation by eus-ray beside the plain serial loop: whole commands, wall time and test DSC."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from eus_ray.store import Store
from tests.benchmarks.data import busbra, phantom
from tests.benchmarks.turns import TURN_S, Command, in_turns

STUDY = """\
models = ["{model}"]
[data]
manifest = "{manifest}"
image_size = 128
[folds]
stratify = {stratify}
[model]
encoder = "resnet18"
width = 16
[optim]
optimizer = "adamw"
lr = 1e-3
schedule = "one_cycle"
[train]
epochs = {epochs}
batch_size = 16
[run]
workers = 1
threads_per_fold = 2
"""
"""The loop's two threads too: three workers that share two cores take each other's caches, 25 s of a core a fold and
epoch where one with two threads takes 24, and a group of workers takes 15 s longer to start."""


def run(full: bool) -> None:
    epochs = 15 if full else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real = busbra()
        manifest, stratify = (real, '["pathology"]') if real is not None else (phantom(folder), '["t_stage"]')
        data = "BUS-BRA" if real is not None else "phantom (the real data is not here)"
        print(f"\nCross-validation on {data}: 5 folds, 128 x 128, {epochs} epochs, batch 16, AdamW, one cycle")
        studies = {}
        for model in ("daf_net", "unet"):
            text = STUDY.format(model=model, manifest=manifest, stratify=stratify, epochs=epochs)
            studies[model] = folder / f"{model}.toml"
            studies[model].write_text(text)
        plain = Command([sys.executable, "-m", "tests.benchmarks.plain_loop", str(studies["daf_net"])])
        ours = Command(cv(studies["daf_net"], folder / "daf"))
        in_turns(plain, ours)
        plain_dsc = re.search(r"folds: ([\d.]+)", plain.said)
        apart = re.search(r"before training ([\d.]+) s, reading ([\d.]+) s", plain.said)
        assert plain_dsc is not None
        assert apart is not None
        before_s, reading_s = float(apart[1]), float(apart[2])
        plain_s = plain.seconds - before_s  # the checks and folds are not the loop's own
        training_s = seconds_of_epochs(folder / "daf")
        print(f"DAF-Net (ResNet-18), plain serial loop: {plain_s:.0f} s, mean test DSC {plain_dsc[1]}")
        print(f"DAF-Net (ResNet-18), eus-ray cv:        {ours.seconds:.0f} s, mean test DSC {dsc(folder / 'daf'):.4f}")
        print(f"wall time of eus-ray / plain loop: {ours.seconds / plain_s:.3f}")
        in_memory = ours.seconds / (plain_s - reading_s)
        print(f"the loop reads each image anew when it needs it: {reading_s:.0f} s; without: {in_memory:.3f}")
        print(f"checks of the data, Ray's start and end, what is saved: {ours.seconds - training_s:.0f} s")
        if full:
            unet = Command(cv(studies["unet"], folder / "unet"))
            in_turns(unet)
            print(f"U-Net (width 16), eus-ray cv: {unet.seconds:.0f} s, mean test DSC {dsc(folder / 'unet'):.4f}")


def cv(study: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "eus_ray.cli", "cv", str(study), "--out", str(out)]


def dsc(study: Path) -> float:
    """Return the mean over folds of the mean test DSC."""
    epochs = Store(study).read_parts("epochs").to_pandas()
    return float(epochs.loc[epochs["split"] == "test", "dsc"].mean())


def seconds_of_epochs(study: Path) -> float:
    """Return how long training took by the table of epochs, one fold after another.

    An epoch during which the process was frozen counts as the median of the others.
    """
    epochs = Store(study).read_parts("epochs").to_pandas()
    seconds = epochs.loc[epochs["split"] == "train", "seconds"]
    return float(seconds[seconds < TURN_S].median() * len(seconds))
