"""DAF-Net's encoder: any timm network that gives four levels of feature maps, and the weights of timm's networks.

timm takes seconds to import, so the functions that need it import it themselves.
"""

from __future__ import annotations

import contextlib
import functools
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eus_ray.errors import UserError, did_you_mean
from eus_ray.models.weight_files import first_line, load_weights

NUM_LEVELS = 4
PROBE_SIZE = 48
"""A multiple of 16 but not of 32, and not a size that any encoder is made for (pixels)."""
HUB_TIMEOUT_S = 5.0
"""A hub that answers at all does so by then."""

_LIST = "see timm.list_models()"


class Encoder(nn.Module):
    """Feature maps of timm's network `name`, its four deepest levels, the finest first.

    Images `(N, C, H, W)` in [0, 1] are normalised here with the mean and standard deviation that belong to the
    network's weights, one of each colour; for gray images they are averaged over colours, and first convolutions for
    colour are summed over colours. `channels` are those of the levels.

    Args:
        name: timm's name of the network, with the tag of its weights.
        pretrained: Whether to take timm's weights, from the local cache or the hub.
        weights: A file, safetensors or PyTorch, that is taken instead; empty for none.
        in_channels: 1 for gray images, 3 for colour.

    Raises:
        UserError: As `check_encoder` does, and if the file does not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, pretrained: bool = False, weights: str = "", in_channels: int = 1) -> None:
        check_encoder(name, pretrained, weights)
        import timm

        super().__init__()
        self.channels = level_channels(name)
        options = pretrained_options(name, pretrained, weights)
        with explained_download(name):
            body: Any = timm.create_model(name, features_only=True, in_chans=in_channels, **options)
        if weights:
            load_weights(body, name, Path(weights), in_channels)
        self.body = body
        for which, values in statistics_of(body, in_channels).items():
            self.register_buffer(which, values, persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four levels `(N, channels[i], h_i, w_i)` of images `(N, C, H, W)`."""
        levels: list[Tensor] = self.body((image - self.mean) / self.std)
        return levels[-NUM_LEVELS:]


def check_encoder(name: str, pretrained: bool = False, weights: str = "") -> None:
    """Raise `UserError` if `Encoder(name, pretrained, weights)` could not be built; build no weights.

    The hub is asked only for weights that are not in the local cache.
    """
    lines: list[str] = []
    try:
        level_channels(name)
    except UserError as error:
        lines += error.lines
    try:
        check_weights(name, pretrained and not lines, weights)
    except UserError as error:
        lines += error.lines
    if lines:
        raise UserError(*lines)


def check_name(name: str) -> None:
    """Raise `UserError` if timm does not know a network, or the tag of its weights."""
    import timm

    if not timm.is_model(name):
        raise UserError(f"model.encoder: timm has no network {name}{did_you_mean(name, timm.list_models(), _LIST)}")
    architecture, _, tag = name.partition(".")
    published = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in published:
        raise UserError(
            f"model.encoder: timm has no weights {tag} of {architecture}{did_you_mean(name, published, _LIST)}"
        )


def check_weights(name: str, pretrained: bool, weights: str) -> None:
    """Raise `UserError` if a file of weights is missing, or the published ones of timm's network cannot be had."""
    if weights and not Path(weights).is_file():
        raise UserError(f"model.weights: {weights}: no such file; give the encoder's weights (.safetensors or .pth)")
    if pretrained and not weights and (lines := _explain_unavailable(name)):
        raise UserError(*lines)


def pretrained_options(name: str, pretrained: bool, weights: str) -> dict[str, Any]:
    """Return what `timm.create_model` takes to start from published weights; nothing if it should not."""
    import timm

    if not pretrained or weights:
        return {}
    cached = _cached_file(timm.models.get_pretrained_cfg(name))
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": cached} if cached else None}


@contextlib.contextmanager
def explained_download(name: str) -> Iterator[None]:
    """Turn a failed download of a network's weights into a `UserError` that says what to do instead."""
    import timm

    try:
        yield
    except OSError as error:
        raise UserError(_no_download(name, timm.models.get_pretrained_cfg(name), first_line(error))) from None


def statistics_of(network: Any, in_channels: int) -> dict[str, Tensor]:
    """Return `mean` and `std` `(C, 1, 1)` of the images that timm's network is made for, averaged for gray images."""
    found = {}
    for which in ("mean", "std"):
        values = network.pretrained_cfg[which]
        values = values if len(values) == in_channels else [sum(values) / len(values)] * in_channels
        found[which] = torch.tensor(values).view(-1, 1, 1)
    return found


@functools.cache
def level_channels(name: str) -> tuple[int, ...]:
    """Return the channels of a network's four deepest levels, the finest first.

    A forward pass on torch's meta device, which has shapes but no numbers, tells them.

    Raises:
        UserError: If timm does not know the network, or it does not give four levels for any multiple of 16 pixels.
    """
    check_name(name)
    import timm

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            network: Any = timm.create_model(name, features_only=True, in_chans=1).eval()
            channels = tuple(network.feature_info.channels())
    except Exception as error:  # timm's 1,400 networks refuse in as many ways
        raise UserError(
            f"model.encoder: {name} gives no feature maps ({first_line(error)}); take one such as resnet18"
        ) from None
    if len(channels) < NUM_LEVELS:
        raise UserError(
            f"model.encoder: {name} has {len(channels)} levels of feature maps, and DAF-Net needs {NUM_LEVELS}; "
            "take one such as resnet18"
        )
    try:
        with torch.device("meta"), torch.no_grad():
            levels = network(torch.zeros(1, 1, PROBE_SIZE, PROBE_SIZE))
    except Exception as error:
        raise UserError(
            f"model.encoder: {name} does not take images of {PROBE_SIZE} pixels ({first_line(error)}); "
            "take one for any multiple of 16, such as resnet18"
        ) from None
    if [level.shape[1] for level in levels] != list(channels):
        raise UserError(f"model.encoder: {name} does not give its features as images; take one such as resnet18")
    return channels[-NUM_LEVELS:]


def _explain_unavailable(name: str) -> list[str]:
    """Why timm's weights are not available; empty if they are."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return [f"model.pretrained: timm publishes no weights of {name}; see timm.list_pretrained()"]
    if _cached_file(config):
        return []
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return [_no_download(name, config, "HF_HUB_OFFLINE is set")]
    # The hub's own client would try for most of a minute before it gave up.
    request = urllib.request.Request(constants.ENDPOINT if config.hf_hub_id else str(config.url), method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answered
    except OSError as error:
        return [_no_download(name, config, f"{request.host}: {getattr(error, 'reason', error)}")]
    return []


def _no_download(name: str, config: Any, reason: str) -> str:
    address = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
    return (
        f"model.pretrained: the weights of {name} cannot be downloaded ({reason}); fetch them from {address} "
        "on a machine with internet access, and name the file (model.safetensors) as model.weights"
    )


def _cached_file(config: Any) -> str | None:
    """Path of weights that were downloaded before; with it nothing uses the network."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(config.hf_hub_id, file) if config.hf_hub_id else None
        if isinstance(cached, str):
            return cached
    return None
