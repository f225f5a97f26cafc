"""Slurm for real: a small cluster of Debian's packages on this machine runs what `eus-ray launch slurm` submits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import LIGHT, assert_same, light_study, serial, tables
from tests.processes import wait_until
from tests.slurm.one_machine import missing, slurm_cluster

CANNOT = missing()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(bool(CANNOT), reason=CANNOT or "-"),
]
EPOCHS = 120
"""Make the run that hits its time limit last about a minute."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def submit(folder: Path, phantom: Path, environment: dict[str, str], *options: str) -> str:
    """Launch a small cross-validation, and return the job's number."""
    sets = [word for setting in LIGHT for word in ("--set", setting)]
    (folder / "study.toml").write_text(f'models = ["unet"]\n[data]\nmanifest = "{phantom}"\n')
    command = [sys.executable, "-m", "eus_ray.cli", "launch", "slurm", "study.toml", "--out", "STUDY", "--submit"]
    answer = subprocess.run([*command, *sets, *options], cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def state(job: str, environment: dict[str, str]) -> dict[str, str]:
    """Return what Slurm says of a job, by field."""
    command = ["scontrol", "--oneliner", "show", "job", job]
    said = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    return dict(word.split("=", 1) for word in said.split() if "=" in word)


def limit(job: str, environment: dict[str, str], minutes: int) -> None:
    command = ["scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}"]
    subprocess.run(command, env=environment, check=True)


def minutes_run(job: str, environment: dict[str, str]) -> int:
    hours, minutes, _ = state(job, environment)["RunTime"].split(":")
    return int(hours) * 60 + int(minutes)


def wait_for_end(job: str, environment: dict[str, str], log: Path, seconds: float) -> dict[str, str]:
    ends = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY")
    wait_until(lambda: state(job, environment).get("JobState") in ends,
               lambda: f"{state(job, environment)} {log.read_text() if log.exists() else ''}", seconds)  # fmt: skip
    return state(job, environment)


def test_a_cross_validation_on_two_nodes_comes_to_its_report(
    slurm: dict[str, str], phantom: Path, tmp_path: Path
) -> None:
    job = submit(tmp_path, phantom, slurm, "--nodes", "2", "--cpus-per-task", "1", "--time", "30")
    log = tmp_path / f"eus-ray-{job}.log"
    ended = wait_for_end(job, slurm, log, 300)
    assert ended["JobState"] == "COMPLETED", log.read_text()
    assert ended["NumNodes"] == "2"
    assert_same(tables(tmp_path / "STUDY"), serial(light_study(phantom), "unet"))
    analyze = [sys.executable, "-m", "eus_ray.cli", "analyze", str(tmp_path / "STUDY")]
    subprocess.run(analyze, check=True, capture_output=True)
    assert (tmp_path / "STUDY/report/report.html").stat().st_size > 10_000
    assert_nothing_left(job, tmp_path)


def assert_nothing_left(job: str, folder: Path) -> None:
    assert not list(folder.glob(".eus-ray-*"))
    assert not list(Path("/tmp").glob(f"eusray.{job}.*"))


@pytest.mark.timeout(1800)
def test_a_job_at_its_time_limit_is_requeued_and_ends_with_the_same_tables(
    slurm: dict[str, str], phantom: Path, tmp_path: Path
) -> None:
    job = submit(tmp_path, phantom, slurm, "--cpus-per-task", "1", "--time", "60", "--signal", "110",
                 "--set", f"train.epochs={EPOCHS}")  # fmt: skip
    log = tmp_path / f"eus-ray-{job}.log"
    wait_until(lambda: bool(list(tmp_path.glob("STUDY/epochs/**/*.parquet"))), lambda: log.read_text(), 300)
    # Slurm counts in whole minutes: one to two from now, so that the signal comes when Slurm next looks
    limit(job, slurm, minutes_run(job, slurm) + 2)
    wait_until(lambda: int(state(job, slurm)["Restarts"]) > 0, lambda: f"{state(job, slurm)} {log.read_text()}", 300)
    limit(job, slurm, 60)
    ended = wait_for_end(job, slurm, log, 900)
    assert ended["JobState"] == "COMPLETED", log.read_text()
    assert "the time limit is near" in log.read_text()
    assert_same(tables(tmp_path / "STUDY"), serial(light_study(phantom, f"train.epochs={EPOCHS}"), "unet"))
    assert_nothing_left(job, tmp_path)
