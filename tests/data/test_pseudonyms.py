"""Imported data without names."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from eus_ray.cli import main
from eus_ray.data.manifest import read_manifest
from eus_ray.data.pseudonyms import Pseudonyms, read_key
from eus_ray.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images of Jane Doe, whose name is in the files' names, in a patients' table and in a PNG's text."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50), dtype=np.uint8)
        text = PngImagePlugin.PngInfo()
        text.add_text("PatientName", "Doe, Jane")
        Image.fromarray(pixels).save(folder / "images" / f"doe_jane_{number}.png", pnginfo=text)
        cv2.imwrite(str(folder / "masks" / f"doe_jane_{number}.png"), np.eye(40, 50, dtype=np.uint8) * 255)
    rows = "image,patient_id,t_stage\ndoe_jane_1,Doe Jane,T2\ndoe_jane_2,Doe Jane,T2\n"
    (folder / "patients.csv").write_text(rows)
    return folder


def test_no_name_is_left_anywhere_in_the_copy(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    assert main(["data", "import", "pairs", str(source), str(tmp_path / "new"), "--pseudonymise", str(key)]) == 0
    assert "t_stage stayed as they were" in capsys.readouterr().out
    for path in (tmp_path / "new").rglob("*"):
        assert "doe" not in path.name.lower()
        if path.is_file():
            assert b"doe" not in path.read_bytes().lower()
    table = pd.read_csv(tmp_path / "new" / "manifest.csv")
    assert table["patient_id"].nunique() == 1, "the images of one patient stay together"
    assert table["image"].nunique() == 2
    assert key.stat().st_mode & 0o777 == 0o600
    frame = read_manifest(tmp_path / "new" / "manifest.csv").frame
    for number, path in enumerate(frame.sort_values("mask")["image"], start=1):
        there = {Image.open(path).tobytes()}
        here = {Image.open(source / "images" / f"doe_jane_{other}.png").tobytes() for other in (1, 2)}
        assert there < here, f"image {number}: the pixels are the same"


def test_what_a_png_cannot_hold_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "images" / "doe_jane_1.png").unlink()
    Image.fromarray(np.linspace(0, 1, 2000, dtype=np.float32).reshape(40, 50)).save(source / "images/doe_jane_1.tif")
    plain = ["data", "import", "pairs", str(source), str(tmp_path / "new")]
    assert main([*plain, "--pseudonymise", str(tmp_path / "key")]) == 2
    assert "has float32 values that a PNG cannot hold" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main(plain) == 0, "as it is it can be copied"


def test_the_same_key_gives_the_same_names_and_another_key_others(source: Path, tmp_path: Path) -> None:
    ids = []
    for folder, key in (("a", "key"), ("b", "key"), ("c", "another")):
        command = ["data", "import", "pairs", str(source), str(tmp_path / folder)]
        assert main([*command, "--pseudonymise", str(tmp_path / key)]) == 0
        ids.append(pd.read_csv(tmp_path / folder / "manifest.csv")["patient_id"][0])
    assert ids[0] == ids[1] != ids[2]


def test_a_pseudonym_is_the_hmac_of_the_name() -> None:
    expected = hmac.new(b"k" * 32, b"patient\0Doe", hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(b"k" * 32).of("patient", "Doe") == f"patient-{expected}"
    assert Pseudonyms(b"k" * 32).of("image", "Doe") != f"image-{expected}"


def test_what_is_no_key_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text, mode, message in (
        ("open", "00" * 32, 0o644, "others may read this key"),
        ("text", "my password", 0o600, "is not a key of eus-ray"),
        ("short", "00" * 8, 0o600, "holds 8 bytes"),
    ):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(UserError, match=message):
            read_key(path)
    inside = tmp_path / "new" / "key"
    command = ["data", "import", "pairs", str(source), str(tmp_path / "new"), "--pseudonymise", str(inside)]
    assert main(command) == 2
    assert "keep the key elsewhere" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
