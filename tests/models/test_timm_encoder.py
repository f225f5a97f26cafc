import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from eus_ray.config import ModelSettings
from eus_ray.errors import UserError
from eus_ray.models import build_model, check_model
from eus_ray.models.timm_encoder import Encoder, check_encoder, level_channels
from tests.models.tester import images

NOWHERE = "http://127.0.0.1:9"  # the discard port: a connection is refused at once


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub that cannot be reached, and an empty cache; gives the cache's folder."""
    monkeypatch.setattr(hub, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


def colour_classifier(name: str) -> Any:
    """Give timm's own network for colour images, with its classifier, weights as if trained."""
    network = timm.create_model(name, in_chans=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


def complaints(name: str, pretrained: bool = False, weights: str = "") -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        check_encoder(name, pretrained, weights)
    return caught.value.lines


# ---- features ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("resnext101_32x8d.tv_in1k", (256, 512, 1024, 2048)),  # five levels, the finest left out
        ("vgg11", (256, 512, 512, 512)),  # six
        ("convnext_tiny", (96, 192, 384, 768)),  # four
    ],
)
def test_channels_of_the_four_deepest_levels(name: str, channels: tuple[int, ...]) -> None:
    assert level_channels(name) == channels


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_levels_are_timms_own_of_the_normalised_image(name: str) -> None:
    encoder, image = Encoder(name).eval(), images(2, 64, 64)
    config: Any = timm.models.get_pretrained_cfg(name)
    mean, std = sum(config.mean) / 3, sum(config.std) / 3
    with torch.no_grad():
        levels, expected = encoder(image), encoder.body((image - mean) / std)[-4:]
    assert [level.shape[1] for level in levels] == list(encoder.channels)
    assert all(torch.equal(a, b) for a, b in zip(levels, expected, strict=True))


def test_gray_is_normalised_with_the_mean_over_colours() -> None:
    encoder = Encoder("resnet18")
    assert encoder.mean == pytest.approx(0.449, abs=1e-4)  # (.485 + .456 + .406) / 3
    assert encoder.std == pytest.approx(0.226, abs=1e-4)  # (.229 + .224 + .225) / 3


# ---- weights from a file ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_gives_the_features_of_the_colour_network(name: str, suffix: str, tmp_path: Path) -> None:
    colour, path = colour_classifier(name), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": colour.state_dict()}, path)
    else:
        save_file(colour.state_dict(), path)
    encoder, gray = Encoder(name, weights=str(path)).eval(), images(1, 64, 64)
    as_colour = ((gray - encoder.mean) / encoder.std).expand(-1, 3, -1, -1)
    with torch.no_grad():
        features = colour.eval().forward_intermediates(as_colour, intermediates_only=True)[-4:]
        levels = encoder(gray)
    for level, expected in zip(levels, features, strict=True):
        torch.testing.assert_close(level, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("offline")
def test_the_file_goes_before_the_seed_and_the_download(tmp_path: Path) -> None:
    save_file(colour_classifier("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    settings = ModelSettings(
        arch="daf_net", encoder="test_resnet", pretrained=True, weights=str(tmp_path / "weights.safetensors")
    )
    check_model(settings)
    one, two = build_model(settings, seed=1).state_dict(), build_model(settings, seed=2).state_dict()
    same = {name for name in one if torch.equal(one[name], two[name])}
    assert {name for name in one if name.startswith("encoder.")} <= same
    assert "multi_layer.0.weight" not in same


def test_weights_without_batch_counters_are_as_good(tmp_path: Path) -> None:
    state = colour_classifier("test_resnet").state_dict()
    save_file({k: v for k, v in state.items() if "num_batches_tracked" not in k}, tmp_path / "old.safetensors")
    body = Encoder("test_resnet", weights=str(tmp_path / "old.safetensors")).body
    assert torch.equal(body.state_dict()["layer4.0.conv1.weight"], state["layer4.0.conv1.weight"])


def test_a_file_that_lacks_tensors_is_refused_by_their_names(tmp_path: Path) -> None:
    state = colour_classifier("test_resnet").state_dict()
    del state["layer2.0.conv1.weight"], state["layer4.0.bn1.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"2 of test_resnet's \d+ tensors are missing \(layer2.0.conv1.weight, layer4"):
        Encoder("test_resnet", weights=str(tmp_path / "part.safetensors"))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(UserError) as caught:
        Encoder("test_resnet", weights=str(tmp_path / "resnet18.safetensors"))
    missing, misfits = caught.value.lines
    assert "are missing" in missing
    assert "have another shape" in misfits
    assert "give timm's file for test_resnet" in misfits


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_is_no_weights_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        Encoder("test_resnet", weights=str(path))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Attack()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot be read as weights"):
        Encoder("test_resnet", weights=str(tmp_path / "weights.pth"))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UserError, match="cannot be read as weights"):
        Encoder("test_resnet", weights=str(tmp_path / "plain.pth"))
    assert not (tmp_path / "ran").exists()


# ---- timm's pretrained weights ----------------------------------------------------------------------


@pytest.mark.usefixtures("offline")
def test_an_unreachable_hub_is_told_at_once_with_the_way_out() -> None:
    settings = ModelSettings(arch="daf_net", encoder="resnet18.tv_in1k", pretrained=True)
    level_channels("resnet18")  # timm's import is not what is timed
    started = time.perf_counter()
    for attempt in (lambda: check_model(settings), lambda: build_model(settings, seed=0)):
        with pytest.raises(UserError, match=r"resnet18.tv_in1k cannot be downloaded .*model\.weights"):
            attempt()
    assert time.perf_counter() - started < 10


@pytest.mark.usefixtures("offline")
def test_hub_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in complaints("resnet18", pretrained=True)[0]


def test_cached_weights_need_no_network(offline: Path) -> None:
    colour = colour_classifier("test_resnet.r160_in1k")
    repository = offline / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(colour.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    check_encoder("test_resnet.r160_in1k", pretrained=True)
    body = Encoder("test_resnet.r160_in1k", pretrained=True).body
    own, given = body.state_dict(), colour.state_dict()
    config: Any = timm.models.get_pretrained_cfg("test_resnet")
    first = f"{config.first_conv}.weight"
    torch.testing.assert_close(own[first], given[first].sum(dim=1, keepdim=True))
    assert all(torch.equal(own[name], given[name]) for name in own if name != first)


@pytest.mark.usefixtures("offline")
def test_a_network_without_published_weights() -> None:
    published = {known.partition(".")[0] for known in timm.list_pretrained()}
    name = min(set(timm.list_models("resnet*")) - published)
    assert "publishes no weights" in complaints(name, pretrained=True)[0]


# ---- encoders that cannot be --------------------------------------------------------------------------


def test_unknown_encoders_are_answered_with_the_nearest_name() -> None:
    assert complaints("resnet19") == ("model.encoder: timm has no network resnet19; did you mean resnet18?",)
    assert "did you mean resnet18.tv_in1k?" in complaints("resnet18.tv_in2k")[0]
    assert "timm has no network /etc/passwd" in complaints("/etc/passwd")[0]


def test_encoders_that_do_not_fit_are_refused_before_training() -> None:
    assert "has 3 levels of feature maps" in complaints("vit_tiny_patch16_224")[0]
    assert "does not take images of 48 pixels" in complaints("swin_tiny_patch4_window7_224")[0]


def test_an_encoder_without_feature_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("features_only not implemented for this network.")

    monkeypatch.setattr(timm, "create_model", refuse)
    level_channels.cache_clear()
    assert "resnet26 gives no feature maps (features_only not implemented" in complaints("resnet26")[0]


def test_all_mistakes_come_at_once() -> None:
    encoder, weights = complaints("resnet19", pretrained=True, weights="/nowhere/weights.pth")
    assert encoder.startswith("model.encoder: ")
    assert weights.startswith("model.weights: /nowhere/weights.pth: no such file")


def test_networks_without_an_encoder_ask_nothing_about_it() -> None:
    check_model(ModelSettings(arch="unet", width=2, encoder="no such thing", pretrained=True, weights="/nowhere"))


def test_importing_the_architectures_does_not_import_timm() -> None:
    script = "import sys, eus_ray.models; sys.exit('timm' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
