"""Others' networks as this project's own: images in, `Outputs` out, each tensor once in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eus_ray.models.base import Outputs, SegmentationNetwork


class OutputError(ValueError):
    """A network's output that is none of logits; the message says which came and which is wanted."""


class AdaptedNetwork(SegmentationNetwork):
    """Another's network, which gives logits `(N, 1, H, W)` or `Outputs`, with normalised images if it wants such.

    Its state has the network's own names below `body.`. A tensor that the network has under several names is there
    once, under the first of them, since a checkpoint cannot hold it twice.

    Args:
        body: The network.
        statistics: `mean` and `std` `(C, 1, 1)` of the images that it is made for; None for images in [0, 1].
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, body: nn.Module, statistics: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.body = body
        for which in ("mean", "std"):
            self.register_buffer(which, statistics[which] if statistics else None, persistent=False)
        self._first_names = _first_names(self)
        self.register_state_dict_post_hook(_drop_further_names)
        self.register_load_state_dict_pre_hook(_add_further_names)

    @property
    def encoder(self) -> nn.Module | None:
        """The part that may stay frozen or learn more slowly; None if the network has no module of this name."""
        encoder = getattr(self.body, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else None

    def forward(self, image: Tensor) -> Outputs:
        """Return logits `(N, 1, H, W)` of images `(N, C, H, W)`, and auxiliary predictions `(N, M, H, W)` or None.

        Raises:
            OutputError: If the network returns anything else.
        """
        normalised = image if self.mean is None or self.std is None else (image - self.mean) / self.std
        return _as_outputs(self.body(normalised), image)


def _as_outputs(returned: Any, image: Tensor) -> Outputs:
    logits, auxiliary = returned if isinstance(returned, Outputs) else (returned, None)
    if not isinstance(logits, Tensor):
        raise OutputError(
            f"returns type {type(logits).__name__}; return logits {_wanted(image)}, or eus_ray.models.Outputs of them"
        )
    if tuple(logits.shape) != _wanted(image) or not logits.is_floating_point():
        numbers = "" if logits.is_floating_point() else f" of {str(logits.dtype).removeprefix('torch.')}"
        raise OutputError(
            f"returns logits {tuple(logits.shape)}{numbers} of images {tuple(image.shape)}, not {_wanted(image)}"
        )
    maps = [auxiliary] if isinstance(auxiliary, Tensor) else list(auxiliary or ())
    for one in maps:
        if not isinstance(one, Tensor) or one.ndim != 4 or len(one) != len(image) or not one.is_floating_point():
            came = tuple(one.shape) if isinstance(one, Tensor) else f"type {type(one).__name__}"
            raise OutputError(f"returns auxiliary {came}, not logits ({len(image)}, M, h, w)")
    resized = [
        functional.interpolate(one, size=image.shape[-2:], mode="bilinear", align_corners=False)
        if one.shape[-2:] != image.shape[-2:]
        else one
        for one in maps
    ]
    return Outputs(logits, torch.cat(resized, dim=1) if resized else None)


def _wanted(image: Tensor) -> tuple[int, ...]:
    return (len(image), 1, *image.shape[-2:])


def _first_names(network: nn.Module) -> dict[str, str]:
    """Return, for every further name of a tensor, its first."""
    first: dict[int, str] = {}
    further = {}
    for named in (network.named_parameters, network.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            if first.setdefault(id(tensor), name) != name:
                further[name] = first[id(tensor)]
    return further


def _drop_further_names(network: AdaptedNetwork, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in network._first_names:
        state.pop(prefix + name, None)


def _add_further_names(network: AdaptedNetwork, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, first in network._first_names.items():
        if prefix + first in state:
            state[prefix + name] = state[prefix + first]
