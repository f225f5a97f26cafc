from typing import Any

import pytest
import torch

from eus_ray.config import ModelSettings
from eus_ray.models import build_model
from eus_ray.models.attention_unet import AttentionGate
from tests.models.tester import ModelTester, images


class TestAttentionUNet(ModelTester):
    settings = ModelSettings(arch="attention_unet", width=4)

    def test_has_34_9_million_parameters_at_width_64(self) -> None:
        model = build_model(ModelSettings(arch="attention_unet", width=64), seed=0)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(34.9e6, rel=0.01)


def test_a_gate_gives_each_pixel_one_weight_for_all_channels() -> None:
    gate = AttentionGate(channels=6)
    skip, gating = torch.ones(2, 6, 8, 8), images(12, 8, 8).reshape(2, 6, 8, 8)
    weight = gate(skip, gating)
    assert torch.equal(weight, weight[:, :1].expand_as(weight))
    assert weight.min() > 0
    assert weight.max() < 1
    assert weight.std() > 0  # the gating signal decides


def test_a_gate_worked_by_hand() -> None:
    # Two channels, one between; norms at their start and in evaluation are identities (but for their eps).
    gate: Any = AttentionGate(channels=2).eval()
    with torch.no_grad():
        gate.skip[0].weight.copy_(torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
        gate.gate[0].weight.copy_(torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1))
        gate.psi[0].weight.fill_(0.5)
    skip = torch.tensor([3.0, 8.0]).reshape(1, 2, 1, 1)
    gating = torch.tensor([5.0, -1.0]).reshape(1, 2, 1, 1)
    weight = 1 / (1 + 2.718281828 ** -(0.5 * (3.0 - 2.0)))  # sigmoid(psi * relu(1 * 3 + 2 * -1))
    with torch.no_grad():
        assert gate(skip, gating).flatten().tolist() == pytest.approx([3 * weight, 8 * weight], rel=1e-4)


def test_one_channel_is_enough() -> None:
    model = build_model(ModelSettings(arch="attention_unet", width=1), seed=0)
    assert model(images(2, 32, 32)).logits.shape == (2, 1, 32, 32)
