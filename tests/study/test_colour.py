"""A study in colour: resumed as it was begun, and trained by Ray as by one process."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eus_ray.data.dataset import check_data
from eus_ray.data.io.images import decode
from eus_ray.data.phantom.dataset import make_phantom
from eus_ray.distributed import shared_arrays
from eus_ray.errors import UserError
from eus_ray.store import CASES_FILE, PROVENANCE, Store
from eus_ray.study.cross_validate import cross_validate
from eus_ray.study.prepare import check_identity, write_study
from tests.helpers import assert_same, exit_code, light_study, serial, tables


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour") / "set"
    return make_phantom(folder, patients=6, images=8, seed=2, size=32, colour=True)


@pytest.mark.parametrize(("begun", "resumed"), [("rgb", "gray"), ("gray", "rgb")])
def test_a_study_is_not_resumed_in_other_channels(manifest: Path, tmp_path: Path, begun: str, resumed: str) -> None:
    dataset, store = check_data(light_study(manifest, f"data.channels={begun}")), Store(tmp_path / "study")
    write_study(store, dataset, dataset.arrays())
    assert check_identity(store, dataset)
    with pytest.raises(UserError) as refused:
        check_identity(store, check_data(light_study(manifest, f"data.channels={resumed}")))
    assert refused.value.lines == (
        f"{store.location}: holds another study: data.channels was {begun} and is {resumed}; choose another output "
        "folder",
    )


def test_a_study_that_is_older_than_colour_is_gray(manifest: Path, tmp_path: Path) -> None:
    dataset, store = check_data(light_study(manifest)), Store(tmp_path / "study")
    write_study(store, dataset, dataset.arrays())
    written = store.read_json(PROVENANCE)
    del written["identity"]["data.channels"]
    store.write_json(PROVENANCE, written)
    assert check_identity(store, dataset)
    with pytest.raises(UserError, match=r"data\.channels was gray and is rgb"):
        check_identity(store, check_data(light_study(manifest, "data.channels=rgb")))


def test_a_transparent_picture_ends_the_command_before_anything_is_written(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(manifest.parent, folder)
    picture = next(iter(sorted((folder / "images").iterdir())))
    with Image.open(picture) as image:
        clear = image.convert("RGBA")
    clear.putpixel((3, 4), (1, 2, 3, 0))
    clear.save(picture)
    settings = ("--set", f"data.manifest={folder}/manifest.csv", "--set", "data.channels=rgb")
    assert exit_code(["cv", "--out", str(tmp_path / "out"), "--models", "unet", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"eus-ray: {folder}/manifest.csv: row 2: image images/{picture.name} is transparent, and its colours depend on "
        "what lies behind it; save it without transparency (alpha)"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("share", [0.6, 0.0], ids=["object store", "mapped files"])
def test_workers_train_in_colour_as_one_process_does(
    manifest: Path, tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_arrays, "OBJECT_STORE_SHARE", share)
    study = light_study(manifest, "data.channels=rgb", "folds.count=2", "run.workers=2")
    assert cross_validate(study, tmp_path / "study").states == {"unet": "complete"}
    assert_same(tables(tmp_path / "study"), serial(study, "unet"))
    arrays = check_data(study).arrays()
    images = Store(tmp_path / "study").read_table(CASES_FILE, ["image"])["image"].to_pylist()
    assert (np.stack([decode(png).content for png in images]) == arrays.images).all()
