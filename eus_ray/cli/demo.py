"""The whole path on data made on the spot: phantom, folds, cross-validations, a small search, report."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from eus_ray.analysis.analyze import analyze
from eus_ray.api import tune
from eus_ray.cli.progress.study import StudyProgress
from eus_ray.cli.terminal import open_console
from eus_ray.config_file import load_study
from eus_ray.data.phantom.dataset import make_phantom
from eus_ray.distributed.session import session
from eus_ray.errors import UserError
from eus_ray.store import TrialState
from eus_ray.study.cross_validate import Outcome, cross_validate

PATIENTS, IMAGES, SIZE = 40, 80, 80

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
epochs = 8
batch_size = 8

[search]
trials = 4
space = "space.toml"
"""

SPACE = """\
# What the demo searches for U-Net; without this file it would be the fields and ranges of search_spaces/unet.toml.
[search."optim.lr"]
kind = "log_float"
low = 1e-4
high = 3e-2

[search."loss.bce_weight"]
kind = "choice"
choices = [0.0, 0.5, 1.0]
"""

SEARCHED = "unet"


def run_demo(out: Path, *, quiet: bool = False) -> str:
    """Make everything below a new folder, and return the report's location.

    Args:
        out: The folder, which must hold nothing.
        quiet: Whether nothing but warnings is printed meanwhile.

    Raises:
        UserError: If it holds something.
        RuntimeError: If folds did not run at the same time, which is what the demo is there to show.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is not an empty folder; choose another output folder")
    console = open_console(quiet=quiet)
    say = partial(console.print, highlight=False, markup=False)
    started = time.perf_counter()
    manifest = make_phantom(out / "data", patients=PATIENTS, images=IMAGES, seed=0, size=SIZE)
    say(f"1/4 made {IMAGES} synthetic EUS images of {PATIENTS} patients: {manifest}")
    study_path = out / "study.toml"
    study_path.write_text(STUDY, encoding="utf-8")
    (out / "space.toml").write_text(SPACE, encoding="utf-8")
    study = load_study(study_path, overrides=["run.workers=2"])
    searched = load_study(study_path, models=[SEARCHED])
    with session():
        say(f"2/4 cross-validating {', '.join(study.models)} as {study_path} says")
        with StudyProgress(study, console) as progress:
            outcome = cross_validate(study, out / "study", callbacks=[progress])
        _insist(outcome)
        say(f"folds trained at the same moment: {max(outcome.folds_at_once.values())}")
        say(f"3/4 searching settings of {SEARCHED}; so far {time.perf_counter() - started:.0f} s")
        with StudyProgress(searched, console) as progress:
            outcome = tune(searched, out / "study", resume=True, callbacks=[progress])
        _insist(outcome)
    for line in outcome.headline:
        say(line)
    say(f"4/4 analysing; so far {time.perf_counter() - started:.0f} s")
    return analyze(out / "study")


def _insist(outcome: Outcome) -> None:
    """Raise `RuntimeError` if something was not finished, or nothing ran side by side."""
    if set(outcome.states.values()) != {TrialState.COMPLETE}:
        raise RuntimeError(f"the runs ended as {outcome.states}")
    if min(outcome.folds_at_once.values()) < 2:
        raise RuntimeError(f"folds did not run at the same time: {outcome.folds_at_once}")
