"""Attention U-Net (Oktay et al. 2018): a U-Net whose skip connections pass additive attention gates."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from eus_ray.models.base import register
from eus_ray.models.unet import UNet


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
class AttentionUNet(UNet):
    """Attention U-Net: 34.9 M parameters at width 64."""

    def __init__(self, width: int, in_channels: int = 1) -> None:
        """Build it; `width` is how many channels the first level has, and `in_channels` an image."""
        super().__init__(width, in_channels, Grow, AttentionGate)
