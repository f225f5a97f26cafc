"""What goes into a network and how it is run: the same in training, in evaluation and in prediction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eus_ray.models.base import Outputs


def as_input(images: npt.NDArray[np.uint8], device: torch.device, channels_last: bool) -> Tensor:
    """Gray images `(B, S, S)` as a network takes them: `(B, 1, S, S)` float32 in [0, 1] on the device."""
    image = torch.from_numpy(np.ascontiguousarray(images)[:, None])
    if device.type == "cuda":
        image = image.pin_memory()
    image = image.to(device, non_blocking=True).float() / 255
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


def forward(model: nn.Module, image: Tensor, precision: torch.dtype) -> Outputs:
    """The network's logits of `(B, 1, S, S)`, computed in `precision`."""
    with torch.autocast(image.device.type, precision, enabled=precision is not torch.float32):
        outputs: Outputs = model(image)
    return outputs
