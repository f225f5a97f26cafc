"""The phantom in colour: the gray version of a picture says nothing about its lesion, the hue all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import rankdata

from eus_ray.config import Study
from eus_ray.data.dataset import check_data
from eus_ray.data.io.images import decode, encode_png
from eus_ray.data.phantom import dataset as phantom_room
from eus_ray.data.phantom.dataset import make_phantom
from eus_ray.data.phantom.hue import draw_lesion, tinted
from eus_ray.training.fold import FoldData, train_fold
from tests.helpers import exit_code, light_study

SIZE = 48


def make(folder: Path, patients: int = 40, images: int = 80, cancer_free: int = 0) -> Path:
    return make_phantom(folder, patients, images, seed=1, cancer_free=cancer_free, size=SIZE, colour=True)


def read(manifest: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours `(N, S, S, 3)`, gray versions and masks `(N, S, S)` of a data set."""
    table = pd.read_csv(manifest)
    pictures = [decode((manifest.parent / name).read_bytes()) for name in table["image"]]
    masks = [decode((manifest.parent / name).read_bytes()).mask() for name in table["mask"]]
    return np.stack([p.pixels("rgb") for p in pictures]), np.stack([p.gray for p in pictures]), np.stack(masks) > 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("hue") / "set")


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    ranks, num_positive = rankdata(values), positive.sum()
    above = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * (~positive).sum()))


def test_every_gray_value_stays_in_a_lesion_and_beside_it() -> None:
    gray = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    lesion = np.array([[True], [False]]) & np.ones_like(gray, bool)
    colour = tinted(gray, lesion)
    assert colour.dtype == np.uint8
    assert (decode(encode_png(colour[..., ::-1])).gray == gray).all()
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - gray).max() < 0.3
    assert colour[0, 100].tolist() == [148, 76, 100]  # 100 - 48 * 0.299 / 0.587 = 75.6
    assert colour[1, 100].tolist() == [52, 124, 100]


def test_the_gray_version_is_the_same_without_the_lesions(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantom_room, "draw_lesion", lambda *given: draw_lesion(*given) & False)
    colours, gray, masks = read(made)
    without, gray_without, no_masks = read(make(tmp_path / "without"))
    assert not no_masks.any()
    assert masks.any(axis=(1, 2)).all()
    assert (gray == gray_without).all()
    assert ((colours != without).any(axis=3) & ~masks).sum() == 0


def test_hue_tells_the_lesion_and_brightness_does_not(made: Path) -> None:
    colours, gray, masks = read(made)
    shown = gray > 0  # black has no hue
    redness = colours[..., 0].astype(int) - colours[..., 1]
    assert auc(redness[shown], masks[shown]) == 1.0
    assert auc(gray[shown], masks[shown]) == pytest.approx(0.5, abs=0.06)
    assert 0.03 < masks.mean() < 0.12
    best_guess = max(
        np.mean([2 * (mask & guess).sum() / (mask.sum() + guess.sum()) for mask in masks])
        for level in np.linspace(0, 0.4, 21)
        if (guess := masks.mean(axis=0) > level).any()
    )
    assert best_guess < 0.3, "no fixed mask is near"


def test_images_without_a_lesion_and_the_same_bytes_again(made: Path, tmp_path: Path) -> None:
    first = make(tmp_path / "first", patients=6, images=9, cancer_free=3)
    again = make(tmp_path / "again", patients=6, images=9, cancer_free=3)
    _, _, masks = read(first)
    assert (~masks.any(axis=(1, 2))).sum() == 3
    files = sorted(path.relative_to(first.parent) for path in first.parent.rglob("*.*"))
    assert all((first.parent / name).read_bytes() == (again.parent / name).read_bytes() for name in files)
    with Image.open(made.parent / pd.read_csv(made)["image"][0]) as picture:
        assert (picture.mode, picture.size) == ("RGB", (SIZE, SIZE))


def test_a_lesion_is_as_wide_as_asked_and_lies_in_the_sector() -> None:
    inside = np.zeros((200, 200), bool)
    inside[20:180, 10:190] = True
    lesions = [draw_lesion(np.random.default_rng(seed), inside, 40.0) for seed in range(60)]
    widths = [2 * np.sqrt(lesion.sum() / np.pi) for lesion in lesions]
    assert np.mean(widths) == pytest.approx(40, rel=0.05)
    assert not any((lesion & ~inside).any() for lesion in lesions)
    narrow = np.zeros((200, 200), bool)
    narrow[95:105] = True
    assert 0 < draw_lesion(np.random.default_rng(0), narrow, 40.0).sum() < 100


def test_the_command_makes_colour_and_refuses_videos_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "phantom", str(tmp_path / "new"), "--patients", "2", "--images", "2", "--size", "32", "--colour"]
    assert exit_code([*command, "--video", "2"]) == 2
    said = capsys.readouterr().err
    assert said == "eus-ray: videos = 2: videos are gray; leave them out of a phantom in colour\n"
    assert not (tmp_path / "new").exists()
    assert exit_code(command) == 0
    colours, gray, _ = read(tmp_path / "new/manifest.csv")
    assert (colours[gray > 9] != gray[gray > 9][:, None]).any(axis=1).all()


def dsc_of_one_fold(study: Study) -> float:
    dataset = check_data(study)
    arrays, is_test = dataset.arrays(), dataset.folds == 0
    data = FoldData(
        fold=0,
        images=arrays.images,
        masks=arrays.masks,
        train=np.flatnonzero(~is_test),
        test=np.flatnonzero(is_test),
        image_ids=dataset.frame["image_id"].tolist(),
        patient_ids=dataset.frame["patient_id"].tolist(),
    )
    return float(train_fold(study.for_model("unet"), data).epochs[-1]["dsc"])


@pytest.mark.slow
def test_a_network_finds_the_lesions_in_colour_and_not_in_gray(tmp_path: Path) -> None:
    manifest = make(tmp_path / "set", patients=60, images=120)
    dsc = {}
    for channels in ("gray", "rgb"):
        settings = (f"data.channels={channels}", f"data.image_size={SIZE}", "folds.count=3", "optim.lr=0.01")
        settings += ("model.width=8", "train.epochs=16", "train.batch_size=8")
        dsc[channels] = dsc_of_one_fold(light_study(manifest, *settings))
    assert dsc["gray"] < 0.3
    assert dsc["rgb"] > 0.85
