"""A fourth architecture is two new files: everything else finds it by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

NETWORK = '''
"""Three convolutions."""

from typing import Self

from torch import Tensor, nn

from eus_ray.config import ModelSettings
from eus_ray.models.base import Outputs, SegmentationNetwork, register


@register("plain_net")
class PlainNet(SegmentationNetwork):
    def __init__(self, width: int, in_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Conv2d(width, 1, 1)

    @classmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
        return cls(settings.width, in_channels)

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(self.head(self.body(image)))
'''

SPEC = """
[architecture]
label = "The Plain Network"
order = 4
citations = ["ronneberger"]
settings = ["model.width"]

[search."optim.lr"]
kind = "log_float"
low = 1e-4
high = 1e-2
"""

STUDY = """
models = ["plain_net"]

[data]
manifest = "MANIFEST"
image_size = 32

[folds]
count = 2

[model]
width = 4

[train]
epochs = 1
batch_size = 4

[search]
inner_folds = 2

[run]
workers = 1
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package, its links included, with a fourth architecture."""
    for name in ("eus_ray", "analysis", "search_spaces", "cluster"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, symlinks=True)
    (tmp_path / "tree/eus_ray/models/plain_net.py").write_text(NETWORK)
    (tmp_path / "tree/search_spaces/plain_net.toml").write_text(SPEC)
    return tmp_path / "tree"


@pytest.mark.timeout(900)
def test_two_files_make_a_fourth_architecture(tree: Path, tmp_path: Path, phantom: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}

    def eus_ray(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eus_ray.cli", *words]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    study = tmp_path / "study.toml"
    study.write_text(STUDY.replace("MANIFEST", str(phantom)))
    image = min((phantom.parent / "images").iterdir())
    for command in (
        ["cv", str(study), "--out", "cv"],
        ["cv", str(study), "--out", "cv", "--resume"],
        ["tune", str(study), "--out", "tune", "--trials", "2"],
        ["predict", "cv", str(image), "--out", "predicted"],
        ["analyze", "cv"],
        ["analyze", "tune"],
    ):
        answer = eus_ray(*command)
        assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"
    for name in ("cv", "tune"):
        report = (tmp_path / name / "report/report.html").read_text(encoding="utf-8")
        assert "The Plain Network" in report
        assert "The Plain Network (Ronneberger et al., 2015)" in report
    assert (tmp_path / "predicted/areas.csv").is_file()
    refused = eus_ray("cv", str(study), "--out", "other", "--models", "plain_nett")
    assert refused.returncode == 2
    assert "'plain_nett' is not a choice; did you mean plain_net?" in refused.stderr
