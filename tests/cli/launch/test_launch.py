"""Recipes when they run and when they are submitted: with stand-ins for the programs, and for real."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eus_ray.cli import main
from eus_ray.cli.launch.checks import Ports
from eus_ray.cli.launch.launch import heed_sigint
from tests.cli.launch.commands import ELSEWHERE, SHARED, calls, launch
from tests.helpers import LIGHT, assert_same, light_study, serial, tables
from tests.processes import wait_until

FINISHES_ITS_EPOCH = """
trap 'mkdir -p STUDY/epochs; touch STUDY/epochs/part; exit 130' INT
touch running
while :; do sleep 0.1; done
"""


@pytest.fixture
def allocation(stubs: Callable[..., Path], capsys: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that runs the Slurm script as slurmd would, with stubs for Slurm's and Ray's programs."""
    started: list[subprocess.Popen[str]] = []

    def run(command: str, wait: str = "exit 0", **more: str) -> subprocess.Popen[str]:
        stubs("eus-ray", command)
        stubs("python", wait)
        stubs("scontrol")
        stubs(
            "ray",
            'stat -c %a "$RAY_AUTH_TOKEN_PATH" >mode; wc -c <"$RAY_AUTH_TOKEN_PATH" >length\n'
            'mkdir /tmp/eusray.4711.0; while [ -e "$RAY_AUTH_TOKEN_PATH" ]; do sleep 0.1; done',
        )
        folder = stubs("srun", 'export SLURM_PROCID=0 SLURM_CPUS_ON_NODE=4\nexec "${@: -3}"')
        script = launch(
            capsys, SHARED["slurm"], "--setup", f"export PATH={shlex.quote(str(folder))}:$PATH", "--signal", "60"
        )
        given = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "1", **more}
        process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **given},
            preexec_fn=heed_sigint,
        )
        started.append(process)
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.close()
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stderr is not None
    said = process.stderr.read()
    return process.wait(20), said


def test_ahead_of_the_time_limit_the_epoch_is_saved_and_the_job_requeued(
    allocation: Callable[..., Any], study: Path, tmp_path: Path
) -> None:
    process = allocation(FINISHES_ITS_EPOCH, SLURM_MEM_PER_NODE="1000", SLURM_GPUS_ON_NODE="2")
    wait_until((study.parent / "running").exists, seconds=20)
    wait_until((study.parent / "length").exists, seconds=20)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    code, said = end_of(process)
    assert code == 130, said
    assert calls(tmp_path, "scontrol") == ["requeue 4711"]
    (driver,) = calls(tmp_path, "eus-ray")
    assert driver == f"cv {study} --out {study.parent / 'STUDY'} --resume --address 127.0.0.1:26844"  # 20000 + 1711 * 4
    (ray,) = calls(tmp_path, "ray")
    options = ray.split()
    assert options[:3] == ["start", "--head", "--node-ip-address=127.0.0.1"]
    assert {"--num-cpus=4", "--num-gpus=2", "--dashboard-host=127.0.0.1", "--block"} <= set(options)
    assert f"--object-store-memory={1000 * 2**20 // 10 * 3}" in options
    assert (study.parent / "mode").read_text().strip() == "600"
    assert (study.parent / "length").read_text().strip() == "64"
    assert not (study.parent / ".eus-ray-4711").exists()
    assert not Path("/tmp/eusray.4711.0").exists()
    assert not (study.parent / "pwned").exists()


@pytest.mark.parametrize(
    ("command", "signals", "code", "requeued"),
    [
        ("exit 0", [], 0, False),
        ("exit 1", [], 1, False),
        ("trap 'exit 130' INT; touch running; while :; do sleep 0.1; done", ["USR1"], 130, False),  # saved nothing
        (FINISHES_ITS_EPOCH, ["TERM"], 130, False),  # scancel
        ("trap 'touch STUDY/epochs/part; exit 1' INT; mkdir -p STUDY/epochs; touch running; "
         "while :; do sleep 0.1; done", ["USR1"], 1, False),  # broke down on its way out
        ("trap 'sleep 0.5; mkdir -p STUDY/epochs; touch STUDY/epochs/part; exit 130' INT; touch running; "
         "while :; do sleep 0.1; done", ["USR1", "TERM"], 130, False),
    ],
    ids=["done", "failed", "nothing saved", "cancelled", "broken", "cancelled at the last minute"],
)  # fmt: skip
def test_only_a_job_that_comes_forward_is_requeued(
    allocation: Callable[..., Any],
    study: Path,
    tmp_path: Path,
    command: str,
    signals: list[str],
    code: int,
    requeued: bool,
) -> None:
    process = allocation(command)
    for name in signals:
        wait_until((study.parent / "running").exists, seconds=20)
        time.sleep(0.2)
        process.send_signal(getattr(signal, f"SIG{name}"))
    ended, said = end_of(process)
    assert ended == code, said
    assert bool(calls(tmp_path, "scontrol")) == requeued


def test_a_cluster_that_does_not_come_up_ends_the_job_with_what_ray_said(
    allocation: Callable[..., Any], study: Path, tmp_path: Path
) -> None:
    process = allocation("exit 0", wait="sleep 1; exit 1")
    code, _ = end_of(process)
    assert code == 1
    assert calls(tmp_path, "eus-ray") == []
    assert not (study.parent / ".eus-ray-4711").exists()


def test_the_workstation_script_goes_on_where_it_was_killed(
    stubs: Callable[..., Path], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs("sleep")
    folder = stubs("eus-ray", "echo to the log; [ -e second ] && exit 0; touch second; kill -9 $$")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert main(["launch", "local", "study.toml", "--out", "STUDY", "--write", "run.sh"]) == 0
    assert (
        subprocess.run(
            ["bash", "run.sh"], capture_output=True, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        ).returncode
        == 0
    )
    once = f"cv {study} --out {study.parent / 'STUDY'} --resume"
    assert calls(tmp_path, "eus-ray") == [once, once]
    stubs("eus-ray", "exit 2")
    assert subprocess.run(["bash", "run.sh"], capture_output=True).returncode == 2
    assert len(calls(tmp_path, "eus-ray")) == 3


def test_a_workstation_run_is_started_apart_and_stops_on_sigint(
    stubs: Callable[..., Path], study: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = stubs("eus-ray", f"echo to the log\n{FINISHES_ITS_EPOCH}")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert main(["launch", "local", "study.toml", "--out", "STUDY", "--write", "run.sh", "--submit"]) == 0
    pid = int(re.search(r"process (\d+)", capsys.readouterr().out)[1])  # type: ignore[index]
    wait_until((study.parent / "running").exists, seconds=20)
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGINT)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert (study.parent / "run.sh.log").read_text() == "to the log\n"


# ---- writing and submitting ---------------------------------------------------------------------


def test_a_recipe_is_written_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["launch", "slurm", "study.toml", "--out", "STUDY", "--time", "1:00:00", "--write", "job.sh"]
    assert main(command) == 0
    first = (study.parent / "job.sh").read_text()
    assert first.startswith("#!/bin/bash")
    assert os.access("job.sh", os.X_OK)
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (study.parent / "job.sh").read_text() == first


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("name", "program", "called"),
    [
        ("slurm", "sbatch", "--parsable"),
        ("RayJob", "kubectl", "create --filename -"),
        ("ray", "ray", "job submit --address http://127.0.0.1:8265 --no-wait --submission-id study-1"),
    ],
)
def test_a_recipe_is_submitted_by_the_schedulers_own_program(
    name: str, program: str, called: str, request: pytest.FixtureRequest, stubs: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = stubs(program, f"cat >{shlex.quote(str(tmp_path / 'stdin'))}; echo job 4711")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    target, out = SHARED.get(name), "STUDY"
    if target is None:
        request.getfixturevalue("remote")
        target, out = ELSEWHERE[name], "/data/STUDY"
    recipe = launch(capsys, target, out=out)
    assert launch(capsys, target, "--submit", out=out) == "job 4711\n"
    (said,) = calls(tmp_path, program)
    assert said.startswith(called)
    assert (tmp_path / "stdin").read_text() == recipe


def test_a_cloud_is_started_and_then_the_study_on_it(
    remote: Path, stubs: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stubs("ray")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    token = tmp_path / "keys/token"
    more = ["--write", "c.yaml", "--submit", "--token", str(token)]
    launch(capsys, ELSEWHERE["aws"], *more, out="s3://bucket/STUDY")
    path = remote.parent / "c.yaml"
    up, run = calls(tmp_path, "ray")
    assert up == f"up --yes {path}"
    assert run.startswith(f"exec {path} export RAY_AUTH_MODE=token && python -c ")
    assert "wait_for_nodes('\"'\"'127.0.0.1:6379'\"'\"', 3)" in run
    assert run.endswith("-- eus-ray cv /tmp/eus-ray/study.toml --out s3://bucket/STUDY --resume")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert yaml.safe_load(path.read_text())["file_mounts"]["~/.ray/auth_token"] == str(token)


@pytest.mark.usefixtures("remote")
def test_a_token_that_others_can_read_is_refused(
    stubs: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stubs("ray") / "python"))
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    command = [*ELSEWHERE["aws"], "--write", "c.yaml", "--submit", "--token", str(token)]
    assert main(["launch", command[0], "study.toml", "--out", "s3://bucket/STUDY", *command[1:]]) == 2
    assert "others may read this token" in capsys.readouterr().err
    assert not Path("c.yaml").exists()
    assert calls(tmp_path, "ray") == []


@pytest.mark.usefixtures("study")
def test_what_the_scheduler_refuses_is_one_line(
    stubs: Callable[..., Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stubs("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert main(["launch", "slurm", "study.toml", "--out", "STUDY", "--time", "1:00:00", "--submit"]) == 2
    assert capsys.readouterr().err == (
        "eus-ray: sbatch refused (exit code 1): sbatch: error: invalid partition specified: gpu\n"
    )


# ---- for real -----------------------------------------------------------------------------------


@pytest.fixture
def running_cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray cluster with a token, as `ray start` leaves it: its dashboard, and the environment of its users."""
    token = tmp_path / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "RAY_AUTH_MODE": "token"}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    ports = Ports(23000, 23199)
    options = ["--head", f"--port={ports.first}", "--num-cpus=2", *ports.head, *ports.every_node, "--block"]
    # a job joins the cluster that this folder names: in Ray's usual one any other that starts writes its address
    temporary = tempfile.mkdtemp(prefix="eus-test-", dir="/tmp")  # short: Ray puts sockets in it
    options.append(f"--temp-dir={temporary}")
    with (tmp_path / "ray.log").open("w") as log:
        process = subprocess.Popen(
            [str(programs / "ray"), "start", *options], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{ports.first + 1}", environment
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_job_on_a_running_cluster_ends_with_the_same_tables(
    running_cluster: tuple[str, dict[str, str]], phantom: Path, tmp_path: Path
) -> None:
    url, environment = running_cluster
    sets = [word for setting in LIGHT for word in ("--set", setting)]
    (tmp_path / "study.toml").write_text(f'models = ["unet"]\n[data]\nmanifest = "{phantom}"\n')
    command = [sys.executable, "-m", "eus_ray.cli", "launch", "ray", str(tmp_path / "study.toml"), *sets]
    command += ["--out", str(tmp_path / "STUDY"), "--address", url, "--submission-id", "study-1", "--submit"]
    waiting = "from eus_ray.cli.launch.launch import wait_for_nodes; wait_for_nodes('127.0.0.1:23000', 1, 60)"
    subprocess.run([sys.executable, "-c", waiting], env=environment, check=True)
    without = {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}
    (tmp_path / "wrong").write_text("0" * 64)
    refused = subprocess.run(command, env=without, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    subprocess.run(command, env=environment, check=True)
    status = ["ray", "job", "status", "--address", url, "study-1"]

    def ended() -> bool:
        said = subprocess.run(status, env=environment, capture_output=True, text=True).stdout
        assert "failed" not in said
        return "succeeded" in said

    wait_until(ended, seconds=180)
    assert_same(tables(tmp_path / "STUDY"), serial(light_study(phantom), "unet"))
