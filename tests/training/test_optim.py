"""Learning rates are those of PyTorch's own schedules."""

from __future__ import annotations

import pytest
import torch

from eus_ray.config import OptimSettings
from eus_ray.training.optim import learning_rate, optimizer_for


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


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_first_step_that_the_loss_scaler_skips_leaves_no_trace(name: str) -> None:
    """Float16 gradients overflow at first, until the scale is small enough."""
    settings = OptimSettings(optimizer=name, weight_decay=0)
    clean, skipped = (torch.nn.Linear(1000, 1, bias=False) for _ in range(2))
    skipped.load_state_dict(clean.state_dict())
    for model, gradients in ((clean, [1.0, 2.0]), (skipped, [float("inf"), 1.0, 2.0])):
        steps, scaler = optimizer_for(settings, model, is_scaled=True), torch.amp.GradScaler("cpu")
        scaler.scale(torch.ones(()))
        garbage = [torch.full((1, 1000), 1e30) for _ in range(50)]
        del garbage  # it may lie where the momentum will
        for gradient in gradients:
            model.weight.grad = torch.full((1, 1000), gradient * scaler.get_scale())
            scaler.step(steps)
            scaler.update()
    torch.testing.assert_close(skipped.weight, clean.weight, rtol=1e-6, atol=1e-7)
    assert skipped.weight.abs().max() < 1
