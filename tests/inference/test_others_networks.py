"""A study folder whose networks are built by a module that is not eus-ray's: it starts nothing by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eus_ray import Predictor, UserError
from eus_ray.store import Store
from tests.helpers import exit_code
from tests.others import LAYERS, NETS, Package
from tests.trained import train_study, write_images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Path]:
    """The package, and the folder of a study that was trained with it; its images lie beside it."""
    folder = tmp_path_factory.mktemp("others")
    package = Package(folder / "lab", "lab_of_strangers")
    with pytest.MonkeyPatch.context() as monkeypatch:
        package.put_on_path(monkeypatch)
        train_study(folder / "study", package.study(write_images(folder / "images")))
    assert package.mark.exists()
    return package, folder / "study"


@pytest.fixture
def package(trained: tuple[Package, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """The package on this process's path, not imported yet."""
    package = trained[0]
    package.put_on_path(monkeypatch)
    package.write()
    yield package
    package.write()


@pytest.fixture
def study(trained: tuple[Package, Path]) -> Path:
    return trained[1]


def refused(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    assert exit_code([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_strangers_folder_starts_nothing(
    package: Package, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", study, study.parent / "images/images", "--out", tmp_path / "out"]
    said = refused(words, capsys)
    assert f"ours is built by the module {package.name}.nets" in said
    assert said.endswith("name it in allow_modules (--allow-module)")
    assert refused([*words, "--allow-module", package.name], capsys) == said, "its whole name is to be repeated"
    with pytest.raises(UserError, match="name it in allow_modules"):
        Predictor(study)
    assert not package.mark.exists()
    assert not (tmp_path / "out").exists()


def test_what_only_reads_a_folder_imports_nothing(package: Package, study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study")
    for words in (
        ["status", tmp_path / "study"],
        ["analyze", tmp_path / "study", "--quiet"],
        ["replay", tmp_path / "study", "--rule", "none"],
    ):
        assert exit_code([str(word) for word in words]) in (0, 2), words  # there is no search to replay
    assert (tmp_path / "study/report/report.html").exists()
    assert not package.mark.exists()


def test_a_module_that_is_allowed_predicts(package: Package, study: Path, tmp_path: Path) -> None:
    images, module = study.parent / "images/images", f"{package.name}.nets"
    words = ["predict", study, images, "--out", tmp_path / "out", "--quiet", "--allow-module", module]
    assert exit_code([str(word) for word in words]) == 0
    assert package.mark.exists()
    assert len(pd.read_csv(tmp_path / "out/areas.csv")) == len(list(images.iterdir()))
    predictor = Predictor(study, allow_modules=(module,))
    assert predictor.predict(np.zeros((40, 56), np.uint8)).probability.shape == (40, 56)


@pytest.mark.parametrize(
    ("changed", "imports", "said"),
    [
        ({"nets": NETS + "\n# changed"}, False, ".nets is not the file with which ours was trained; bring that file"),
        (
            {"layers": LAYERS.replace("3, padding=1", "5, padding=2")},
            True,
            "of another network (size mismatch",
        ),
        ({"layers": "raise RuntimeError('not now')"}, True, "RuntimeError: not now"),
    ],
    ids=["its file", "another file of the package", "it raises"],
)
def test_a_changed_module_is_told_in_a_line(
    package: Package, study: Path, changed: dict[str, str], imports: bool, said: str
) -> None:
    package.write(**changed)
    with pytest.raises(UserError) as refusal:
        Predictor(study, allow_modules=[f"{package.name}.nets"])
    assert all(said in line for line in refusal.value.lines), refusal.value.lines
    assert package.mark.exists() == (imports and "raise" not in changed.get("layers", ""))


def test_a_module_that_is_not_here_is_told_in_a_line(trained: tuple[Package, Path]) -> None:
    package, study = trained
    package.forget()
    with pytest.raises(UserError, match="which is not on this machine; install its package, or put the folder"):
        Predictor(study, allow_modules=[f"{package.name}.nets"])


def test_a_folder_without_entries_or_with_odd_ones_is_judged_by_its_settings(
    package: Package, study: Path, tmp_path: Path
) -> None:
    """Provenance, too, may be a stranger's."""
    shutil.copytree(study, tmp_path / "study")
    store, module = Store(tmp_path / "study"), f"{package.name}.nets"
    written = store.read_json("provenance.json")
    for odd in (None, [], {"ours": 1}, {"ours": {"module": "../../evil", "sha256": None}}, {}):
        store.write_json("provenance.json", written | {"networks": odd})
        with pytest.raises(UserError, match="allow_modules"):
            Predictor(store.location)
        assert not package.mark.exists()
        assert Predictor(store.location, allow_modules=[module]).model == "ours"
        package.forget()
    store.write_json("provenance.json", written | {"networks": {"ours": {"module": "..", "sha256": "0"}}})
    with pytest.raises(UserError, match=r"the module \.\. is not the file"):
        Predictor(store.location, allow_modules=[module])


def test_a_network_that_was_an_entry_point_of_a_package_that_is_not_here_is_told_in_a_line(
    study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "study")
    store = Store(tmp_path / "study")
    store.write_text("study.toml", store.read_text("study.toml").replace("lab_of_strangers.nets:Net", "their_net"))
    there = {"arch": "their_net", "module": "lab_of_strangers.nets", "version": "1.0", "sha256": "0"}
    store.write_json("provenance.json", store.read_json("provenance.json") | {"networks": {"ours": there}})
    with pytest.raises(UserError) as refused:
        Predictor(store.location)
    assert refused.value.lines == (
        f"{store.location}: ours is the network their_net of a package that is not on this machine; install the one "
        "that has the module lab_of_strangers.nets",
    )
