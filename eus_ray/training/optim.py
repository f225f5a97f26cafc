"""How weights are updated: optimiser, learning rate of each step, precision, and their state in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from eus_ray.config import OptimSettings
from eus_ray.training.checkpoint import below

FACTOR = "lr_factor"
"""Entry of a parameter group: its learning rate as a multiple of the schedule's."""


def encoder_of(model: torch.nn.Module) -> torch.nn.Module | None:
    """Return a network's encoder; None if it has none that it calls so."""
    encoder = getattr(model, "encoder", None)
    return encoder if isinstance(encoder, torch.nn.Module) else None


def optimizer_for(
    optim: OptimSettings, model: torch.nn.Module, *, is_encoder_late: bool = False, is_scaled: bool = False
) -> Optimizer:
    """Return the optimiser of a model's parameters; `set_learning_rate` sets its learning rate anew at each step.

    Args:
        optim: Its settings.
        model: The network.
        is_encoder_late: Whether the encoder is frozen at first. It then has a group of its own, as it has with another
            learning rate: the fused SGD wants all parameters of a group to begin at once.
        is_scaled: Whether a loss scaler can skip steps (float16). SGD is not fused then: if its first step is skipped,
            the fused one takes whatever lies in memory for its momentum.
    """
    groups: Any = model.parameters()
    encoder = encoder_of(model)
    if encoder is not None and (is_encoder_late or optim.encoder_lr_factor != 1):
        inside = set(encoder.parameters())
        groups = [
            {"params": [weight for weight in model.parameters() if weight not in inside]},
            {"params": [weight for weight in model.parameters() if weight in inside], FACTOR: optim.encoder_lr_factor},
        ]
    if optim.optimizer == "sgd":
        decay, is_fused = optim.weight_decay, not is_scaled
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=decay, fused=is_fused)
    return torch.optim.AdamW(groups, lr=optim.lr, weight_decay=optim.weight_decay, fused=True)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step; the encoder's is multiplied by its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


class FreezableEncoder:
    """A network's encoder, which can stay as it is: without gradients, in evaluation mode.

    Parameters that need no gradient to begin with stay so.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Take the encoder of a network, which may have none."""
        self._encoder = encoder_of(model)
        inside = () if self._encoder is None else self._encoder.parameters()
        self._weights = [weight for weight in inside if weight.requires_grad]

    def freeze(self, is_frozen: bool) -> None:
        """Freeze the encoder, or let it learn; to be called when the network is in training mode."""
        for weight in self._weights:
            weight.requires_grad_(not is_frozen)
        if is_frozen and self._encoder is not None:
            self._encoder.eval()


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


def optim_state(optimizer: Optimizer, scaler: torch.amp.GradScaler) -> dict[str, torch.Tensor]:
    """Return the state of optimiser and loss scaler, under `optimizer/` and `scaler/`."""
    tensors = {
        f"optimizer/{index}/{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    scaling = scaler.state_dict().items()
    return tensors | {f"scaler/{name}": torch.tensor(value, dtype=torch.float64) for name, value in scaling}


def load_optim_state(tensors: Mapping[str, torch.Tensor], optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
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
