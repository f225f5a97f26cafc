"""The architectures, each in the module of its name.

A module is imported when its network is checked or built. That needs torch, and timm if the network has an encoder.
"""

from __future__ import annotations

import importlib

import torch

from eus_ray.config import ModelSettings
from eus_ray.models.base import (
    REGISTRY,
    Outputs,
    SegmentationNetwork,
    as_input,
    forward,
    predict,
    probability,
    to_device,
)

__all__ = [
    "Outputs",
    "SegmentationNetwork",
    "as_input",
    "build_model",
    "check_model",
    "count_parameters",
    "forward",
    "network_class",
    "predict",
    "probability",
    "to_device",
    "without_pretraining",
]


def network_class(arch: str) -> type[SegmentationNetwork]:
    """Return the class that `models/ARCH.py` registers."""
    importlib.import_module(f"eus_ray.models.{arch}")
    return REGISTRY[arch]


def build_model(settings: ModelSettings, seed: int, in_channels: int = 1) -> SegmentationNetwork:
    """Build the network of `settings.arch` on the CPU, in training mode.

    Its initial weights depend on the settings and the seed alone; torch's global generators stay as they were. To load
    trained weights into it, build it `without_pretraining`, or the encoder's are fetched for nothing.

    Raises:
        UserError: As `check_model` does, and if the file of `settings.weights` does not fit the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        return network_class(settings.arch).from_settings(settings, in_channels)


def without_pretraining(settings: ModelSettings) -> ModelSettings:
    """Return the settings of a network whose weights come from elsewhere, so that no file and no download is needed."""
    return settings.model_copy(update={"pretrained": False, "weights": ""})


def check_model(settings: ModelSettings, in_channels: int = 1) -> int:
    """Check what would stop `build_model`, and return the bytes of the network's weights.

    Takes about a second (timm's import) and no memory.

    Raises:
        UserError: If timm does not know the encoder, it does not give four levels of feature maps for any image size,
            the file of weights is missing, or pretrained weights are not published or cannot be downloaded.
    """
    network = network_class(settings.arch)
    network.check(settings)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without numbers
        state = network.from_settings(without_pretraining(settings), in_channels).state_dict()
    return sum(tensor.nbytes for tensor in state.values())


def count_parameters(settings: ModelSettings, in_channels: int = 1) -> int:
    """Return the number of trainable weights of the network that the settings describe; build none of them."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without numbers
        network = network_class(settings.arch).from_settings(without_pretraining(settings), in_channels)
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
