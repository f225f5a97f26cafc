"""One study with variants of one architecture and networks of others, from `cv` to `predict`, by the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

from eus_ray.cli import main
from eus_ray.config_file import load_study
from eus_ray.store import Store, read_trials
from tests.helpers import assert_same, exit_code, tables
from tests.others import Package

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MODELS = ["unet", "unet_wide", "unetpp", "ours"]
ARCHITECTURE = {
    "unet": "unet",
    "unet_wide": "unet",
    "unetpp": "smp:UnetPlusPlus",
    "ours": "lab_of_variants.nets:Net",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    package = Package(tmp_path_factory.mktemp("lab"), "lab_of_variants")
    with pytest.MonkeyPatch.context() as patch:
        package.put_on_path(patch)
        yield package


@pytest.fixture(scope="module")
def study_file(phantom: Path, package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del package  # needed, but never read
    settings = {
        "models": MODELS,
        "data": {"manifest": str(phantom), "image_size": 32},
        "folds": {"count": 2},
        "model": {"width": 2},
        "train": {"epochs": 1, "batch_size": 8},
        "run": {"workers": 1},
        "log": {"tensorboard": True},
        "search": {"inner_folds": 2, "scheduler": "none"},
        "only": {
            "unet_wide": {"model.arch": "unet", "model.width": 4, "model.label": "U-Net, wide"},
            "unetpp": {"model.arch": "smp:UnetPlusPlus", "model.encoder": "resnet10t"},
            "ours": {
                "model.arch": "lab_of_variants.nets:Net",
                "model.args": {"depth": 2},
                "model.label": "BoundaryNet",
            },
        },
    }
    path = tmp_path_factory.mktemp("file") / "study.toml"
    path.write_text(tomli_w.dumps(settings))
    return path


@pytest.fixture(scope="module")
def trained(study_file: Path, ray_session: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study folder after `cv` of all models."""
    del ray_session  # needed, but never read
    folder = tmp_path_factory.mktemp("variants") / "study"
    assert main(["cv", str(study_file), "--out", str(folder), "--quiet"]) == 0
    return folder


def test_each_variant_is_trained_by_its_own_settings(trained: Path) -> None:
    rows = read_trials(Store(trained)).set_index("model")
    assert set(rows["state"]) == {"complete"}
    assert rows["model.arch"].to_dict() == ARCHITECTURE
    assert rows["model.width"][["unet", "unet_wide"]].to_list() == [2, 4]
    assert rows["model.label"][["unet", "unet_wide", "ours"]].to_list() == ["", "U-Net, wide", "BoundaryNet"]
    assert rows["model.args.depth"]["ours"] == "2"
    assert rows["parameters"].nunique() == 4
    assert rows["parameters"]["ours"] == (9 * 4 + 4) + 2 * (9 * 4 * 4 + 4) + (4 + 1)


def test_files_have_the_models_names(trained: Path) -> None:
    for model in MODELS:
        assert (trained / f"logs/{model}_trial-0.log").is_file()
        assert (trained / f"logs/tensorboard/{model}/trial-0/fold-1").is_dir()
        assert sorted(path.name for path in (trained / f"checkpoints/{model}/0").iterdir()) == [
            "fold_0.safetensors",
            "fold_1.safetensors",
        ]
        assert set(tables(trained, model)["scores"]["model"]) == {model}
    assert set(tables(trained)["scores"]["model"]) == set(MODELS)


def test_the_written_study_reads_back_equal(trained: Path, study_file: Path) -> None:
    assert load_study(trained / "study.toml") == load_study(study_file)


def test_status_and_plan_name_the_models(trained: Path, study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(trained)]) == 0
    said = capsys.readouterr().out
    for model in MODELS:
        assert f"{model}: 1 complete; 2 of 2 fold-epochs of these trained" in said
    assert main(["plan", str(study_file)]) == 0
    assert " of 4 models at a time" in capsys.readouterr().out


def test_a_second_run_needs_resume_and_then_adds_nothing(
    trained: Path, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, files = tables(trained), {path: path.stat().st_mtime_ns for path in trained.glob("checkpoints/*/*/*")}
    assert main(["cv", str(study_file), "--out", str(trained), "--models", "unet_wide"]) == 2
    assert "holds unet_wide already (fixed, complete)" in capsys.readouterr().err
    relabelled = ["--set", "only.unet.model.label=U-Net, narrow"]
    assert main(["cv", str(study_file), "--out", str(trained), "--resume", "--quiet", *relabelled]) == 0
    assert read_trials(Store(trained)).set_index("model")["model.label"]["unet"] == "U-Net, narrow"
    assert main(["cv", str(study_file), "--out", str(trained), "--resume", "--quiet"]) == 0
    assert_same(tables(trained), before)
    assert {path: path.stat().st_mtime_ns for path in trained.glob("checkpoints/*/*/*")} == files


def test_a_variant_with_other_settings_is_refused_by_its_name(
    trained: Path, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ["--set", "only.unet_wide={'model.arch' = 'unet', 'model.width' = 3}"]
    assert main(["cv", str(study_file), "--out", str(trained), "--resume", *change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unet_wide was begun with other settings: model.width was 4 and is 3" in line
    assert main(["cv", str(study_file), "--out", str(trained), "--models", "unet_wid"]) == 2
    assert "'unet_wid' is not a choice; did you mean unet_wide?" in capsys.readouterr().err


def test_claims_are_made_between_variants(trained: Path) -> None:
    assert main(["analyze", str(trained), "--quiet"]) == 0
    claims = pd.read_csv(trained / "report/claims.csv")
    pairs = {frozenset(pair) for pair in claims[["model_a", "model_b"]].itertuples(index=False)}
    assert frozenset({"unet", "unet_wide"}) in pairs
    assert frozenset({"unetpp", "ours"}) in pairs
    assert set(pd.read_csv(trained / "report/table2.csv")["model"]) == {*MODELS, "baseline"}
    page = (trained / "report/report.html").read_text()
    for label in ("U-Net, wide", "BoundaryNet", "unetpp"):
        assert label in page


@pytest.mark.long
def test_two_variants_are_searched_from_what_was_trained(
    trained: Path, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    words = ["tune", str(study_file), "--out", str(out), "--models", "unet_wide,ours", "--trials", "2", "--quiet"]
    assert main([*words, "--from", str(trained)]) == 0
    said = capsys.readouterr().out
    assert "U-Net, wide" in said
    assert "BoundaryNet" in said
    rows = read_trials(Store(out))
    for model, arch in (("unet_wide", "unet"), ("ours", ARCHITECTURE["ours"])):
        mine = rows[rows["model"] == model]
        assert mine["kind"].to_list() == ["trial", "trial", "winner"]
        assert set(mine["model.arch"]) == {arch}
        assert set(mine["state"]) == {"complete"}
    before = tables(out)
    assert main([*words, "--resume"]) == 0
    assert_same(tables(out), before)
    assert main(["analyze", str(out), "--quiet"]) == 0
    assert set(pd.read_csv(out / "report/table2.csv")["model"]) == {"unet_wide", "ours", "baseline"}


def test_a_variant_predicts_by_its_own_weights(
    trained: Path, phantom: Path, package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, allow = str(phantom.parent / "images"), ["--allow-module", f"{package.name}.nets"]
    areas = {}
    for model in MODELS:
        out = tmp_path / model
        more = allow if model == "ours" else []
        assert main(["predict", str(trained), images, "--model", model, "--out", str(out), "--quiet", *more]) == 0
        areas[model] = pd.read_csv(out / "areas.csv")
        assert len(areas[model]) == 20
    assert not areas["unet"].equals(areas["unet_wide"])
    capsys.readouterr()
    assert exit_code(["predict", str(trained), images, "--model", "unet_wid", "--out", str(tmp_path / "x")]) == 2
    assert "did you mean unet_wide?" in capsys.readouterr().err


def test_a_variant_joins_a_study_that_has_begun(
    trained: Path, phantom: Path, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's study.toml is that of the first run; what a later model is stands in trials.parquet."""
    out, first = tmp_path / "study", tmp_path / "first.toml"
    first.write_text(tomli_w.dumps(tomllib.loads(study_file.read_text()) | {"models": ["unet"], "only": {}}))
    assert main(["cv", str(first), "--out", str(out), "--quiet"]) == 0
    assert main(["cv", str(study_file), "--out", str(out), "--models", "unet_wide", "--quiet"]) == 0
    assert_same(tables(out, "unet_wide"), tables(trained, "unet_wide"))
    capsys.readouterr()
    assert main(["status", str(out)]) == 0
    assert "unet_wide: 1 complete" in capsys.readouterr().out
    assert main(["analyze", str(out), "--quiet"]) == 0
    assert "U-Net, wide" in (out / "report/report.html").read_text()
    images = str(phantom.parent / "images")
    words = ["predict", str(out), images, "--model", "unet_wide", "--out", str(tmp_path / "masks"), "--quiet"]
    assert main(words) == 0
    assert len(pd.read_csv(tmp_path / "masks/areas.csv")) == 20
