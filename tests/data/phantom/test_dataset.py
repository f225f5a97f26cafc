"""The phantom's files: images that are ultrasound, masks that are the cancer, the same bytes every time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.stats import spearmanr

from eus_ray.data.phantom import dataset as phantom_room
from eus_ray.data.phantom.dataset import FRAMES_PER_VIDEO, make_phantom
from eus_ray.errors import UserError

SIZE = 128


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, patients=12, images=19, seed=5, videos=1, cancer_free=5, size=SIZE)
    return folder


def pictures(folder: Path, paths: Iterable[str]) -> list[np.ndarray]:
    return [np.asarray(cv2.imread(str(folder / path), cv2.IMREAD_UNCHANGED)) for path in paths]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- what is written --------------------------------------------------------------------------------------------------


def test_layout_and_columns(made: Path) -> None:
    table = pd.read_csv(made / "manifest.csv")
    wanted = ["image", "mask", "patient_id", "age", "sex", "size_mm", "t_stage", "location", "device", "spacing_mm"]
    assert list(table.columns) == wanted
    assert len(table) == 24
    assert table.patient_id.nunique() == 12
    assert table.device.str.startswith("synthetic").all()
    assert {path.name for path in made.iterdir()} == {"images", "masks", "manifest.csv", "videos"}
    assert len(list((made / "images").iterdir())) == len(list((made / "masks").iterdir())) == 24
    for image, mask in zip(pictures(made, table.image), pictures(made, table["mask"]), strict=True):
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) <= {0, 255}
    assert sum(not mask.any() for mask in pictures(made, table["mask"])) == 5


def test_cancer_is_hypoechoic_and_in_proportion(made: Path) -> None:
    table = pd.read_csv(made / "manifest.csv")
    contrast, diameter, size = [], [], []
    for image, outline, spacing_mm, size_mm in zip(
        pictures(made, table.image), pictures(made, table["mask"]), table.spacing_mm, table.size_mm, strict=True
    ):
        mask = outline > 0
        if not mask.any():
            continue
        ring = binary_dilation(mask, iterations=6) & ~binary_dilation(mask, iterations=2) & (image > 0)
        contrast.append(image[ring].mean() - image[mask].mean())
        diameter.append(2 * math.sqrt(mask.sum() / math.pi) * spacing_mm)
        size.append(size_mm)
    assert np.mean(contrast) > 15
    assert np.mean(np.array(contrast) > 0) > 0.75
    assert spearmanr(diameter, size).statistic > 0.85
    assert np.all(np.array(diameter) < 1.15 * np.array(size))


def test_video_starts_without_cancer_and_glides_onto_it(made: Path) -> None:
    table = pd.read_csv(made / "videos/manifest.csv")
    assert len(table) == FRAMES_PER_VIDEO
    np.testing.assert_allclose(np.diff(table.time_s), 0.5)
    assert table.image[0] == "video_000/frame_000.png"
    assert not set(table.patient_id) & set(pd.read_csv(made / "manifest.csv").patient_id)
    masks = np.stack(pictures(made / "videos", table["mask"])) > 0
    area = masks.sum((1, 2))
    assert (area[:3] == 0).all()
    assert area[-1] > 0
    shown = area > 0
    assert (np.diff(shown.astype(int)) >= 0).all(), "once in view it stays"
    assert spearmanr(np.arange(len(area)), area).statistic > 0.8
    first, last = masks[-2], masks[-1]
    assert 2 * (first & last).sum() / (first.sum() + last.sum()) > 0.7, "neighbouring frames show the same cancer"


def test_patients_differ(made: Path) -> None:
    table = pd.read_csv(made / "manifest.csv").drop_duplicates("patient_id")
    images = dict(zip(table.patient_id, pictures(made, table.image), strict=True))
    prints = {patient: imagehash.phash(Image.fromarray(image)) for patient, image in images.items()}
    for one, other in combinations(images, 2):
        close = prints[one] - prints[other] <= 4
        alike = np.corrcoef(images[one].ravel(), images[other].ravel())[0, 1] >= 0.98
        assert not (close and alike), (one, other)


# --- the same again ---------------------------------------------------------------------------------------------------


def test_same_arguments_same_bytes_on_any_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, seed: int) -> dict[str, str]:
        make_phantom(tmp_path / name, patients=3, images=4, seed=seed, videos=1, cancer_free=1, size=32)
        return digests(tmp_path / name)

    monkeypatch.setattr(phantom_room, "FRAMES_PER_VIDEO", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = make("alone", 9)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert make("together", 9) == alone
    other = make("other", 10)
    assert not {name for name, digest in other.items() if alone.get(name) == digest and name.startswith("images")}


# --- bad input --------------------------------------------------------------------------------------------------------


def test_all_bad_numbers_at_once_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        make_phantom(tmp_path / "new", patients=0, images=-1, seed=-2, videos=-1, cancer_free=-1, size=8)
    said = "\n".join(error.value.lines)
    assert len(error.value.lines) == 6
    assert all(
        word in said for word in ("patients = 0", "images = -1", "seed = -2", "videos", "cancer_free", "size = 8")
    )
    with pytest.raises(UserError, match="every one of the 5 patients"):
        make_phantom(tmp_path / "new", patients=5, images=4, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="has content already"):
        make_phantom(tmp_path, patients=1, images=1, seed=0)
    with pytest.raises(UserError, match="is a file"):
        make_phantom(tmp_path / "mine.txt", patients=1, images=1, seed=0)
    with pytest.raises(UserError, match="cannot be made here"):
        make_phantom(tmp_path / "mine.txt" / "below", patients=1, images=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_fine_and_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    folder.mkdir()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(phantom_room, "_write_png", full)
        with pytest.raises(UserError, match="no space"):
            make_phantom(folder, patients=2, images=2, seed=0, size=32)
    assert list(tmp_path.rglob("*")) == [folder]
    assert make_phantom(folder, patients=1, images=1, seed=0, size=32).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
