"""U-Net (Ronneberger et al. 2015), padded so that the output has the size of the input, with batch norm."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from eus_ray.config import ModelSettings
from eus_ray.models.base import Outputs, SegmentationNetwork, register

NUM_LEVELS = 5


def level_widths(width: int) -> list[int]:
    """Return the channels of each level, the finest first: every level doubles them.

    >>> level_widths(4)
    [4, 8, 16, 32, 64]
    """
    return [width * 2**level for level in range(NUM_LEVELS)]


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU: `(N, C_in, H, W)` to `(N, C_out, H, W)`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """Build it for so many channels."""
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


def _transposed_conv(channels_in: int, channels_out: int) -> nn.Module:
    """Learned upsampling: `(N, C_in, H, W)` to `(N, C_out, 2H, 2W)`."""
    return nn.ConvTranspose2d(channels_in, channels_out, kernel_size=2, stride=2)


@register("unet")
class UNet(SegmentationNetwork):
    """U-Net: 31.0 M parameters at width 64."""

    def __init__(
        self,
        width: int,
        in_channels: int = 1,
        grow: Callable[[int, int], nn.Module] = _transposed_conv,
        attend: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """Build it.

        Args:
            width: How many channels the first level has.
            in_channels: How many an image has.
            grow: Makes the upsampling between two levels from the channels of the coarser and of the finer one.
            attend: Makes the gate of a skip connection from its channels; None for skips that pass as they are.
        """
        super().__init__()
        widths = level_widths(width)
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in pairwise([in_channels, *widths]))
        pairs = list(pairwise(widths))  # (finer, coarser)
        self.grow = nn.ModuleList(grow(b, a) for a, b in pairs)
        self.attend = nn.ModuleList(attend(a) for a, _ in pairs) if attend else None
        self.up = nn.ModuleList(ConvBlock(2 * a, a) for a, _ in pairs)
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    @classmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
        """Build the network of `model.width`."""
        return cls(settings.width, in_channels)

    def forward(self, image: Tensor) -> Outputs:
        """Return logits `(N, 1, H, W)` of images `(N, C, H, W)`."""
        skips = [self.down[0](image)]
        for block in self.down[1:]:
            skips.append(block(functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for level in reversed(range(len(skips))):
            grown, skip = self.grow[level](x), skips[level]
            x = self.up[level](torch.cat([self.attend[level](skip, grown) if self.attend else skip, grown], dim=1))
        return Outputs(self.head(x))
