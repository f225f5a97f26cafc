"""The manifest: what is read, and that each defect is named by row and file, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from eus_ray.data.manifest import read_manifest
from eus_ray.errors import UserError

HEADER = "image,mask,patient_id"
COLUMNS = ["image_id", "patient_id", "image", "mask", "height", "width", "spacing_row", "spacing_col", "lesion_share"]
SHAPE = (40, 48)


def picture(seed: int, shape: tuple[int, int] = SHAPE) -> npt.NDArray[np.uint8]:
    """Smooth random gray values: like no other seed's, and still like itself when saved as JPEG."""
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def disc(shape: tuple[int, int] = SHAPE, lesion: int = 255) -> npt.NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[10:20, 12:30] = lesion
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of two patients: a.png and b.png of P1, c.png of P2."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for seed, name in enumerate("abc"):
        cv2.imwrite(str(tmp_path / f"images/{name}.png"), picture(seed))
        cv2.imwrite(str(tmp_path / f"masks/{name}.png"), np.roll(disc(), seed))
    return tmp_path


ALL_HAVE_LESIONS = (
    "no image is without the lesion: false alarms cannot be measured, and a network that is trained on such images "
    "alone never learns to find nothing"
)
ROWS = ["images/a.png,masks/a.png,P1", "images/b.png,masks/b.png,P1", "images/c.png,masks/c.png,P2"]


def write(folder: Path, rows: list[str] = ROWS, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def defects(path: Path) -> list[str]:
    """The lines of the refusal, without the manifest's name, which begins each."""
    with pytest.raises(UserError) as refused:
        read_manifest(path)
    assert all(line.startswith(f"{path}: ") for line in refused.value.lines)
    return [line.removeprefix(f"{path}: ") for line in refused.value.lines]


# ---- what is read -----------------------------------------------------------------------------------


def test_frame(folder: Path) -> None:
    rows = [f"{row},{more}" for row, more in zip(ROWS, ["T1,71.5,0.1", "T1,,0.1", "T2,60,0.2"], strict=True)]
    manifest = read_manifest(write(folder, rows, f"{HEADER},t_stage,age,spacing_mm"))
    frame = manifest.frame
    assert frame["image_id"].tolist() == ["a", "b", "c"]
    assert frame["patient_id"].tolist() == ["P1", "P1", "P2"]
    assert frame["image"].tolist() == [str(folder.resolve() / f"images/{name}.png") for name in "abc"]
    assert frame[["height", "width"]].to_numpy().tolist() == [[40, 48]] * 3
    assert frame["spacing_row"].tolist() == frame["spacing_col"].tolist() == [0.1, 0.1, 0.2]
    assert frame["lesion_share"].tolist() == [180 / 1920] * 3
    assert list(frame.columns) == [*COLUMNS, "t_stage", "age"]
    assert frame["age"].isna().tolist() == [False, True, False]
    assert manifest.warnings == ()
    assert manifest.training_warnings() == (f"{manifest.path}: {ALL_HAVE_LESIONS}",)
    assert manifest.near_duplicates_within == 0


def test_csv_with_byte_order_mark_quotes_and_empty_rows(folder: Path) -> None:
    text = f'\ufeff{HEADER},note\r\n{ROWS[0]},"a, b"\r\n\r\n  {ROWS[1]} ,plain\r\n,,,\r\n{ROWS[2]},NA\r\n'
    path = folder / "manifest.csv"
    path.write_bytes(text.encode())
    frame = read_manifest(path).frame
    assert frame["note"].fillna("-").tolist() == ["a, b", "plain", "-"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_patients_are_text(folder: Path, suffix: str) -> None:
    table = pd.DataFrame(
        {"image": [f"images/{n}.png" for n in "abc"], "mask": [f"masks/{n}.png" for n in "abc"]},
    ).assign(patient_id=["007", "7", "007"], site=["01", "02", "02"], grade=[3, 1, 2])
    path = folder / f"manifest.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    frame = read_manifest(path).frame
    assert frame["patient_id"].tolist() == ["007", "7", "007"]
    assert frame["site"].tolist() == ["01", "02", "02"]
    assert frame["grade"].dtype == np.int64


def test_parquet_numbers_as_patients(folder: Path) -> None:
    table = pd.DataFrame({"image": ["images/a.png", "images/c.png"], "mask": ["masks/a.png", "masks/c.png"]})
    table.assign(patient_id=[7.0, 12.0], fold=[0, 1]).to_parquet(folder / "manifest.parquet")
    frame = read_manifest(folder / "manifest.parquet").frame
    assert frame["patient_id"].tolist() == ["7", "12"]
    assert frame["fold"].tolist() == [0, 1]


def test_full_mask_and_black_image_are_legal_and_told(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks/a.png"), np.full(SHAPE, 255, np.uint8))
    cv2.imwrite(str(folder / "images/c.png"), np.zeros(SHAPE, np.uint8))
    path = write(folder)
    assert read_manifest(path).warnings == (
        f"{path}: row 4: image images/c.png has one gray value only",
        f"{path}: 1 of 3 masks cover the whole image, such as masks/a.png",
    )


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["x/1.png", "y/2.png"], ["1", "2"]),
        (["x/1.png", "y/1.png"], ["x/1", "y/1"]),
        (["x/1.png", "x/1.bmp"], ["x/1.png", "x/1.bmp"]),
    ],
)
def test_image_ids_differ(tmp_path: Path, names: list[str], ids: list[str]) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), disc())
    for seed, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), picture(seed))
    path = write(tmp_path, [f"{name},mask.png,P{name}" for name in names])
    assert read_manifest(path).frame["image_id"].tolist() == ids


def test_own_image_ids_and_folds(folder: Path) -> None:
    rows = [f"{row},{more}" for row, more in zip(ROWS, ["s-1,2", "s-2,2", "s-3,0"], strict=True)]
    frame = read_manifest(write(folder, rows, f"{HEADER},image_id,fold")).frame
    assert frame["image_id"].tolist() == ["s-1", "s-2", "s-3"]
    assert frame["fold"].tolist() == [2, 2, 0]
    assert list(frame.columns) == [*COLUMNS, "fold"]


def test_fingerprint_is_of_the_data_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = read_manifest(write(folder)).fingerprint
    assert read_manifest(write(folder, [f"{row},x" for row in ROWS[::-1]], f"{HEADER},note")).fingerprint == first
    moved = tmp_path_factory.mktemp("moved") / "set"
    folder.rename(moved)
    assert read_manifest(write(moved)).fingerprint == first
    other_patient = [*ROWS[:2], ROWS[2].replace("P2", "P3")]
    changed = {read_manifest(write(moved, other_patient)).fingerprint}
    changed.add(read_manifest(write(moved, [f"{row},0.1" for row in ROWS], f"{HEADER},spacing_mm")).fingerprint)
    cv2.imwrite(str(moved / "masks/c.png"), disc()[::-1])
    changed.add(read_manifest(write(moved)).fingerprint)
    assert first not in changed
    assert len(changed) == 3


def test_size_columns_repeat_the_sizes_or_are_refused(folder: Path) -> None:
    rows = [f"{row},40,48" for row in ROWS]
    assert list(read_manifest(write(folder, rows, f"{HEADER},height,width")).frame.columns) == COLUMNS
    (line,) = defects(write(folder, [f"{row},172" for row in ROWS], f"{HEADER},height"))
    assert line.startswith("column height is 172 in row 2, where the image has 40 pixels")


# ---- defects of the table ---------------------------------------------------------------------------


def test_no_such_manifest(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.csv", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(UserError, match=reason):
            read_manifest(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (f"{HEADER}\n".encode(), "has no rows"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is neither Parquet nor text in UTF-8 or UTF-16"),
        (b"PAR1broken", "is a damaged Parquet file"),
        (f'{HEADER}\na.png,"b.png,c\n'.encode(), "is not a CSV table"),
    ],
)
def test_no_table(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    (line,) = defects(path)
    assert reason in line


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("image,mask,Patient ID", "there is no column patient_id; rename Patient ID?"),
        ("image,masks,patient_id", "there is no column mask; rename masks?"),
        ("image,mask,zzz", "there is no column patient_id; there is image, mask, zzz"),
        ("image,mask,patient_id,age,age", "column age is there twice; keep one"),
        ("image,mask,patient_id,", "column 4 has no name; name it, or drop it"),
        (
            "image,mask,patient_id,dsc",
            "column dsc has a name that the results use; rename it, for example to clinical_dsc",
        ),
        (
            "image,mask,patient_id,spacing_row_mm",
            "there is spacing_row_mm but no spacing_col_mm; give both, or spacing_mm for square pixels",
        ),
        (
            "image,mask,patient_id,spacing_mm,spacing_col_mm",
            "there is spacing_mm and spacing_col_mm; keep spacing_mm, or the two for row and column",
        ),
    ],
)
def test_header(folder: Path, header: str, line: str) -> None:
    more = ",1" * (header.count(",") - 2)
    assert defects(write(folder, [row + more for row in ROWS], header)) == [line]


CELLS = [
    ("image", ["images/a.png", "", "images/c.png"], ["row 3: image is missing"]),
    ("patient_id", ["P1", "NA", "P2"], ["row 3: patient_id is missing"]),
    ("mask", ["masks/a.png", "masks/b.png", "masks/z.png"], ["row 4: mask masks/z.png is not there"]),
    ("image", ["images/a.png", "images", "images/c.png"], ["row 3: image images is not a file"]),
    ("image", ["images/a.png", "images\\b.png", "images/c.png"], ["write / between folders"]),
    (
        "image",
        ["images/a.png", "images/../images/b.png", "images/c.png"],
        ["row 3: image images/../images/b.png leaves"],
    ),
    ("image", ["images/a.png", "..\\b.png", "images/c.png"], ["row 3: image ..\\b.png leaves the manifest's folder"]),
    ("image", ["images/a.png", "/etc/passwd", "images/c.png"], ["row 3: image /etc/passwd is an absolute path"]),
    ("image", ["images/a.png", "C:\\b.png", "images/c.png"], ["row 3: image C:\\b.png is an absolute path"]),
    ("image", ["images/a.png", "x" * 5000, "images/c.png"], ["is not a path that can be opened"]),
    ("image", ["images/a.png", "images/./a.png", "images/c.png"], ["row 3: image images/./a.png is that of row 2"]),
    ("image_id", ["1", "1", "2"], ["row 3: image_id is that of row 2"]),
    ("image_id", ["1", "", "2"], ["row 3: image_id is missing"]),
    ("spacing_mm", ["0.1", "0", "0.1"], ["row 3: spacing_mm is '0'; it must be a positive number"]),
    ("spacing_mm", ["0.1", "inf", "-1"], ["row 3: spacing_mm is 'inf'", "row 4: spacing_mm is '-1'"]),
    ("spacing_mm", ["0.1", '"0,1"', "0.1"], ["row 3: spacing_mm is '0,1'"]),
    ("spacing_mm", ["0.1", "", "0.1"], ["row 3: spacing_mm is missing; give every row one, or drop the column"]),
    ("fold", ["0", "a", "1"], ["row 3: fold is 'a'; folds are whole numbers from 0"]),
    ("fold", ["0.5", "-1", "1"], ["row 2: fold is '0.5'", "row 3: fold is '-1'"]),
    ("fold", ["0", "1", "1"], ["row 3: patient P1 is in folds 0 (row 2) and 1 (row 3)"]),
]


@pytest.mark.parametrize(("column", "cells", "expected"), CELLS)
def test_cells(folder: Path, column: str, cells: list[str], expected: list[str]) -> None:
    names = HEADER.split(",")
    rows = [row.split(",") for row in ROWS]
    if column not in names:
        names.append(column)
        rows = [[*row, ""] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        row[names.index(column)] = cell
    found = defects(write(folder, [",".join(row) for row in rows], ",".join(names)))
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True)), found


def test_ragged_rows_keep_their_number(folder: Path) -> None:
    found = defects(write(folder, [ROWS[0], "", "images/b.png,masks/b.png", "images/z.png,masks/c.png,P2"]))
    assert found == [
        "row 4: has 2 cells, the header 3; a comma within a cell needs quotes",
        "row 5: image images/z.png is not there",
    ]


# ---- defects of the files ---------------------------------------------------------------------------


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def stack(path: Path) -> None:
    pages = [Image.fromarray(picture(seed)) for seed in (8, 9)]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])


def save(pixels: npt.NDArray[np.generic], suffix: str = ".png") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes()) and None


def transparent(path: Path) -> None:
    Image.fromarray(np.dstack([0 * disc()] * 3 + [disc()]), mode="RGBA").save(path)


FILES = [
    ("images/b.png", lambda path: cut(path, 0.5), "row 3: image images/b.png is damaged or cut short"),
    ("images/b.png", lambda path: cut(path, 0.995), "row 3: image images/b.png is damaged or cut short"),
    ("images/b.png", flip, "row 3: image images/b.png is damaged or cut short"),
    ("images/b.png", lambda path: path.write_bytes(b""), "row 3: image images/b.png is empty (0 bytes)"),
    (
        "images/b.png",
        lambda path: path.write_text("no picture"),
        "row 3: image images/b.png is not a PNG, JPEG, TIFF or BMP",
    ),
    ("images/b.png", stack, "row 3: image images/b.png holds 2 pages"),
    (
        "images/b.png",
        save(np.full(SHAPE, np.nan, np.float32), ".tiff"),
        "row 3: image images/b.png has gray values that are",
    ),
    (
        "images/b.png",
        save(picture(5, (40, 47))),
        "row 3: mask masks/b.png is 40 × 48 pixels (rows × columns), its image 40 × 47",
    ),
    ("images/b.png", save(picture(5, (48, 40))), "one of them is turned"),
    ("masks/b.png", lambda path: cut(path, 0.9), "row 3: mask masks/b.png is damaged or cut short"),
    (
        "masks/b.png",
        save(disc(lesion=200) + np.tri(*SHAPE, dtype=np.uint8)),
        "row 3: mask masks/b.png is not a mask: it has 4 gray values",
    ),
    ("masks/b.png", save(disc(lesion=1) + np.uint8(1)), "it has the values 1 and 2; the background must be 0"),
    ("masks/b.png", save(disc(), ".jpg"), "row 3: mask masks/b.png is a JPEG"),
    ("masks/b.png", transparent, "row 3: mask masks/b.png has its shape in the transparency channel"),
]


@pytest.mark.parametrize(("name", "spoil", "expected"), FILES)
def test_files(folder: Path, name: str, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(folder / name)
    (line,) = defects(write(folder))
    assert expected in line


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # what Pillow adds to its error
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp"])
def test_cut_short_in_every_format(folder: Path, suffix: str) -> None:
    save(picture(1), suffix)(folder / "images/b.png")
    cut(folder / "images/b.png", 0.9)
    (line,) = defects(write(folder))
    assert "row 3: image images/b.png is" in line
    assert "damaged" in line


def test_a_link_out_of_the_folder_is_refused_and_a_linked_folder_is_not(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    link = elsewhere / "set"
    link.symlink_to(folder, target_is_directory=True)
    assert len(read_manifest(write(link)).frame) == 3
    (folder / "images/b.png").replace(elsewhere / "b.png")
    (folder / "images/b.png").symlink_to(elsewhere / "b.png")
    (line,) = defects(write(folder))
    assert "row 3: image images/b.png is a link that leaves the manifest's folder" in line
    (folder / "images/b.png").unlink()
    os.mkfifo(folder / "images/b.png")  # reading it would wait for ever
    assert "row 3: image images/b.png is not a file" in defects(write(folder))[0]


def test_all_defects_at_once_in_the_order_of_the_rows(folder: Path) -> None:
    cut(folder / "images/a.png", 0.5)
    save(disc(), ".jpg")(folder / "masks/c.png")
    rows = [f"{ROWS[0]},0.1,0", f"{ROWS[1]},none,1", f"{ROWS[2]},0.1,x", "images/z.png,masks/z.png,P3,0.1,0"]
    found = defects(write(folder, rows, f"{HEADER},spacing_mm,fold"))
    assert [line.split(":")[0] for line in found] == ["row 2", "row 3", "row 3", "row 4", "row 4", "row 5", "row 5"]


# ---- warnings, and real data ------------------------------------------------------------------------


def test_what_masks_are_worth_to_train_on_is_told_in_the_study_s_words(folder: Path) -> None:
    for seed in range(6):
        cv2.imwrite(str(folder / f"images/{seed}.png"), picture(10 + seed))
    path = write(folder, [f"images/{seed}.png,masks/a.png,P{seed}" for seed in range(6)])
    assert read_manifest(path).training_warnings("nodule") == (
        f"{path}: {ALL_HAVE_LESIONS.replace('lesion', 'nodule')}",
        f"{path}: one fixed mask, which looks at no image, has a DSC of 1.00 on these masks, because the nodule lies "
        "much alike in them: judge a network by how far it is above that",
    )


def test_outlines_and_pictures_cut_out_around_the_lesion_are_told(folder: Path) -> None:
    outline, filling = np.zeros((2, *SHAPE), np.uint8)
    cv2.circle(outline, (24, 20), 12, 255, 1)
    cv2.ellipse(filling, (23, 19), (24, 20), 0, 0, 360, 255, -1)
    for name, mask in (("a", outline), ("b", filling), ("c", filling)):
        cv2.imwrite(str(folder / f"masks/{name}.png"), mask)
    path = write(folder)
    outlines, filled, _ = read_manifest(path).warnings
    assert outlines.startswith(f"{path}: in 1 of 3 masks a hole is larger than the rest of the mask, such as masks/a")
    assert filled.startswith(f"{path}: in 2 of 3 masks the lesion touches all four borders of the picture, such as")


def test_names_that_nearly_mean_something_are_told(folder: Path) -> None:
    rows = [f"{ROWS[0]},0", f"{ROWS[1].replace('P1', 'p1')},0", f"{ROWS[2]},1"]
    path = write(folder, rows, f"{HEADER},Fold")
    assert read_manifest(path).warnings == (
        f"{path}: column Fold is taken as clinical; write fold if it is that",
        f"{path}: patients P1 and p1 differ in case only; they are taken as 2 patients",
    )


def test_real_data(busbra: Path) -> None:
    manifest = read_manifest(busbra / "manifest.csv")
    assert len(manifest.frame) == 320
    assert manifest.frame["patient_id"].nunique() == 182
    assert manifest.warnings == ()
    assert manifest.training_warnings() == (f"{busbra / 'manifest.csv'}: {ALL_HAVE_LESIONS}",)
    assert manifest.near_duplicates_within == 0
    assert manifest.frame["birads"].dtype == np.int64
