"""Several machines, played by nodes on one: workers spread over them, and a node that dies takes nothing along."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import assert_same, light_study, serial, tables
from tests.processes import marked, wait_until

ROOT = Path(__file__).resolve().parent.parent

CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster()
node = dict(num_cpus=2, object_store_memory=100_000_000)
cluster.add_node(**node, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=0)
others = [cluster.add_node(**node) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(others.pop(), allow_graceful=False)
    if line.strip() == "add":
        others.append(cluster.add_node(**node))
    print("done", flush=True)
"""


class Nodes:
    """Three nodes of two CPUs each, in a process of their own."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.environment = {
            **os.environ,
            "EUS_RAY_TEST": mark,
            "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_timeout_ms": "1000",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = next(line for line in self._process.stdout if re.match(r"[\d.]+:\d+$", line.strip())).strip()

    def do(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert any(line.strip() == "done" for line in self._process.stdout)

    def close(self) -> None:
        for process in marked(self.mark):
            process.kill()
        self._process.wait()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    cluster = Nodes(uuid.uuid4().hex)
    yield cluster
    cluster.close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_dies_takes_nothing_along(phantom: Path, tmp_path: Path, nodes: Nodes) -> None:
    """Five workers on three nodes; one node dies in mid-run, so that four go on; a new node comes."""
    options = ("run.workers=5", "run.min_workers=2", "train.epochs=8", "data.image_size=64", "model.width=8")
    study = light_study(phantom, *options)
    folder = tmp_path / "study"
    command: list[Any] = [sys.executable, "-m", "eus_ray.cli", "cv", "--out", folder, "--address", nodes.address]
    sets = [f"data.manifest={phantom}", "data.image_size=64", "model.width=8", "train.batch_size=4"]
    sets += ["run.checkpoint_interval_s=0", *options[:3], "model.encoder=resnet10t", "model.decoder_width=8"]
    command += ["--models", "unet", *(part for value in sets for part in ("--set", value))]
    run = subprocess.Popen(command, env=nodes.environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = folder / "logs/unet_trial-0.log"

    def epochs() -> int:
        return log.read_text().count(": loss ") if log.exists() else 0

    wait_until(lambda: epochs() >= 5 or run.poll() is not None, seconds=200)
    assert run.poll() is None, run.stderr and run.stderr.read()
    nodes.do("kill")
    before = epochs()
    assert before < 40, "it was meant to die in mid-run"
    wait_until(lambda: epochs() > before + 5 or run.poll() is not None, seconds=200)
    nodes.do("add")
    _, errors = run.communicate(timeout=400)
    assert run.returncode == 0, errors
    assert "lost worker" in log.read_text()
    assert_same(tables(folder), serial(study, "unet"))
