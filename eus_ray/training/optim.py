"""How weights are updated: the optimiser, its learning rate at each step, and the precision of the arithmetic."""

from __future__ import annotations

import math

import torch

from eus_ray.config import OptimSettings


def optimizer_for(optim: OptimSettings, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a model's parameters; its learning rate is set anew at each step."""
    if optim.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True
        )
    return torch.optim.AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def learning_rate(optim: OptimSettings, epoch: int, step: int, steps: int, epochs: int) -> float:
    """The learning rate of a step: `epoch` and `step` count from 0, `steps` is how many an epoch has.

    `steps` multiplies by `gamma` from each milestone's epoch on (the paper's); `cosine` falls to 0 over
    the run; `one_cycle` rises from lr/25 over the first 30 % and falls to lr/250,000 (Smith and Topin 2019).
    """
    if optim.schedule == "steps":
        return optim.lr * optim.gamma ** sum(epoch >= milestone for milestone in optim.milestones)
    last = max(1, steps * epochs - 1)
    done = (epoch * steps + step) / last
    if optim.schedule == "cosine":
        return _cosine(optim.lr, 0.0, done)
    if done <= 0.3:
        return _cosine(optim.lr / 25, optim.lr, done / 0.3)
    return _cosine(optim.lr, optim.lr / 250_000, (done - 0.3) / 0.7)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def precision_for(name: str, device: torch.device) -> torch.dtype:
    """The type that the forward pass computes in."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
