"""A dry run of others' networks: built twice, run and differentiated once, before a study begins."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter

from eus_ray.errors import UserError
from eus_ray.models.adapter import AdaptedNetwork, OutputError
from eus_ray.models.base import Outputs
from eus_ray.models.others import explained

SMALL = 64
"""Pixels; enough for networks that halve an image six times, and so few that a run takes a second."""


def check_by_running(
    arch: str, build: Callable[[], AdaptedNetwork], in_channels: int, image_size: int
) -> AdaptedNetwork:
    """Return a network that was built, evaluated at the study's image size, and trained by one step's gradients.

    Args:
        arch: What messages call it.
        build: Builds it, each time with the same seed.
        in_channels: 1 for gray images, 3 for colour.
        image_size: The side of the study's images in pixels.

    Raises:
        UserError: With the first of what is wrong: its weights, its output, or an exception.
    """
    network = build()
    _check_weights(arch, network, build())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        _evaluate(arch, network, in_channels, image_size)
        small = min(image_size, SMALL + image_size % SMALL)  # what divides the study's size by up to 64 divides it too
        try:
            _train(arch, network, in_channels, small)
        except UserError:
            if small == image_size:
                raise
            _train(arch, network, in_channels, image_size)  # it may insist on its size
    return network


def _check_weights(arch: str, network: AdaptedNetwork, again: AdaptedNetwork) -> None:
    parameters = dict(network.named_parameters())
    if lazy := [name for name, one in parameters.items() if isinstance(one, UninitializedParameter)]:
        raise UserError(f"model.arch: {arch}: {lazy[0].removeprefix('body.')} has no shape yet; use no lazy layers")
    if not any(one.requires_grad for one in parameters.values()):
        raise UserError(f"model.arch: {arch}: has no parameters to train")
    if {id(one) for one in parameters.values()} & {id(one) for one in again.parameters()}:
        raise UserError(f"model.arch: {arch}: returns the same network each time; build a new one in every call")
    state, other = network.state_dict(), again.state_dict()
    places: dict[int, str] = {}
    for key, tensor in state.items():
        name = key.removeprefix("body.")
        if not isinstance(tensor, Tensor):
            raise UserError(f"model.arch: {arch}: its state has {name}, which is no tensor; a checkpoint holds tensors")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"model.arch: {arch}: its initial weights are no numbers (NaN or infinity in {name})")
        if key not in other or not torch.equal(tensor, other[key]):
            raise UserError(
                f"model.arch: {arch}: its initial weights differ between two builds with the same seed (in {name}); "
                "draw them with PyTorch's own generator"
            )
        place = tensor.untyped_storage().data_ptr()
        if tensor.numel() and tensor.is_contiguous() and places.setdefault(place, name) != name:
            raise UserError(
                f"model.arch: {arch}: {places[place]} and {name} are parts of one tensor, as no checkpoint has them; "
                "clone one, or register it with persistent=False"
            )


def _evaluate(arch: str, network: AdaptedNetwork, in_channels: int, size: int) -> None:
    image = torch.rand(1, in_channels, size, size)
    with torch.inference_mode():
        _forward(arch, network.eval(), image, f"evaluated on an image of {size} pixels (data.image_size)")


def _train(arch: str, network: AdaptedNetwork, in_channels: int, size: int) -> None:
    image = torch.rand(2, in_channels, size, size)
    logits, auxiliary = _forward(arch, network.train(), image, f"trained on two images of {size} pixels")
    if not logits.requires_grad:
        raise UserError(f"model.arch: {arch}: its logits depend on no parameter that is trained")
    predictions = logits if auxiliary is None else torch.cat([logits, auxiliary], dim=1)
    loss = functional.binary_cross_entropy_with_logits(predictions.float(), (predictions > 0).float())
    with explained(arch, "its backward pass"):
        loss.backward()
    gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    network.zero_grad(set_to_none=True)
    for name, gradient in gradients.items():
        if not math.isfinite(gradient.abs().max().item() if gradient.numel() else 0.0):
            raise UserError(
                f"model.arch: {arch}: a gradient is no number (NaN or infinity at {name.removeprefix('body.')})"
            )


def _forward(arch: str, network: AdaptedNetwork, image: Tensor, doing: str) -> Outputs:
    given = image.clone()
    with explained(arch, f"{doing}, it"):
        try:
            outputs: Outputs = network(given)
        except OutputError as error:
            raise UserError(f"model.arch: {arch}: {doing}, it {error}") from None
    if not torch.equal(given, image):
        raise UserError(f"model.arch: {arch}: changes the images that it is given; clone them first")
    if not all(one is None or one.isfinite().all() for one in outputs):
        raise UserError(f"model.arch: {arch}: {doing}, it returns logits that are no numbers (NaN or infinity)")
    return outputs
