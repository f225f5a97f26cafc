"""The decoders of segmentation_models_pytorch (SMP) on timm's encoders, or on SMP's own.

SMP and timm take seconds to import, so the functions that need them import them themselves.
"""

from __future__ import annotations

import copy
import functools
import inspect
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from eus_ray.architectures import SMP_PREFIX
from eus_ray.config import ModelSettings
from eus_ray.errors import UserError, did_you_mean
from eus_ray.models.adapter import AdaptedNetwork
from eus_ray.models.others import described, quiet
from eus_ray.models.timm_encoder import (
    check_name,
    check_weights,
    explained_download,
    pretrained_options,
    statistics_of,
)
from eus_ray.models.weight_files import load_weights

_NOT_ARGUMENTS = {
    "encoder_name": "it is model.encoder",
    "encoder_weights": "they are model.pretrained and model.weights",
    "in_channels": "data.channels decides",
    "classes": "a mask has one class",
    "activation": "the loss takes logits",
    "aux_params": "images have no class here",
    **dict.fromkeys(
        ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
        "model.pretrained and model.weights say where weights come from",  # else a stranger's folder may choose a file
    ),
}
"""Arguments that eus-ray gives itself, and why nobody else may."""


class SMPNetwork(AdaptedNetwork):
    """A decoder of SMP on the encoder `model.encoder`, with `model.args` as further arguments.

    timm's encoders get images that are normalised with their own mean and standard deviation, as DAF-Net's do; SMP's
    own get images in [0, 1].
    """

    @classmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
        """Build the decoder and its encoder."""
        cls.check(settings)
        name, is_timm = settings.encoder, _is_of_timm(settings.encoder)
        options: dict[str, Any] = copy.deepcopy(settings.args)
        weights = None
        if is_timm:
            options = _for_any_size(name, frozenset(options)) | options
            source = pretrained_options(name, settings.pretrained, settings.weights)
            weights = source.pop("pretrained", None)
            options |= source
        decoder = _decoder_of(settings.arch)
        common = {"in_channels": in_channels, "classes": 1, "encoder_weights": weights}
        with explained_download(name):
            try:
                with quiet():
                    network: Any = decoder(encoder_name=f"tu-{name}" if is_timm else name, **common, **options)
            except Exception as error:  # SMP and 1,400 encoders refuse in as many ways
                if weights and isinstance(error, OSError):
                    raise
                raise UserError(_refusal(settings, decoder, error)) from None
        body = network.encoder.model if is_timm else _like_timms(network.encoder)
        if settings.weights:
            load_weights(body, name, Path(settings.weights), in_channels)
        return cls(network, statistics_of(body, in_channels) if is_timm else None)

    @classmethod
    def check(cls, settings: ModelSettings) -> None:
        """Raise `UserError` if SMP has no such decoder or encoder, or the weights are not there; build nothing."""
        decoder = _decoder_of(settings.arch)
        lines = [
            f"model.args: {name} cannot be set ({why}); leave it out"
            for name, why in _NOT_ARGUMENTS.items()
            if name in settings.args
        ]
        name = settings.encoder
        try:
            is_timm = _is_of_timm(name)
            if is_timm:
                check_name(name)
            elif settings.pretrained and not settings.weights:
                lines.append(
                    f"model.pretrained: {name} is an encoder of SMP's own, whose weights are not downloaded; name "
                    "their file as model.weights, or take an encoder of timm"
                )
            check_weights(name, settings.pretrained and is_timm, settings.weights)
        except UserError as error:
            raise UserError(*lines, *error.lines) from None
        if not is_timm:  # SMP ignores what it does not know
            known = [name for name in inspect.signature(decoder).parameters if name not in ("kwargs", *_NOT_ARGUMENTS)]
            lines += [
                f"model.args: {settings.arch} takes no argument {argument}{did_you_mean(argument, known)}"
                for argument in settings.args
                if argument not in (*known, *_NOT_ARGUMENTS)
            ]
        if lines:
            raise UserError(*lines)


def _smp() -> Any:
    try:
        with quiet():
            import segmentation_models_pytorch
    except ModuleNotFoundError as error:
        raise UserError(
            f"model.arch: the networks smp:NAME need {error.name}, which is not installed; pip install 'eus-ray[smp]'"
        ) from None
    return segmentation_models_pytorch


def _decoder_of(arch: str) -> type[nn.Module]:
    decoders: dict[str, type[nn.Module]] = {one.__name__: one for one in _smp().MODEL_ARCHITECTURES_MAPPING.values()}
    name = arch.removeprefix(SMP_PREFIX)
    if name not in decoders:
        raise UserError(
            f"model.arch: segmentation_models_pytorch has no decoder {name}{did_you_mean(name, sorted(decoders))}"
        )
    return decoders[name]


def _is_of_timm(name: str) -> bool:
    """Whether an encoder is timm's; raises `UserError` if it is not SMP's own either."""
    import timm

    if timm.is_model(name):
        return True
    own = _smp().encoders.get_encoder_names()
    if name not in own:
        near = did_you_mean(name, [*timm.list_models(), *own], "see timm.list_models()")
        raise UserError(f"model.encoder: neither timm nor segmentation_models_pytorch has an encoder {name}{near}")
    return False


@functools.cache
def _for_any_size(name: str, given: frozenset[str]) -> dict[str, bool]:
    """Return the argument that lets a transformer take images of any size; nothing if the user chose a size."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"), quiet():  # shapes without numbers
        takes = inspect.signature(type(timm.create_model(name)).__init__).parameters
    choices = {"strict_img_size": False, "dynamic_img_size": True}
    if given & {"img_size", *choices}:
        return {}
    return next(({choice: value} for choice, value in choices.items() if choice in takes), {})


def _like_timms(encoder: Any) -> Any:
    """Give an encoder of SMP's own what tells `load_weights` the first convolution, which is for colour in files."""
    first = next(name for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))
    encoder.pretrained_cfg = {"first_conv": first, "input_size": (3,)}
    return encoder


def _refusal(settings: ModelSettings, decoder: type[nn.Module], error: Exception) -> str:
    """Say in plain words why SMP does not build a decoder on an encoder."""
    arch, name = settings.arch, settings.encoder
    stride = inspect.signature(decoder).parameters.get("encoder_output_stride")
    if stride is not None and "stride" in str(error):
        chosen = settings.args.get("encoder_output_stride", stride.default)
        return (
            f"model.encoder: {name} has no stride that could be chosen, and {arch} needs features of 1/{chosen} of the "
            "image's size; take a convolutional encoder such as resnet18, or another decoder such as smp:FPN"
        )
    if "downsampling pattern" in str(error):
        return (
            f"model.encoder: {name} does not halve its features from level to level, as {arch} needs; take an encoder "
            "such as resnet18, or smp:DPT for a plain vision transformer"
        )
    return f"model.arch: {arch} with the encoder {name} cannot be built ({described(error)})"
