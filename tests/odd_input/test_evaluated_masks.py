"""Odd folders of masks, as `evaluate` reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.odd_input.odd import Odd, run
from tests.odd_input.writers import (
    NFC,
    NFD,
    both,
    mask,
    masks,
    nothing,
    put,
    save,
    save_as,
    two_folders,
    write_table,
)

EVALUATE = "evaluate ~/pred ~/true --out ~/s.csv"
MEAN = "3 images, mean DSC 0.889"
"""Lesions of 18 x 10 pixels, 2 columns apart: 2 x 16 / (18 + 18)."""
Make = Callable[[Path], object]


def change(name: str, make: Make, code: int, *said: str, more: str = "", sound: str = MEAN) -> Odd:
    """Two sound folders, of which `make` changes something."""
    return Odd(name, two_folders(make), EVALUATE + more, code, (*([sound] if not code else []), *said))


def rename(one: str, other: str) -> Make:
    return lambda here: (here / one).rename(here / other)


def replaced(old: str, new: str, pixels: np.ndarray, **options: object) -> Make:
    """Write other pixels in the place of a file."""
    return both(lambda here: (here / old).unlink(), lambda here: save(here / new, pixels, **options))


def in_folders(here: Path, write: Callable[[Path, np.ndarray], object], suffix: str, shift: int = 2) -> None:
    """Write predictions and truths by a function of its own."""
    for folder, by in (("pred", shift), ("true", 0)):
        (here / folder).mkdir()
        for n in range(3):
            write(here / f"{folder}/{n}{suffix}", np.roll(mask(n), by, axis=1))


def formats(name: str, suffix: str, write: Callable[[Path, np.ndarray], object], *said: str) -> Odd:
    """Both folders in one kind of file: the same DSC."""
    return Odd(name, lambda here: in_folders(here, write, suffix), EVALUATE, 0, (MEAN, *said))


def palette(path: Path, pixels: np.ndarray) -> None:
    image = Image.fromarray((pixels != 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.save(path)


def manifest(text: str, name: str = "m.csv", encoding: str = "utf-8") -> Make:
    return two_folders(lambda here: put(here / name, text.encode(encoding)))


def patients(*expected: str) -> Callable[[Path, str], None]:
    def check(here: Path, _: str) -> None:
        assert pd.read_csv(here / "s.csv", dtype=str)["patient_id"].tolist() == list(expected)

    return check


WHITE_IS_ZERO = "with a note that 0 is white"
FORMATS = [
    formats("A1 boolean TIFF", ".tif", lambda path, one: save(path, one != 0, photometric="miniswhite"),
            f"6 files {WHITE_IS_ZERO}: the values were taken as stored"),
    formats("A1 boolean PNG", ".png", lambda path, one: save(path, one != 0)),
    formats("boolean arrays", ".npy", lambda path, one: np.save(path, one != 0)),
    formats("float arrays", ".npy", lambda path, one: np.save(path, (one != 0).astype(np.float64))),
    formats("int64 TIFF", ".tif", lambda path, one: save(path, (one != 0).astype(np.int64))),
    formats("float16 TIFF", ".tif", lambda path, one: save(path, (one != 0).astype(np.float16))),
    formats("16 bits", ".png", lambda path, one: save(path, one.astype(np.uint16) * 257)),
    formats("palette", ".png", palette),
    formats("colour", ".png", lambda path, one: save(path, np.dstack([one] * 3))),
    formats("BMP", ".BMP", lambda path, one: save_as(path, one, "BMP")),
    Odd("A1 one boolean TIFF, one PNG", both(
        lambda here: masks(here, "true"), lambda here: [
            save(here / f"pred/{n}.tif", np.roll(mask(n), 2, axis=1) != 0, photometric="miniswhite") for n in range(3)
        ]), EVALUATE, 0, (MEAN, WHITE_IS_ZERO)),
    formats("all turned", ".png", lambda path, one: Image.fromarray(one).save(path, exif=turned()),
            "with a flag of orientation"),
]  # fmt: skip


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


PAIRING = [
    change("B7 decomposed", both(rename("pred/0.png", f"pred/{NFD}.png"), rename("true/0.png", f"true/{NFC}.png")), 0),
    change("B7 decomposed folder", both(
        lambda here: (here / f"pred/{NFC}").mkdir(), lambda here: (here / f"true/{NFD}").mkdir(),
        rename("pred/0.png", f"pred/{NFC}/0.png"), rename("true/0.png", f"true/{NFD}/0.png")), 0),
    change("an invisible letter", rename("true/0.png", "true/0\u200b.png"), 0),
    change("another case", both(rename("pred/0.png", "pred/a.png"), rename("true/0.png", "true/A.png")), 2,
           "pred/a.png: has no truth of this name", "which looks alike"),
    change("hyphen and underscore", both(rename("pred/0.png", "pred/p_1.png"), rename("true/0.png", "true/p-1.png")), 2,
           "which looks alike"),
    change("leading zeros", rename("true/0.png", "true/00.png"), 2, "which looks alike"),
    change("one name twice but for encoding", both(
        rename("pred/0.png", f"pred/{NFC}.png"), rename("true/0.png", f"true/{NFC}.png"),
        lambda here: save(here / f"pred/{NFD}.png", mask())), 2, "keep one, or rename one"),
    change("names in two cases", lambda here: [
        save(here / f"{folder}/{name}.png", np.roll(mask(), shift, axis=1))
        for name in "aA" for folder, shift in (("pred", 2), ("true", 0))
    ], 0, "images A and a differ in case only; they are taken as 2 images", sound="5 images, mean DSC 0.889"),
    change("two suffixes of one name", lambda here: save(here / "pred/0.bmp", mask()), 2, "has the same name"),
    change("suffixes differ", both(replaced("pred/0.png", "pred/0.TIF", np.roll(mask(), 2, axis=1))), 0),
    change("a prediction too many", lambda here: save(here / "pred/9.png", mask()), 2, "has no truth of this name"),
    change("left out", lambda here: save(here / "pred/9.png", mask()), 0, "left out: 1 predictions without truth",
           more=" --unpaired skip"),
    change("many without truth", lambda here: [save(here / f"pred/x{n}.png", mask()) for n in range(9)], 2,
           "and 8 more such lines"),
    change("other kinds beside", lambda here: [put(here / f"pred/{name}", "x") for name in ("a.dcm", "b.nii.gz")], 0,
           "passed over", ".dcm"),
    change("hidden files", lambda here: put(here / "pred/._0.png", "x"), 0),
    change("not UTF-8", lambda here: put(here / "pred/\udce9.png", b"x"), 2, "\\udce9.png: its name is not UTF-8"),
    change("a line break in a name", lambda here: save(here / "pred/a\nb.png", mask()), 2, "a\\nb.png"),
    change("a loop of links", both(lambda here: (here / "true/0.png").unlink(),
                                lambda here: (here / "true/0.png").symlink_to("0.png")), 2, "cannot be read"),
    Odd("one folder for both", two_folders(), "evaluate ~/pred ~/pred --out ~/s.csv", 2, ("name two folders",)),
    Odd("a file as folder", two_folders(), "evaluate ~/pred/0.png ~/true --out ~/s.csv", 2, ("is a file; name the",)),
    Odd("empty folder", two_folders(lambda here: (here / "none").mkdir()), "evaluate ~/none ~/true --out ~/s.csv", 2,
        ("holds no masks",)),
    Odd("no folder", two_folders(), "evaluate ~/none ~/true --out ~/s.csv", 2, ("no such folder",)),
    Odd("table of another kind", two_folders(), "evaluate ~/pred ~/true --out ~/s.xlsx", 2, ("end its name in .csv",)),
    Odd("table in no folder", two_folders(), "evaluate ~/pred ~/true --out ~/no/s.csv", 2,
        ("no such folder; make it",)),
    Odd("a folder as table", two_folders(lambda here: (here / "s.csv").mkdir()), EVALUATE, 2, ("exists already",)),
    Odd("a model without name", two_folders(), f"{EVALUATE} --model \u200b", 2, ("the model has no name",)),
]  # fmt: skip

PIXELS = [
    change("three values", replaced("pred/0.png", "pred/0.png", mask(0, 1) + mask(4, 1)), 2,
           "pred/0.png: is not a mask: it has 3 gray values", "--label"),
    change("a JPEG", replaced("pred/0.png", "pred/0.jpg", mask()), 2, "is a JPEG, which blurs a mask's values"),
    change("another size", replaced("pred/0.png", "pred/0.png", mask()[:30]), 2, "is 30 × 48 pixels (rows × columns)"),
    change("turned", replaced("pred/0.png", "pred/0.png", mask().T.copy()), 2, "one of them is turned"),
    change("several lesion values", both(replaced("pred/0.png", "pred/0.png", mask(0, 2))), 2,
           "the lesion is 1 (2 masks", "and 2 (1 masks"),
    change("other values in the truths", lambda here: [save(here / f"true/{n}.png", mask(n, 2)) for n in range(3)], 2,
           "the lesion is 255 in ~/pred and 2 in ~/true; save both with one value"),
    change("a label that no mask holds", nothing, 2, "no mask holds the label 7", more=" --label 7"),
    change("a label of the truths alone", lambda here: [save(here / f"true/{n}.png", mask(n, 7)) for n in range(3)], 0,
           "pred: no mask holds the label 7", more=" --label 7", sound="3 images, mean DSC 0.000"),
    change("label 0", nothing, 2, "label 0 is the background", more=" --label 0"),
    change("all predictions empty", lambda here: [save(here / f"pred/{n}.png", 0 * mask()) for n in range(3)], 0,
           "every prediction is empty", sound="3 images, mean DSC 0.000"),
    change("H3 all truths empty", lambda here: [
        save(here / f"{folder}/{n}.png", 0 * mask()) for n in range(3) for folder in ("pred", "true")
    ], 0, "all 3 truths are empty: no lesion is marked anywhere", sound="3 images, mean DSC 1.000"),
    change("predictions are the truths", lambda here: masks(here, "pred"), 0, "equal",
           sound="3 images, mean DSC 1.000"),
    change("swapped truth", lambda here: save(here / "true/0.png", 255 - mask()), 0,
           "in 1 of 3 truths the lesion covers most of the image or all its corners, such as",
           sound="3 images, mean DSC"),
    change("swapped predictions", lambda here: [save(here / f"pred/{n}.png", 255 - mask(n)) for n in range(3)], 0,
           "in 3 of 3 predictions the lesion covers most of the image", sound="3 images, mean DSC 0.000"),
    change("an array of 3 axes", both(lambda here: (here / "pred/0.png").unlink(), lambda here: np.save(
        here / "pred/0.npy", mask()[None])), 2, "holds uint8 of shape (1, 40, 48)"),
    change("pickled array", both(lambda here: (here / "pred/0.png").unlink(), lambda here: np.save(
        here / "pred/0.npy", np.array([None, 1], dtype=object), allow_pickle=True)), 2, "without pickle"),
    change("a cut array", both(lambda here: (here / "pred/0.png").unlink(), lambda here: put(
        here / "pred/0.npy", b"\x93NUMPY\x01\0")), 2, "pred/0.npy: "),
    change("levels as masks", replaced("pred/0.png", "pred/0.png", np.tile(np.arange(48, dtype=np.uint8), (40, 1))), 2,
           "--probability"),
    change("masks as levels", lambda here: [save(here / f"pred/{n}.png", mask(n, 1)) for n in range(3)], 0,
           "every prediction is empty", "do not read them as probability maps", more=" --probability",
           sound="3 images, mean DSC 0.000"),
    change("levels above 1", both(lambda here: [(here / f"pred/{n}.png").unlink() for n in range(3)], lambda here: [
        np.save(here / f"pred/{n}.npy", mask(n).astype(np.float32)) for n in range(3)]), 2,
           "has values from 0 to 255; probabilities lie in 0 to 1", more=" --probability"),
]  # fmt: skip

TABLE = "image,patient_id,age\n0.png,X1,50\n1.png,X1,50\n2.png,X2,61\n"
WITH = f"{EVALUATE} --manifest ~/m.csv"
MANIFESTS = [
    *[
        Odd(f"manifest: {name}", manifest(text, encoding=encoding), WITH, 0, (MEAN,), patients("X1", "X1", "X2"))
        for name, text, encoding in [
            ("semicolons", TABLE.replace(",", ";"), "utf-8"),
            ("UTF-16 and tabs", TABLE.replace(",", "\t"), "utf-16"),
            ("sep line", f"sep=,\n{TABLE}", "utf-8"),
            ("invisible letter in a name", TABLE.replace("0.png", "0\u200b.png"), "utf-8"),
            ("folders", TABLE.replace(".png", ".tif").replace("\n0", "\nmasks/p1/0"), "utf-8"),
        ]
    ],
    Odd("E6 row numbers", two_folders(lambda here: write_table(here / "m.csv", {
        "Unnamed: 0": [0, 1, 2], "image": ["0", "1", "2"], "patient_id": ["X1", "X1", "X2"]})), WITH, 0, (MEAN,),
        lambda here, _: "Unnamed" not in (here / "s.csv").read_text() or pytest.fail("row numbers")),
    Odd("E6 Parquet", two_folders(lambda here: pd.DataFrame(
        {"image": ["0", "x", "1", "2"], "patient_id": ["X1", "X9", "X1", "X2"]}
    ).drop(index=1).to_parquet(here / "m.parquet")), f"{EVALUATE} --manifest ~/m.parquet", 0, (MEAN,),
        patients("X1", "X1", "X2")),
    Odd("manifest: zero width", manifest(TABLE.replace("1.png,X1", "1.png,X1\u200b")), WITH, 0,
        (MEAN, "patients X1 and X1\\u200b differ in invisible characters only; they are taken as 2 patients")),
    Odd("manifest: one truth for two patients", both(manifest(TABLE), lambda here: save(here / "true/2.png", mask(1))),
        WITH, 0, ("the mask of another patient, pixel by pixel",)),
    Odd("manifest: rounded", manifest(TABLE.replace("X1", "1.2E+11")), WITH, 0,
        ("patient 1.2E+11 looks like a number that a spreadsheet rounded",)),
    Odd("manifest: NA", manifest(TABLE.replace("X2", "NA")), WITH, 2, ("row 4: patient_id is missing",)),
    Odd("manifest: an image without row", manifest(TABLE.replace("2.png", "9.png")), WITH, 2,
        ("2 is not described: no row has it as image",)),
    Odd("manifest: an image in another spelling", manifest(TABLE.replace("2.png", "02.png")), WITH, 2,
        ("2 is not described", "which looks alike")),
    Odd("manifest: a row too many", manifest(f"{TABLE}9.png,X3,1\n"), WITH, 0, ("1 of its rows describe none",)),
    Odd("manifest: spacing in micrometres", manifest(TABLE.replace(",age", ",spacing_mm")), WITH, 0,
        ("3 of 3 images have a spacing of 50 mm a pixel or the like",)),
    Odd("manifest: categories", manifest(TABLE.replace(",age", ",stage").replace("50", "T2").replace("61", "t2")), WITH,
        0, ("column stage: categories T2 and t2 differ in case only",)),
    Odd("manifest: numbers with commas", manifest(TABLE.replace("50", '"5,0"').replace("61", '"6,1"')), WITH, 0,
        ("column age has numbers with commas, such as 5,0",)),
    Odd("manifest: no column of names", manifest(TABLE.replace("image", "file")), WITH, 2,
        ("there is no column image_id, mask or image",)),
    Odd("manifest: a folder", two_folders(lambda here: (here / "m.csv").mkdir()), WITH, 2,
        ("is a folder, not a table",)),
]  # fmt: skip


@pytest.mark.parametrize("odd", [*FORMATS, *PAIRING, *PIXELS, *MANIFESTS], ids=lambda odd: odd.name)
def test_odd_masks(
    odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(odd, tmp_path, capfd, caplog)
