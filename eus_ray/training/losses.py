"""The losses: Dice (equation 1) and cross-entropy, summed over DAF-Net's predictions (equation 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from eus_ray.config import LossSettings
from eus_ray.models import Outputs, probability


def segmentation_loss(outputs: Outputs, truth: Tensor, settings: LossSettings) -> Tensor:
    """Return the loss to minimise: a scalar in float32, whatever the precision of the logits.

    Equation 2 with weights, L = `dice_weight` Dice + `bce_weight` cross-entropy:

        slf_weight * sum_i level_weights[i] L(SLF_i) + si_weight * sum_j level_weights[j] L(SI_j)

    over the four levels of DAF-Net, the SLF in `outputs.auxiliary` and the SI in `outputs.logits`, both `(N, 4, H, W)`.
    A network with one output, logits `(N, 1, H, W)`, has si_weight * L(logits); if it has auxiliary outputs
    `(N, M, H, W)`, auxiliary_weight times the mean of their M losses is added.

    Args:
        outputs: A network's logits.
        truth: `(N, 1, H, W)`, 0 or 1.
        settings: The weights.
    """
    own = _level_losses(outputs.logits, truth, settings)
    if len(own) == 1:
        loss = settings.si_weight * own.sum()
        if outputs.auxiliary is not None and settings.auxiliary_weight:
            loss = loss + settings.auxiliary_weight * _level_losses(outputs.auxiliary, truth, settings).mean()
        return loss
    levels = torch.tensor(settings.level_weights, device=truth.device)
    loss = settings.si_weight * (levels * own).sum()
    if outputs.auxiliary is not None and settings.slf_weight:
        loss = loss + settings.slf_weight * (levels * _level_losses(outputs.auxiliary, truth, settings)).sum()
    return loss


def _level_losses(logits: Tensor, truth: Tensor, settings: LossSettings) -> Tensor:
    """L of each of K levels, `(K,)`, from logits `(N, K, H, W)`."""
    logits, truth = logits.float(), truth.float().expand_as(logits)
    loss = logits.new_zeros(logits.shape[1])
    if settings.dice_weight:
        loss = loss + settings.dice_weight * dice_loss(logits.sigmoid(), truth, settings.smooth).mean(dim=0)
    if settings.bce_weight:
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = loss + settings.bce_weight * entropy.mean(dim=(0, 2, 3))
    return loss


def dice_loss(probability: Tensor, truth: Tensor, smooth: float) -> Tensor:
    """Return equation 1 of each image, `(..., H, W)` to `(...)`: 1 - (2 |P T| + smooth) / (|P| + |T| + smooth).

    Areas are sums of probabilities. With an empty truth it is 1 - smooth / (|P| + smooth), which is 0 for an empty
    prediction; with `smooth` 0 it is 1 for any prediction, an empty one included (the limit, not 0/0).
    """
    overlap = (probability * truth).sum(dim=(-2, -1))
    areas = probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1))
    return 1 - (2 * overlap + smooth) / (areas + smooth).clamp_min(torch.finfo(areas.dtype).tiny)


@torch.no_grad()
def sum_of_dsc(outputs: Outputs, truth: Tensor) -> Tensor:
    """Return the sum of a batch's DSC, on its device: for the learning curve, so no metric's exact counts."""
    predicted = (probability(outputs) >= 0.5).flatten(1)
    wanted = truth.flatten(1) >= 0.5
    both = (predicted & wanted).sum(1).double()
    either = predicted.sum(1) + wanted.sum(1)
    return torch.where(either == 0, 1.0, 2 * both / either.clamp(min=1)).sum()
