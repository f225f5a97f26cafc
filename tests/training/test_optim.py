"""Learning rates are those of PyTorch's own schedules."""

from __future__ import annotations

import pytest
import torch

from eus_ray.config import OptimSettings
from eus_ray.training.optim import learning_rate


def optimizer(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_the_steps_schedule_is_torchs_multi_step() -> None:
    optim = OptimSettings(schedule="steps", lr=0.007, milestones=(5, 20), gamma=0.02)
    steps = torch.optim.lr_scheduler.MultiStepLR(reference := optimizer(0.007), [5, 20], 0.02)
    for epoch in range(30):
        assert learning_rate(optim, epoch, 3, 10, 30) == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        steps.step()
    assert learning_rate(optim, 4, 0, 10, 50) == 0.007
    assert learning_rate(optim, 5, 0, 10, 50) == pytest.approx(0.00014)
    assert learning_rate(optim, 20, 0, 10, 50) == pytest.approx(2.8e-6)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_smooth_schedules_are_torchs(schedule: str) -> None:
    epochs, steps = 4, 10
    optim = OptimSettings(schedule=schedule, lr=0.1)
    reference = optimizer(0.1)
    if schedule == "cosine":
        torchs = torch.optim.lr_scheduler.CosineAnnealingLR(reference, epochs * steps - 1)
    else:
        torchs = torch.optim.lr_scheduler.OneCycleLR(reference, 0.1, total_steps=epochs * steps)
    for step in range(epochs * steps):
        ours = learning_rate(optim, step // steps, step % steps, steps, epochs)
        # torch's one-cycle turns at step 0.3 n - 1, half a step before 0.3 (n - 1)
        tolerance = 0.01 if schedule == "one_cycle" else 1e-9
        assert ours == pytest.approx(reference.param_groups[0]["lr"], abs=tolerance)
        if step < epochs * steps - 1:
            reference.step()
            torchs.step()
