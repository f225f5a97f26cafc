"""Who may connect to the cluster that a run starts on a workstation: tried with real connections."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from eus_ray.distributed.auth_token import DEFAULT, guard_own_token
from eus_ray.distributed.planner import Plan
from eus_ray.distributed.resources import Machines
from eus_ray.distributed.session import Session
from eus_ray.distributed.trainable import Workers
from eus_ray.errors import UserError
from eus_ray.study.cross_validate import cross_validate, tell_plan
from tests.helpers import Recorder, light_study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DRIVER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
print("cpus", int(ray.cluster_resources()["CPU"]))
"""
JOB = """
import sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
end = time.monotonic() + 60
while True:
    try:
        job = client.submit_job(entrypoint="echo a job ran")
        break
    except RuntimeError as error:
        if "No available agent" not in str(error) or time.monotonic() > end:  # it has just started
            raise
        time.sleep(1)
while not client.get_job_status(job).is_terminal() and time.monotonic() < end:
    time.sleep(0.5)
print(client.get_job_logs(job))
"""


CLUSTER = """
from functools import partial
import ray, ray._private.parameter as parameter
from eus_ray.distributed.session import session
# where its usual port is taken, as by another test's cluster, the agent that takes jobs goes on without
parameter.RayParams = partial(parameter.RayParams, dashboard_agent_listen_port=0)
with session(num_cpus=1, dashboard=True) as cluster:
    print(ray.get_runtime_context().gcs_address, f"http://{cluster.dashboard}", flush=True)
    input()
"""


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """The addresses of GCS and dashboard of a cluster as a run on a workstation starts it."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cluster:
        assert cluster.stdout is not None
        gcs, dashboard = cluster.stdout.readline().split()
        yield gcs, dashboard
        cluster.communicate("\n", timeout=60)


def stranger(code: str, address: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as someone who has neither the token's file nor this process's environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code, address],
        env={**clean, "HOME": str(home), "RAY_gcs_rpc_server_reconnect_timeout_s": "5", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def own_token() -> str:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT
    return os.environ.get("RAY_AUTH_TOKEN") or Path(path).expanduser().read_text()


def test_a_driver_without_the_token_or_with_another_is_refused(addresses: tuple[str, str], tmp_path: Path) -> None:
    strangers = ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64})
    with ThreadPoolExecutor() as pool:  # each tries for 20 s
        tries = [pool.submit(stranger, DRIVER, addresses[0], tmp_path, **environment) for environment in strangers]
    for answer in (each.result() for each in tries):
        assert answer.returncode != 0
        assert "cpus" not in answer.stdout


def test_a_driver_with_the_token_is_let_in(addresses: tuple[str, str], tmp_path: Path) -> None:
    answer = stranger(DRIVER, addresses[0], tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=own_token())
    assert answer.stdout.startswith("cpus"), answer.stderr


def test_a_job_without_the_token_is_refused(addresses: tuple[str, str], tmp_path: Path) -> None:
    answer = stranger(JOB, addresses[1], tmp_path, RAY_AUTH_MODE="disabled")
    assert answer.returncode != 0
    assert "a job ran" not in answer.stdout
    assert "401" in answer.stderr or "nauth" in answer.stderr, answer.stderr


def test_a_job_with_the_token_runs(addresses: tuple[str, str], tmp_path: Path) -> None:
    answer = stranger(JOB, addresses[1], tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=own_token())
    assert "a job ran" in answer.stdout, answer.stderr


@pytest.mark.parametrize("wanted", [False, True])
def test_a_run_starts_the_dashboard_where_the_study_asks_for_it(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    def session(_: str | None, *, dashboard: bool, **_others: object) -> NoReturn:
        raise UserError(f"asked for {dashboard}")

    monkeypatch.setattr("eus_ray.study.cross_validate.session", session)
    with pytest.raises(UserError, match=f"asked for {wanted}"):
        cross_validate(light_study(phantom, *(["run.dashboard=true"] if wanted else [])), tmp_path / "study")


def test_a_run_says_where_its_dashboard_is() -> None:
    recorder = Recorder()
    plan = Plan(Workers(1, 1, 1, 0), max_concurrent_trials=1, text="5 folds on 1 worker")
    for dashboard in ("", "127.0.0.1:8266"):
        tell_plan([recorder], plan, Session(Path(), Machines(()), 0, dashboard))
    assert recorder.plans[:2] == ["5 folds on 1 worker"] * 2
    assert recorder.plans[2].startswith("Ray's dashboard: http://127.0.0.1:8266; ")


@pytest.mark.parametrize("path", ["/api/jobs/", "/nodes?view=summary", "/api/v0/actors"])
def test_the_dashboard_asks_for_the_token(addresses: tuple[str, str], path: str) -> None:
    def status(**headers: str) -> int:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(addresses[1] + path, headers=headers), timeout=30
            ) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert status() in (401, 403)
    assert status(Authorization=f"Bearer {'0' * 64}") in (401, 403)
    assert status(Authorization=f"Bearer {own_token()}") == 200


def test_the_dashboard_listens_on_the_loopback_alone(addresses: tuple[str, str]) -> None:
    port = int(addresses[1].rsplit(":", 1)[1])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}
    others = {
        address.address
        for addresses_ in psutil.net_if_addrs().values()
        for address in addresses_
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    for other in others:
        with pytest.raises((ConnectionRefusedError, TimeoutError)), socket.create_connection((other, port), timeout=5):
            pass


def test_the_tokens_file_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep/token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    guard_own_token()
    token = file.read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    assert file.stat().st_mode & 0o077 == 0
    assert list(file.parent.iterdir()) == [file]
    file.chmod(0o644)  # as Ray makes it
    guard_own_token()
    assert file.stat().st_mode & 0o077 == 0
    assert file.read_text() == token
