"""The phantom: Table 1's counts, images that are ultrasound, masks that are the cancer, the same bytes every time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import kstest, spearmanr

from eus_ray.data.phantom import dataset as phantom_room
from eus_ray.data.phantom.anatomy import Slice
from eus_ray.data.phantom.cohort import STAGE_RANGE_MM, largest_remainder, plan_cohort
from eus_ray.data.phantom.dataset import FRAMES_PER_VIDEO, make_phantom
from eus_ray.data.phantom.ultrasound import SCANNERS, View, beam_grid, beamform, render
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


# --- who the patients are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_150_patients_are_table_1(seed: int) -> None:
    cohort = plan_cohort(150, 330, seed)
    assert cohort.sex.value_counts().to_dict() == {"male": 96, "female": 54}
    assert cohort.t_stage.value_counts().to_dict() == {"T2": 99, "T1": 33, "T3": 18}
    # 37/60/18/33/6 sum to 154; scaled by 150/154 by largest remainder
    assert cohort.location.value_counts().to_dict() == {"head": 58, "body": 36, "tail": 32, "neck": 18, "uncinate": 6}
    assert (cohort.age.sum(), cohort.age.min(), cohort.age.max()) == (10680, 40, 94)  # mean 71.2
    assert (cohort.size_mm.sum(), cohort.size_mm.min(), cohort.size_mm.max()) == (4650, 10, 130)  # mean 31.0
    assert cohort.patient_id.is_unique
    assert (cohort.num_images.sum(), cohort.num_images.min(), cohort.num_images.max()) == (330, 1, 4)


@pytest.mark.parametrize(
    ("patients", "images", "free"), [(1, 1, 0), (2, 5, 3), (7, 7, 0), (20, 200, 41), (151, 300, 9)]
)
def test_any_number_of_patients(patients: int, images: int, free: int) -> None:
    cohort = plan_cohort(patients, images, 0, free)
    assert len(cohort) == patients
    assert cohort.num_images.sum() == images
    assert cohort.num_images.min() >= 1
    assert cohort.num_cancer_free.sum() == free
    assert np.ptp(cohort.num_cancer_free) <= 1
    for stage, limits in STAGE_RANGE_MM.items():
        assert cohort.size_mm[cohort.t_stage == stage].between(*limits).all()
    assert cohort.age.between(40, 94).all()
    if patients > 4:
        assert abs(cohort.size_mm.mean() - 31.0) <= 0.5 / patients + 1e-9
        assert abs(cohort.age.mean() - 71.2) <= 0.5 / patients + 1e-9


def test_largest_remainder_by_hand() -> None:
    # 10 * 1/6 = 1.67, 10 * 2/6 = 3.33, 10 * 3/6 = 5: the one that is left goes to the first
    assert largest_remainder({"a": 1, "b": 2, "c": 3}, 10) == {"a": 2, "b": 3, "c": 5}
    assert largest_remainder({"a": 1, "b": 1}, 1) == {"a": 1, "b": 0}


def test_the_papers_folds_exist() -> None:
    """5 folds of 30 patients and 66 images, every stage and location within one patient of its share."""
    cohort = plan_cohort(150, 330, 0)
    groups = pd.get_dummies(cohort[["t_stage", "location"]]).to_numpy(float).T  # (G, 150)
    per_fold = np.vstack([np.ones(150), cohort.num_images, groups])
    share = groups.sum(1) / 5
    low, high = np.concatenate([[30, 66], np.ceil(share - 1)]), np.concatenate([[30, 66], np.floor(share + 1)])
    constraints = [
        LinearConstraint(np.kron(np.eye(5), per_fold), np.tile(low, 5), np.tile(high, 5)),
        LinearConstraint(np.kron(np.ones(5), np.eye(150)), 1, 1),
    ]
    answer = milp(np.zeros(750), integrality=np.ones(750), bounds=Bounds(0, 1), constraints=constraints)
    assert answer.status == 0, answer.message


# --- what is written ------------------------------------------------------------------------------------------------


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


# --- the same again -------------------------------------------------------------------------------------------------


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


# --- physics --------------------------------------------------------------------------------------------------------


@pytest.fixture
def view() -> View:
    return View(np.zeros(3), 0.0, 60.0, 1.0, 0.0, 0.0, 0.0, np.zeros((1, 2)))


def speckle() -> tuple[np.ndarray, np.ndarray]:
    """The signal of homogeneous tissue, and the radii of its rows."""
    scanner = SCANNERS[0]
    grid = beam_grid(scanner, 60.0)
    ones = np.ones((len(grid.radius_mm), len(grid.angle)), np.float32)
    return beamform(ones, 0 * ones, grid, scanner, np.random.default_rng(0)), grid.radius_mm


def test_homogeneous_tissue_is_rayleigh_speckle() -> None:
    signal, _ = speckle()
    envelope = np.abs(signal[20:-20])
    assert np.mean(envelope**2) == pytest.approx(1, rel=0.05)
    # sqrt(pi / (4 - pi)), the mean over the standard deviation of a Rayleigh distribution
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, rel=0.03)
    apart = envelope[::12, ::24].ravel()  # samples so far apart that they are independent
    assert kstest(apart, "rayleigh", args=(0, math.sqrt(0.5))).pvalue > 0.01


def test_speckle_widens_with_depth() -> None:
    signal, radius = speckle()
    step = beam_grid(SCANNERS[0], 60.0).angle[:2]
    neighbours = (signal[:, 1:] * signal[:, :-1].conj()).real.mean(1) / (np.abs(signal) ** 2).mean(1)
    # a Gaussian of standard deviation s has the autocorrelation exp(-d^2 / (4 s^2))
    width = (step[1] - step[0]) * radius / np.sqrt(-4 * np.log(neighbours))
    focus, deep = np.abs(radius - 32) < 5, radius > 60
    assert np.median(width[deep]) > 1.8 * np.median(width[focus])


def homogeneous(**changes: float) -> Any:
    """A stand-in for a patient who is parenchyma throughout, but for `changes` of single properties."""

    def cut(points: np.ndarray, *_: object) -> Slice:
        shape = points.shape[1:]
        layers = {"echo_db": 0.0, "attenuation": 0.5, "impedance": 1.0, "lesion_mm": 9.0}
        return Slice(**{name: np.full(shape, value, np.float32) for name, value in layers.items()})

    def changed(points: np.ndarray, *rest: object) -> Slice:
        tissue = cut(points, *rest)
        inside = (np.abs(points[0]) < 4) & (np.abs(points[1] - 25) < 4)
        for name, value in changes.items():
            getattr(tissue, name)[inside] = value
        return tissue

    return SimpleNamespace(horizontal=np.array([1.0, 0.0, 0.0]), cut=changed)


def gray_behind_and_beside(patient: Any, view: View) -> tuple[float, float]:
    image, _, pixel_mm = render(patient, view, SCANNERS[0], SIZE, np.random.default_rng(0))
    rows = slice(int(38 / pixel_mm), int(50 / pixel_mm))
    middle, aside = SIZE // 2, SIZE // 2 + int(16 / pixel_mm)
    return float(image[rows, middle - 3 : middle + 4].mean()), float(image[rows, aside - 3 : aside + 4].mean())


def test_stone_casts_a_shadow_and_fluid_enhances(view: View) -> None:
    behind, beside = gray_behind_and_beside(homogeneous(attenuation=6.0), view)
    assert behind < 0.5 * beside
    behind, beside = gray_behind_and_beside(homogeneous(attenuation=0.1), view)
    assert behind > 1.1 * beside
    behind, beside = gray_behind_and_beside(homogeneous(), view)
    assert behind == pytest.approx(beside, rel=0.1)


def test_gain_compensation_keeps_homogeneous_tissue_even(view: View) -> None:
    image, mask, pixel_mm = render(homogeneous(), view, SCANNERS[0], SIZE, np.random.default_rng(0))
    column = image[:, SIZE // 2 - 20 : SIZE // 2 + 20].mean(1)
    shallow, deep = column[int(15 / pixel_mm) : int(25 / pixel_mm)], column[int(50 / pixel_mm) : int(60 / pixel_mm)]
    assert shallow.mean() == pytest.approx(deep.mean(), rel=0.08)
    assert not mask.any()
    corners = image[-3:, :3]
    assert (corners == 0).all(), "outside the sector there is nothing"


def test_mask_is_where_the_cancer_is(view: View) -> None:
    """A square of 8 mm at a depth of 25 mm."""
    image, mask, pixel_mm = render(homogeneous(lesion_mm=-9.0), view, SCANNERS[0], 256, np.random.default_rng(0))
    rows, columns = np.nonzero(mask)
    assert np.ptp(rows) * pixel_mm == pytest.approx(8, abs=1)
    assert np.ptp(columns) * pixel_mm == pytest.approx(8, abs=1)
    assert columns.mean() == pytest.approx(127.5, abs=2)
    shallower = replace(view, origin=np.array([0.0, 10.0, 0.0]))
    _, moved, _ = render(homogeneous(lesion_mm=-9.0), shallower, SCANNERS[0], 256, np.random.default_rng(0))
    assert (rows.mean() - np.nonzero(moved)[0].mean()) * pixel_mm == pytest.approx(10, abs=0.5)
    assert image.shape == (256, 256)


# --- bad input ------------------------------------------------------------------------------------------------------


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
