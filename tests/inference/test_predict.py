"""`predict`: every file that it writes, by hand-made predictions; bit for bit by trained ones."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch
from PIL import Image

from eus_ray.data.dataset import check_data
from eus_ray.errors import UserError
from eus_ray.inference.predict import COLUMNS, predict
from eus_ray.store import PartKey, Store, checkpoint_name
from tests.data.io.test_video import write_video
from tests.helpers import light_study
from tests.trained import (
    COL_MM,
    ROW_MM,
    DarkIsLesion,
    pixels,
    train_study,
    trained_unet,
    two_alike,
    white,
    write_images,
    written,
)

SIZE = 32


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_unet(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def dark_is_lesion(monkeypatch: pytest.MonkeyPatch) -> DarkIsLesion:
    """In place of the networks."""
    answer = DarkIsLesion()
    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    return answer


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums depend on the number of threads; the folds had one."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# ---- the trained networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "resize", "intensity"), [("unet", "stretch", "auto"), ("daf_net", "pad", "[20,300]")]
)
def test_test_images_are_predicted_again_bit_for_bit(tmp_path: Path, model: str, resize: str, intensity: str) -> None:
    """All the way from files to files: the weights of fold 0 in both places give fold 0's stored predictions."""
    settings = light_study(
        write_images(tmp_path / "images"),
        *("folds.count=2", "train.epochs=1", "evaluate.grid=original"),
        *(f"data.resize={resize}", f"data.intensity={intensity}"),
        models=(model,),
    )
    store = train_study(tmp_path / "study", settings)
    store.write_bytes(checkpoint_name(model, 0, 1), store.read_bytes(checkpoint_name(model, 0, 0)))
    frame = check_data(settings).frame.set_index("image_id")
    stored = store.read_part("predictions", PartKey(model, 0, 0, 0)).to_pandas()
    predict(store.root, frame.loc[stored["image_id"], "image"], tmp_path / "out")
    assert len(stored) >= 4
    for row in stored.itertuples():
        probability = pixels(tmp_path / f"out/probabilities/{row.image_id}.png")
        assert probability.dtype == np.uint16
        np.testing.assert_array_equal(probability, np.reshape(row.probability, (row.height, row.width)))
        mask = pixels(tmp_path / f"out/masks/{row.image_id}.png")
        np.testing.assert_array_equal(mask, np.where(probability >= 32768, 255, 0))


def test_the_same_images_give_the_same_files(study: Path, tmp_path: Path) -> None:
    images = sorted((study.parent / "images/images").glob("*.png"))
    assert images
    for name in ("one", "other"):
        predict(study, images, tmp_path / name)
    assert written(tmp_path / "one") == written(tmp_path / "other")
    for name in written(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


# ---- images -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dark_is_lesion")
def test_areas_and_probabilities_by_hand(study: Path, tmp_path: Path) -> None:
    sure, likely = white(), white()
    sure[4:12, 8:20] = 0  # 96 pixels
    sure[20:22, 3:6] = 102  # 6 pixels, p = 0.6
    likely[10:14, 10:14] = 127  # 16 pixels, p = 0.50196
    likely[20:24, 20:24] = 128  # p = 0.49804: none
    for name, image in (("sure", sure), ("likely", likely), ("nothing", white())):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    out, counted, said = tmp_path / "out", [], []
    images = [tmp_path / f"{name}.png" for name in ("sure", "likely", "nothing")]
    predicted = predict(study, images, out, progress=lambda *numbers: counted.append(numbers), say=said.append)
    table = pd.read_csv(out / "areas.csv")
    assert table.columns.tolist() == list(COLUMNS)
    assert table["image"].tolist() == ["sure.png", "likely.png", "nothing.png"]
    assert table["area_px"].tolist() == [102, 16, 0]
    assert table["components"].tolist() == [2, 1, 0]
    assert table["agreement"].tolist() == [1, 1, 1]
    assert table["max_probability"].tolist() == [1.0, 32896 / 65535, 0.0]
    expected = [(96 * 65535 + 6 * 39321) / 102 / 65535, 32896 / 65535, np.nan]
    assert table["mean_probability"].tolist() == pytest.approx(expected, nan_ok=True)
    assert table[["frame", "time_s", "area_mm2"]].isna().all(axis=None)
    assert table[["height", "width"]].to_numpy().tolist() == [[SIZE, SIZE]] * 3
    levels = pixels(out / "probabilities/sure.png")
    assert levels.dtype == np.uint16
    assert (levels[5, 10], levels[20, 4], levels[0, 0]) == (65535, 39321, 0)
    for name, image in (("sure", sure < 128), ("likely", likely == 127), ("nothing", white() == 0)):
        np.testing.assert_array_equal(pixels(out / table.set_index("image").loc[f"{name}.png", "mask"]), image * 255)
    assert (predicted.images, predicted.frames, predicted.with_lesion) == (3, 0, 2)
    assert counted == [(0, 3), (3, 3)]
    assert said == ["unet, fixed trial 0: mean of 2 folds on paper"]
    assert written(out) == {
        "areas.csv",
        *(f"{kind}/{name}.png" for kind in ("masks", "probabilities", "overlays") for name in ("sure", "likely")),
        *(f"{kind}/nothing.png" for kind in ("masks", "probabilities", "overlays")),
    }


def with_settings(study: Path, copy: Path, **evaluate: object) -> Path:
    """A copy of a study that makes its masks in another way."""
    shutil.copytree(study, copy)
    settings = tomllib.loads((copy / "study.toml").read_text())
    settings["evaluate"] |= evaluate
    (copy / "study.toml").write_text(tomli_w.dumps(settings))
    return copy


@pytest.mark.usefixtures("dark_is_lesion")
def test_masks_areas_and_overlays_are_those_that_the_study_asks_for(study: Path, tmp_path: Path) -> None:
    image, lesion = white(), white() == 0
    image[4:14, 4:14] = 153  # p = 0.4
    image[8:10, 8:10] = 255  # a hole of 4 pixels
    image[20:22, 20:22] = 0  # a speck
    lesion[4:14, 4:14] = True
    cv2.imwrite(str(tmp_path / "i.png"), image)
    asked = with_settings(study, tmp_path / "study", threshold=0.4, keep="largest", fill_holes=True)
    predict(asked, [tmp_path / "i.png"], tmp_path / "out")
    predict(study, [tmp_path / "i.png"], tmp_path / "plain")
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks/i.png"), lesion * 255)
    (row,), (plain,) = (pd.read_csv(tmp_path / f"{name}/areas.csv").to_dict("records") for name in ("out", "plain"))
    assert (row["area_px"], row["components"]) == (100, 1)
    assert row["mean_probability"] == pytest.approx((96 * 0.4 + 4 * 0) / 100)
    assert (plain["area_px"], plain["components"]) == (4, 1)
    overlays = [pixels(tmp_path / f"{name}/overlays/i.png") for name in ("out", "plain")]
    assert [bool(np.ptp(one[20:22, 20:22].astype(int), axis=2).any()) for one in overlays] == [False, True]
    for name in ("out", "plain"):
        assert pixels(tmp_path / name / "probabilities/i.png")[5, 5] == round(0.4 * 65535)


def test_agreement_is_that_of_the_networks_own_masks(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks of 60 and 40 pixels with 20 in common: 2 · 20 / 100. On a white image nobody sees anything."""

    def answer(images: np.ndarray) -> np.ndarray:
        maps = np.zeros((2, *images.shape), np.float32)
        maps[0, :, 0:6, 0:10] = 0.9
        maps[1, :, 4:8, 0:10] = 0.9
        return np.where(images == 255, np.float32(0), maps)

    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    cv2.imwrite(str(tmp_path / "a.png"), white() - 1)
    cv2.imwrite(str(tmp_path / "b.png"), white())
    predict(study, [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/areas.csv")
    assert table["agreement"].tolist() == [0.4, 1.0]
    assert table["area_px"].tolist() == [20, 0]


@pytest.mark.usefixtures("dark_is_lesion")
def test_a_turned_picture_is_predicted_as_viewers_show_it(study: Path, tmp_path: Path) -> None:
    stored = white(60, 100)
    stored[:20, :30] = 0  # turned by 180 degrees, it is at the lower right
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(stored).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    said, warned = [], []
    predict(study, [tmp_path / "photo.jpg"], tmp_path / "out", say=said.append, warn=warned.append)
    mask = pixels(tmp_path / "out/masks/photo.png") > 0
    assert mask[45:, 75:].all()
    assert not mask[:30].any()
    overlay = pixels(tmp_path / "out/overlays/photo.png")
    assert overlay[55, 95].max() < 50 < overlay[5, 5].min()
    (line,) = warned
    assert "with a flag of orientation" in line
    assert len(said) == 1


@pytest.mark.usefixtures("dark_is_lesion")
def test_a_name_as_long_as_the_disk_takes_is_predicted_and_one_too_long_is_refused_before(
    study: Path, tmp_path: Path
) -> None:
    long = "ü" * 125 + "1"  # 251 bytes
    cv2.imwrite(str(tmp_path / "i.png"), white())
    (tmp_path / "i.png").rename(tmp_path / f"{long}.png")
    predict(study, [tmp_path / f"{long}.png"], tmp_path / "out")
    assert (tmp_path / f"out/masks/{long}.png").is_file()
    write_video(tmp_path / "v.avi", "MJPG", [white()] * 2)
    (tmp_path / "v.avi").rename(tmp_path / f"{long}.avi")
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), white())
    room = 4000 - len(os.fsencode(tmp_path))
    fits = "/".join([str(tmp_path), *["d" * 99] * (room // 100)])  # the folder can be looked up, its files cannot
    for folder, expected in ((fits, "a path of more than 4095 bytes"), (f"{fits}/{fits}", "File name too long")):
        with pytest.raises(UserError) as refused:
            predict(study, [tmp_path / f"{long}.png"], folder)
        (line,) = refused.value.lines
        assert expected in line
    rows = [f"{number}.png,{number + 2}.png,p1,{'v' * 252},{number}" for number in range(2)]
    for number in (2, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((32, 32), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), white() - 1)
    (tmp_path / "set.csv").write_text("\n".join(["image,mask,patient_id,video,frame", *rows]))
    with pytest.raises(UserError) as refused:
        predict(study, [tmp_path / "set.csv"], tmp_path / "other")
    (line,) = refused.value.lines
    assert line == f"video {'v' * 252}: its results would have a name of more than 255 bytes; shorten it"
    assert not (tmp_path / "other").exists()


def test_one_half_is_lesion(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rint(0.5 * 65535) is 32768: half to even."""
    just_below = np.float32(0.49998)

    def answer(images: np.ndarray) -> np.ndarray:
        return two_alike(np.where(images > 0, np.float32(0.5), just_below))

    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    image = np.zeros((32, 32), np.uint8)
    image[:, :10] = 200
    cv2.imwrite(str(tmp_path / "i.png"), image)
    predict(study, [tmp_path / "i.png"], tmp_path / "out")
    assert np.unique(pixels(tmp_path / "out/probabilities/i.png")).tolist() == [32766, 32768]
    np.testing.assert_array_equal(pixels(tmp_path / "out/masks/i.png") > 0, image > 0)


@pytest.mark.usefixtures("dark_is_lesion")
def test_overlays_show_the_outline_and_nothing_where_there_is_none(study: Path, tmp_path: Path) -> None:
    lesion = white(64, 96)
    lesion[10:40, 20:60] = 30
    cv2.imwrite(str(tmp_path / "lesion.png"), lesion)
    cv2.imwrite(str(tmp_path / "clear.png"), np.full((64, 96), 200, np.uint8))
    predict(study, [tmp_path / "lesion.png", tmp_path / "clear.png"], tmp_path / "out")
    clear, drawn = (pixels(tmp_path / f"out/overlays/{name}.png") for name in ("clear", "lesion"))
    assert (clear == 200).all()
    assert clear.shape == drawn.shape == (64, 96, 3)
    coloured = np.ptp(drawn.astype(int), axis=2) > 20
    mask = pixels(tmp_path / "out/masks/lesion.png") > 0
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) - cv2.erode(mask.astype(np.uint8), np.ones((5, 5)))
    assert coloured.sum() > 100
    assert (near[coloured] == 1).all()


@pytest.mark.usefixtures("dark_is_lesion")
def test_images_come_back_on_their_own_pixels(study: Path, tmp_path: Path) -> None:
    gray = white(60, 100)
    gray[20:40, 30:70] = 0
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    cv2.imwrite(str(folder / "gray.png"), gray)
    cv2.imwrite(str(folder / "deep/sixteen.tif"), gray.astype(np.uint16) * 200 + 7)
    cv2.imwrite(str(folder / "colour.bmp"), np.dstack([gray] * 3))
    cv2.imwrite(str(folder / "lossy.jpg"), gray, [cv2.IMWRITE_JPEG_QUALITY, 95])
    predict(study, [folder], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/areas.csv").set_index("image")
    assert set(table.index) == {"gray.png", "deep/sixteen.tif", "colour.bmp", "lossy.jpg"}
    assert (table[["height", "width"]].to_numpy() == [60, 100]).all()
    masks = {name: pixels(tmp_path / "out" / mask) for name, mask in table["mask"].items()}
    np.testing.assert_array_equal(masks["gray.png"], masks["deep/sixteen.tif"])
    np.testing.assert_array_equal(masks["gray.png"], masks["colour.bmp"])
    assert table.loc["deep/sixteen.tif", "mask"] == "masks/deep/sixteen.png"
    for mask in masks.values():
        assert mask.shape == (60, 100)
        assert abs(int((mask > 0).sum()) - 800) < 100
        assert np.count_nonzero((mask > 0) != (gray == 0)) < 120, "within the blur of 32 x 32 pixels"


@pytest.mark.usefixtures("dark_is_lesion")
def test_areas_in_mm2_where_the_spacing_is_known(study: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "set")
    predict(study, [tmp_path / "set"], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/areas.csv")
    assert len(table) == 10
    assert (table["area_px"] > 0).all()
    np.testing.assert_allclose(table["area_mm2"], table["area_px"] * ROW_MM * COL_MM)


def test_batches_are_those_of_training(study: Path, tmp_path: Path, dark_is_lesion: DarkIsLesion) -> None:
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), white())
    predict(study, [tmp_path / f"{number}.png" for number in range(10)], tmp_path / "out")
    assert dark_is_lesion.batches == [4, 4, 2]


# ---- refusals, interruptions ------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once_and_nothing_is_written(study: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.txt").write_text("mine")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError) as refused:
        predict(study, [tmp_path / "gone.png", tmp_path / "text.mp4"], tmp_path / "out", model="unett")
    assert len(refused.value.lines) == 4
    for line, said in zip(
        refused.value.lines,
        ["model unett:", f"{tmp_path}/gone.png:", f"{tmp_path}/text.mp4:", f"{tmp_path}/out: has files already"],
        strict=True,
    ):
        assert line.startswith(said)
    assert written(tmp_path / "out") == {"old.txt"}


def test_damaged_weights_leave_no_folder(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study")
    store = Store(tmp_path / "study")
    name = checkpoint_name("unet", 0, 1)
    store.write_bytes(name, store.read_bytes(name)[:-100])
    cv2.imwrite(str(tmp_path / "i.png"), white())
    with pytest.raises(UserError, match=f"{name} is a damaged checkpoint"):
        predict(store.root, [tmp_path / "i.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="is a file; choose another output folder"):
        predict(study, [tmp_path / "i.png"], tmp_path / "i.png")


def test_an_interrupted_prediction_leaves_whole_files(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def answer(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return two_alike(np.ones(images.shape, np.float32))

    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    for number in range(16):
        cv2.imwrite(str(tmp_path / f"{number}.png"), white())
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(study, [tmp_path / f"{number}.png" for number in range(16)], out)
    table = pd.read_csv(out / "areas.csv")
    assert table["image"].tolist()[:4] == [f"{number}.png" for number in range(4)]
    assert 4 <= len(table) <= 8
    stems = {Path(name).stem for name in table["image"]}
    assert written(out) == {"areas.csv"} | {
        f"{kind}/{stem}.png" for kind in ("masks", "probabilities", "overlays") for stem in stems
    }
    assert all(pixels(out / name) is not None for name in written(out) - {"areas.csv"})


def test_a_file_that_goes_while_others_are_predicted_is_named(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [tmp_path / f"{number}.png" for number in range(16)]
    for path in images:
        cv2.imwrite(str(path), white())

    def answer(batch: np.ndarray) -> np.ndarray:
        images[15].unlink(missing_ok=True)
        return two_alike(np.zeros(batch.shape, np.float32))

    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    with pytest.raises(UserError, match=r"15\.png: cannot be read"):
        predict(study, images, tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out/areas.csv")) >= 4
