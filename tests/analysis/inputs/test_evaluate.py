"""Mask files of any tool: pairs worked by hand, every way to store a mask, and everything that is refused."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from eus_ray.analysis.inputs.evaluate import Evaluation, evaluate
from eus_ray.analysis.inputs.score_table import read_score_table
from eus_ray.analysis.inputs.study_images import IDENTITY
from eus_ray.analysis.measures.image_metrics import METRICS
from eus_ray.cli import main
from eus_ray.errors import UserError
from eus_ray.store import Store

Masks = dict[str, np.ndarray | bytes]
Evaluate = Callable[..., Evaluation]

LEFT = np.zeros((6, 8), np.uint8)
LEFT[1:5, 1:5] = 1
RIGHT = np.roll(LEFT, 2, axis=1)
"""Half of LEFT: 8 pixels are common; each contour pixel is 0, 1 or 2 columns from the other contour."""
EMPTY = 0 * LEFT


def stored(values: np.ndarray, suffix: str) -> bytes:
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, values)
        return buffer.getvalue()
    return cv2.imencode(suffix, values)[1].tobytes()


def write(folder: Path, masks: Masks) -> None:
    folder.mkdir()
    for name, content in masks.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else stored(content, path.suffix))


@pytest.fixture
def measure(tmp_path: Path) -> Evaluate:
    """`measure(predictions, truths, manifest="", out="scores.csv", **options)` on files written for it."""

    def run(predictions: Masks, truths: Masks, manifest: str | Path = "", out: str = "scores.csv", **options: object):
        write(tmp_path / "tool", predictions)
        write(tmp_path / "truths", truths)
        if isinstance(manifest, Path):
            options["manifest"] = manifest
        elif manifest:
            options["manifest"] = tmp_path / "manifest.csv"
            options["manifest"].write_text(manifest)
        return evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / out, **options)

    return run


@pytest.fixture
def refused(measure: Evaluate, tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of what `measure` refuses, without the folder they were written in; nothing is written."""

    def run(*args: object, **options: object) -> list[str]:
        before = set(tmp_path.iterdir())
        with pytest.raises(UserError) as caught:
            measure(*args, **options)
        after = {path.name for path in set(tmp_path.iterdir()) - before}
        assert after <= {"tool", "truths", "manifest.csv"}
        return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]

    return run


# ---- what comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["scores.csv", "scores.parquet"])
def test_the_table_has_the_columns_of_a_study_and_analyze_reads_it(measure: Evaluate, tmp_path: Path, out: str) -> None:
    done = measure(
        {"a.png": RIGHT * 255, "b.tif": LEFT, "c.png": EMPTY},
        {"a.png": LEFT * 255, "b.png": LEFT * 255, "c.bmp": LEFT},
        out=out,
    )
    assert list(done.frame.columns) == [*IDENTITY, *METRICS, "diagonal", "unit", "grid"]
    first = done.frame.iloc[0]
    assert first[["model", "kind", "fold", "image_id", "patient_id"]].tolist() == ["tool", "fixed", 0, "a", "a"]
    assert first[["tp", "fp", "fn", "tn"]].tolist() == [8, 8, 8, 24]
    assert first["dsc"] == 0.5
    assert first["iou"] == pytest.approx(1 / 3)
    assert first["hd"] == 2
    assert first["diagonal"] == 10
    # Of the 12 contour pixels of LEFT, four are 2 columns from RIGHT's contour, four are 1, and four lie on it.
    assert first["mad"] == first["avd"] == first["assd"] == 1
    assert done.frame["dsc"].tolist() == [0.5, 1.0, 0.0]
    assert done.frame["missed"].tolist() == [False, False, True]
    assert done.frame["hd"].tolist() == [2, 0, math.inf]
    assert done.frame["auc"].isna().all()
    assert done.unit == "px"
    assert set(done.frame["unit"]) == {"px"}
    assert set(done.frame["grid"]) == {"6 x 8"}
    (note,) = done.notes
    assert "each image is a patient of its own" in note
    read = read_score_table(Store(tmp_path), out)
    pd.testing.assert_frame_equal(read[done.frame.columns], done.frame, check_dtype=False, check_exact=True)


def test_tables_of_masks_of_two_sizes_are_not_analysed_together(measure: Evaluate, tmp_path: Path) -> None:
    measure({"a.png": LEFT, "b.png": np.zeros((3, 4), np.uint8)}, {"a.png": RIGHT, "b.png": EMPTY[:3, :4]}, out="1.csv")
    for folder in ("tool", "truths"):
        (tmp_path / folder).rename(tmp_path / f"first_{folder}")
    large = np.ones((2, 2), np.uint8)
    measure({"a.png": np.kron(LEFT, large)}, {"a.png": np.kron(RIGHT, large)})
    first, second = (pd.read_csv(tmp_path / name) for name in ("1.csv", "scores.csv"))
    assert first["grid"].tolist() == ["6 x 8", "3 x 4"]  # sizes may differ between images
    second["model"] = "other"
    pd.concat([first, second]).to_csv(tmp_path / "both.csv", index=False)
    with pytest.raises(UserError) as caught:
        read_score_table(Store(tmp_path), "both.csv")
    (line,) = caught.value.lines
    assert "image a was measured on 6 x 8 (tool) and 12 x 16 (other)" in line


def test_a_manifest_gives_patients_folds_spacing_and_clinical_columns(measure: Evaluate) -> None:
    done = measure(
        {"x2.png": RIGHT, "x1.png": LEFT},
        {"x1.png": LEFT, "x2.png": LEFT},
        manifest="image,mask,patient_id,image_id,fold,spacing_row_mm,spacing_col_mm,t_stage,age,height,width\n"
        "i/7.png,m/x2.png,007,seven,1,0.5,0.25,T2,71,6,8\n"
        "i/8.png,m/x8.png,008,eight,0,0.5,0.25,T1,,,\n"
        "i/9.png,m/x1.png,NA1,nine,0,1,1,,64.5,6,8\n",
    )
    assert list(done.frame.columns) == [*IDENTITY, "t_stage", "age", *METRICS, "diagonal", "unit", "grid"]
    assert done.frame["image_id"].tolist() == ["seven", "nine"]  # the manifest's order
    assert done.frame["patient_id"].tolist() == ["007", "NA1"]
    assert done.frame["fold"].tolist() == [1, 0]
    assert done.frame["age"].tolist() == [71, 64.5]
    assert done.frame["t_stage"].isna().tolist() == [False, True]
    assert done.frame["hd"].tolist() == [0.5, 0]
    assert done.frame["diagonal"].tolist() == [math.hypot(3, 2), 10]
    assert done.unit == "mm"
    assert done.frame[["unit", "grid"]].to_numpy().tolist() == [["mm", "6 x 8"]] * 2
    assert [re.sub(".*/", "", note) for note in done.notes] == [
        "manifest.csv: 1 of its rows describe none of these masks",
        "truths: x2 equals x1, the mask of another patient, pixel by pixel; see that each image has its own",
    ]


def test_folders_within_folders_are_named_by_their_path_or_its_end(measure: Evaluate, tmp_path: Path) -> None:
    masks: Masks = {"p1/a.png": LEFT, "p2/a.png": RIGHT}
    done = measure(masks, masks, manifest="image,mask,patient_id\nU/p1/a.jpg,V/p2/a.png,B\nU/p2/a.jpg,V/p1/a.png,A\n")
    assert done.frame[["image_id", "patient_id"]].to_numpy().tolist() == [["p2/a", "B"], ["p1/a", "A"]]
    (tmp_path / "ids.parquet").write_bytes(
        pd.DataFrame({"image_id": ["p2/a", "p1/a"], "patient_id": [2.0, 1.0]}).to_parquet()
    )
    again = evaluate(
        tmp_path / "tool", tmp_path / "truths", tmp_path / "2.csv", manifest=tmp_path / "ids.parquet", model=" mine "
    )
    assert again.frame[["model", "patient_id"]].to_numpy().tolist() == [["mine", "2"], ["mine", "1"]]


def test_a_label_that_one_side_lacks_is_told(measure: Evaluate, tmp_path: Path) -> None:
    done = measure({"a.png": LEFT}, {"a.png": 2 * RIGHT}, label=2)
    assert done.frame["missed"].tolist() == [True]
    assert [note for note in done.notes if note.startswith(f"{tmp_path}/tool")] == [
        f"{tmp_path}/tool: no mask holds the label 2",
        f"{tmp_path}/tool: every prediction is empty",
    ]


def test_probabilities_give_the_auc(measure: Evaluate) -> None:
    """Truth holds the second and the last pixel: of 4 pairs of lesion and background 3 are in order."""
    truth = np.array([[0, 9, 0, 9]], np.uint8)
    done = measure({"a.png": np.array([[0, 127, 128, 255]], np.uint8)}, {"a.png": truth}, probability=True)
    assert done.frame[["tp", "fp", "fn", "tn"]].to_numpy().tolist() == [[1, 1, 1, 1]]
    assert done.frame["auc"].tolist() == [0.75]


@pytest.mark.parametrize(
    "p",
    [
        np.array([[0, 51, 204, 255]], np.uint8),
        np.array([[0, 13107, 52428, 65535]], np.uint16),
        np.array([[-1e-7, 0.2, 0.8, 1 + 1e-7]]),
        np.array([[0, 0.2, 0.8, 1]], np.float32),
    ],
)
def test_probabilities_of_any_kind_are_judged_alike(measure: Evaluate, p: np.ndarray) -> None:
    """P = 0, .2, .8, 1 and the second and last pixel are lesion: Brier (0 + .64 + .64 + 0) / 4, ECE (.8 + .8) / 4."""
    name = "a.npy" if p.dtype.kind == "f" else "a.png"
    row = measure({name: p}, {"a.png": np.array([[0, 255, 0, 255]], np.uint8)}, probability=True).frame.iloc[0]
    assert row["brier"] == pytest.approx(0.32, abs=1e-4)
    assert row["ece"] == pytest.approx(0.4, abs=1e-4)
    assert row["brier_box"] == row["brier"]  # the box has all four


def test_masks_have_no_calibration_and_two_pixels_of_tolerance(measure: Evaluate) -> None:
    truth, near, off = np.zeros((3, 1, 9), np.uint8)
    truth[0, 1] = near[0, 3] = off[0, 4] = 1
    predictions: Masks = {"a.png": truth, "b.png": near, "c.png": off}
    frame = measure(predictions, dict.fromkeys(predictions, truth)).frame
    assert frame[["brier", "ece", "brier_box", "ece_box"]].isna().all(axis=None)
    assert frame["nsd"].tolist() == [1, 1, 0]
    assert frame["hd_largest"].tolist() == [0, 2, 3]
    assert frame["missed"].tolist() == [False, True, True]


def test_masks_taken_for_probabilities_are_told(measure: Evaluate) -> None:
    done = measure({"a.png": LEFT}, {"a.png": LEFT}, probability=True)
    assert (
        "every prediction is empty; if they are masks of 0 and 1, do not read them as probability maps" in done.notes[0]
    )


def test_names_without_partner_may_be_skipped(measure: Evaluate, tmp_path: Path) -> None:
    done = measure(
        {"a.png": LEFT, "b.png": LEFT, ".c.png": LEFT, "plans.json": b"{}"},
        {"a.png": LEFT, "c.png": LEFT, "d.png": LEFT},
        unpaired="skip",
    )
    assert done.frame["image_id"].tolist() == ["a"]
    notes = [note.replace(f"{tmp_path}/", "") for note in done.notes[:2]]
    assert notes[0] == "left out: 1 predictions without truth, such as tool/b.png"
    assert notes[1].startswith("left out: 2 truths without prediction, such as truths/c.png; if they are lesions")


@pytest.mark.slow
def test_processes_and_one_process_say_the_same(measure: Evaluate, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [{f"{index:03}.png": (rng.random((9, 7)) < 0.2).astype(np.uint8) for index in range(150)} for _ in range(2)]
    seen: list[tuple[int, int]] = []
    one = measure(*masks, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 150), (128, 150), (150, 150)]
    two = evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / "2.csv", processes=2)
    assert (tmp_path / "2.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()
    pd.testing.assert_frame_equal(one.frame, two.frame, check_exact=True)


def test_real_masks_moved_by_a_pixel(busbra: Path, tmp_path: Path) -> None:
    """Masks of BUS-BRA against themselves moved by one column."""
    (tmp_path / "moved").mkdir()
    for path in sorted((busbra / "masks").glob("*.png"))[:40]:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / "moved" / path.name), np.roll(mask, 1, axis=1))
    done = evaluate(
        tmp_path / "moved", busbra / "masks", tmp_path / "s.parquet", manifest=busbra / "manifest.csv", unpaired="skip"
    )
    assert set(done.frame["model"]) == {"moved"}
    assert len(done.frame) == 40
    assert done.frame["hd"].median() == 1.0
    assert done.frame["dsc"].between(0.8, 1).all()
    assert {"pathology", "birads"} < set(done.frame.columns)
    assert done.frame["patient_id"].str.startswith("P").all()


# ---- what is told of odd masks, names and manifests ---------------------------------------------


def notes_of(evaluation: Evaluation, folder: Path) -> list[str]:
    """The notes without the folder of the files, and without that on patients."""
    notes = [note.replace(f"{folder}/", "") for note in evaluation.notes]
    return [note for note in notes if "each image is a patient of its own" not in note]


def white_is_zero(mask: np.ndarray) -> bytes:
    """A mask of 0 and 1 as a TIFF of 8 bits that says that 0 is white."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, mask * np.uint8(255), photometric="miniswhite")
    return buffer.getvalue()


def test_a_file_that_says_white_is_zero_is_taken_as_stored_and_told(measure: Evaluate, tmp_path: Path) -> None:
    names = ("a", "b")
    done = measure({f"{name}.tif": white_is_zero(RIGHT) for name in names}, {f"{name}.png": LEFT for name in names})
    assert done.frame["dsc"].tolist() == [0.5, 0.5]
    assert notes_of(done, tmp_path) == [
        "2 files with a note that 0 is white: the values were taken as stored, 0 as black; such as tool/a.tif"
    ]


def test_names_pair_whatever_their_encoding(measure: Evaluate, tmp_path: Path) -> None:
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    done = measure(
        {f"{composed}.png": RIGHT}, {f"{decomposed}.png": LEFT}, manifest=f"mask,patient_id\nm/{decomposed}.png,P1\n"
    )
    assert done.frame[["image_id", "patient_id", "dsc"]].to_numpy().tolist() == [[composed, "P1", 0.5]]
    assert notes_of(done, tmp_path) == []


def test_names_that_look_alike_are_told(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    predictions: Masks = {"P01.png": RIGHT, "b.png": RIGHT, "B.png": RIGHT}
    truths: Masks = {"p1.png": LEFT, "b.png": LEFT, "B.png": LEFT}
    assert refused(predictions, truths) == [
        "tool/P01.png: has no truth of this name in truths; there is p1, which looks alike",
        "truths/p1.png: has no prediction of this name in tool; there is P01, which looks alike",
    ]
    done = evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / "s.csv", unpaired="skip")
    assert notes_of(done, tmp_path)[2:] == [
        "left out: 1 pairs whose names differ only in spelling, such as P01; there is p1, which looks alike",
        "images B and b differ in case only; they are taken as 2 images",
    ]


def test_one_name_twice_and_a_name_that_is_not_utf_8(refused: Callable[..., list[str]]) -> None:
    masks: Masks = {"M\u00fc.png": LEFT, "Mu\u0308.png": LEFT, "\udce9.png": LEFT, "a.png": LEFT}
    lines = refused(masks, {"M\u00fc.png": LEFT, "a.png": LEFT})
    assert lines == [
        "tool/M\u00fc.png: Mu\\u0308.png has the same name; keep one, or rename one",
        "tool/\\udce9.png: its name is not UTF-8; rename it",
    ]


def test_files_that_are_not_read_are_counted_by_kind(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    others: Masks = {"plans.json": b"{}", "b.dcm": b"", "c.DCM": b"", ".hidden.dcm": b""}
    told = "2 .dcm and 1 .json, such as b.dcm; 1 hidden file or folder, such as .hidden.dcm"
    assert refused(others, {"a.png": LEFT})[0].endswith(f"volumes slice by slice; there are {told}")
    (tmp_path / "tool" / "a.png").write_bytes(stored(RIGHT, ".png"))
    done = evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / "s.csv")
    assert notes_of(done, tmp_path) == [f"tool: passed over, since they are not read: {told}"]
    (tmp_path / "truths" / "more").symlink_to(tmp_path / "tool")
    done = evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / "t.csv")
    assert notes_of(done, tmp_path)[1:] == [
        "truths: passed over, since they are not read: 1 linked folder (links are not followed), such as more"
    ]


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (EMPTY, EMPTY, ["tool: every prediction is empty", "truths: all 2 truths are empty: no lesion is marked"]),
        (LEFT, LEFT, ["tool: all 2 predictions equal their truths pixel by pixel"]),
        (RIGHT, 1 - LEFT, ["truths: in 2 of 2 truths the lesion covers most of the image or all its corners"]),
        (1 + EMPTY, LEFT, ["tool: 2 of 2 predictions cover the whole image, such as a"]),
    ],
)
def test_masks_that_are_hardly_meant(
    measure: Evaluate, tmp_path: Path, prediction: np.ndarray, truth: np.ndarray, expected: list[str]
) -> None:
    done = measure(dict.fromkeys(("a.png", "b.png"), prediction), dict.fromkeys(("a.png", "b.png"), truth))
    notes = notes_of(done, tmp_path)
    assert [note[: len(start)] for note, start in zip(notes, expected, strict=True)] == expected


def test_what_is_odd_about_a_manifest_is_told(measure: Evaluate, tmp_path: Path) -> None:
    done = measure(
        {"a.png": RIGHT, "b.png": RIGHT},
        {"a.png": LEFT, "b.png": np.roll(LEFT, 1, axis=0)},
        manifest="Unnamed: 0,mask,patient_id,spacing_mm,t_stage,Fold\n0,a.png,P01,12000,T2,1\n1,b.png,p1,12000,t2,1\n",
    )
    assert list(done.frame.columns[5:7]) == ["t_stage", "Fold"]
    assert notes_of(done, tmp_path) == [
        "manifest.csv: column Fold is taken as clinical; write fold if it is that",
        "manifest.csv: patients P01 and p1 differ in case and leading zeros only; they are taken as 2 patients",
        "manifest.csv: column t_stage: categories T2 and t2 differ in case only; they are taken as 2 categories",
        "manifest.csv: 2 of 2 images have a spacing of 12000 mm a pixel or the like, and 0.0001 to 2 is usual: see "
        "that it is in mm",
    ]


def test_a_row_whose_name_looks_alike_is_named(refused: Callable[..., list[str]]) -> None:
    masks: Masks = {"a_1.png": LEFT}
    assert refused(masks, masks, manifest="mask,patient_id\nm/A-01.png,P1\n") == [
        "manifest.csv: a_1 is not described: no row has it as mask; there is A-01, which looks alike"
    ]


# ---- what is refused ----------------------------------------------------------------------------


def test_every_name_without_partner_is_a_line(refused: Callable[..., list[str]]) -> None:
    lines = refused(
        {"a.png": LEFT, "a.tif": LEFT, "b.png": LEFT, "x/c.png": LEFT}, {"a.png": LEFT, "c.png": LEFT, "d.npy": LEFT}
    )
    empty = "has no prediction of this name in tool; if no lesion was found, give an empty mask"
    assert lines == [
        "tool/a.tif: a.png has the same name; keep one, or rename one",
        "tool/b.png: has no truth of this name in truths",
        "tool/x/c.png: has no truth of this name in truths",
        f"truths/c.png: {empty}",
        f"truths/d.npy: {empty}",
    ]


@pytest.mark.parametrize("unpaired", ["stop", "skip"])
def test_no_pair_at_all(refused: Callable[..., list[str]], unpaired: str) -> None:
    lines = refused({"a_mask.png": LEFT}, {"a.png": LEFT}, unpaired=unpaired)
    assert lines[0] == "tool: no name is in truths too; a pair shares its name without suffix, as a.png and a.tif"
    assert len(lines) == (3 if unpaired == "stop" else 1)


def test_all_bad_files_are_named_at_once(refused: Callable[..., list[str]]) -> None:
    lines = refused(
        {"a.png": b"", "b.png": LEFT.T.copy(), "c.png": LEFT, "e.png": LEFT},
        {"a.png": b"", "b.png": LEFT, "c.png": LEFT + 1, "d.png": LEFT},
        manifest="image_id,patient_id\na,1\nb,1\n",
    )
    starts = ["tool/e.png: has no truth", "truths/d.png: has no prediction", "manifest.csv: c is not described"]
    starts += ["tool/a.png: is empty", "truths/a.png: is empty", "tool/b.png: is 8 × 6 pixels", "truths/c.png: is not"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


def test_a_folder_with_two_lesion_values(refused: Callable[..., list[str]]) -> None:
    masks: Masks = {"a.png": LEFT, "b.png": 255 * LEFT, "c.png": 2 * LEFT, "d.png": EMPTY}
    lines = refused(masks, dict.fromkeys(masks, LEFT))
    assert lines == ["tool: the lesion is 1 (2 masks, such as a) and 2 (1 masks, such as c); name the lesion's value"]


def test_lesion_values_that_differ_between_the_folders(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    lines = refused({"a.png": 2 * LEFT, "b.png": EMPTY}, {"a.png": 255 * LEFT, "b.png": LEFT})
    assert lines == ["the lesion is 2 in tool and 255 in truths; save both with one value if they mean the same"]
    cv2.imwrite(str(tmp_path / "tool" / "a.png"), np.dstack([0 * LEFT, 0 * LEFT, 200 * RIGHT]))  # red: no label
    done = evaluate(tmp_path / "tool", tmp_path / "truths", tmp_path / "s.csv")
    assert done.frame["dsc"].tolist() == [0.5, 0]


def test_a_label_that_nothing_has(refused: Callable[..., list[str]]) -> None:
    lines = refused({"a.png": LEFT}, {"a.png": LEFT}, label=5)
    assert lines == ["tool and truths: no mask holds the label 5; name the lesion's value"]


def test_places_are_checked_first_and_together(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    def lines(predictions: str, truths: str, out: str, **options: object) -> list[str]:
        with pytest.raises(UserError) as caught:
            evaluate(tmp_path / predictions, tmp_path / truths, tmp_path / out, **options)
        return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]

    assert lines("none", "file", "no/scores.txt", model=" ", label=0) == [
        "no/scores.txt: the table is CSV or Parquet; end its name in .csv or .parquet",
        "no: no such folder; make it first, or choose another output file",
        "the model has no name; give it one",
        "label 0 is the background; name the lesion's value",
        "none: no such folder; name the folder that holds the predictions",
        "file: is a file; name the folder that holds the truths",
    ]
    assert lines("empty", "empty", "file")[1:] == [
        "file: exists already; nothing is overwritten, choose another output file",
        "empty: holds predictions and truths at once; name two folders",
    ]
    (tmp_path / "other").mkdir()
    (line,) = lines("empty", "other", "s.csv")
    assert line == "empty: holds no masks; .png, .tif, .tiff, .bmp, .npy are read, volumes slice by slice"


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("image,patient_id\na.png,1\n", ["manifest.csv: b is not described: no row has it as image"]),
        (
            "mask,patient_id\nx/a.png,1\ny/a.png,1\nb.png,2\n",
            ["manifest.csv: a is not described: rows 2 and 3 have it as mask"],
        ),
        ("patient_id\n1\n", ["manifest.csv: there is no column image_id, mask or image, which would name the masks"]),
        ("image,patient\na.png,1\nb.png,2\n", ["manifest.csv: there is no column patient_id; rename patient?"]),
        (
            "mask,patient_id,spacing_mm,fold,dsc\na.png,,0,x,1\nb.png,1,1,1,1\n",
            [
                "manifest.csv: column dsc has a name that the results use; rename it, for example to clinical_dsc",
                "manifest.csv: row 2: patient_id is missing",
                "manifest.csv: row 2: fold is 'x'; folds are whole numbers from 0",
                "manifest.csv: row 2: spacing_mm is '0'; it must be a positive number of mm, such as 0.12",
            ],
        ),
        (
            "mask,patient_id,spacing_mm,height,width\na.png,1,0.1,12,16\nb.png,2,0.1,6,8\n",
            [
                "truths/a.png: is 6 × 8 pixels (rows × columns), but the manifest gives its spacing for 12 × 16; "
                "give masks of that size, or their own spacing"
            ],
        ),
    ],
)
def test_manifests_that_do_not_fit(refused: Callable[..., list[str]], manifest: str, expected: list[str]) -> None:
    masks: Masks = {"a.png": LEFT, "b.png": LEFT}
    assert refused(masks, masks, manifest=manifest) == expected


def test_one_row_cannot_describe_two_masks(refused: Callable[..., list[str]]) -> None:
    masks: Masks = {"p/a.png": LEFT, "q/a.png": LEFT}
    assert refused(masks, masks, manifest="image_id,patient_id\na,1\n") == [
        "manifest.csv: row 2: describes p/a and q/a; each pair needs a row of its own"
    ]


def test_a_manifest_that_is_not_there(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    masks: Masks = {"a.png": LEFT}
    assert refused(masks, masks, manifest=tmp_path / "m.csv") == ["m.csv: no such file"]


# ---- the command --------------------------------------------------------------------------------


def test_the_command_says_what_it_did_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "tool", {"a.png": RIGHT, "b.png": LEFT, "c.png": LEFT})
    write(tmp_path / "truths", {"a.png": LEFT, "b.png": LEFT})
    folders = [str(tmp_path / "tool"), str(tmp_path / "truths"), "--out", str(tmp_path / "scores.csv")]
    assert main(["evaluate", *folders]) == 2
    assert (
        capsys.readouterr().err == f"eus-ray: {tmp_path}/tool/c.png: has no truth of this name in {tmp_path}/truths\n"
    )
    assert not (tmp_path / "scores.csv").exists()
    assert main(["evaluate", *folders, "--unpaired", "skip", "--model", "nnU-Net", "--label", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 images, mean DSC 0.750; distances in px" in out
    assert "left out: 1 predictions" in out
    assert f"eus-ray analyze {tmp_path}/scores.csv" in out
    assert set(pd.read_csv(tmp_path / "scores.csv")["model"]) == {"nnU-Net"}
    assert main(["evaluate", *folders]) == 2
    assert "exists already; nothing is overwritten" in capsys.readouterr().err
