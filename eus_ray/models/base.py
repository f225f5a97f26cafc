"""The common part of all architectures: inputs and outputs, the forward pass, and the registry.

Training runs a network by `as_input` and `forward`; evaluation and prediction do by `as_input` and `predict`.
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
    """Logits of one forward pass."""

    logits: Tensor
    """`(N, 1, H, W)`; of DAF-Net its four single images `(N, 4, H, W)`, the finest level first."""
    auxiliary: Tensor | None = None
    """Further predictions `(N, M, H, W)` that only the loss sees, for deep supervision; of DAF-Net those of its
    single-layer features, M = 4, the finest first. None if there are none."""


def as_input(images: npt.NDArray[np.uint8], device: torch.device, channels_last: bool) -> Tensor:
    """Return images as a network takes them, float32 in [0, 1] on the device.

    Args:
        images: Gray `(B, S, S)` or colour `(B, S, S, 3)`.
        device: Where they go.
        channels_last: The memory format.

    Returns:
        `(B, 1, S, S)` or `(B, 3, S, S)`.
    """
    image = to_device(images, device) / 255
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


def to_device(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return images or masks as float32, copied asynchronously to a GPU.

    `(B, S, S)` becomes `(B, 1, S, S)`, and colour `(B, S, S, 3)` becomes `(B, 3, S, S)`.
    """
    channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    image = torch.from_numpy(np.ascontiguousarray(channels_first))
    if device.type == "cuda":
        image = image.pin_memory()
    return image.to(device, non_blocking=True).float()


def forward(model: nn.Module, image: Tensor, precision: torch.dtype) -> Outputs:
    """Return the network's logits of `(B, C, S, S)`, computed in `precision`."""
    with torch.autocast(image.device.type, precision, enabled=precision is not torch.float32):
        outputs: Outputs = model(image)
    return outputs


def probability(outputs: Outputs) -> Tensor:
    """Return the prediction `(N, H, W)`, float32 in [0, 1]: the mean of the single images (paper, section 2.4)."""
    return outputs.logits.float().sigmoid().mean(dim=1)


def predict(model: nn.Module, image: Tensor, precision: torch.dtype, tta: str) -> tuple[Outputs, Tensor]:
    """Return the network's outputs for `(B, C, S, S)`, and the prediction `(B, S, S)`, float32 in [0, 1].

    Args:
        model: The network, in evaluation mode.
        image: Its input.
        precision: In which the forward pass computes.
        tta: `evaluate.tta`. With `flip` the prediction is the mean of the image's own and its mirror image's, mirrored
            back; the outputs are those of the image.
    """
    outputs = forward(model, image, precision)
    maps = probability(outputs)
    if tta == "flip":
        maps = (maps + probability(forward(model, image.flip(-1), precision)).flip(-1)) / 2
    return outputs, maps


class SegmentationNetwork(nn.Module, ABC):
    """A network from images `(N, C, H, W)` in [0, 1] to `Outputs`; H and W are multiples of 16, 32 at least.

    C is 1 for gray images and 3 for colour.
    """

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
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
