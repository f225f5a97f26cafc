"""What all architectures share: what they give, how they are built, and the registry that names them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

from torch import Tensor, nn

from eus_ray.config import Architecture, ModelSettings


class Outputs(NamedTuple):
    """Logits of one forward pass, the finest level first."""

    si: Tensor
    """Single images `(N, K, H, W)`: K is 4 for DAF-Net, 1 for a network with one output."""
    slf: Tensor | None
    """Predictions of DAF-Net's single-layer features `(N, 4, H, W)`, for deep supervision; else None."""


def probability(outputs: Outputs) -> Tensor:
    """The prediction `(N, H, W)`, float32 in [0, 1]: the mean of the single images (paper, section 2.4)."""
    return outputs.si.float().sigmoid().mean(dim=1)


class SegmentationNetwork(nn.Module, ABC):
    """A network from images `(N, 1, H, W)` in [0, 1] to `Outputs`; H and W are multiples of 16, 32 at least."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: ModelSettings) -> Self:
        """The network that the settings describe, its initial weights drawn from torch's global generator."""

    @classmethod
    def check(cls, settings: ModelSettings) -> None:
        """Raise `UserError` where no network can be built from the settings; builds nothing itself."""

    @abstractmethod
    def forward(self, image: Tensor) -> Outputs: ...


Network = TypeVar("Network", bound=type[SegmentationNetwork])

REGISTRY: dict[str, type[SegmentationNetwork]] = {}
"""Each architecture by its name in the study file."""


def register(name: Architecture) -> Callable[[Network], Network]:
    """Decorator: the class is what `model.arch = name` builds."""

    def enter(network: Network) -> Network:
        REGISTRY[name] = network
        return network

    return enter
