"""One cross-validation by eus-ray beside the plain serial loop: whole commands, wall time and test DSC."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from eus_ray.store import Store
from tests.benchmarks.data import ROOT, busbra, phantom

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
        plain_s, said = timed([sys.executable, "-m", "tests.benchmarks.plain_loop", str(studies["daf_net"])])
        plain_dsc = re.search(r"folds: ([\d.]+)", said)
        ours_s, _ = timed(
            [sys.executable, "-m", "eus_ray.cli", "cv", str(studies["daf_net"]), "--out", f"{folder}/daf"]
        )
        training_s = span_s(folder / "daf", "daf_net")
        assert plain_dsc is not None
        print(f"DAF-Net (ResNet-18), plain serial loop: {plain_s:.0f} s, mean test DSC {plain_dsc[1]}")
        print(f"DAF-Net (ResNet-18), eus-ray cv:        {ours_s:.0f} s, mean test DSC {dsc(folder / 'daf'):.4f}")
        print(f"wall time of eus-ray / plain loop: {ours_s / plain_s:.3f}")
        print(f"training of eus-ray alone / plain loop: {training_s / plain_s:.3f}")
        print(f"checks of the data, Ray's start and end: {ours_s - training_s:.0f} s")
        if full:
            unet_s, _ = timed(
                [sys.executable, "-m", "eus_ray.cli", "cv", str(studies["unet"]), "--out", f"{folder}/unet"]
            )
            print(f"U-Net (width 16), eus-ray cv:           {unet_s:.0f} s, mean test DSC {dsc(folder / 'unet'):.4f}")


def timed(command: list[str]) -> tuple[float, str]:
    """Wall seconds of a whole command, and what it printed."""
    started = time.perf_counter()
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - started, answer.stdout


def dsc(study: Path) -> float:
    """Mean over folds of the mean test DSC."""
    epochs = Store(study).read_parts("epochs").to_pandas()
    return float(epochs.loc[epochs["split"] == "test", "dsc"].mean())


def span_s(study: Path, model: str) -> float:
    """From the start of the first epoch to the end of the last, by the log."""
    lines = (study / f"logs/{model}_trial-0.log").read_text().splitlines()
    stamps = [line.split()[:2] for line in lines if " epoch " in line]
    began = min(datetime.fromisoformat(first) for first, _ in stamps)
    ended = max(datetime.fromisoformat(last) for _, last in stamps)
    return (ended - began).total_seconds()
