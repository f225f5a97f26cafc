"""The command line on mistakes: exit 2, one clear line a defect, nothing written; and what good input prints."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from eus_ray.cli import main
from tests.helpers import LIGHT, exit_code

Change = Callable[[Path, pd.DataFrame], pd.DataFrame]


@pytest.fixture
def dataset(phantom: Path, tmp_path: Path) -> Path:
    """A copy of the phantom that a test may spoil; its folder."""
    shutil.copytree(phantom.parent, tmp_path / "set")
    return tmp_path / "set"


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def cv(folder: Path, out: Path, *more: str) -> int:
    sets = [word for setting in LIGHT for word in ("--set", setting)]
    manifest = f"data.manifest={folder / 'manifest.csv'}"
    return exit_code(["cv", "--out", str(out), "--models", "unet", "--set", manifest, *sets, *more])


def truncate(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    path = folder / frame.loc[0, "image"]
    path.write_bytes(path.read_bytes()[:-200])
    return frame


def other_size(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    cv2.imwrite(str(folder / frame.loc[0, "mask"]), np.zeros((20, 30), np.uint8))
    return frame


def gray_mask(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    shutil.copy(folder / frame.loc[0, "image"], folder / frame.loc[0, "mask"])
    return frame


def missing_image(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    (folder / frame.loc[0, "image"]).unlink()
    return frame


def two_folds(_: Path, frame: pd.DataFrame) -> pd.DataFrame:
    codes = frame["patient_id"].astype("category").cat.codes % 5
    patient = frame["patient_id"].value_counts().index[0]
    codes[frame.index[frame["patient_id"] == patient][0]] = (codes[frame["patient_id"] == patient].iloc[-1] + 1) % 5
    return frame.assign(fold=codes)


def same_picture(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The first image again under the last patient, at twice the size and as JPEG."""
    image = cv2.imread(str(folder / frame.loc[0, "image"]), cv2.IMREAD_GRAYSCALE)
    mask = cv2.imread(str(folder / frame.loc[0, "mask"]), cv2.IMREAD_GRAYSCALE)
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(folder / "images/again.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
    cv2.imwrite(str(folder / "masks/again.png"), cv2.resize(mask, large.shape[::-1], interpolation=cv2.INTER_NEAREST))
    row = frame.iloc[[-1]].assign(image="images/again.jpg", mask="masks/again.png")
    return pd.concat([frame, row], ignore_index=True)


def outside(_: Path, frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[0, "image"] = "../elsewhere.png"
    return frame


MANIFESTS: dict[str, tuple[Change, str]] = {
    "missing column": (lambda _, frame: frame.drop(columns="mask"), "mask"),
    "empty table": (lambda _, frame: frame.iloc[:0], "no rows"),
    "missing image": (missing_image, "row 2"),
    "truncated png": (truncate, "cut short"),
    "mask of another size": (other_size, "row 2"),
    "mask with gray values": (gray_mask, "is not a mask"),
    "patient in two folds": (two_folds, "fold"),
    "same picture under two patients": (same_picture, "again.jpg"),
    "path that leaves the folder": (outside, "../elsewhere.png"),
}


@pytest.mark.parametrize("command", ["cv", "check"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_bad_manifest_stops_before_anything_is_written(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    change, said = MANIFESTS[name]
    frame = change(dataset, pd.read_csv(dataset / "manifest.csv"))
    frame.to_csv(dataset / "manifest.csv", index=False)
    before = files_below(tmp_path)
    if command == "cv":
        code = cv(dataset, tmp_path / "study")
    else:
        code = main(["data", "check", str(dataset / "manifest.csv")])
    printed = capsys.readouterr()
    assert code == 2, printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert "Traceback" not in printed.err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "optim.lrr=1"], "did you mean optim.lr?"),
        (["--set", "train.epochs=many"], "train.epochs: must be a whole number"),
        (["--models", "unett"], "did you mean unet?"),
        (["--models", "U-Net"], "did you mean unet?"),
        (["--models", "UNET"], "did you mean unet?"),
        (["--models", "daf-net"], "did you mean daf_net?"),
        (["--set", "model.arch=daf_net"], "leave one of them out"),
        (["--models", "daf_net", "--set", "model.encoder=resnet1"], "resnet1"),
        (["--models", "daf_net", "--set", "model.pretrained=true", "--set", "model.weights=none.safetensors"], "none"),
        (["--set", "folds.count=11"], "11 folds"),
        (["--set", "folds.stratify=['t_stge']"], "did you mean t_stage?"),
        (["--set", "data.manifest=nowhere.csv"], "nowhere.csv"),
        (["--preset", "papre"], "did you mean paper?"),
        (["--set", "run.gpus_per_fold=4"], "run.gpus_per_fold is 4"),
    ],
)
def test_a_bad_setting_stops_before_anything_is_written(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    if "gpus_per_fold" in options[-1]:
        pytest.importorskip("ray")
    code = cv(phantom.parent, tmp_path / "study", *options)
    printed = capsys.readouterr()
    assert code == 2, printed
    (line,) = printed.err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "study").exists()


def test_a_folder_that_holds_something_else_is_refused(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert cv(phantom.parent, tmp_path) == 2
    assert "holds thesis.txt and no study" in capsys.readouterr().err
    assert files_below(tmp_path) == {"thesis.txt"}


def test_several_defects_come_in_one_go(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = outside(dataset, gray_mask(dataset, pd.read_csv(dataset / "manifest.csv")))
    frame.loc[3, "mask"] = "masks/none.png"
    frame.to_csv(dataset / "manifest.csv", index=False)
    assert main(["data", "check", str(dataset / "manifest.csv")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) >= 2


@pytest.mark.parametrize(
    "command",
    [
        "",
        "cvv",
        "data",
        "data frobnicate",
        "folds",
        "cv study.toml",
        "data import dicom a b",
        "folds m.csv --count two",
    ],
)
def test_a_wrong_command_line_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_folds_are_written_once(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folds.csv"
    command = ["folds", str(phantom), "--count", "5", "--stratify", "lesion_size", "--out", str(out)]
    assert main(command) == 0
    folds = pd.read_csv(out)
    assert folds.columns.tolist() == ["image", "patient_id", "fold"]
    assert sorted(folds["fold"].unique()) == [0, 1, 2, 3, 4]
    assert folds["image"].tolist() == pd.read_csv(phantom)["image"].tolist()
    assert (folds.groupby("patient_id")["fold"].nunique() == 1).all()
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert pd.read_csv(out).equals(folds)


def test_check_counts_images_without_a_lesion(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(phantom)]) == 0
    printed = capsys.readouterr().out
    assert "20 images of 10 patients, nothing wrong" in printed
    assert "images without a lesion: 2" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small volume")
def test_a_full_volume_is_refused_before_training(phantom: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(volume)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small volume can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        command = [sys.executable, "-m", "eus_ray.cli", "cv", "--out", str(volume / "study"), "--models", "unet"]
        command += ["--set", f"data.manifest={phantom}"]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 2, answer.stderr
        assert "no space left" in answer.stderr
        assert len(answer.stderr.strip().splitlines()) == 1
        assert files_below(volume) == set()
    finally:
        subprocess.run(["umount", str(volume)], check=True)


def test_names_with_brackets_are_no_markup(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(dataset / "manifest.csv").assign(**{"rate [mm]": ["a", "b [/min]"] * 10})
    table.to_csv(dataset / "manifest.csv", index=False)
    assert main(["data", "check", str(dataset / "manifest.csv")]) == 0
    said = capsys.readouterr().out
    assert "[mm]" in said
    assert "[/min]" in said


def test_folds_of_a_manifest_behind_a_link_name_its_images_as_it_does(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(dataset)
    out = tmp_path / "folds.csv"
    assert main(["folds", str(tmp_path / "link/manifest.csv"), "--count", "2", "--out", str(out)]) == 0
    assert pd.read_csv(out)["image"].tolist() == pd.read_csv(dataset / "manifest.csv")["image"].tolist()


@pytest.mark.parametrize("command", [["data", "check"], ["folds", "--count", "2", "--out", "folds.csv"]])
def test_duplicates_may_be_warnings(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(dataset)
    images = pd.read_csv("manifest.csv").drop_duplicates("patient_id")["image"]
    shutil.copy(images.iloc[0], images.iloc[1])
    assert main([*command, "manifest.csv"]) == 2
    assert "data.duplicates" in capsys.readouterr().err
    assert main([*command, "manifest.csv", "--duplicates", "warn"]) == 0
    assert "warning: " in capsys.readouterr().out


def test_version_names_the_libraries_and_says_which_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"eus-ray": "0.1.0", "ray": "2.60.0", "optuna": "5.0.0"}

    def version(distribution: str) -> str:
        if distribution not in versions:
            raise metadata.PackageNotFoundError(distribution)
        return versions[distribution]

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    python = platform.python_version()
    expected = f"eus-ray 0.1.0 (Python {python}, Ray 2.60.0, PyTorch not installed, Optuna 5.0.0)\n"
    assert capsys.readouterr().out == expected


def test_version_imports_no_heavy_library() -> None:
    code = (
        "import sys\nfrom eus_ray.cli import main\ntry:\n    main(['--version'])\n"
        "except SystemExit:\n    print(sorted({'ray', 'torch', 'optuna'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, imported = answer.stdout.splitlines()
    assert said.startswith("eus-ray ")
    assert imported == "[]"


@pytest.mark.parametrize("path", ["~nobody-of-that-name/m.csv", "x" * 300])
def test_a_path_that_cannot_be_is_one_line(capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert main(["data", "check", path]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
