"""Shared by the tests of launching: targets with their options, and functions that read recipes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from eus_ray.cli import main

NASTY = "a b'c\"d$(touch pwned)`touch pwned`;&#"
"""A folder name that only right quoting survives."""

SHARED = {
    "local": ["local", "--gpus", "0,1"],
    "ray": ["ray", "--address", "http://127.0.0.1:8265", "--submission-id", "study-1"],
    "slurm": ["slurm", "--time", "12:00:00", "--cpus-per-task", "8", "--gpus-per-node", "a100:4", "--mem", "64G"],
    "slurm, whole nodes": [
        "slurm",
        "--time",
        "1-12",
        "--nodes",
        "2",
        "--port-range",
        "20000-20999",
        "--sbatch",
        "qos=long",
    ],
}
CLOUD = ["autoscaler", "--instance-type", "big", "--workers", "2", "--region", "here", "--image", "registry/eus-ray:1"]
COUNTS = ["--cpus-per-node", "16", "--gpus-per-node", "4"]
ELSEWHERE = {
    "aws": [*CLOUD, "--provider", "aws", "--spot", "--machine-image", "ami-1", "--zone", "here-a"],
    "gcp": [*CLOUD, "--provider", "gcp", "--zone", "here-a", "--project-id", "eus", "--spot", *COUNTS],
    "azure": [*CLOUD, "--provider", "azure", "--resource-group", "eus", *COUNTS, "--port-range", "20000-20999"],
    "own machines": ["autoscaler", "--provider", "local", "--head-ip", "10.0.0.1", "--worker-ips", "10.0.0.2,10.0.0.3",
                     "--ssh-user", "me", "--ssh-private-key", "~/.ssh/id_ed25519", "--setup", "module load python"],
    "RayJob": ["kuberay", "--image", "registry/eus-ray:1", "--volume", "eus-data:/data", "--gpus-per-worker", "1",
               "--node-selector", "gpu=a100", "--workers", "5"],
    "RayCluster": ["kuberay", "--image", "registry/eus-ray:1", "--volume", "eus-data:/data", "--kind", "RayCluster"],
}  # fmt: skip


def launch(capsys: pytest.CaptureFixture[str], target: list[str], *more: str, out: str = "STUDY") -> str:
    """Return what `eus-ray launch` prints."""
    assert main(["launch", target[0], "study.toml", "--out", out, *target[1:], *more]) == 0
    return capsys.readouterr().out


def options_of(script: str, program: str) -> list[str]:
    """Return the words of the bash array or command in a script, as bash would see them."""
    (line,) = re.findall(rf"^{program}(.*)$", script, re.MULTILINE)
    return shlex.split(line.removesuffix(")"))


def check_bash(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text(script)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        answer = subprocess.run(["shellcheck", "--severity=warning", str(path)], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout


def calls(tmp_path: Path, program: str) -> list[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]
