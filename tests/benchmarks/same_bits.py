"""Digests of one fixed study's tables: `python -m tests.benchmarks.same_bits FOLDER`.

Made on the spot: synthetic images, three architectures, five folds, `cv` by 1, 2 and 5 workers and a small `tune` of
each kind of scheduler, all analysed. Two versions of eus-ray that print the same lines give the same numbers, to the
last bit. Another checkout is measured with PYTHONPATH set to it: only its command line is used.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq

SETTINGS = (
    *("data.image_size=48", "folds.count=5", "folds.stratify=['lesion_size']"),
    *("model.width=4", "model.encoder=resnet10t", "model.decoder_width=8"),
    *("train.epochs=3", "train.batch_size=4", "optim.lr=0.003", "loss.bce_weight=0.5"),
    *("search.concurrent=1", "run.checkpoint_interval_s=0"),
)
STUDIES = {
    "cv-1": ("cv", "run.workers=1"),
    "cv-2": ("cv", "run.workers=2"),
    "cv-5": ("cv", "run.workers=5"),
    "tune-racing": ("tune", "run.workers=1", "search.trials=5"),
    "tune-asha": ("tune", "run.workers=2", "search.trials=4", "search.scheduler=asha", "search.asha_grace=1"),
    "tune-paper": ("tune", "run.workers=1", "search.trials=4", "search.protocol=paper"),
}
"""Searches run one trial at a time: side by side, what a race stops depends on time."""
MODELS = {"tune-asha": "unet,daf_net", "tune-paper": "unet"}
TABLES = ("epochs", "scores", "predictions")
NO_NUMBERS = ["reason", "parameters", "device", "gpus", "threads", "precision"]
"""Columns of `trials.parquet` that are words, or that older versions lack."""


def eus_ray(*words: str) -> None:
    """Run the command line of whichever eus-ray the environment has."""
    answer = subprocess.run([sys.executable, "-m", "eus_ray.cli", *words], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"eus-ray {' '.join(words)}:\n{answer.stdout}{answer.stderr}")


def rows_digest(study: Path, table: str) -> str:
    """Return the digest of a table of parts: every column but `seconds`, sorted by its key."""
    frame = pyarrow.dataset.dataset(study / table, format="parquet").to_table().to_pandas()
    frame = frame.drop(columns="seconds", errors="ignore")
    if "probability" in frame:
        frame["probability"] = [np.asarray(row, np.uint16).tobytes().hex() for row in frame["probability"]]
    keys = [key for key in ("model", "trial", "repeat", "fold", "epoch", "image_id", "split") if key in frame]
    return frame_digest(frame.sort_values(keys))


def frame_digest(frame: pd.DataFrame) -> str:
    """Return the digest of a frame's names and values; floats with all their digits."""
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()[:16]


def digests(study: Path) -> list[tuple[str, str]]:
    """Return the digests of all files of a study and its report that must not change."""
    found = [(table, rows_digest(study, table)) for table in TABLES]
    trials = pq.read_table(study / "trials.parquet").to_pandas().drop(columns=NO_NUMBERS, errors="ignore")
    found.append(("trials", frame_digest(trials[sorted(trials)].sort_values(["model", "trial"]))))
    for path in sorted((study / "report").rglob("*")):
        if path.suffix == ".csv" and path.name != "effort.csv":  # it has the hours
            found.append((str(path.relative_to(study)), hashlib.sha256(path.read_bytes()).hexdigest()[:16]))
        if path.suffix == ".parquet":
            found.append((str(path.relative_to(study)), frame_digest(pq.read_table(path).to_pandas())))
    return found


def main() -> None:
    """Train and analyse what is missing below FOLDER, and print all digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    args = parser.parse_args()
    data = args.folder / "data"
    if not data.exists():
        eus_ray("data", "phantom", str(data), "--patients", "20", "--images", "40", "--seed", "3", "--size", "64")
    for name in args.studies:
        command, *settings = STUDIES[name]
        study = args.folder / name
        if not (study / "report").exists():
            changed = [word for one in (*SETTINGS, *settings) for word in ("--set", one)]
            models = MODELS.get(name, "unet,attention_unet,daf_net")
            manifest = ("--set", f"data.manifest={data / 'manifest.csv'}")
            eus_ray(command, "--out", str(study), "--models", models, *manifest, *changed)
            eus_ray("analyze", str(study))
        for table, digest in digests(study):
            print(f"{name:<12} {table:<28} {digest}", flush=True)


if __name__ == "__main__":
    main()
