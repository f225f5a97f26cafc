"""The whole path on data made on the spot: phantom, folds, cross-validation of three architectures, report."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from eus_ray.analysis.analyze import analyze
from eus_ray.commands import run_cv
from eus_ray.config import UserError
from eus_ray.data.phantom import make_phantom
from eus_ray.study_file import load_study

PATIENTS, IMAGES, SIZE = 40, 88, 80

STUDY = f"""\
# Light networks on small images: minutes on a laptop. `--preset paper` has the paper's own settings.
models = ["unet", "attention_unet", "daf_net"]

[data]
manifest = "data/manifest.csv"
image_size = {SIZE}

[folds]
stratify = ["t_stage", "lesion_size"]

[model]
width = 8
encoder = "resnet18"
decoder_width = 16

[optim]
optimizer = "adamw"
lr = 2e-3

[train]
epochs = 10
batch_size = 8

[run]
workers = 2
"""


def run_demo(out: Path) -> str:
    """Make everything below `out`, a new folder, and return the report's location.

    Raises `UserError` where `out` holds something, and `RuntimeError` where folds did not run at the
    same time, which is what the demo is there to show.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; choose another --out")
    say = Console(soft_wrap=True).print
    started = time.perf_counter()
    manifest = make_phantom(out / "data", patients=PATIENTS, images=IMAGES, seed=0, size=SIZE)
    say(f"1/3 made {IMAGES} synthetic EUS images of {PATIENTS} patients: {manifest}", highlight=False)
    study_path = out / "study.toml"
    study_path.write_text(STUDY, encoding="utf-8")
    study = load_study(study_path)
    say(f"2/3 cross-validating {', '.join(study.models)} as {study_path} says", highlight=False)
    outcome = run_cv(study, out / "study")
    if set(outcome.states.values()) != {"complete"}:
        raise RuntimeError(f"the cross-validations ended as {outcome.states}")
    if min(outcome.folds_at_once.values()) < 2:
        raise RuntimeError(f"folds did not run at the same time: {outcome.folds_at_once}")
    say(f"folds trained at the same moment: {max(outcome.folds_at_once.values())}", highlight=False)
    say(f"3/3 analysing; so far {time.perf_counter() - started:.0f} s", highlight=False)
    return analyze(out / "study")
