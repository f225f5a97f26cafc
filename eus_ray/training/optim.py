"""How weights are updated: optimiser, learning rate of each step, precision, and their state in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from eus_ray.config import OptimSettings
from eus_ray.training.checkpoint import below


def optimizer_for(optim: OptimSettings, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a model's parameters; its learning rate is set anew at each step."""
    if optim.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True
        )
    return torch.optim.AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def learning_rate(optim: OptimSettings, epoch: int, step: int, steps: int, epochs: int) -> float:
    """Return the learning rate of a step.

    `steps` multiplies by `gamma` from each milestone's epoch on (the paper's); `cosine` falls to 0 over the epochs;
    `one_cycle` rises from lr/25 over the first 30 % and falls to lr/250,000 (Smith and Topin 2019).

    Args:
        optim: The schedule.
        epoch: Counts from 0.
        step: Counts from 0 in its epoch.
        steps: How many an epoch has.
        epochs: How many the schedule has.
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
    """Return the type in which the forward pass computes; `name` is `train.precision`."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def optim_state(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> dict[str, torch.Tensor]:
    """Return the state of optimiser and loss scaler, under `optimizer/` and `scaler/`."""
    tensors = {
        f"optimizer/{index}/{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    scaling = scaler.state_dict().items()
    return tensors | {f"scaler/{name}": torch.tensor(value, dtype=torch.float64) for name, value in scaling}


def load_optim_state(
    tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Set optimiser and loss scaler to what `optim_state` gave, which may stand among other tensors."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in below("optimizer/", tensors).items():
        index, name = key.split("/")
        parameter = parameters[int(index)]
        if value.dim() and value.shape == parameter.shape:
            # the fused step walks moments and weights side by side in memory
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    scaling = {name: value.item() for name, value in below("scaler/", tensors).items()}
    if scaling:
        whole = {name: int(scaling[name]) for name in ("growth_interval", "_growth_tracker")}
        scaler.load_state_dict({**scaling, **whole})
