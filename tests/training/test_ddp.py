"""Several processes that train one fold end where one process does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eus_ray.distributed import worker
from eus_ray.training.ddp import Team

ROOT = Path(__file__).resolve().parents[2]


CASES = {
    "uneven": ("train.batch_size=4",),  # 17 images: three batches of 4 and one of 5, so that shares are uneven
    "one image a batch": ("train.batch_size=1",),  # one process of the two has nothing that counts
    "accumulated and clipped": ("train.batch_size=2", "train.accumulate=3", "train.clip_norm=0.1"),
    "outputs without a loss": (
        "train.batch_size=6",
        "loss.slf_weight=0",
        "model.encoder=resnet10t",
        "model.decoder_width=8",
    ),
    "encoder frozen at first": (
        "train.batch_size=3",
        "train.accumulate=2",
        "train.freeze_encoder_epochs=1",
        "optim.encoder_lr_factor=0.5",
        "loss.slf_weight=1",
        "model.encoder=resnet10t",
        "model.decoder_width=8",
    ),
}
PLAIN = ("optim.optimizer=sgd", "optim.momentum=0", "optim.weight_decay=0", "optim.lr=0.05")
"""Plain gradient descent, so that the weights say what the gradients were."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process alone and a team of two have left what they trained, all cases in turn."""
    out = tmp_path_factory.mktemp("team")
    cases = json.dumps([[*PLAIN, *overrides] for overrides in CASES.values()])
    for size in (1, 2):
        command = [sys.executable, "-m", "tests.training.ddp_worker"]
        processes = [
            subprocess.Popen([*command, str(rank), str(size), str(out / "meet"), str(out), cases], cwd=ROOT)
            for rank in range(size)
        ]
        assert [process.wait(120) for process in processes] == [0] * size
    return out


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=list(CASES))
def test_two_processes_give_the_gradients_of_one(trained: Path, case: int) -> None:
    alone, first, second = (load_file(trained / f"{case}_{name}.safetensors") for name in ("1_0", "2_0", "2_1"))
    rows = [json.loads((trained / f"{case}_{name}.json").read_text()) for name in ("1_0", "2_0", "2_1")]
    moved = 0.0
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=2e-4, atol=2e-6)
        assert torch.equal(first[name], second[name]), "all processes of a team have the same weights"
        moved += float(value.abs().sum())
    assert moved > 0
    for mine in rows[1:]:
        for row, expected in zip(mine, rows[0], strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert row["dsc"] == pytest.approx(expected["dsc"], abs=2e-3)


def test_a_worker_too_many_for_a_team_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a GPU of four is lost and teams are of two: three workers are one team and one who waits."""
    monkeypatch.setattr(torch.distributed, "new_group", tuple)
    first, second, third = (worker._team(rank, 3, 2) for rank in range(3))
    assert third == (None, 1, 1), "place 1 of 1: no fold is his"
    for rank, (team, place, places) in enumerate((first, second)):
        assert team is not None
        assert (team.rank, team.size, team.group, place, places) == (rank, 2, (0, 1), 0, 1)


def test_shares_of_a_batch_are_its_images_once_each() -> None:
    batches = [np.arange(5), np.arange(5, 7), np.array([7])]
    shares = [Team(rank, 3, group=None).shares(batches) for rank in range(3)]  # type: ignore[arg-type]
    counted = [[share[:number].tolist() for share, number in zip(*each, strict=True)] for each in shares]
    assert counted == [[[0, 3], [5], [7]], [[1, 4], [6], []], [[2], [], []]]
    assert all(len(share) for each in shares for share in each[0]), "nobody stays out of an exchange"
