"""Odd sources of `data import`, one after another format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
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
    busbra,
    busi,
    mask,
    nnunet,
    pairs,
    picture,
    put,
    save,
    save_as,
    write_table,
)

Change = Callable[[Path], object]
Check = Callable[[Path, str], None]
PAIRS, NNUNET, BUSI, BUSBRA = (f"data import {name} ~/src ~/new" for name in ("pairs", "nnunet", "busi", "busbra"))


def imported(*patients: str):
    """Check the patients of the new manifest."""

    def check(here: Path, _: str) -> None:
        table = pd.read_csv(here / "new/manifest.csv", dtype=str, keep_default_na=False)
        assert table["patient_id"].tolist() == list(patients)
        for column in ("image", "mask"):
            assert all((here / "new" / name).is_file() for name in table[column])

    return check


def shares(*expected: float):
    """Check the share of the lesion in each new mask."""

    def check(here: Path, _: str) -> None:
        table = pd.read_csv(here / "new/manifest.csv")
        found = [(np.asarray(Image.open(here / "new" / name)) == 255).mean() for name in table["mask"]]
        assert np.allclose(found, expected)

    return check


def with_patients(text: str, encoding: str = "utf-8"):
    return both(pairs, lambda here: put(here / "src/patients.csv", text.encode(encoding)))


def rename(one: str, other: str):
    return lambda here: (here / "src" / one).rename(here / "src" / other)


def published_folds(here: Path, _: str) -> None:
    assert pd.read_csv(here / "new/manifest.csv")["source_kfold5"].tolist() == [1, 1, 2]


def palette_labels(here: Path) -> None:
    nnunet(here)
    image = Image.fromarray(mask(0, 1), "P")
    image.putpalette([255, 255, 255, 255, 0, 0])
    image.save(here / "src/labelsTr/c0.png")


LESION = 180 / 1920
THREE = "3 images of 3 patients imported"
PAIRS_ROWS = [
    Odd("C1 nested", lambda here: pairs(here, ("0", "more/1", "more/2")), PAIRS, 0, (THREE,),
        imported("0", "more/1", "more/2")),
    Odd("nested twice, one name", lambda here: pairs(here, ("p1/a", "p2/a", "p2/x/a")), PAIRS, 0, (THREE,),
        imported("p1/a", "p2/a", "p2/x/a")),
    Odd("C3 other kinds beside", both(pairs, lambda here: put(here / "src/images/b.dcm", "x"),
                                   lambda here: put(here / "src/images/c.webp", "x"),
                                   lambda here: put(here / "src/images/d.jfif", "x")), PAIRS, 0,
        (THREE, "passed over", "1 .dcm", "1 .jfif", "1 .webp"), imported("a", "b", "c")),
    Odd("hidden files", both(pairs, lambda here: put(here / "src/images/._a.png", "x")), PAIRS, 0, (THREE,)),
    Odd("thumbnails of Windows", both(pairs, lambda here: put(here / "src/images/Thumbs.db", "x")), PAIRS, 0,
        (THREE, "1 .db")),
    Odd("suffix in capitals", both(pairs, rename("images/a.png", "images/a.PNG")), PAIRS, 0, (THREE,),
        imported("a", "b", "c")),
    Odd("two suffixes", both(pairs, rename("images/a.png", "images/a.png.png"),
                             rename("masks/a.png", "masks/a.png.png")), PAIRS, 0, (THREE,)),
    Odd("B7 decomposed masks", both(lambda here: pairs(here, (NFC, "b", "c")),
                                    rename(f"masks/{NFC}.png", f"masks/{NFD}.png")), PAIRS, 0, (THREE,)),
    Odd("B7 decomposed images", both(lambda here: pairs(here, (NFD, "b", "c")),
                                     rename(f"masks/{NFD}.png", f"masks/{NFC}_mask.png")), PAIRS, 0, (THREE,)),
    Odd("one name in two encodings", both(lambda here: pairs(here, (NFC, NFD, "c"))), PAIRS, 2,
        ("the same name in another encoding, too; keep one, or rename one",)),
    Odd("invisible letter in a mask's name", both(pairs, rename("masks/a.png", "masks/a\u200b.png")), PAIRS, 0,
        (THREE,)),
    Odd("a mask in another case", both(pairs, rename("masks/a.png", "masks/A.png")), PAIRS, 2,
        ("images/a.png: has no mask in masks", "there is A, which looks alike", "masks/A.png: has no image")),
    Odd("a mask with a hyphen", both(lambda here: pairs(here, ("p_1", "b", "c")),
                                     rename("masks/p_1.png", "masks/p-1.png")), PAIRS, 2,
        ("there is p-1, which looks alike",)),
    Odd("images in two cases", lambda here: pairs(here, ("a", "A", "b")), PAIRS, 0,
        ("patients A and a differ in case only; they are taken as 2 patients",)),
    Odd("two masks of an image", both(pairs, lambda here: save(here / "src/masks/a_mask.png", mask())), PAIRS, 2,
        ("has a.png and a_mask.png in masks; one is needed",)),
    Odd("a mask without image", both(pairs, lambda here: save(here / "src/masks/z.png", mask())), PAIRS, 2,
        ("masks/z.png: has no image",)),
    Odd("an image of two suffixes", both(pairs, lambda here: save(here / "src/images/a.bmp", picture())), PAIRS, 2,
        ("there is a.bmp too; keep one, or rename one",)),
    Odd("a mask of three values", both(pairs, lambda here: save(here / "src/masks/a.png", mask(0, 1) + mask(4, 1))),
        PAIRS, 2, ("masks/a.png: is not a mask: it has 3 gray values",)),
    Odd("a mask in JPEG", both(pairs, rename("masks/a.png", "x.png"),
                               lambda here: save(here / "src/masks/a.jpg", mask())), PAIRS, 2,
        ("masks/a.jpg: is a JPEG, which blurs",)),
    Odd("a mask of another size", both(pairs, lambda here: save(here / "src/masks/a.png", mask()[:30])), PAIRS, 2,
        ("masks/a.png: is 30 × 48 pixels, a.png 40 × 48",)),
    Odd("a GIF named PNG", both(pairs, lambda here: save_as(here / "src/images/a.png", picture(), "GIF")), PAIRS, 2,
        ("images/a.png: is a GIF, which is not read",)),
    Odd("16-bit and boolean masks", both(
        pairs, lambda here: save(here / "src/masks/a.png", mask().astype(np.uint16) * 257), rename("masks/b.png", "x"),
        lambda here: save(here / "src/masks/b.tif", mask(1) != 0, photometric="miniswhite")), PAIRS, 0,
        (THREE, "with a note that 0 is white"), shares(LESION, LESION, LESION)),
    Odd("no folder of masks", both(pairs, rename("masks", "labels")), PAIRS, 2, ("masks: no such folder",)),
    Odd("folder in capitals", both(pairs, rename("masks", "Masks")), PAIRS, 2,
        ("masks: no such folder; the format needs it; there is Masks, which looks alike",)),
    Odd("a file as folder of images", both(pairs, rename("images", "i"), lambda here: put(here / "src/images", "x")),
        PAIRS, 2, ("images: is a file; the format needs a folder of this name",)),
    Odd("empty folders", lambda here: [(here / "src" / name).mkdir(parents=True) for name in ("images", "masks")],
        PAIRS, 2, ("src: holds no images",)),
    Odd("other kinds alone", lambda here: [put(here / f"src/{name}/a.dcm", "x") for name in ("images", "masks")],
        PAIRS, 2, ("src: holds no images", ".dcm")),
    Odd("a loop of links", both(pairs, lambda here: (here / "src/images/l.png").symlink_to("l.png"),
                             lambda here: save(here / "src/masks/l.png", mask(5))), PAIRS, 2,
        ("images/l.png: cannot be read (Too many levels of symbolic links)",)),
    Odd("a folder that is within itself", both(pairs, lambda here: (here / "src/images/more").symlink_to("..")), PAIRS,
        0, (THREE,)),
    Odd("not UTF-8", both(pairs, lambda here: (here / "src/images/\udce9cho.png").write_bytes(b"x")), PAIRS, 2,
        ("\\udce9cho.png: its name is not UTF-8; rename it",)),
    Odd("line break in a name", both(lambda here: pairs(here, ("a\nb", "c"))), PAIRS, 2, ("a\\nb",)),
    Odd("tab and quote in names", both(lambda here: pairs(here, ("a\tb", 'c"d', "e,f"))), PAIRS, 0, (THREE,)),
    Odd("blank before a name", lambda here: pairs(here, (" a", "b")), PAIRS, 2, ("begins with a blank; rename it",)),
    Odd("a name of 255 bytes", both(lambda here: pairs(here, ("n" * 251, "b"))), PAIRS, 0,
        ("2 images of 2 patients imported",)),
    Odd("a file as source", lambda here: put(here / "src", "x"), PAIRS, 2, ("src: is not a folder",)),
    Odd("a file as target", both(pairs, lambda here: put(here / "new", "x")), PAIRS, 2, ("new: is not empty",)),
    Odd("target within a file", both(pairs, lambda here: put(here / "f", "x")), "data import pairs ~/src ~/f/new", 2,
        ("f/new: cannot be written (",)),
    Odd("a set as source", both(pairs, lambda here: write_table(here / "src/manifest.csv", {"image": ["a"]})), PAIRS, 0,
        (THREE,)),
]  # fmt: skip

TABLE = "image,patient_id\na,X1\nb,X1\nc,X2\n"
TWO = "3 images of 2 patients imported"
PATIENTS_ROWS = [
    Odd(f"patients: {name}", with_patients(text, encoding), PAIRS, 0, (TWO,), imported("X1", "X1", "X2"))
    for name, text, encoding in [
        ("sound", TABLE, "utf-8"),
        ("semicolons", TABLE.replace(",", ";"), "utf-8"),
        ("tabs in UTF-16", TABLE.replace(",", "\t"), "utf-16"),
        ("sep line", f"sep=,\n{TABLE}", "utf-8"),
        ("mark twice", f"\ufeff\ufeff{TABLE}", "utf-8"),
        ("suffixes", TABLE.replace("\na", "\na.PNG").replace("\nb", "\nb.png"), "utf-8"),
        ("blanks", TABLE.replace(",", " , "), "utf-8"),
        ("row numbers of pandas", pd.read_csv(io.StringIO(TABLE)).to_csv(), "utf-8"),
        ("folders before names", TABLE.replace("\na", "\nimages/a.png"), "utf-8"),
    ]
] + [
    Odd("patients: zero width", with_patients(TABLE.replace("b,X1", "b,X1\u200b")), PAIRS, 0,
        ("patients X1 and X1\\u200b differ in invisible characters only; they are taken as 2 patients",)),
    Odd("patients: spellings before hashing", with_patients(TABLE.replace("b,X1", "b,x01")),
        f"{PAIRS} --pseudonymise ~/key", 0, ("patients X1 and x01 differ in case and leading zeros only",)),
    Odd("patients: rounded", with_patients(TABLE.replace("X1", "1.2E+11")), PAIRS, 0,
        ("patient 1.2E+11 looks like a number that a spreadsheet rounded",)),
    Odd("patients: image in another case", with_patients(TABLE.replace("\nb", "\nB")), PAIRS, 2,
        ("has no row for b.png; there is B, which looks alike",)),
    Odd("patients: image with an invisible letter", with_patients(TABLE.replace("\nb", "\nb\u200b")), PAIRS, 0, (TWO,)),
    Odd("patients: NA", with_patients(TABLE.replace("X2", "NA")), PAIRS, 2, ("row 4: patient_id is missing",)),
    Odd("patients: an image without row", with_patients(TABLE.replace("c,X2\n", "")), PAIRS, 2,
        ("patients.csv: has no row for c.png",)),
    Odd("patients: a row without image", with_patients(f"{TABLE}z,X3\n"), PAIRS, 0,
        ("1 rows name no image, such as z",)),
    Odd("patients: an image twice", with_patients(f"{TABLE}a,X3\n"), PAIRS, 2, ("row 5: image a is there already",)),
    Odd("patients: column in capitals", with_patients(TABLE.replace("patient_id", "Patient_ID")), PAIRS, 2,
        ("there is no column patient_id; rename Patient_ID?",)),
    Odd("patients: a column twice", with_patients(TABLE.replace("image,", "patient_id,")), PAIRS, 2,
        ("column patient_id is there twice",)),
    Odd("patients: categories", with_patients("image,patient_id,t_stage\na,X1,T2\nb,X1,t2\nc,X2,T1\n"), PAIRS, 0,
        ("column t_stage: categories T2 and t2 differ in case only",)),
    Odd("patients: numbers with commas", with_patients('image,patient_id,ca\na,X1,"1,234"\nb,X1,"1,3"\nc,X2,"2,1"\n'),
        PAIRS, 0, ("column ca has numbers with commas",)),
    Odd("patients: a folder", both(pairs, lambda here: (here / "src/patients.csv").mkdir()), PAIRS, 2,
        ("patients.csv: is a folder, not a table",)),
    Odd("patients: Latin-1", with_patients(TABLE.replace("X1", "Müller"), "latin-1"), PAIRS, 2,
        ("patients.csv: is neither Parquet nor text in UTF-8 or UTF-16",)),
    Odd("patients: another name", both(pairs, lambda here: put(here / "src/Patients.csv", TABLE)), PAIRS, 0,
        (THREE, "the source names no patients", "Patients.csv")),
]  # fmt: skip

JSON = "src/dataset.json"
NNUNET_ROWS = [
    Odd("D1 a value that is no label", partial(nnunet, value=255), NNUNET, 2,
        ("labelsTr/c0.png: has the values 255, which are none of the labels 0, 1",)),
    Odd("regions", partial(nnunet, value=2, labels={"background": 0, "whole": [1, 2], "core": [2]}), NNUNET, 0,
        ("2 images of 2 patients imported", "the labels whole, core became one lesion"), shares(LESION, LESION)),
    Odd("void with regions", partial(nnunet, value=255, labels={"background": 0, "whole": [1, 2], "core": [2]}), NNUNET,
        2, ("has the values 255, which are none of the labels 0, 1, 2",)),
    Odd("labels as texts", partial(nnunet, labels={"background": "0", "lesion": "1"}), NNUNET, 0,
        ("2 images of 2 patients imported",), shares(LESION, LESION)),
    Odd("labels the other way round", partial(nnunet, labels={"0": "background", "1": "lesion"}), NNUNET, 0,
        ("2 images of 2 patients imported",), shares(LESION, LESION)),
    Odd("a label that is no number", partial(nnunet, labels={"background": 0, "lesion": "one"}), NNUNET, 2,
        ("label lesion is 'one'; a label's value is a whole number from 0",)),
    Odd("a label below 0", partial(nnunet, labels={"background": 0, "lesion": -1}), NNUNET, 2, ("label lesion is -1",)),
    Odd("a label of half", partial(nnunet, labels={"background": 0, "lesion": 1.5}), NNUNET, 2,
        ("label lesion is 1.5",)),
    Odd("a label that is true", partial(nnunet, labels={"background": 0, "lesion": True}), NNUNET, 2,
        ("label lesion is True",)),
    Odd("a background that is not 0", partial(nnunet, labels={"lesion": 0, "background": 1}), NNUNET, 2,
        ("the background is 1, and only 0 is read as such",)),
    Odd("ignore", partial(nnunet, labels={"background": 0, "lesion": 1, "ignore": 2}), NNUNET, 2,
        ("has an ignore label, which a mask cannot hold; relabel its pixels",)),
    Odd("labels in a list", partial(nnunet, labels=["background", "lesion"]), NNUNET, 2,
        ("dataset.json: is not an nnU-Net data set's",)),
    Odd("no labels", partial(nnunet, labels={}), NNUNET, 2,
        ("is not an nnU-Net data set's: it has no labels, such as",)),
    Odd("numTraining", partial(nnunet, numTraining=9), NNUNET, 0,
        ("dataset.json announces 9 training cases (numTraining), and 2 are there",)),
    Odd("numTraining as text", partial(nnunet, numTraining="2"), NNUNET, 0, ("2 images of 2 patients imported",),
        lambda _, said: "announces" not in said or pytest.fail(said)),
    Odd("volumes", partial(nnunet, file_ending=".nii.gz"), NNUNET, 2, ("file_ending is .nii.gz; only 2-D images",)),
    Odd("ending in capitals", partial(nnunet, file_ending=".PNG"), NNUNET, 0, ("2 images of 2 patients imported",)),
    Odd("ending that is no text", partial(nnunet, file_ending=7), NNUNET, 2, ("file_ending is 7",)),
    Odd("broken JSON", both(nnunet, lambda here: put(here / JSON, '{"labels": ')), NNUNET, 2, ("is not JSON",)),
    Odd("JSON with a mark", both(nnunet, lambda here: put(here / JSON, "\ufeff" + (here / JSON).read_text())), NNUNET,
        0, ("2 images of 2 patients imported",)),
    Odd("JSON of another kind", both(nnunet, lambda here: put(here / JSON, json.dumps([1, 2]))), NNUNET, 2,
        ("is not an nnU-Net data set's",)),
    Odd("deep JSON", both(nnunet, lambda here: put(here / JSON, "[" * 100_000)), NNUNET, 2, ("is not JSON",)),
    Odd("no JSON", both(nnunet, lambda here: (here / JSON).unlink()), NNUNET, 2, ("nnU-Net's raw data sets have it",)),
    Odd("a folder as JSON", both(nnunet, lambda here: (here / JSON).unlink(), lambda here: (here / JSON).mkdir()),
        NNUNET, 2, ("dataset.json: cannot be read (Is a directory)",)),
    Odd("palette labels", palette_labels, NNUNET, 0, ("2 images",), shares(LESION, LESION)),
    Odd("labels in 16 bits", both(nnunet, lambda here: save(
        here / "src/labelsTr/c0.png", mask(0, 1).astype(np.uint16))), NNUNET, 0, ("2 images",), shares(LESION, LESION)),
    Odd("coloured labels", both(nnunet, lambda here: save(
        here / "src/labelsTr/c0.png", np.dstack([mask(0, 1), 0 * mask(), 0 * mask()]))), NNUNET, 2,
        ("is a colour image, and what a colour means is not known",)),
    Odd("two channels", both(nnunet, lambda here: save(here / "src/imagesTr/c0_0001.png", picture(7))), NNUNET, 0,
        ("of 2 channels the first was taken", "passed over")),
    Odd("test images", both(nnunet, lambda here: save(here / "src/imagesTs/c9_0000.png", picture(7))), NNUNET, 0,
        ("imagesTs was left out",)),
    Odd("another suffix", both(nnunet, lambda here: save(here / "src/imagesTr/c2_0000.tif", picture(7))), NNUNET, 0,
        ("passed over", "1 .tif")),
    Odd("a label in another case", both(nnunet, rename("labelsTr/c0.png", "labelsTr/C0.png")), NNUNET, 2,
        ("has no c0.png in labelsTr; there is C0, which looks alike",)),
    Odd("decomposed labels", both(
        nnunet, lambda here: save(here / f"src/imagesTr/{NFC}_0000.png", picture(7)),
        lambda here: save(here / f"src/labelsTr/{NFD}.png", mask(7, 1))), NNUNET, 0,
        ("3 images of 3 patients imported", "announces 2")),
    Odd("names without channel", both(nnunet, rename("imagesTr/c0_0000.png", "imagesTr/c0.png")), NNUNET, 2,
        ("imagesTr/c0.png: is not named CASE_0000.png",)),
]  # fmt: skip

BUSI_ROWS = [
    Odd("BUSI: suffix in capitals", both(busi, rename("benign/benign (0).png", "benign/benign (0).PNG")), BUSI, 0,
        (THREE,)),
    Odd("BUSI: masks in capitals", both(busi, rename("benign/benign (0)_mask.png", "benign/benign (0)_Mask.png")), BUSI,
        2, ("benign (0).png: has no benign (0)_mask.png; there is benign (0)_Mask, which looks alike",)),
    Odd("BUSI: no folder", both(busi, rename("normal", "none")), BUSI, 2, ("normal: no such folder",)),
    Odd("BUSI: several masks", both(busi, lambda here: save(here / "src/benign/benign (0)_mask_1.png", mask(12))), BUSI,
        0, ("1 images have several masks, which became one",), shares((180 + 180 - 0) / 1920, LESION, 0)),
    Odd("BUSI: a mask without image", both(busi, lambda here: save(here / "src/benign/benign (7)_mask.png", mask())),
        BUSI, 2, ("benign (7)_mask.png: has no image",)),
    Odd("BUSI: one name in two folders", both(busi, lambda here: save(here / "src/normal/benign (0).png", picture(9)),
                                       lambda here: save(here / "src/normal/benign (0)_mask.png", 0 * mask())), BUSI, 2,
        ("its name is there twice",)),
    Odd("BUSI: another folder", both(busi, lambda here: save(here / "src/unknown/a.png", picture(9))), BUSI, 0,
        (THREE, "passed over", "1 .png")),
    Odd("BUSI: masks of normal breasts that are not empty",
        both(busi, lambda here: save(here / "src/normal/normal (2)_mask.png", mask())), BUSI, 0, (THREE,)),
]  # fmt: skip

BUSBRA_ROWS = [
    Odd("BUS-BRA: semicolons", partial(busbra, separator=";"), BUSBRA, 0, ("3 images of 2 patients imported",),
        imported("P0001", "P0001", "P0012")),
    Odd("BUS-BRA: no column Case", partial(busbra, Case=None), BUSBRA, 2, ("bus_data.csv: there is no column Case",)),
    Odd("BUS-BRA: column case", partial(busbra, Case=None, case=[1, 1, 12]), BUSBRA, 0,
        ("3 images of 2 patients imported",)),
    Odd("BUS-BRA: cases in two spellings", partial(busbra, Case=["A1", "a1", "12"]), BUSBRA, 0,
        ("patients A1 and a1 differ in case only",)),
    Odd("BUS-BRA: cases with zeros", partial(busbra, Case=["1", "01", "12"]), BUSBRA, 0,
        ("3 images of 2 patients imported",)),
    Odd("BUS-BRA: a case that is missing", partial(busbra, Case=["1", "NA", "12"]), BUSBRA, 2,
        ("row 3: bus_0001-r has no Case",)),
    Odd("BUS-BRA: an image twice", partial(busbra, ID=["bus_0001-l", "bus_0001-l", "bus_0012-s"]), BUSBRA, 2,
        ("row 3: bus_0001-l is there already, in row 2",)),
    Odd("BUS-BRA: an image in another case", partial(busbra, ID=["BUS_0001-L", "bus_0001-r", "bus_0012-s"]), BUSBRA, 2,
        ("row 2: BUS_0001-L has no image and no mask", "there is bus_0001-l")),
    Odd("BUS-BRA: an image without row", both(busbra, lambda here: save(here / "src/Images/bus_9-s.png", picture(9))),
        BUSBRA, 0, ("1 images have no row in bus_data.csv and were left out",)),
    Odd("BUS-BRA: folds in another spelling", both(busbra, lambda here: write_table(
        here / "src/5-fold-cv.csv", {"id": ["bus_0001-l", "bus_0001-r", "bus_0012-s"], "kfold": [1, 1, 2]}, ";")),
        BUSBRA, 0, ("3 images of 2 patients imported",),
        published_folds),
    Odd("BUS-BRA: folds of other images", both(busbra, lambda here: write_table(
        here / "src/5-fold-cv.csv", {"ID": ["x", "bus_0001-r", "bus_0012-s"], "kFold": [1, 1, 2]})), BUSBRA, 0,
        ("1 images have no fold in 5-fold-cv.csv",)),
    Odd("BUS-BRA: a column twice", partial(busbra, pathology=list("abc")), BUSBRA, 2,
        ("column pathology is there twice, but for its letters' case; keep one",)),
]  # fmt: skip

ROWS = [*PAIRS_ROWS, *PATIENTS_ROWS, *NNUNET_ROWS, *BUSI_ROWS, *BUSBRA_ROWS]


@pytest.mark.parametrize("odd", ROWS, ids=lambda odd: odd.name)
def test_odd_sources(
    odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(odd, tmp_path, capfd, caplog)
