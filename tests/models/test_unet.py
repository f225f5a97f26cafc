import pytest
import torch

from eus_ray.config import ModelSettings
from eus_ray.models import build_model
from tests.models.tester import ModelTester, images, predict


class TestUNet(ModelTester):
    settings = ModelSettings(arch="unet", width=4)

    def test_has_31_million_parameters_at_width_64(self) -> None:
        model = build_model(ModelSettings(arch="unet", width=64), seed=0)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(31.0e6, rel=0.01)

    def test_a_pixel_is_seen_from_far_away(self) -> None:
        # Four halvings and two 3x3 convolutions a level reach over 90 pixels; without the lower levels, 4.
        model, image = self.build().double(), images(1, 96, 96).double()
        image.requires_grad_()
        model.eval()(image).logits[0, 0, 48, 48].backward()
        assert image.grad is not None
        touched = image.grad[0, 0, 48].nonzero()
        assert touched.max() - touched.min() > 80

    def test_skips_carry_detail(self) -> None:
        model, image = self.build(), images(1, 64, 64)
        sharp = predict(model, image).logits
        with torch.no_grad():
            for grow in model.grow:  # cut everything below the finest level
                grow.weight.zero_()
                grow.bias.zero_()
        alone = predict(model, image).logits
        assert alone.std() > 0
        assert not torch.equal(sharp, alone)
