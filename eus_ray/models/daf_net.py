"""DAF-Net: deep attentional features (paper, section 2.4, figures 2 and 3; after Wang et al. 2018).

    encoder level i ── 1x1, interpolated ──> SLF_i ─┬─> prediction of SLF_i (deep supervision)
    SLF_1..SLF_4 ───── concatenated, 3x3 ──> MLF    │
    SLF_i, MLF ─────── DAF module ─────────> AF_i ──┴─> 1x1, interpolated ──> SI_i
    output = mean of the four SI

Where the paper is silent, Wang et al. decide: an attention map is a softmax over channels, so that a pixel's weights
for the channels of the MLF sum to 1. Group norm, four channels a group, and PReLU follow every convolution of the
decoder that makes features, as in the group's later 3D network: they work alike for any batch size. The encoder's
levels may have any strides: sizes are taken from the features.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from eus_ray.config import ModelSettings
from eus_ray.models.base import Outputs, SegmentationNetwork, register
from eus_ray.models.timm_encoder import Encoder, check_encoder

CHANNELS_PER_GROUP = 4


class FeatureConv(nn.Sequential):
    """Convolution, group norm, PReLU: `(N, C_in, H, W)` to `(N, C_out, H, W)`."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        """Build it for so many channels."""
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=False),
            nn.GroupNorm(channels_out // CHANNELS_PER_GROUP, channels_out),
            nn.PReLU(),
        )


class DAFModule(nn.Module):
    """Attentional features AF of one level from its SLF and the MLF, all `(N, C, H, W)` (paper, figure 3)."""

    def __init__(self, width: int) -> None:
        """Build it for so many channels of SLF, MLF and AF."""
        super().__init__()
        self.weigh = nn.Sequential(
            FeatureConv(2 * width, width, kernel_size=3),
            FeatureConv(width, width, kernel_size=3),
            nn.Conv2d(width, width, kernel_size=1),
        )
        self.merge = FeatureConv(2 * width, width, kernel_size=1)

    def forward(self, slf: Tensor, mlf: Tensor) -> Tensor:
        """Return the AF."""
        attention = _softmax_over_channels(self.weigh(torch.cat([slf, mlf], dim=1)))
        return self.merge(torch.cat([attention * mlf, slf], dim=1))


@register("daf_net")
class DAFNet(SegmentationNetwork):
    """DAF-Net on any timm encoder with four levels of feature maps.

    `decoder_init="uniform"` is the paper's: the weights and biases of all convolutions outside the encoder are drawn
    from U[0, 1]. Norms (scale 1, shift 0) and PReLUs (slope 0.25) start as ever, inside [0, 1].
    """

    def __init__(self, encoder: Encoder, width: int, decoder_init: Literal["default", "uniform"] = "default") -> None:
        """Build the decoder on an encoder; `width` is how many channels SLF, MLF and AF have."""
        super().__init__()
        num_levels = len(encoder.channels)
        self.encoder = encoder
        self.single_layer = nn.ModuleList(FeatureConv(channels, width, kernel_size=1) for channels in encoder.channels)
        self.multi_layer = FeatureConv(num_levels * width, width, kernel_size=3)
        self.attentional = nn.ModuleList(DAFModule(width) for _ in range(num_levels))
        self.slf_heads = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=1) for _ in range(num_levels))
        self.si_heads = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=1) for _ in range(num_levels))
        if decoder_init == "uniform":
            for part in (self.single_layer, self.multi_layer, self.attentional, self.slf_heads, self.si_heads):
                part.apply(_draw_uniform)

    @classmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
        """Build the network on the encoder that the settings name."""
        encoder = Encoder(settings.encoder, settings.pretrained, settings.weights, in_channels)
        return cls(encoder, settings.decoder_width, settings.decoder_init)

    @classmethod
    def check(cls, settings: ModelSettings) -> None:
        """Raise `UserError` if the encoder cannot be built."""
        check_encoder(settings.encoder, settings.pretrained, settings.weights)

    def forward(self, image: Tensor) -> Outputs:
        """Return logits `(N, 4, H, W)` of SI and SLF from images `(N, C, H, W)`."""
        levels = self.encoder(image)
        finest = levels[0].shape[-2:]
        slfs = [_resize(reduce(x), finest) for reduce, x in zip(self.single_layer, levels, strict=True)]
        mlf = self.multi_layer(torch.cat(slfs, dim=1))
        afs = [attend(slf, mlf) for attend, slf in zip(self.attentional, slfs, strict=True)]
        si = torch.cat([head(af) for head, af in zip(self.si_heads, afs, strict=True)], dim=1)
        slf = torch.cat([head(x) for head, x in zip(self.slf_heads, slfs, strict=True)], dim=1)
        return Outputs(logits=_resize(si, image.shape[-2:]), auxiliary=_resize(slf, image.shape[-2:]))


def _softmax_over_channels(x: Tensor) -> Tensor:
    """Softmax of `(N, C, H, W)` over C that keeps `channels_last`: PyTorch's own does not, and copies would follow."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).softmax(dim=-1).permute(0, 3, 1, 2)
    return x.softmax(dim=1)


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _draw_uniform(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.uniform_(module.weight, 0.0, 1.0)
        if module.bias is not None:
            nn.init.uniform_(module.bias, 0.0, 1.0)
