"""What every architecture must do; each architecture's tests are this class with its settings."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eus_ray.config import ARCHITECTURES, LossSettings, ModelSettings
from eus_ray.models import Outputs, build_model, check_model, count_parameters, network_class, probability
from eus_ray.training.losses import segmentation_loss


def images(num: int, height: int, width: int, seed: int = 0, channels: int = 1) -> Tensor:
    """Random images `(num, channels, height, width)` in [0, 1]."""
    return torch.rand(num, channels, height, width, generator=torch.Generator().manual_seed(seed))


def disks(image: Tensor) -> Tensor:
    """A lesion in the middle of each image, and darkens it there: something to learn."""
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in image.shape[-2:]), indexing="ij")
    truth = ((rows**2 + columns**2) < 0.25).float().expand_as(image[:, :1])
    image.mul_(1 - 0.6 * truth)
    return truth


def predict(model: nn.Module, image: Tensor) -> Outputs:
    with torch.inference_mode():
        outputs = model.eval()(image)
    assert isinstance(outputs, Outputs)
    return outputs


class ModelTester:
    settings: ClassVar[ModelSettings]
    num_si: ClassVar[int] = 1
    num_slf: ClassVar[int] = 0
    in_channels: ClassVar[int] = 1
    stride: ClassVar[int] = 16
    """Of which the sides of images are multiples."""

    def build(self, seed: int = 0) -> Any:
        return build_model(self.settings, seed, self.in_channels)

    def images(self, num: int, height: int = 3, width: int = 3) -> Tensor:
        """Random images, of so many strides high and wide."""
        return images(num, height * self.stride, width * self.stride, channels=self.in_channels)

    def test_the_registry_holds_what_the_study_file_names(self) -> None:
        assert all(issubclass(network_class(arch), nn.Module) for arch in ARCHITECTURES)
        assert type(self.build()) is network_class(self.settings.arch)

    def test_its_weights_are_counted_without_building_them(self) -> None:
        assert count_parameters(self.settings, self.in_channels) == sum(
            weight.numel() for weight in self.build().parameters()
        )

    @pytest.mark.parametrize(("num", "height", "width"), [(1, 2, 2), (2, 3, 3), (3, 6, 6), (1, 5, 3)])
    def test_gives_logits_of_the_images_size(self, num: int, height: int, width: int) -> None:
        image = self.images(num, height, width)
        outputs = predict(self.build(), image)
        assert outputs.logits.shape == (num, self.num_si, *image.shape[-2:])
        assert outputs.auxiliary is None or outputs.auxiliary.shape == (num, self.num_slf, *image.shape[-2:])
        assert (outputs.auxiliary is None) == (self.num_slf == 0)

    def test_the_probability_is_the_mean_of_the_single_images(self) -> None:
        outputs = predict(self.build(), self.images(2))
        mean = (1 / (1 + np.exp(-outputs.logits.double().numpy()))).mean(axis=1)
        assert probability(outputs).dtype == torch.float32
        np.testing.assert_allclose(probability(outputs).numpy(), mean, atol=1e-6)

    def test_gradients_reach_every_parameter(self) -> None:
        model, image = self.build(), self.images(2, 64 // self.stride, 64 // self.stride)
        truth = disks(image)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):  # residual blocks start as identities: what is inside them learns from the second step on
            optimizer.zero_grad()
            segmentation_loss(model(image), truth, LossSettings()).backward()
            optimizer.step()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name

    def test_learns_one_batch(self) -> None:
        model, image = self.build(), self.images(2, 64 // self.stride, 64 // self.stride)
        truth = disks(image)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        losses = []
        for _ in range(20):
            loss = segmentation_loss(model(image), truth, LossSettings())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]
        assert losses[-1] < 0.8 * losses[0]

    def test_the_seed_alone_decides_the_weights(self) -> None:
        states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index]
        first = self.build(seed=3).state_dict()
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]
        assert random.getstate() == states[2]
        torch.rand(5)
        again, other = self.build(seed=3).state_dict(), self.build(seed=4).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        drawn = [name for name in first if first[name].ndim == 4]  # convolutions
        assert not any(torch.equal(first[name], other[name]) for name in drawn)

    def test_weights_go_through_safetensors(self, tmp_path: Path) -> None:
        saved, image = self.build(seed=0), self.images(2)
        saved(image)  # moves the running means
        save_file(saved.state_dict(), tmp_path / "fold_0.safetensors")
        loaded = self.build(seed=1)
        loaded.load_state_dict(load_file(tmp_path / "fold_0.safetensors"))
        assert torch.equal(predict(loaded, image).logits, predict(saved, image).logits)

    def test_memory_format_changes_nothing(self) -> None:
        model, image = self.build(), self.images(2)
        contiguous = predict(model, image).logits
        model = model.to(memory_format=torch.channels_last)
        channels_last = predict(model, image.contiguous(memory_format=torch.channels_last)).logits
        torch.testing.assert_close(channels_last, contiguous, atol=1e-4, rtol=1e-4)

    def test_trains_in_bfloat16(self) -> None:
        model, image = self.build(), self.images(2)
        truth = disks(image)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(image)
        loss = segmentation_loss(outputs, truth, LossSettings(bce_weight=1.0))
        loss.backward()
        assert outputs.logits.dtype == torch.bfloat16
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    def test_images_of_a_batch_do_not_see_each_other(self) -> None:
        model, image = self.build(), self.images(3)
        model(image)
        together, alone = predict(model, image).logits, predict(model, image[1:2]).logits
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)

    def test_the_forward_pass_draws_nothing(self) -> None:
        model, image = self.build(), self.images(2)
        assert torch.equal(model(image).logits, model(image).logits)

    def test_the_check_counts_the_bytes_of_the_weights(self) -> None:
        assert check_model(self.settings, self.in_channels) == sum(
            tensor.nbytes for tensor in self.build().state_dict().values()
        )
