"""Several machines, played by nodes on one: workers spread over them, and a node that dies takes nothing along."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eus_ray.config_file import study_toml
from tests.helpers import LIGHT, assert_same, light_study, serial, tables
from tests.others import Package
from tests.processes import marked, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).resolve().parents[2]

CLUSTER = """
import sys, time
import psutil
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
cluster = Cluster()
node = dict(num_cpus=2, object_store_memory=100_000_000)
# without memory: a trial's own process asks for a byte, and is to be on a node that may die
cluster.add_node(**node, memory=0)
others = [cluster.add_node(**node) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in others}
        mine = (process for raylet in raylets for process in psutil.Process(raylet).children())
        (controller,) = (process for process in mine if "ImplicitFunc" in " ".join(process.cmdline()))
        cluster.remove_node(raylets[controller.ppid()], allow_graceful=False)
    if line.strip() == "announce":  # as a cloud does that wants its machine back
        deadline_ms = int(1000 * time.time()) + 8000
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        assert GcsClient(address=cluster.address).drain_node(others[-1].node_id, reason, "", deadline_ms)[0]
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
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
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


class Run:
    """A cross-validation of U-Net on the nodes: five workers, and as many as are left when a node goes."""

    def __init__(self, phantom: Path, folder: Path, nodes: Nodes, *options: str) -> None:
        changed = ("run.workers=5", "run.min_workers=2", "data.image_size=64", "model.width=8", *options)
        self.study, self.folder = light_study(phantom, *changed), folder
        self.log = folder / "logs/unet_trial-0.log"
        command: list[Any] = [sys.executable, "-m", "eus_ray.cli", "cv", "--out", folder, "--address", nodes.address]
        sets = [part for value in (f"data.manifest={phantom}", *LIGHT, *changed) for part in ("--set", value)]
        self.process = subprocess.Popen(
            [*command, "--models", "unet", *sets], env=nodes.environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )

    def epochs(self, of: str = "") -> int:
        """Fold-epochs that were trained so far; `of` narrows them."""
        return self.log.read_text().count(f"{of}: loss ") if self.log.exists() else 0

    def wait_for(self, epochs: int) -> None:
        wait_until(lambda: self.epochs() >= epochs or self.process.poll() is not None, seconds=200)
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()

    def ends_undisturbed(self) -> None:
        _, errors = self.process.communicate(timeout=400)
        assert self.process.returncode == 0, errors
        assert_same(tables(self.folder), serial(self.study, "unet"))


def test_a_node_that_dies_takes_nothing_along(phantom: Path, tmp_path: Path, nodes: Nodes) -> None:
    """One of three nodes dies in mid-run, with the trial's own process and some workers; then a new one comes."""
    run = Run(phantom, tmp_path / "study", nodes, "train.epochs=8")
    run.wait_for(5)
    nodes.do("kill")
    before = run.epochs()
    assert before < 40, "it was meant to die in mid-run"
    run.wait_for(before + 5)
    nodes.do("add")
    run.ends_undisturbed()
    assert "lost the trial's own process; it starts again" in run.log.read_text()


def test_what_was_trained_is_saved_when_a_machine_is_announced_to_go(
    phantom: Path, tmp_path: Path, nodes: Nodes
) -> None:
    """Checkpoints are far apart: without the notice every fold would begin again."""
    run = Run(phantom, tmp_path / "study", nodes, "train.epochs=10", "run.checkpoint_interval_s=100000")
    run.wait_for(5)
    assert not list(run.folder.glob("checkpoints/**/*.safetensors"))
    nodes.do("announce")
    run.ends_undisturbed()
    assert [run.epochs(f"fold {fold} epoch 0") for fold in range(5)] == [1] * 5


def test_a_network_that_only_the_drivers_machine_has_trains_on_every_node(
    phantom: Path, tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes' processes have never heard of its folder; the package is not theirs to import."""
    package = Package(tmp_path / "lab", "lab_of_the_driver")
    study_file = tmp_path / "study.toml"
    study = package.study(phantom, "folds.count=5", "run.workers=5", "run.min_workers=2", "train.epochs=2")
    study_file.write_text(study_toml(study))
    command: list[Any] = [sys.executable, "-m", "eus_ray.cli", "cv", study_file, "--out", tmp_path / "study"]
    environment = {**nodes.environment, "PYTHONPATH": str(package.folder)}
    assert "PYTHONPATH" not in nodes.environment
    ran = subprocess.run(
        [*command, "--address", nodes.address], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    log = (tmp_path / "study/logs/ours_trial-0.log").read_text()
    assert [log.count(f"fold {fold} epoch 1: loss ") for fold in range(5)] == [1] * 5
    package.put_on_path(monkeypatch)
    assert_same(tables(tmp_path / "study"), serial(study, "ours"))
    assert not list(Path(tempfile.gettempdir()).glob("eus-ray-*/lab_of_the_driver"))
