"""The common part of all architectures: inputs and outputs, the forward pass, and the registry.

Training, evaluation and prediction run a network by `as_input`, `forward` and `probability` alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eus_ray.config import ModelSettings


class Outputs(NamedTuple):
    """Logits of one forward pass, the finest level first."""

    si: Tensor
    """Single images `(N, K, H, W)`: K is 4 for DAF-Net, 1 for a network with one output."""
    slf: Tensor | None
    """Predictions of DAF-Net's single-layer features `(N, 4, H, W)`, for deep supervision; else None."""


def as_input(images: npt.NDArray[np.uint8], device: torch.device, channels_last: bool) -> Tensor:
    """Return gray images `(B, S, S)` as a network takes them: `(B, 1, S, S)` float32 in [0, 1] on the device."""
    image = to_device(images, device) / 255
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


def to_device(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return images or masks `(B, S, S)` as `(B, 1, S, S)` float32, copied asynchronously to a GPU."""
    image = torch.from_numpy(np.ascontiguousarray(images)[:, None])
    if device.type == "cuda":
        image = image.pin_memory()
    return image.to(device, non_blocking=True).float()


def forward(model: nn.Module, image: Tensor, precision: torch.dtype) -> Outputs:
    """Return the network's logits of `(B, 1, S, S)`, computed in `precision`."""
    with torch.autocast(image.device.type, precision, enabled=precision is not torch.float32):
        outputs: Outputs = model(image)
    return outputs


def probability(outputs: Outputs) -> Tensor:
    """Return the prediction `(N, H, W)`, float32 in [0, 1]: the mean of the single images (paper, section 2.4)."""
    return outputs.si.float().sigmoid().mean(dim=1)


class SegmentationNetwork(nn.Module, ABC):
    """A network from images `(N, 1, H, W)` in [0, 1] to `Outputs`; H and W are multiples of 16, 32 at least."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: ModelSettings) -> Self:
        """Build the network that the settings describe; torch's global generator draws its initial weights."""

    @classmethod
    def check(cls, settings: ModelSettings) -> None:
        """Raise `UserError` if no network can be built from the settings; build nothing."""

    @abstractmethod
    def forward(self, image: Tensor) -> Outputs:
        """Return the logits of a batch."""


Network = TypeVar("Network", bound=type[SegmentationNetwork])

REGISTRY: dict[str, type[SegmentationNetwork]] = {}
"""The architectures that are imported so far, by their names in the study file."""


def register(name: str) -> Callable[[Network], Network]:
    """Return a decorator that enters a class into the registry: it is what `model.arch = name` builds."""

    def enter(network: Network) -> Network:
        REGISTRY[name] = network
        return network

    return enter
