"""The architectures, each in the module of its name, and the networks of others.

A module is imported when its network is checked or built. That needs torch, and timm if the network has an encoder.
"""

from __future__ import annotations

import importlib
from typing import cast

import torch

from eus_ray.architectures import is_of_smp, module_of
from eus_ray.config import ModelSettings, Study
from eus_ray.errors import UserError
from eus_ray.models.adapter import AdaptedNetwork
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
from eus_ray.models.dry_run import check_by_running
from eus_ray.models.others import CallableNetwork

__all__ = [
    "Outputs",
    "SegmentationNetwork",
    "as_input",
    "build_model",
    "check_model",
    "check_model_of",
    "count_parameters",
    "forward",
    "network_class",
    "predict",
    "probability",
    "to_device",
    "without_pretraining",
]


def network_class(arch: str) -> type[SegmentationNetwork]:
    """Return the class that builds `model.arch`: of eus-ray's own, the one that `models/ARCH.py` registers."""
    if is_of_smp(arch):
        from eus_ray.models.smp import SMPNetwork

        return SMPNetwork
    if module_of(arch) is not None:
        return CallableNetwork
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


def check_model_of(study: Study) -> int:
    """Check the network of one model's study as `check_model` does, and return the bytes of its weights."""
    needs_encoder = study.train.freeze_encoder_epochs > 0 or study.optim.encoder_lr_factor != 1
    return check_model(study.model, study.data.num_channels, study.data.image_size, needs_encoder=needs_encoder)


def check_model(
    settings: ModelSettings, in_channels: int = 1, image_size: int = 64, *, needs_encoder: bool = False
) -> int:
    """Check what would stop `build_model`, and return the bytes of the network's weights.

    eus-ray's own networks take about a second (timm's import) and no memory. Others' are built and run, and their code
    is imported.

    Args:
        settings: The network.
        in_channels: 1 for gray images, 3 for colour.
        image_size: The side of the study's images in pixels.
        needs_encoder: Whether the encoder is to be frozen or to learn at a rate of its own.

    Raises:
        UserError: If timm does not know the encoder, it does not give four levels for any image size, the file of
            weights is missing, or pretrained weights are not published or cannot be downloaded; and if another's
            network cannot be had, or does not do what `check_by_running` expects of it.
    """
    network = network_class(settings.arch)
    network.check(settings)
    if not issubclass(network, AdaptedNetwork):
        return sum(tensor.nbytes for tensor in _shapes(settings, in_channels).state_dict().values())
    start = settings if network is CallableNetwork else settings.model_copy(update={"pretrained": False})
    ready = check_by_running(
        settings.arch, lambda: cast(AdaptedNetwork, build_model(start, 0, in_channels)), in_channels, image_size
    )
    inside = set() if ready.encoder is None else set(ready.encoder.parameters())
    if needs_encoder and not inside:
        raise UserError(
            f"model.arch: {settings.arch}: has no module that is called encoder, which train.freeze_encoder_epochs and "
            "optim.encoder_lr_factor are about; leave them out for this model, or call its pretrained part so"
        )
    if needs_encoder and not any(one.requires_grad for one in set(ready.parameters()) - inside):
        raise UserError(
            f"model.arch: {settings.arch}: all that it learns lies in its module encoder, and nothing would be trained "
            "while train.freeze_encoder_epochs lasts; leave it and optim.encoder_lr_factor out for this model"
        )
    return sum(tensor.nbytes for tensor in ready.state_dict().values())


def count_parameters(settings: ModelSettings, in_channels: int = 1) -> int:
    """Return the number of trainable weights of the network that the settings describe."""
    network = _shapes(settings, in_channels)
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def _shapes(settings: ModelSettings, in_channels: int) -> SegmentationNetwork:
    """Build a network without its numbers; with them, if others' code needs some."""
    start = without_pretraining(settings)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return network_class(settings.arch).from_settings(start, in_channels)
    except UserError:
        return build_model(start, 0, in_channels)
