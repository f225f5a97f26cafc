"""Odd settings, data and pictures for `cv`, `tune`, `plan`, `predict` and `status`.

What passes the checks of `cv` and `tune` ends there, before Ray is started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.odd_input.odd import PASSED, Odd, run, stop_before_work
from tests.odd_input.writers import (
    NFC,
    NFD,
    NUM,
    a_set,
    both,
    mask,
    nothing,
    picture,
    put,
    save,
    save_as,
    with_files,
)

LIGHT = "--models unet --set search.inner_folds=2 --set folds.count=2 --set data.image_size=32 --set model.width=4"
CV, TUNE = (f"{name} --out ~/study --set data.manifest=~/m.csv {LIGHT}" for name in ("cv", "tune"))
PLAN = f"plan --set data.manifest=~/m.csv {LIGHT}"
TWO_SPELLINGS = ["P1", "p01", *[f"X{n}" for n in range(NUM - 2)]]
ALIKE = "patients P1 and p01 differ in case and leading zeros only; they are taken as 2 patients"
Make = Callable[[Path], object]


def toml(text: str, encoding: str = "utf-8") -> Make:
    return both(a_set(), lambda here: put(here / "s.toml", text.encode(encoding)))


def study(name: str, text: str, code: int, *said: str, encoding: str = "utf-8") -> Odd:
    """A study file with a manifest, and other lines."""
    models = "" if "arch" in text else 'models = ["unet"]\n'
    whole = f'{models}[data]\nmanifest = "m.csv"\nimage_size = 32\n[folds]\ncount = 2\n{text}'
    return Odd(f"study file: {name}", toml(whole, encoding), "cv ~/s.toml --out ~/study", code, said)


def empty_masks(here: Path) -> None:
    for n in range(NUM):
        save(here / f"masks/{n}.png", 0 * mask())


SETTINGS = [
    *[Odd(f"{command.split()[0]}: {name}", make, command, 2, (PASSED, *said))
      for command in (CV, TUNE)
      for name, make, said in [
          ("two spellings", a_set(patient_id=TWO_SPELLINGS), ("warning: ", ALIKE)),
          ("zero width", a_set(patient_id=["P", "P\u200b", *"abcd"]), ("P\\u200b differ in invisible",)),
          ("rounded", a_set(patient_id=["1E+10", "1E+10", *"abcd"]), ("a spreadsheet rounded",)),
          ("H3 all masks empty", with_files(empty_masks), ("all 6 masks are empty",)),
          ("A5 swapped", with_files(lambda here: save(here / "masks/0.png", 255 - mask())), ("are not swapped",)),
          ("H2 one mask twice", with_files(lambda here: save(here / "masks/0.png", mask(1))), ("pixel by pixel",)),
          ("H5 spacing", a_set(spacing_mm=["12000"] * NUM), ("see that it is in mm",)),
          ("semicolons", a_set(separator=";"), ()),
          ("UTF-16", a_set(encoding="utf-16"), ()),
      ]],
    *[Odd(f"{command.split()[0]}: {name}", make, command, 2, said)
      for command in (CV, TUNE, PLAN)
      for name, make, said in [
          ("H1 masks as images", a_set(image=[f"masks/{n}.png" for n in range(NUM)]), ("the image shows the mask",)),
          ("an image missing", with_files(lambda here: (here / "images/0.png").unlink()), ("is not there",)),
          ("a patient without name", a_set(patient_id=["", *"abcde"]), ("row 2: patient_id is missing",)),
          ("JPEG masks", a_set(mask=[f"images/{n}.jpg" for n in range(NUM)]), ("is not there",)),
          ("a folder as manifest", lambda here: (here / "m.csv").mkdir(), ("is a folder, not a table",)),
      ]],
    Odd("cv: A3 turned", with_files(lambda here: turned(here / "images/0.jpg"),
                                 image=["images/0.jpg", *[f"images/{n}.png" for n in range(1, NUM)]]), CV, 2,
        (PASSED, "is a file with a flag of orientation")),
    Odd("cv: a model in capitals", a_set(), CV.replace("unet", "UNET"), 2, ("did you mean unet?",)),
    Odd("cv: a model with an invisible letter", a_set(), CV.replace("unet", "unet\u200b"), 2, ("did you mean unet?",)),
    Odd("cv: a model with a hyphen", a_set(), CV.replace("unet", "u-net"), 2, ("did you mean unet?",)),
    Odd("cv: stratified by two spellings", a_set(stage=["T1", "t1"] * 3), f"{CV} --set folds.stratify=['stage']", 2,
        (PASSED, "categories T1 and t1 differ in case only")),
    Odd("cv: stratified by a column in capitals", a_set(stage=["T1", "T2"] * 3), f"{CV} --set folds.stratify=['Stage']",
        2, ("did you mean stage?",)),
    Odd("cv: study within a file", both(a_set(), lambda here: put(here / "f", "x")), CV.replace("~/study", "~/f/study"),
        2, ("f",)),
    Odd("cv: a file as study", both(a_set(), lambda here: put(here / "study", "x")), CV, 2, ("study",)),
    Odd("cv: a folder as study file", a_set(), f"cv ~/images --out ~/study {LIGHT}", 2,
        ("images: cannot be read (Is a directory)",)),
    Odd("cv: a manifest as study file", a_set(), f"cv ~/m.csv --out ~/study {LIGHT}", 2, ("m.csv: is not TOML",)),
    study("one architecture of three", '[model]\narch = "unet"\n', 2, PASSED),
    study("models below a section", 'models = ["unet"]\n', 2, "models"),
    study("with a mark", "", 2, PASSED, encoding="utf-8-sig"),
    study("UTF-16", "", 2, "is not TOML", encoding="utf-16"),
    study("Latin-1", "# größer\n", 2, "is not TOML", encoding="latin-1"),
    study("a number as text", '[optim]\nlr = "1e-3"\n', 2, PASSED),
    study("a number in words", '[optim]\nlr = "small"\n', 2, "optim.lr"),
    study("a decimal comma", "[optim]\nlr = 0,001\n", 2, "is not TOML"),
    study("a section in capitals", "[Optim]\nlr = 0.001\n", 2, "did you mean optim"),
    study("a section twice", '[data]\nimage_size = 64\n', 2, "is not TOML"),
    study("backslashes", '[model]\nweights = "C:\\data\\w.pth"\n', 2, "is not TOML"),
    study("nothing", "[train]\nepochs = 0\n", 2, "train.epochs"),
]  # fmt: skip


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(0)).save(path, exif=exif)


@pytest.mark.parametrize("odd", SETTINGS, ids=lambda odd: odd.name)
def test_odd_runs(
    odd: Odd,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_before_work(monkeypatch)
    run(odd, tmp_path, capfd, caplog)


# ---- predict ------------------------------------------------------------------------------------------

PREDICT = "predict ~/study ~/new --out ~/out"


def images(*names: str) -> Make:
    def make(here: Path) -> None:
        for n, name in enumerate(names):
            save(here / "new" / name, picture(n))

    return make


def predicted(*names: str) -> Callable[[Path, str], None]:
    """Check that these files have masks, and no others."""

    def check(here: Path, _: str) -> None:
        assert sorted(pd.read_csv(here / "out/areas.csv")["image"]) == sorted(names)
        assert len(list((here / "out/masks").rglob("*.png"))) == len(names)

    return check


def unreadable(here: Path) -> None:
    images("a.png")(here)
    (here / "new/b.png").write_bytes(b"x")
    (here / "new/b.png").chmod(0)


long = "n" * 230
PREDICTED = [
    Odd("C3 other kinds beside", both(images("a.png"), lambda here: put(here / "new/b.dcm", "x"),
                                   lambda here: put(here / "new/c.webp", "x"), lambda here: put(here / "new/d.jfif",
                                   "x")),
        PREDICT, 0, ("1 images", "1 .dcm", "1 .webp", "1 .jfif", "passed over"), predicted("a.png")),
    Odd("hidden files", both(images("a.png"), lambda here: put(here / "new/._a.png", "x")), PREDICT, 0, ("1 images",),
        predicted("a.png")),
    Odd("nested", images("a.png", "x/a.png", "x/y/a.png"), PREDICT, 0, ("3 images",),
        predicted("a.png", "x/a.png", "x/y/a.png")),
    Odd("capitals", both(lambda here: (here / "new").mkdir(), lambda here: save_as(here / "new/A.PNG", picture(),
        "PNG")),
        PREDICT, 0, ("1 images",), predicted("A.PNG")),
    Odd("F1 not UTF-8", both(images("a.png"), lambda here: put(here / "new/\udce9cho.png", b"x")), PREDICT, 2,
        ("\\udce9cho.png: its name is not UTF-8; rename it",)),
    Odd("F1 folder not UTF-8", images("\udce9cho/a.png"), PREDICT, 2, ("is not UTF-8; rename it",)),
    Odd("F4 a long name", images(f"{long}.png"), PREDICT, 0, ("1 images",), predicted(f"{long}.png")),
    Odd("F4 the longest name", images("n" * 251 + ".png"), PREDICT, 0, ("1 images",), predicted("n" * 251 + ".png")),
    Odd("F4 a long name in TIFF", images("n" * 251 + ".tif"), PREDICT, 0, ("1 images",), predicted("n" * 251 + ".tif")),
    Odd("line break in a name", images("a\nb.png"), PREDICT, 0, ("1 images",), predicted("a\nb.png")),
    Odd("quote and tab in a name", images('a"b.png', "a,c.png", " d.png"), PREDICT, 0, ("3 images",)),
    Odd("two encodings of one name", images(f"{NFC}.png", f"{NFD}.png"), PREDICT, 0, ("differ in encoding only",)),
    Odd("two suffixes of one name", images("a.png", "a.tif"), PREDICT, 2, ("has that name too, a; rename one",)),
    Odd("names in two cases", images("a.png", "A.png"), PREDICT, 0, ("images A and a differ in case only",)),
    Odd("turned", both(lambda here: (here / "new").mkdir(), lambda here: turned(here / "new/a.jpg")), PREDICT, 0,
        ("with a flag of orientation: the picture was turned as viewers show it",)),
    Odd("white is zero", both(lambda here: save(here / "new/a.tif", picture(), photometric="miniswhite")), PREDICT, 0,
        ("with a note that 0 is white",)),
    Odd("G1 int64", lambda here: save(here / "new/a.tif", picture().astype(np.int64)), PREDICT, 0, ("1 images",)),
    Odd("G1 float64", lambda here: save(here / "new/a.tif", picture().astype(np.float64)), PREDICT, 0, ("1 images",)),
    Odd("pages", lambda here: save(here / "new/a.tif", np.stack([picture(), picture(1)]), photometric="minisblack"),
        PREDICT, 2, ("new/a.tif: holds 2 pages",)),
    Odd("one of three is cut", both(images("a.png", "b.png"), lambda here: put(here / "new/c.png",
        b"\x89PNG\r\n\x1a\n")),
        PREDICT, 2, ("new/c.png: is damaged or cut short",)),
    Odd("a GIF named PNG", both(images("a.png"), lambda here: save_as(here / "new/b.png", picture(), "GIF")), PREDICT,
        2,
        ("new/b.png: is a GIF, which is not read",)),
    Odd("an empty file", both(images("a.png"), lambda here: put(here / "new/b.png", "")), PREDICT, 2,
        ("is empty (0 bytes)",)),
    Odd("a loop of links", both(images("a.png"), lambda here: (here / "new/l.png").symlink_to("l.png")), PREDICT, 2,
        ("new/l.png: cannot be read (Too many levels of symbolic links)",)),
    Odd("a folder that is within itself", both(images("a.png"), lambda here: (here / "new/l").symlink_to(".")), PREDICT,
        0, ("1 images",), predicted("a.png")),
    Odd("an empty folder", lambda here: (here / "new").mkdir(), PREDICT, 2, ("new: holds no image",)),
    Odd("other kinds alone", lambda here: put(here / "new/a.dcm", "x"), PREDICT, 2, ("new: holds no image", ".dcm")),
    Odd("one file of another kind", lambda here: put(here / "new.dcm", "x"), "predict ~/study ~/new.dcm --out ~/out", 2,
        ("new.dcm: ",)),
    Odd("the same twice", images("a.png"), "predict ~/study ~/new ~/new --out ~/out", 2, ("is given twice",)),
    Odd("a film that is none", both(images("a.png"), lambda here: put(here / "new/b.mp4", "x" * 99)), PREDICT, 2,
        ("new/b.mp4: ",)),
    Odd("a manifest of two spellings", a_set(patient_id=TWO_SPELLINGS), "predict ~/study ~/m.csv --out ~/out", 0,
        ("6 images", ALIKE)),
    Odd("a manifest with semicolons", a_set(separator=";"), "predict ~/study ~/m.csv --out ~/out", 0, ("6 images",)),
    Odd("a manifest .tsv", a_set("m.tsv", "\t"), "predict ~/study ~/m.tsv --out ~/out", 0, ("6 images",)),
    Odd("a manifest in capitals", a_set("M.CSV"), "predict ~/study ~/M.CSV --out ~/out", 0, ("6 images",)),
    Odd("results that are a file", both(images("a.png"), lambda here: put(here / "out", "x")), PREDICT, 2, ("out",)),
    Odd("results that are there", both(images("a.png"), lambda here: put(here / "out/x", "x")), PREDICT, 2, ("out",)),
    Odd("a model in capitals", images("a.png"), f"{PREDICT} --model UNet", 2, ("did you mean unet?",)),
    Odd("a model that is not trained", images("a.png"), f"{PREDICT} --model daf_net", 2, ("daf_net",)),
    Odd("a manifest as study", a_set(), "predict ~/m.csv ~/images --out ~/out", 2, ("m.csv",)),
    Odd("a folder as study", a_set(), "predict ~/images ~/images --out ~/out", 2, ("images",)),
    Odd("status of a manifest", a_set(), "status ~/m.csv", 2, ("m.csv",)),
    Odd("status of images", a_set(), "status ~/images", 2, ("is not a study folder",)),
    Odd("status of nothing", nothing, "status ~/none", 2, ("no such folder",)),
    Odd("status of a loop", lambda here: (here / "l").symlink_to("l"), "status ~/l", 2, ("l: ",)),
    Odd("status of a file below a file", a_set(), "status ~/m.csv/x", 2, ("m.csv/x",)),
    Odd("status of a broken study", lambda here: put(here / "s/study.toml", "models = ["), "status ~/s", 2,
        ("study.toml is damaged",)),
    Odd("status of a study in UTF-16", lambda here: put(here / "s/study.toml", "models = []".encode("utf-16")),
        "status ~/s", 2, ("study.toml is damaged",)),
    Odd("status of a trained study", nothing, "status ~/study", 0, ("complete",)),
    Odd("replay of a trained study", nothing, "replay ~/study --rule none", 0, ("Stopping rules, replayed",)),
]  # fmt: skip
if os.geteuid():  # root reads everything
    PREDICTED.append(Odd("unreadable", unreadable, PREDICT, 2, ("new/b.png: cannot be read (Permission denied)",)))


@pytest.mark.parametrize("odd", PREDICTED, ids=lambda odd: odd.name)
def test_odd_predictions(
    odd: Odd, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(trained, tmp_path / "study")
    run(odd, tmp_path, capfd, caplog)
