import math

import numpy as np
import pytest
import torch
from torch import Tensor

from eus_ray.config import LossSettings
from eus_ray.models import Outputs
from eus_ray.training.losses import dice_loss, segmentation_loss

CERTAIN = 100.0  # a logit whose probability is 1 to the last bit of float32
LN2 = math.log(2)


def one_output(logits: Tensor) -> Outputs:
    return Outputs(logits)


def corner(num: int = 1) -> Tensor:
    """Truths `(num, 1, 2, 2)` whose first pixel is lesion."""
    return torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(num, 1, 2, 2)


def test_undecided_prediction_of_one_pixel_in_four() -> None:
    # P sums to 4 * .5 = 2, T to 1, the overlap to .5: 1 - (2 * .5 + 1) / (2 + 1 + 1) = .5
    loss = segmentation_loss(one_output(torch.zeros(1, 1, 2, 2)), corner(), LossSettings())
    assert loss.item() == pytest.approx(0.5)


def test_smooth_factor() -> None:
    # 1 - (1 + 3) / (3 + 3) = 1/3, and without: 1 - 1 / 3 = 2/3
    logits = one_output(torch.zeros(1, 1, 2, 2))
    assert segmentation_loss(logits, corner(), LossSettings(smooth=3.0)).item() == pytest.approx(1 / 3)
    assert segmentation_loss(logits, corner(), LossSettings(smooth=0.0)).item() == pytest.approx(2 / 3)


def test_cross_entropy_of_an_undecided_prediction_is_ln_2() -> None:
    settings = LossSettings(dice_weight=0.0, bce_weight=1.0)
    assert segmentation_loss(one_output(torch.zeros(2, 1, 2, 2)), corner(2), settings).item() == pytest.approx(LN2)


def test_dice_and_cross_entropy_add_with_their_weights() -> None:
    settings = LossSettings(dice_weight=2.0, bce_weight=3.0, si_weight=0.5)
    loss = segmentation_loss(one_output(torch.zeros(1, 1, 2, 2)), corner(), settings)
    assert loss.item() == pytest.approx(0.5 * (2 * 0.5 + 3 * LN2))


def test_dice_is_taken_image_by_image() -> None:
    # One perfect image of 1 lesion pixel, one missed of 4: per image (0 + 4/5) / 2 = .4, pooled it would be 4/7.
    truth = torch.cat([corner(), torch.ones(1, 1, 2, 2)])
    logits = torch.cat([(corner() * 2 - 1) * CERTAIN, torch.full((1, 1, 2, 2), -CERTAIN)])
    assert segmentation_loss(one_output(logits), truth, LossSettings()).item() == pytest.approx(0.4)


@pytest.mark.parametrize("smooth", [1.0, 0.0])
def test_perfect_and_opposite_predictions(smooth: float) -> None:
    perfect = (corner() * 2 - 1) * CERTAIN
    settings = LossSettings(smooth=smooth)
    assert segmentation_loss(one_output(perfect), corner(), settings).item() == pytest.approx(0, abs=1e-6)
    worst = 1 - smooth / (4 + smooth)  # P has 3 pixels, T 1, none in common
    assert segmentation_loss(one_output(-perfect), corner(), settings).item() == pytest.approx(worst)


@pytest.mark.parametrize(("smooth", "expected"), [(1.0, 0.0), (0.0, 1.0)])
def test_empty_truth_and_empty_prediction(smooth: float, expected: float) -> None:
    logits = torch.full((1, 1, 2, 2), -200.0, requires_grad=True)  # the probability underflows to 0
    loss = segmentation_loss(one_output(logits), torch.zeros(1, 1, 2, 2), LossSettings(smooth=smooth))
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_empty_truth_punishes_what_is_predicted() -> None:
    # P sums to 2: 1 - 1 / (2 + 1)
    loss = segmentation_loss(one_output(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2), LossSettings())
    assert loss.item() == pytest.approx(2 / 3)


def test_equation_2_sums_four_slf_and_four_si() -> None:
    levels = torch.zeros(1, 4, 2, 2)
    assert segmentation_loss(Outputs(levels, levels), corner(), LossSettings()).item() == pytest.approx(8 * 0.5)


def test_each_level_has_its_weight_in_both_sums() -> None:
    # Levels 0 and 2 are perfect (0), levels 1 and 3 undecided (.5); SLFs the other way round.
    perfect, undecided = (corner() * 2 - 1) * CERTAIN, torch.zeros(1, 1, 2, 2)
    si = torch.cat([perfect, undecided, perfect, undecided], dim=1)
    slf = torch.cat([undecided, perfect, undecided, perfect], dim=1)
    settings = LossSettings(level_weights=(1.0, 10.0, 100.0, 1000.0), si_weight=2.0, slf_weight=3.0)
    expected = 2 * 0.5 * (10 + 1000) + 3 * 0.5 * (1 + 100)
    assert segmentation_loss(Outputs(si, slf), corner(), settings).item() == pytest.approx(expected)


def test_without_slf_weight_the_slfs_learn_nothing() -> None:
    si, slf = (torch.zeros(1, 4, 2, 2, requires_grad=True) for _ in range(2))
    segmentation_loss(Outputs(si, slf), corner(), LossSettings(slf_weight=0.0)).backward()
    assert si.grad is not None
    assert slf.grad is None


def test_level_weights_are_not_for_networks_with_one_output() -> None:
    settings = LossSettings(level_weights=(0.0, 5.0, 5.0, 5.0))
    assert segmentation_loss(one_output(torch.zeros(1, 1, 2, 2)), corner(), settings).item() == pytest.approx(0.5)


def test_agrees_with_numpy_on_random_predictions() -> None:
    random = np.random.default_rng(0)
    si, slf = random.normal(0, 3, (2, 3, 4, 9, 7))
    truth = (random.random((3, 1, 9, 7)) < 0.3).astype(float)
    weights = (1.0, 0.5, 0.25, 2.0)

    def level(logits: np.ndarray) -> float:
        p, t = 1 / (1 + np.exp(-logits)), truth[:, 0]
        dice = [1 - (2 * (a * b).sum() + 0.7) / (a.sum() + b.sum() + 0.7) for a, b in zip(p, t, strict=True)]
        return 1.5 * np.mean(dice) - 0.4 * np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))

    expected = sum(w * (1.2 * level(si[:, k]) + 0.3 * level(slf[:, k])) for k, w in enumerate(weights))
    settings = LossSettings(
        smooth=0.7, dice_weight=1.5, bce_weight=0.4, si_weight=1.2, slf_weight=0.3, level_weights=weights
    )
    outputs = Outputs(torch.tensor(si), torch.tensor(slf))
    loss = segmentation_loss(outputs, torch.tensor(truth), settings)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 3, 3, generator=random, dtype=torch.float64).requires_grad_()
    truth = (torch.rand(2, 1, 3, 3, generator=random) < 0.4).double()
    assert torch.autograd.gradcheck(lambda x: dice_loss(x.sigmoid(), truth, 1.0), logits)

    settings, step = LossSettings(bce_weight=1.0), 1e-2  # the whole loss works in float32: a wide step
    single = logits.detach().float().requires_grad_()
    segmentation_loss(one_output(single), truth, settings).backward()
    assert single.grad is not None
    for index in np.ndindex(2, 1, 3, 3):
        nudge = torch.zeros_like(single)
        nudge[index] = step
        up, down = (segmentation_loss(one_output(single.detach() + d), truth, settings) for d in (nudge, -nudge))
        assert single.grad[index].item() == pytest.approx((up - down).item() / (2 * step), abs=2e-4)


def test_float32_whatever_the_logits_are() -> None:
    # In bfloat16, sums of 256^2 pixels would stop at 256.
    truth = torch.zeros(1, 1, 256, 256)
    truth[..., :128, :] = 1
    logits = torch.full_like(truth, 2.0)
    settings = LossSettings(bce_weight=1.0)
    expected = segmentation_loss(one_output(logits), truth, settings)
    with torch.autocast("cpu", torch.bfloat16):
        loss = segmentation_loss(one_output(logits.bfloat16()), truth.bfloat16(), settings)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
