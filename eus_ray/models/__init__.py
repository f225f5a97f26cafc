"""The architectures. Importing them needs torch; timm is imported when an encoder is checked or built."""

from __future__ import annotations

import torch

from eus_ray.config import ModelSettings
from eus_ray.models import attention_unet, daf_net, unet  # noqa: F401 (each enters itself into the registry)
from eus_ray.models.base import REGISTRY, Outputs, SegmentationNetwork, probability

__all__ = [
    "REGISTRY",
    "Outputs",
    "SegmentationNetwork",
    "build_model",
    "check_model",
    "probability",
]


def build_model(settings: ModelSettings, seed: int) -> SegmentationNetwork:
    """The network of `settings.arch` on the CPU, in training mode.

    Its initial weights depend on the settings and the seed alone; torch's global generators stay as they
    were. To load trained weights into it, switch `pretrained` off and clear `weights` first, or the
    encoder's are fetched for nothing. Raises `UserError` as `check_model` does, and where the file of
    `settings.weights` does not fit the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        return REGISTRY[settings.arch].from_settings(settings)


def check_model(settings: ModelSettings) -> int:
    """Bytes of the network's weights; raises `UserError` for what would stop `build_model`.

    Takes about a second (timm's import) and no memory. Checked: that timm knows the encoder, that it gives
    four levels of feature maps for any image size, that the file of weights is there, that pretrained
    weights are published and can be had.
    """
    network = REGISTRY[settings.arch]
    network.check(settings)
    untrained = settings.model_copy(update={"pretrained": False, "weights": ""})
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without numbers
        state = network.from_settings(untrained).state_dict()
    return sum(tensor.nbytes for tensor in state.values())
