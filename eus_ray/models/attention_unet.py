"""Attention U-Net (Oktay et al. 2018): a U-Net whose skip connections pass additive attention gates."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from eus_ray.config import ModelSettings
from eus_ray.models.base import Outputs, SegmentationNetwork, register
from eus_ray.models.unet import ConvBlock, level_widths


class AttentionGate(nn.Module):
    """Scales each pixel of a skip connection by a weight in (0, 1) that the coarser level helps to choose.

    weight = sigmoid(psi(ReLU(W_x skip + W_g gate))), Oktay et al. 2018, equations 1 and 2. The gate comes upsampled, so
    that both are `(N, C, H, W)`; in between are C / 2 channels.
    """

    def __init__(self, channels: int) -> None:
        """Build it for so many channels of skip connection and gate."""
        super().__init__()
        between = max(channels // 2, 1)
        self.skip = nn.Sequential(nn.Conv2d(channels, between, kernel_size=1, bias=False), nn.BatchNorm2d(between))
        self.gate = nn.Sequential(nn.Conv2d(channels, between, kernel_size=1, bias=False), nn.BatchNorm2d(between))
        self.psi = nn.Sequential(nn.Conv2d(between, 1, kernel_size=1, bias=False), nn.BatchNorm2d(1))

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """Return the skip connection times its weights, `(N, C, H, W)`."""
        weight = self.psi(functional.relu(self.skip(skip) + self.gate(gate))).sigmoid()
        return skip * weight


class Grow(nn.Sequential):
    """Bilinear upsampling, then a 3x3 convolution: `(N, C_in, H, W)` to `(N, C_out, 2H, 2W)`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """Build it for so many channels."""
        super().__init__(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


@register("attention_unet")
class AttentionUNet(SegmentationNetwork):
    """Attention U-Net: 34.9 M parameters at width 64."""

    def __init__(self, width: int) -> None:
        """Build it; `width` is how many channels the first level has."""
        super().__init__()
        widths = level_widths(width)
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise([1, *widths]))
        pairs = list(pairwise(widths))  # (finer, coarser)
        self.grow = nn.ModuleList(Grow(b, a) for a, b in pairs)
        self.attend = nn.ModuleList(AttentionGate(a) for a, _ in pairs)
        self.up = nn.ModuleList(ConvBlock(2 * a, a) for a, _ in pairs)
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> Self:
        """Build the network of `model.width`."""
        return cls(settings.width)

    def forward(self, image: Tensor) -> Outputs:
        """Return logits `(N, 1, H, W)` of images `(N, 1, H, W)`."""
        skips = [self.down[0](image)]
        for block in self.down[1:]:
            skips.append(block(functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for level in reversed(range(len(skips))):
            gate = self.grow[level](x)
            x = self.up[level](torch.cat([self.attend[level](skips[level], gate), gate], dim=1))
        return Outputs(si=self.head(x), slf=None)
