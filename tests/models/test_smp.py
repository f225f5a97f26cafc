import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from safetensors.torch import save_file

from eus_ray.config import LossSettings, ModelSettings
from eus_ray.errors import UserError
from eus_ray.models import build_model, check_model, count_parameters
from eus_ray.models.smp import SMPNetwork
from eus_ray.training.losses import segmentation_loss
from tests.models.tester import ModelTester, disks, images, predict

smp = pytest.importorskip("segmentation_models_pytorch")

LIGHT = "resnet10t"
SIDES = {"PAN": 128}
"""Pixels of images that are too small otherwise."""
ENCODERS = {"DPT": "vit_tiny_patch16_224"}
SMALL = {"decoder_channels": [32, 16, 16, 8, 8]}
ARGS = {
    "UnetPlusPlus": SMALL,
    "DPT": {"decoder_intermediate_channels": [16, 32, 64, 64], "decoder_fusion_channels": 32},
}
"""What makes large decoders small."""


class TestUnetPlusPlus(ModelTester):
    pytestmark = pytest.mark.slow
    settings = ModelSettings(arch="smp:UnetPlusPlus", encoder="resnet18", args=SMALL)
    stride = 32


class TestUnetPlusPlusInColour(TestUnetPlusPlus):
    in_channels: ClassVar[int] = 3


def settings_of(decoder: str, encoder: str = LIGHT, **more: Any) -> ModelSettings:
    return ModelSettings(arch=f"smp:{decoder}", encoder=encoder, **more)


def refusal(settings: ModelSettings, image_size: int = 64, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_model(settings, image_size=image_size, **more)
    (line,) = caught.value.lines
    return line


@pytest.mark.slow
@pytest.mark.parametrize("decoder", sorted(one.__name__ for one in smp.MODEL_ARCHITECTURES_MAPPING.values()))
def test_every_decoder_learns(decoder: str) -> None:
    settings = settings_of(decoder, ENCODERS.get(decoder, LIGHT), args=ARGS.get(decoder, {}))
    side = SIDES.get(decoder, 64)
    assert check_model(settings, image_size=side) >= 4 * count_parameters(settings)
    model = build_model(settings, seed=0)
    image = images(2, side, side)
    truth = disks(image)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = [weight.detach().clone() for weight in model.parameters()]
    loss = segmentation_loss(model(image), truth, LossSettings())
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert all(weight.isfinite().all() for weight in model.parameters())
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.8 * len(moved)
    assert predict(model, image).logits.shape == (2, 1, side, side)


def test_there_are_twelve_decoders() -> None:
    assert len(smp.MODEL_ARCHITECTURES_MAPPING) == 12


# ---- the same numbers as SMP's own -----------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_smps_network_of_normalised_images(channels: int) -> None:
    model: Any = build_model(settings_of("FPN"), seed=5, in_channels=channels)
    torch.manual_seed(5)
    theirs = smp.FPN(encoder_name=f"tu-{LIGHT}", encoder_weights=None, in_channels=channels, classes=1).eval()
    image = images(2, 64, 64, channels=channels)
    # timm's resnet10t is for images normalised with ImageNet's statistics
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    if channels == 1:
        mean, std = mean.mean().view(1), std.mean().view(1)
    with torch.inference_mode():
        expected = theirs((image - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1))
    torch.testing.assert_close(predict(model, image).logits, expected)
    assert not any(name.rpartition(".")[2] == "mean" for name in model.state_dict())
    assert model.encoder is model.body.encoder
    assert set(model.state_dict()) == {f"body.{name}" for name in theirs.state_dict()}


@pytest.mark.slow
def test_smps_own_encoder_gets_images_as_they_are() -> None:
    model = build_model(settings_of("Unet", "mit_b0"), seed=5)
    torch.manual_seed(5)
    theirs = smp.Unet("mit_b0", encoder_weights=None, in_channels=1, classes=1).eval()
    image = images(1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(predict(model, image).logits, theirs(image))


@pytest.mark.parametrize("encoder", [LIGHT, pytest.param("mit_b0", marks=pytest.mark.slow)])
def test_a_file_of_weights_is_taken_by_the_encoder(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    if encoder == LIGHT:
        whole = timm.create_model(encoder)
        first = "conv1.0.weight"
    else:
        whole = smp.encoders.get_encoder(encoder, in_channels=3)
        first = next(name for name, tensor in whole.state_dict().items() if tensor.ndim == 4)
    save_file(whole.state_dict(), tmp_path / "encoder.safetensors")
    settings = settings_of("Unet", encoder, weights=str(tmp_path / "encoder.safetensors"))
    check_model(settings)
    model: Any = build_model(settings, seed=2)
    body = model.encoder.model if encoder == LIGHT else model.encoder
    found = {name.replace(".", "_"): tensor for name, tensor in body.state_dict().items()}
    own, given = found[first.replace(".", "_")], whole.state_dict()[first]
    torch.testing.assert_close(own, given.sum(dim=1, keepdim=True))  # colours are summed for gray images
    same = [torch.equal(found[name.replace(".", "_")], tensor) for name, tensor in whole.state_dict().items()
            if name.replace(".", "_") in found and name != first]  # fmt: skip
    assert len(same) > 20
    assert all(same)


@pytest.mark.slow
def test_a_transformer_takes_images_of_any_size_unless_the_user_chose_one() -> None:
    swin = settings_of("FPN", "swin_tiny_patch4_window7_224")
    assert predict(build_model(swin, seed=0), images(1, 96, 96)).logits.shape == (1, 1, 96, 96)
    fixed = swin.model_copy(update={"args": {"img_size": 64}})
    assert predict(build_model(fixed, seed=0), images(1, 64, 64)).logits.shape == (1, 1, 64, 64)
    assert "data.image_size" in refusal(fixed, image_size=96)


# ---- refusals --------------------------------------------------------------------------------------


def test_the_nearest_decoder_is_named() -> None:
    assert refusal(settings_of("UnetPlus")) == (
        "model.arch: segmentation_models_pytorch has no decoder UnetPlus; did you mean UnetPlusPlus?"
    )


def test_the_nearest_encoder_of_both_libraries_is_named() -> None:
    assert refusal(settings_of("Unet", "mitt_b0")).endswith("has an encoder mitt_b0; did you mean mit_b0?")
    assert "did you mean resnet18?" in refusal(settings_of("Unet", "resnet188"))


@pytest.mark.parametrize("decoder", ["DeepLabV3", "DeepLabV3Plus", "PAN"])
def test_an_encoder_without_a_stride_to_choose_is_said_so(decoder: str) -> None:
    line = refusal(settings_of(decoder, "swin_tiny_patch4_window7_224"))
    assert line.startswith("model.encoder: swin_tiny_patch4_window7_224 has no stride that could be chosen")
    assert f"smp:{decoder} needs features of 1/{8 if decoder == 'DeepLabV3' else 16} of the image's size" in line


def test_a_plain_vision_transformer_is_for_dpt() -> None:
    assert "smp:DPT for a plain vision transformer" in refusal(settings_of("Unet", "vit_tiny_patch16_224"))


def test_a_pair_that_smp_refuses_is_told_with_its_reason() -> None:
    line = refusal(settings_of("UnetPlusPlus", "mit_b0"))
    assert line.startswith("model.arch: smp:UnetPlusPlus with the encoder mit_b0 cannot be built (ValueError: ")


def test_images_that_the_encoder_cannot_halve_are_refused() -> None:
    line = refusal(settings_of("FPN"), image_size=48)
    assert "48 pixels (data.image_size)" in line
    assert "divisible by 32" in line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"classes": 3}, "model.args: classes cannot be set (a mask has one class); leave it out"),
        ({"activation": "sigmoid"}, "model.args: activation cannot be set (the loss takes logits); leave it out"),
        ({"decoder_chanels": [8]}, "got an unexpected keyword argument 'decoder_chanels'"),
    ],
)
def test_arguments_that_are_not_the_users(args: dict[str, Any], message: str) -> None:
    assert message in refusal(settings_of("Unet", args=args))


def test_smp_would_ignore_an_argument_that_it_does_not_know() -> None:
    line = refusal(settings_of("Unet", "mit_b0", args={"decoder_chanels": [8]}))
    assert line == "model.args: smp:Unet takes no argument decoder_chanels; did you mean decoder_channels?"


def test_weights_of_smps_own_encoders_are_not_downloaded() -> None:
    assert refusal(settings_of("Unet", "mit_b0", pretrained=True)).startswith("model.pretrained: mit_b0 is an encoder")


def test_a_missing_file_of_weights_is_named() -> None:
    assert refusal(settings_of("Unet", weights="/nowhere.safetensors")).startswith("model.weights: /nowhere")


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "segmentation_models_pytorch"]:
        monkeypatch.delitem(sys.modules, name)
    genuine: Callable[..., Any] = builtins.__import__

    def without_smp(name: str, *more: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "segmentation_models_pytorch":
            raise ModuleNotFoundError("No module named 'segmentation_models_pytorch'", name=name)
        return genuine(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without_smp)
    line = refusal(settings_of("Unet"))
    assert line.startswith("model.arch: the networks smp:NAME need segmentation_models_pytorch")
    assert "eus-ray[smp]" in line


def test_the_class_is_told_by_the_prefix() -> None:
    assert type(build_model(settings_of("Unet"), seed=0)) is SMPNetwork
