import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eus_ray import architectures
from eus_ray.architectures import module_of
from eus_ray.config import ModelSettings, Study
from eus_ray.config_file import load_study
from eus_ray.data.dataset import check_data
from eus_ray.errors import UserError
from eus_ray.models import build_model, check_model, check_model_of, count_parameters
from eus_ray.models.others import CallableNetwork, find_callable
from eus_ray.store import Store
from eus_ray.study.prepare import prepare_dataset
from eus_ray.training.checkpoint import load_model
from eus_ray.training.fold import Fold, FoldData
from tests.conftest import ROOT
from tests.helpers import exit_code, light_study
from tests.models.conftest import WriteModule
from tests.models.tester import ModelTester, images, predict

DOC = (ROOT / "docs/networks.md").read_text(encoding="utf-8")
EXAMPLE = next(block for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL) if "class BoundaryNet" in block)
VARIANTS = next(block for block in re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL) if "[only.ours]" in block)

PLAIN = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, 3, padding=1)

    def forward(self, image):
        return self.conv(image)
"""
TIED = """
class Tied(Plain):
    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.again = nn.Sequential(self.conv)
"""
"""One convolution under two names."""


class TestTheExampleOfTheDocuments(ModelTester):
    settings = ModelSettings(arch="labnets:BoundaryNet", width=8, args={"depth": 3})
    num_slf = 3

    @pytest.fixture(autouse=True)
    def _labnets(self, write_module: WriteModule) -> None:
        write_module("labnets", EXAMPLE)

    def test_learns_in_colour(self) -> None:
        model = build_model(self.settings, seed=0, in_channels=3)
        assert predict(model, images(2, 48, 48, channels=3)).logits.shape == (2, 1, 48, 48)
        assert check_model(self.settings, in_channels=3) > check_model(self.settings, in_channels=1)

    def test_its_encoder_is_the_part_of_this_name(self) -> None:
        model: Any = self.build()
        assert type(model) is CallableNetwork
        assert model.encoder is model.body.encoder
        names = list(model.state_dict())
        assert len(names) == len(set(names))
        assert all(name.startswith("body.") for name in names)

    def test_fields_and_arguments_arrive(self) -> None:
        body: Any = self.build().body
        assert len(body.encoder) == 3
        assert body.encoder[0][0].weight.shape == (8, 1, 3, 3)

    @pytest.mark.slow
    def test_the_study_of_the_documents_is_sound(self, tmp_path: Path, phantom: Path) -> None:
        pytest.importorskip("segmentation_models_pytorch")
        path = tmp_path / "study.toml"
        path.write_text(VARIANTS.replace("manifest.csv", str(phantom)) + "\n[folds]\ncount = 2\n")
        study = load_study(path, overrides=["data.image_size=64", "model.width=4", "model.decoder_width=8"])
        dataset = prepare_dataset(study, Store(str(tmp_path / "STUDY")), resume=False)
        assert dataset.study.models == ("unet", "daf_small", "daf_r18", "unetpp", "ours")
        assert count_parameters(study.for_model("daf_r18").model) > count_parameters(study.for_model("daf_small").model)
        assert not (tmp_path / "STUDY").exists()


def refusal(settings: ModelSettings, in_channels: int = 1) -> str:
    with pytest.raises(UserError) as caught:
        check_model(settings, in_channels)
    (line,) = caught.value.lines
    return line


@pytest.mark.parametrize("arch", ["labnets:BoundaryNet", "tied:Tied"])
def test_a_fold_is_saved_restored_and_loaded(write_module: WriteModule, phantom: Path, arch: str) -> None:
    write_module("labnets", EXAMPLE)
    write_module("tied", PLAIN + TIED)
    whole = {**light_study(phantom).model_dump(), "models": ["ours"], "only": {"ours": {"model.arch": arch}}}
    study = Study.model_validate(whole).for_model("ours")
    dataset = check_data(study)
    arrays = dataset.arrays()
    data = FoldData(
        fold=0,
        images=arrays.images,
        masks=arrays.masks,
        train=np.flatnonzero(dataset.folds != 0),
        test=np.flatnonzero(dataset.folds == 0),
        image_ids=dataset.frame["image_id"].tolist(),
        patient_ids=dataset.frame["patient_id"].tolist(),
    )
    cpu = torch.device("cpu")
    straight = Fold(study, data, cpu)
    straight.train_epoch()
    restored = Fold(study, data, cpu, straight.state())
    rows = [fold.train_epoch() | {"seconds": 0} for fold in (straight, restored)]
    assert rows[0] == rows[1]
    image = images(1, 32, 32)
    trained, loaded = straight.model, load_model(straight.state(), study, cpu)
    assert torch.equal(predict(trained, image).logits, predict(loaded, image).logits)


# ---- which module ----------------------------------------------------------------------------------


def test_only_callables_have_a_module() -> None:
    assert [module_of(arch) for arch in ("unet", "daf_net", "smp:FPN")] == [None] * 3
    assert module_of("a.b:c.d") == "a.b"
    assert find_callable("torch:nn.Conv2d") is nn.Conv2d


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that offers a network by name."""
    folder = tmp_path / "installed"
    (folder / "labnets-1.2.dist-info").mkdir(parents=True)
    (folder / "labnets-1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: labnets\nVersion: 1.2\n")
    (folder / "labnets-1.2.dist-info/entry_points.txt").write_text(
        "[eus_ray.models]\nplain_net = epnets:Plain\nlost_net = epnets:Gone\n"
    )
    monkeypatch.syspath_prepend(folder)
    architectures.entry_points.cache_clear()
    yield
    monkeypatch.undo()
    architectures.entry_points.cache_clear()


@pytest.mark.usefixtures("entry_point")
def test_a_package_offers_networks_by_name(write_module: WriteModule) -> None:
    write_module("epnets", PLAIN)
    study = Study(models=("plain_net", "unet"))
    settings = study.for_model("plain_net").model
    assert module_of("plain_net") == "epnets"
    assert count_parameters(settings) == 10  # 3 x 3 weights and a bias
    assert check_model(settings) == 40
    assert refusal(ModelSettings(arch="lost_net")).startswith("model.arch: lost_net: epnets has no Gone")


# ---- what is passed --------------------------------------------------------------------------------


def test_a_callable_gets_what_it_names_and_nothing_else(write_module: WriteModule) -> None:
    write_module(
        "gets",
        PLAIN
        + """
SEEN = {}
def some(in_channels, *, encoder, weights, depth):
    SEEN.update(locals())
    return Plain(in_channels)
def everything(**given):
    SEEN.update(given)
    return Plain(given["in_channels"])
def whole(in_channels, settings):
    SEEN["settings"] = settings
    return Plain(in_channels)
""",
    )
    seen = find_callable("gets:some").__globals__["SEEN"]  # type: ignore[attr-defined]
    build_model(ModelSettings(arch="gets:some", encoder="mine", weights="file", width=3, args={"depth": [1, 2]}), 0, 3)
    assert seen == {"in_channels": 3, "encoder": "mine", "weights": "file", "depth": [1, 2]}
    seen.clear()
    build_model(ModelSettings(arch="gets:everything", width=3, args={"rate": 0.5}), 0)
    assert seen == {"in_channels": 1, "rate": 0.5}
    settings = ModelSettings(arch="gets:whole", width=3)
    build_model(settings, 0)
    assert seen["settings"] == settings


@pytest.mark.parametrize(
    ("arch", "args", "message"),
    [
        ("takes:one", {}, "model.arch: takes:one: needs an argument depth; give it in model.args"),
        ("takes:one", {"dept": 1, "depth": 1}, "model.args: takes:one takes no argument dept; did you mean depth?"),
        ("takes:one", {"depth": 1, "width": 2}, "takes:one is given width already, as model.width; leave it out here"),
        ("takes:one", {"depth": 1, "in_channels": 2}, "takes:one is given in_channels already; leave it out here"),
        ("takes:blind", {}, "takes:blind: takes no argument in_channels, the channels of an image (1 or 3); add it"),
    ],
)
def test_arguments_that_do_not_fit(write_module: WriteModule, arch: str, args: dict[str, Any], message: str) -> None:
    write_module("takes", PLAIN + "\ndef one(in_channels, depth, width=1): ...\ndef blind(): ...\n")
    assert refusal(ModelSettings(arch=arch, args=args)).endswith(message)


# ---- what cannot be had ----------------------------------------------------------------------------

FAULTY = """
import sys
print("hello")
print("careful", file=sys.stderr)
"""


def test_a_module_that_is_not_here_says_how_to_bring_it() -> None:
    assert refusal(ModelSettings(arch="no_such_lab.nets:Net")) == (
        "model.arch: no_such_lab.nets:Net: there is no module no_such_lab here; install its package, or put the folder "
        "that holds it on PYTHONPATH"
    )


def test_a_module_that_lacks_another_is_no_missing_module(write_module: WriteModule) -> None:
    write_module("needy", "import no_such_thing")
    line = refusal(ModelSettings(arch="needy:Net"))
    assert line == (
        "model.arch: needy:Net: importing needy raises ModuleNotFoundError: No module named 'no_such_thing'"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('no\\nluck')", "ValueError: no"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_prints_and_raises_is_one_line(
    write_module: WriteModule,
    tmp_path: Path,
    phantom: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    message: str,
) -> None:
    write_module("faulty", FAULTY + code)
    study = tmp_path / "study.toml"
    study.write_text(f'[data]\nmanifest = "{phantom}"\n[model]\narch = "faulty:Net"\n')
    assert exit_code(["cv", str(study), "--out", str(tmp_path / "STUDY")]) == 2
    written = capsys.readouterr()
    (line,) = written.err.splitlines()
    assert f"model.arch: faulty:Net: importing faulty raises {message}" in line
    assert not written.out
    assert not (tmp_path / "STUDY").exists()


def test_the_nearest_name_of_a_module_is_told(write_module: WriteModule) -> None:
    write_module("near", PLAIN)
    assert refusal(ModelSettings(arch="near:Plane")) == "model.arch: near:Plane: near has no Plane; did you mean Plain?"
    assert refusal(ModelSettings(arch="near:Plain.bild")).startswith("model.arch: near:Plain.bild: Plain has no bild")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (
            "returns:NUMBER",
            "returns:NUMBER: has type int and cannot be called; name a class or a function",
        ),
        ("returns:nothing", "returns:nothing: returns type NoneType, not a torch.nn.Module"),
        ("returns:raises", "returns:raises: building it raises RuntimeError: of depth 0"),
    ],
)
def test_what_is_no_network(
    write_module: WriteModule, capsys: pytest.CaptureFixture[str], arch: str, message: str
) -> None:
    code = "NUMBER = 3\ndef nothing(in_channels): print('hello')\n"
    write_module("returns", code + "def raises(in_channels):\n    raise RuntimeError('\\n of depth 0\\nand more')\n")
    assert message in refusal(ModelSettings(arch=arch))
    assert not capsys.readouterr().out


# ---- the encoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{"train": {"freeze_encoder_epochs": 1}}, {"optim": {"encoder_lr_factor": 0.1}}])
def test_a_network_without_an_encoder_cannot_freeze_it(write_module: WriteModule, own: dict[str, Any]) -> None:
    part = "    encoder = property(lambda self: self.conv)\n"
    two = "    def forward(self, image):\n        return self.scale * super().forward(image)\n"
    two += "    def __init__(self, in_channels):\n        super().__init__(in_channels)\n"
    two += "        self.scale = nn.Parameter(torch.ones(1))\n"
    write_module("enc", f"{PLAIN}\nclass Whole(Plain):\n{part}\nclass Two(Plain):\n{part}{two}")
    study = {"models": ["ours"], "only": {"ours": {"model.arch": "enc:Plain"}}}
    assert check_model_of(Study.model_validate(study).for_model("ours")) == 40
    with pytest.raises(UserError, match="has no module that is called encoder, which"):
        check_model_of(Study.model_validate(study | own).for_model("ours"))
    study["only"] = {"ours": {"model.arch": "enc:Whole"}}
    with pytest.raises(UserError, match="all that it learns lies in its module encoder"):
        check_model_of(Study.model_validate(study | own).for_model("ours"))
    study["only"] = {"ours": {"model.arch": "enc:Two"}}
    assert check_model_of(Study.model_validate(study | own).for_model("ours")) == 44


def test_what_is_drawn_depends_on_the_seed_alone(write_module: WriteModule) -> None:
    write_module("seeds", PLAIN)
    settings = ModelSettings(arch="seeds:Plain")
    one, two = (build_model(settings, seed).state_dict()["body.conv.weight"] for seed in (1, 2))
    torch.rand(3)
    assert torch.equal(one, build_model(settings, 1).state_dict()["body.conv.weight"])
    assert not torch.equal(one, two)
