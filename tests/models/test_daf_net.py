from typing import Any

import pytest
import torch
from torch import nn

from eus_ray.config import LossSettings, ModelSettings
from eus_ray.models import build_model, check_model
from eus_ray.models.daf_net import DAFModule
from eus_ray.training.losses import segmentation_loss
from tests.models.tester import ModelTester, disks, images, predict

SMALL = ModelSettings(arch="daf_net", encoder="test_resnet", decoder_width=8)


class TestDAFNet(ModelTester):
    settings = SMALL
    num_si = 4
    num_slf = 4


class TestDAFNetOnConvNeXt(ModelTester):
    """Its features come in another naming, with strides from 4 and layer norm."""

    settings = ModelSettings(arch="daf_net", encoder="test_convnext", decoder_width=16)
    num_si = 4
    num_slf = 4


def test_the_papers_network_has_88_million_parameters() -> None:
    # ResNeXt-101 32x8d: 88.8 M with its classifier of 2.05 M (Xie et al. 2017); the decoder adds 0.9 M.
    settings = ModelSettings(arch="daf_net", encoder="resnext101_32x8d.tv_in1k")
    assert check_model(settings) / 4 == pytest.approx(88.8e6 - 2.05e6 + 0.9e6, rel=0.005)


def test_attention_weights_of_a_pixel_sum_to_1_over_channels() -> None:
    module, slf = DAFModule(width=8), images(16, 12, 12).reshape(2, 8, 12, 12)
    merged: list[torch.Tensor] = []
    module.merge.register_forward_pre_hook(lambda _, given: merged.append(given[0]))
    features = module(slf, torch.ones_like(slf))
    assert features.shape == slf.shape
    attention = merged[0][:, :8]  # attention x MLF, where the MLF is 1
    assert (attention > 0).all()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, 12, 12))
    assert torch.equal(merged[0][:, 8:], slf)


def test_the_finest_level_comes_first() -> None:
    model: Any = build_model(SMALL, seed=0)
    image = images(1, 96, 96)
    assert [level.shape[-1] for level in model.encoder(image)] == [24, 12, 6, 3]
    with torch.no_grad():
        for level, heads in enumerate(zip(model.slf_heads, model.si_heads, strict=True)):
            for head, value in zip(heads, (level, 10 + level), strict=True):
                head.weight.zero_()
                head.bias.fill_(value)
    outputs = predict(model, image)
    assert outputs.auxiliary is not None
    assert outputs.auxiliary.mean(dim=(0, 2, 3)).tolist() == [0, 1, 2, 3]
    assert outputs.logits.mean(dim=(0, 2, 3)).tolist() == [10, 11, 12, 13]


def test_every_si_sees_every_level_through_the_mlf() -> None:
    model: Any = build_model(SMALL, seed=0)
    image = images(1, 64, 64)
    before = predict(model, image)
    with torch.no_grad():
        model.single_layer[3][0].weight.neg_()
    after = predict(model, image)
    assert before.auxiliary is not None
    assert after.auxiliary is not None
    moved = [not torch.allclose(before.logits[:, level], after.logits[:, level], atol=1e-4) for level in range(4)]
    assert moved == [True] * 4
    moved = [not torch.equal(before.auxiliary[:, level], after.auxiliary[:, level]) for level in range(4)]
    assert moved == [False] * 3 + [True]


def test_uniform_draws_the_decoders_convolutions_from_0_to_1() -> None:
    sane = build_model(SMALL, seed=0)
    paper = build_model(SMALL.model_copy(update={"decoder_init": "uniform"}), seed=0)
    drawn = []
    for (name, module), other in zip(paper.named_modules(), sane.modules(), strict=True):
        if name.startswith("encoder."):
            assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True)), name
        elif isinstance(module, nn.Conv2d):
            drawn += [module.weight.flatten(), *([module.bias] if module.bias is not None else [])]
    values = torch.cat(drawn)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.01)
    assert values.std().item() == pytest.approx(12**-0.5, abs=0.01)


def test_uniform_stays_finite_at_the_papers_size() -> None:
    settings = SMALL.model_copy(update={"decoder_init": "uniform", "decoder_width": 64})
    model, image = build_model(settings, seed=0), images(1, 256, 256)
    truth = disks(image)
    outputs = model(image)
    loss = segmentation_loss(outputs, truth, LossSettings())
    loss.backward()
    assert outputs.logits.isfinite().all()
    assert 0 < loss.item() <= 8
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("decoder_width", [8, 24])
def test_odd_sizes_of_the_last_level_and_any_decoder_width(decoder_width: int) -> None:
    model = build_model(SMALL.model_copy(update={"decoder_width": decoder_width}), seed=0)
    assert predict(model, images(1, 112, 80)).logits.shape == (1, 4, 112, 80)


def test_channels_last_gives_the_same_numbers_and_lasts() -> None:
    """A layer that left the memory format would have all that follows copied."""
    slf, mlf = torch.randn(2, 2, 8, 16, 16).unbind()
    module = DAFModule(8).eval()
    expected = module(slf, mlf)
    last = torch.channels_last
    seen = []
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=last)))
    attended = module.to(memory_format=last)(slf.contiguous(memory_format=last), mlf.contiguous(memory_format=last))
    torch.testing.assert_close(attended, expected)
    assert seen == [True] * 4
