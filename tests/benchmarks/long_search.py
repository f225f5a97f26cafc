"""A search of many trials that train next to nothing: its pace, its memory, and its table while it runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from eus_ray.data.phantom.dataset import make_phantom
from eus_ray.store import Store, read_trials
from tests.benchmarks.data import ROOT
from tests.helpers import LIGHT
from tests.processes import marked

_EVERY_S = 10
TRIVIAL = (
    *LIGHT,
    *("model.width=1", "train.epochs=1", "folds.count=2", "search.inner_folds=2", "search.sampler=random"),
)
"""Two folds of one epoch of a network of one channel."""


@dataclass(frozen=True)
class Moment:
    """The search at one time; memory is what its processes do not share."""

    seconds: float
    trials: int
    driver_mib: float
    ray_mib: float
    processes: int


def run(trials: int = 1000) -> None:
    """Print pace and memory near the start and at the end; fail if the table cannot be read in between."""
    with tempfile.TemporaryDirectory() as name:
        folder, mark = Path(name), uuid.uuid4().hex
        manifest = make_phantom(folder / "phantom", patients=8, images=8, seed=3, size=32)
        sets = [part for setting in (f"data.manifest={manifest}", *TRIVIAL) for part in ("--set", setting)]
        command = [sys.executable, "-m", "eus_ray.cli", "tune", "--models", "unet", "--trials", str(trials), *sets]
        started = time.perf_counter()
        search = subprocess.Popen(
            [*command, "--out", str(folder / "study")],
            cwd=ROOT,
            env={**os.environ, "EUS_RAY_TEST": mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        moments: list[Moment] = []
        while search.poll() is None:
            time.sleep(_EVERY_S)
            if (folder / "study/trials.parquet").exists():
                done = int((read_trials(Store(folder / "study"))["state"] != "running").sum())
                moments.append(_look(mark, search.pid, done, time.perf_counter() - started))
        assert search.returncode == 0, f"exit code {search.returncode}"
        rows = read_trials(Store(folder / "study"))
    early, late = _at(moments, 0.1), _at(moments, 0.9)
    states = ", ".join(f"{count} {state}" for state, count in rows["state"].value_counts().items())
    print(f"\n{trials} trials of two folds of one epoch: {states}; the table was read {len(moments)} times meanwhile")
    pace = (late.trials - early.trials) / (late.seconds - early.seconds)
    print(f"  {60 * pace:.0f} trials a minute, {1 / pace:.2f} s each, from the {early.trials}th to the {late.trials}th")
    for title, before, after in (
        ("driver", early.driver_mib, late.driver_mib),
        ("Ray's processes", early.ray_mib, late.ray_mib),
    ):
        print(f"  {title}: {before:.0f} MiB then {after:.0f} MiB ({after - before:+.0f})")
    print(f"  processes: {early.processes} then {late.processes}")


def _look(mark: str, driver: int, trials: int, seconds: float) -> Moment:
    mib = {}
    for process in marked(mark):
        with contextlib.suppress(psutil.Error):
            mib[process.pid] = process.memory_full_info().uss / 2**20
    own = mib.pop(driver, 0.0)
    return Moment(seconds, trials, own, sum(mib.values()), len(mib) + 1)


def _at(moments: list[Moment], share: float) -> Moment:
    """Return the first moment at which this share of the last one's trials was done."""
    return next(moment for moment in moments if moment.trials >= share * moments[-1].trials)


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
