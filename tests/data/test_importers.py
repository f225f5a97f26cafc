"""Importers: tiny copies of each layout become data sets that the manifest's own check accepts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from eus_ray.data.importers import format_names, formats, import_dataset
from eus_ray.data.io.images import read_mask
from eus_ray.data.manifest import read_manifest
from eus_ray.errors import UserError

SHAPE = (40, 50)


def save(path: Path, pixels: npt.NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def picture(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)


def lesion(row: int = 5, value: int = 255) -> npt.NDArray[np.uint8]:
    mask = np.zeros(SHAPE, np.uint8)
    mask[row : row + 10, 10:30] = value
    return mask


def table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    source = tmp_path / "pairs"
    for i, (image, mask) in enumerate([("a.png", "a.png"), ("b.bmp", "b_mask.png"), ("c.tif", "c.bmp")]):
        save(source / "images" / image, picture(i))
        save(source / "masks" / mask, lesion(value=1 + i))
    return source


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    source = tmp_path / "Dataset001_Lesion"
    for i in range(2):
        save(source / f"imagesTr/case_{i}_0000.png", picture(i))
        save(source / f"imagesTr/case_{i}_0001.png", picture(9 + i))
        save(source / f"labelsTr/case_{i}.png", lesion(5, 1) + lesion(20, 2))
    save(source / "imagesTs/case_9_0000.png", picture(5))
    about = {"channel_names": {"0": "B-mode"}, "labels": {"background": 0, "mass": 1, "cyst": 2}, "file_ending": ".png"}
    (source / "dataset.json").write_text(json.dumps(about))
    return source


@pytest.fixture
def busbra_source(tmp_path: Path) -> Path:
    source = tmp_path / "BUSBRA"
    rows = [["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"]]
    folds = [["ID", "Pathology", "kFold", "valid_1"]]
    for i, (id_, case) in enumerate([("bus_0001-l", "1"), ("bus_0001-r", "1"), ("bus_0012-s", "12")]):
        save(source / f"Images/{id_}.png", picture(i))
        save(source / f"Masks/mask_{id_[4:]}.png", lesion())
        rows.append([id_, case, "cyst", "benign", "2", "GE Logiq 7 @10-14MHz", "50", "40", "left", "[1,2,3,4]"])
        folds.append([id_, "benign", str(i + 1), "NaN"])
    save(source / "Images/bus_0099-s.png", picture(8))
    table(source / "bus_data.csv", rows)
    table(source / "5-fold-cv.csv", folds)
    return source


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    source = tmp_path / "BUSI"
    root = source / "Dataset_BUSI_with_GT"
    for i, kind in enumerate(["benign", "malignant", "normal"]):
        save(root / kind / f"{kind} (1).png", picture(i))
        save(root / kind / f"{kind} (1)_mask.png", lesion() if kind != "normal" else 0 * lesion())
    save(root / "benign/benign (1)_mask_1.png", lesion(25))
    return source


def lines_of(format: str, source: Path, target: Path) -> list[str]:
    """The lines of the refusal; that it leaves nothing behind is checked here, each time."""
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(UserError) as refused:
        import_dataset(format, source, target)
    assert sorted(target.parent.rglob("*")) == before
    return [line.replace(f"{source}/", "") for line in refused.value.lines]


# ---- formats ----------------------------------------------------------------------------------------


def test_pairs(pairs: Path, tmp_path: Path) -> None:
    imported = import_dataset("pairs", pairs, tmp_path / "new" / "set")
    frame = read_manifest(imported.manifest).frame
    assert imported.manifest == tmp_path / "new" / "set" / "manifest.csv"
    assert frame["image_id"].tolist() == frame["patient_id"].tolist() == ["a", "b", "c"]
    for row, original in zip(frame.itertuples(), ["a.png", "b.bmp", "c.tif"], strict=True):
        assert Path(row.image).read_bytes() == (pairs / "images" / original).read_bytes()
        assert cv2.imread(row.mask, cv2.IMREAD_UNCHANGED).tolist() == lesion().tolist()
    assert len(imported.notes) == 1
    assert "each image is a patient of its own" in imported.notes[0]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set"]


def test_pairs_with_patients(pairs: Path, tmp_path: Path) -> None:
    rows = [["b", "007", "T2"], ["a.png", "007", "T1"], ["c", "8", "T1"], ["z", "9", "T1"]]
    table(pairs / "patients.csv", [["image", "patient_id", "t_stage"], *rows])
    imported = import_dataset("pairs", pairs, tmp_path / "set")
    frame = read_manifest(imported.manifest).frame
    assert frame["patient_id"].tolist() == ["007", "007", "8"]
    assert frame["t_stage"].tolist() == ["T1", "T2", "T1"]
    assert [note.split(": ")[1] for note in imported.notes] == ["1 rows name no image, such as z"]


def test_nnunet(nnunet: Path, tmp_path: Path) -> None:
    imported = import_dataset("nnunet", nnunet, tmp_path / "set")
    frame = read_manifest(imported.manifest).frame
    assert frame["image_id"].tolist() == frame["patient_id"].tolist() == ["case_0", "case_1"]
    assert (read_mask(frame["mask"][0]) == (lesion(5, 1) + lesion(20, 1))).all()
    assert Path(frame["image"][1]).read_bytes() == (nnunet / "imagesTr/case_1_0000.png").read_bytes()
    assert [note.split(" ")[0] for note in imported.notes] == ["the", "of", "imagesTs", "the", "passed"]
    table(nnunet / "patients.csv", [["image", "patient_id"], ["case_0", "P"], ["case_1_0000.png", "P"]])
    again = import_dataset("nnunet", nnunet, tmp_path / "again")
    assert read_manifest(again.manifest).frame["patient_id"].tolist() == ["P", "P"]


def test_linked_folders_and_hidden_files_are_told_if_nothing_lies_in_them(pairs: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/images/d.png", picture(4))
    save(tmp_path / "elsewhere/masks/d.png", lesion())
    save(pairs / "images/.e.png", picture(5))
    (pairs / "images/.DS_Store").touch()
    for folder in ("images", "masks"):
        (pairs / folder / "more").symlink_to(tmp_path / "elsewhere" / folder)
    imported = import_dataset("pairs", pairs, tmp_path / "set")
    assert imported.num_images == 3
    (told,) = [note.partition(": ")[2] for note in imported.notes if note.startswith("passed over")]
    assert told == (
        "2 linked folders (links are not followed), such as images/more; 1 hidden file or folder, such as images/.e.png"
    )
    (pairs / "images").rename(tmp_path / "images")
    (pairs / "images").symlink_to(tmp_path / "images")
    again = import_dataset("pairs", pairs, tmp_path / "again")
    assert (again.num_images, again.notes) == (3, imported.notes), "the folder of images may be a link itself"


def test_busbra(busbra_source: Path, tmp_path: Path) -> None:
    imported = import_dataset("busbra", busbra_source, tmp_path / "set")
    frame = read_manifest(imported.manifest).frame
    assert frame["image_id"].tolist() == ["bus_0001-l", "bus_0001-r", "bus_0012-s"]
    assert frame["patient_id"].tolist() == ["P0001", "P0001", "P0012"]
    clinical = ["pathology", "birads", "histology", "device", "side", "source_kfold5"]
    assert list(frame.columns)[-len(clinical) - 1 :] == ["lesion_share", *clinical]
    assert frame["source_kfold5"].tolist() == [1, 2, 3]
    assert imported.notes[0] == "1 images have no row in bus_data.csv and were left out"
    assert imported.notes[1].startswith("passed over, ")
    assert "1 .png, such as" in imported.notes[1]


def test_busi(busi: Path, tmp_path: Path) -> None:
    imported = import_dataset("busi", busi, tmp_path / "set")
    frame = read_manifest(imported.manifest).frame
    assert frame["image_id"].tolist() == ["benign (1)", "malignant (1)", "normal (1)"]
    assert frame["pathology"].tolist() == ["benign", "malignant", "normal"]
    assert (read_mask(frame["mask"][0]) == (lesion(5, 1) + lesion(25, 1))).all()
    assert frame["lesion_share"].tolist() == [0.2, 0.1, 0.0]
    assert "1 images have several masks, which became one" in imported.notes
    assert import_dataset("busi", busi / "Dataset_BUSI_with_GT", tmp_path / "again").manifest.exists()


def test_a_new_format_is_one_new_file(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "one_image.py").write_text(
        "from eus_ray.data.importers import importer\n"
        "from eus_ray.data.importers.cases import Case\n"
        "@importer\n"
        "def read_one_image(source):\n"
        "    return [Case(source / 'images/a.png', (source / 'masks/a.png',))], []\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "more")])
    assert format_names() == ["busbra", "busi", "nnunet", "one_image", "pairs"]
    imported = import_dataset("one_image", pairs, tmp_path / "set")
    assert read_manifest(imported.manifest).frame["image_id"].tolist() == ["a"]


def test_real_layout(busbra: Path, tmp_path: Path) -> None:
    """The real images and masks as folder pairs: the same pixels and lesions as in their own manifest."""
    source = tmp_path / "source"
    own = read_manifest(busbra / "manifest.csv").frame.head(12)
    for kind in ("image", "mask"):
        (source / f"{kind}s").mkdir(parents=True)
        for path in own[kind]:
            (source / f"{kind}s" / Path(path).name).symlink_to(path)
    table(source / "patients.csv", [["image", "patient_id"], *own[["image_id", "patient_id"]].values.tolist()])
    frame = read_manifest(import_dataset("pairs", source, tmp_path / "set").manifest).frame
    same = ["image_id", "patient_id", "height", "width", "lesion_share"]
    assert frame[same].equals(own[same])


# ---- refused ----------------------------------------------------------------------------------------


def test_format_source_and_target(pairs: Path, tmp_path: Path) -> None:
    assert lines_of("nnu-net", pairs, tmp_path / "set") == ["nnu-net: no such format; did you mean nnunet?"]
    assert "is not a folder" in lines_of("pairs", tmp_path / "none", tmp_path / "set")[0]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    assert "is not empty" in lines_of("pairs", pairs, tmp_path / "full")[0]
    (tmp_path / "empty").mkdir()
    assert import_dataset("pairs", pairs, tmp_path / "empty").manifest.exists()


def test_all_defects_of_pairs_at_once(pairs: Path, tmp_path: Path) -> None:
    save(pairs / "images/d.png", picture(4))
    save(pairs / "masks/e.png", lesion())
    save(pairs / "masks/a_mask.png", lesion())
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "images/a.png: has a.png and a_mask.png in masks; one is needed, a.png or a_mask.png",
        "images/d.png: has no mask in masks; one is needed, d.png or d_mask.png",
        "masks/e.png: has no image",
    ]
    save(pairs / "images/a.bmp", picture(4))
    assert lines_of("pairs", pairs, tmp_path / "set") == ["images/a.png: there is a.bmp too; keep one, or rename one"]


def test_all_unreadable_files_at_once(pairs: Path, tmp_path: Path) -> None:
    image = pairs / "images/a.png"
    image.write_bytes(image.read_bytes()[:300])
    save(pairs / "masks/b_mask.png", picture(0))
    save(pairs / "masks/c.bmp", lesion()[:30])
    found = lines_of("pairs", pairs, tmp_path / "set")
    assert len(found) == 3
    assert found[0].startswith("images/a.png: is damaged or cut short")
    assert found[1].startswith("masks/b_mask.png: is not a mask")
    assert found[2] == "masks/c.bmp: is 30 × 50 pixels, c.tif 40 × 50"


def test_defects_of_patients(pairs: Path, tmp_path: Path) -> None:
    table(pairs / "patients.csv", [["image", "patient_id"], ["a", "P"], ["a.png", "Q"], ["b", ""]])
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "patients.csv: row 3: image a is there already",
        "patients.csv: row 4: patient_id is missing",
        "patients.csv: has no row for c.tif",
    ]
    table(pairs / "patients.csv", [["file", "patient_id"], ["a", "P"]])
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "patients.csv: there is no column image; there is file, patient_id"
    ]


def test_volumes_and_ignore_labels_of_nnunet(nnunet: Path, tmp_path: Path) -> None:
    about = json.loads((nnunet / "dataset.json").read_text())
    (nnunet / "dataset.json").write_text(json.dumps({**about, "file_ending": ".nii.gz"}))
    (line,) = lines_of("nnunet", nnunet, tmp_path / "set")
    assert "file_ending is .nii.gz; only 2-D images" in line
    (nnunet / "dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "mass": 1, "ignore": 2}}))
    assert "has an ignore label" in lines_of("nnunet", nnunet, tmp_path / "set")[0]
    (nnunet / "dataset.json").unlink()
    assert "nnU-Net's raw data sets have it" in lines_of("nnunet", nnunet, tmp_path / "set")[0]


def test_unpaired_files_of_nnunet(nnunet: Path, tmp_path: Path) -> None:
    (nnunet / "labelsTr/case_0.png").rename(nnunet / "labelsTr/case_7.png")
    save(nnunet / "imagesTr/stray.png", picture(0))
    assert lines_of("nnunet", nnunet, tmp_path / "set") == [
        "imagesTr/case_0_0000.png: has no case_0.png in labelsTr",
        "imagesTr/stray.png: is not named CASE_0000.png",
        "labelsTr/case_7.png: has no case_7_0000.png in imagesTr",
    ]


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "bus_0001-l/../bus_0001-l", "bus_7777-s"])
def test_names_in_tables_do_not_leave_the_source(busbra_source: Path, tmp_path: Path, name: str) -> None:
    save(tmp_path / "secret.png", picture(0))
    with (busbra_source / "bus_data.csv").open("a", newline="") as file:
        csv.writer(file).writerow([name, "3", "", "", "", "", "", "", "", ""])
    (line,) = lines_of("busbra", busbra_source, tmp_path / "set")
    assert line.startswith(f"bus_data.csv: row 5: {name} has no image and no mask")


def test_busi_masks_and_images_belong_together(busi: Path, tmp_path: Path) -> None:
    root = busi / "Dataset_BUSI_with_GT"
    (root / "normal/normal (1)_mask.png").unlink()
    save(root / "malignant/malignant (2)_mask.png", lesion())
    found = [line.replace("Dataset_BUSI_with_GT/", "") for line in lines_of("busi", busi, tmp_path / "set")]
    assert found == [
        "malignant/malignant (2)_mask.png: has no image",
        "normal/normal (1).png: has no normal (1)_mask.png",
    ]


def test_a_name_that_is_not_utf_8_is_one_line(pairs: Path, tmp_path: Path) -> None:
    (pairs / "images/a.png").rename(pairs / "images/M\udcfcller.png")
    with pytest.raises(UserError, match=r"M\\udcfcller.png: its name is not UTF-8; rename it"):
        import_dataset("pairs", pairs, tmp_path / "set")


def test_a_folder_that_is_not_utf_8_or_has_a_line_break_is_one_line(pairs: Path, tmp_path: Path) -> None:
    save(pairs / "images/p\n1/a.png", picture(4))
    (pairs / "images/p\udce9").mkdir()
    (pairs / "images/a.png").rename(pairs / "images/p\udce9/a.png")
    (pairs / "images/b.bmp").rename(pairs / "images/b .bmp")
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "images/b .bmp: its name ends with a blank; rename it",
        "images/p\\n1/a.png: its folder's name has a line break; rename it",
        "images/p\\udce9/a.png: its folder's name is not UTF-8; rename it",
    ]


def test_names_that_differ_in_invisible_characters_only(pairs: Path, tmp_path: Path) -> None:
    man, woman = "\U0001f468", "\U0001f469"
    for name in (f"{man}{woman}", f"{man}\u200d{woman}"):
        save(pairs / f"images/{name}.png", picture(4))
    (line,) = lines_of("pairs", pairs, tmp_path / "set")
    assert line.startswith(f"images/{man}")
    assert "the same name but for invisible characters, too; keep one, or rename one" in line
    assert "\\u200d" in line


@pytest.mark.parametrize("name", ["NA", "nan"])
def test_a_name_that_a_table_reads_as_no_value_is_no_patient(pairs: Path, tmp_path: Path, name: str) -> None:
    (pairs / "images/a.png").rename(pairs / f"images/{name}.png")
    (pairs / "masks/a.png").rename(pairs / f"masks/{name}.png")
    (line,) = lines_of("pairs", pairs, tmp_path / "set")
    assert line.startswith(f"images/{name}.png: its name would be its patient's, and a table reads that as no value")
    table(pairs / "patients.csv", [["image", "patient_id"], [name, "P1"], ["b", "P2"], ["c", "P2"]])
    frame = read_manifest(import_dataset("pairs", pairs, tmp_path / "set").manifest).frame
    assert sorted(frame["patient_id"]) == ["P1", "P2", "P2"]
    assert sorted(frame["image_id"]) == sorted([name, "b", "c"])


def test_an_id_that_a_table_reads_as_no_value(nnunet: Path, tmp_path: Path) -> None:
    for file in sorted(nnunet.glob("*Tr/case_1*")):
        file.rename(file.with_name(file.name.replace("case_1", "NA")))
    table(nnunet / "patients.csv", [["image", "patient_id"], ["case_0", "P1"], ["NA", "P2"]])
    said = "a table reads its image_id as no value; give it another name"
    assert lines_of("nnunet", nnunet, tmp_path / "set") == [f"imagesTr/NA_0000.png: {said}"]


def test_a_case_of_nnunet_without_its_first_channel(nnunet: Path, tmp_path: Path) -> None:
    save(nnunet / "imagesTr/case_7_0001.png", picture(7))
    (line,) = lines_of("nnunet", nnunet, tmp_path / "set")
    assert line.startswith("imagesTr/case_7_0001.png: has no case_7_0000.png, the first channel")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"lesion": 0}, "label lesion is 0, which is read as the background"),
        ({"background": 0, "lesion": []}, "label lesion has no value"),
        ({"background": 0, "lesion": [0, 1]}, "label lesion is 0, which"),
        ({"Background": 1, "lesion": 2}, "the background is 1, and only 0 is read as such"),
        ({"background": 0, "lesion": 1, "Ignore": 2}, "has an ignore label"),
        ({"background": 0, "lesion": "1" * 5000}, "label lesion is '111"),
    ],
)
def test_labels_that_nnunet_cannot_mean(nnunet: Path, tmp_path: Path, labels: dict[str, object], said: str) -> None:
    about = json.loads((nnunet / "dataset.json").read_text())
    (nnunet / "dataset.json").write_text(json.dumps({**about, "labels": labels}))
    (line,) = lines_of("nnunet", nnunet, tmp_path / "set")
    assert line.startswith("dataset.json: ")
    assert said in line


def test_json_that_is_no_text_or_too_deep(nnunet: Path, tmp_path: Path) -> None:
    (nnunet / "dataset.json").write_bytes(b'{"name": "M\xfcller"}')
    said = "dataset.json: is not text in UTF-8 or UTF-16; save it as UTF-8"
    assert lines_of("nnunet", nnunet, tmp_path / "set") == [said]
    (nnunet / "dataset.json").write_text("[" * 100_000)
    assert lines_of("nnunet", nnunet, tmp_path / "set") == [
        "dataset.json: is not JSON that can be read: its brackets are nested too deep"
    ]


def test_an_id_of_busbra_that_is_there_twice(busbra_source: Path, tmp_path: Path) -> None:
    table(busbra_source / "5-fold-cv.csv", [["ID", "kFold"], ["bus_0001-l", "1"], ["bus_0001-l", "2"]])
    with (busbra_source / "bus_data.csv").open("a", newline="") as file:
        csv.writer(file).writerow(["bus_0012-s", "3", "", "", "", "", "", "", "", ""])
    assert lines_of("busbra", busbra_source, tmp_path / "set") == [
        "bus_data.csv: row 5: bus_0012-s is there already, in row 4; keep one row",
        "5-fold-cv.csv: row 3: bus_0001-l is there already, in row 2; keep one row",
    ]


def test_labels_of_a_palette_file_are_its_indices(nnunet: Path, tmp_path: Path) -> None:
    for i in range(2):
        labels = Image.fromarray(lesion(5, 1), "P")
        labels.putpalette([255, 255, 255, 0, 0, 1])
        labels.save(nnunet / f"labelsTr/case_{i}.png")
    manifest = read_manifest(import_dataset("nnunet", nnunet, tmp_path / "set").manifest)
    assert manifest.frame["lesion_share"].tolist() == [200 / 2000] * 2


# ---- odd, and read ----------------------------------------------------------------------------------


def test_labels_by_value_as_in_old_sets(nnunet: Path, tmp_path: Path) -> None:
    about = json.loads((nnunet / "dataset.json").read_text())
    old = {**about, "labels": {"0": "background", "1": "mass", "2": "cyst"}, "numTraining": "2", "file_ending": ".PNG"}
    (nnunet / "dataset.json").write_text(f"\ufeff{json.dumps(old)}", encoding="utf-8")
    imported = import_dataset("nnunet", nnunet, tmp_path / "set")
    assert read_manifest(imported.manifest).frame["lesion_share"].tolist() == [400 / 2000] * 2
    assert "the labels mass, cyst became one lesion" in imported.notes
    assert not [note for note in imported.notes if "announces" in note]


def test_each_passed_over_file_has_its_own_reason(busi: Path, tmp_path: Path) -> None:
    (busi / "a.dcm").touch()
    save(busi / "b.png", picture(0))
    told = [note for note in import_dataset("busi", busi, tmp_path / "set").notes if note.startswith("passed over")]
    assert told == [
        "passed over, since the format does not name them: 1 .png, such as b.png",
        "passed over, since they are not read: 1 .dcm, such as a.dcm",
    ]


def test_names_that_look_alike_are_told(pairs: Path, tmp_path: Path) -> None:
    (pairs / "masks/a.png").rename(pairs / "masks/A.png")
    rows = [["images/a.png", "P1", "T1"], ["b", "p1", "t1"], ["C", "P2", "T2"]]
    table(pairs / "patients.csv", [["image", "patient_id", "t_stage"], *rows])
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "images/a.png: has no mask in masks; one is needed, a.png or a_mask.png; there is A, which looks alike",
        "masks/A.png: has no image",
    ]
    (pairs / "masks/A.png").rename(pairs / "masks/a.png")
    assert lines_of("pairs", pairs, tmp_path / "set") == [
        "patients.csv: has no row for c.tif; there is C, which looks alike"
    ]
    table(pairs / "patients.csv", [["image", "patient_id", "t_stage"], *rows[:2], ["c", *rows[2][1:]]])
    assert import_dataset("pairs", pairs, tmp_path / "set").notes == (
        "patients P1 and p1 differ in case only; they are taken as 2 patients",
        "column t_stage: categories T1 and t1 differ in case only; they are taken as 2 categories",
    )


def test_published_folds_of_other_images_are_told(busbra_source: Path, tmp_path: Path) -> None:
    table(busbra_source / "5-fold-cv.csv", [["id", "kfold"], ["bus_0001-l", "2"], ["x", "1"]])
    imported = import_dataset("busbra", busbra_source, tmp_path / "set")
    assert read_manifest(imported.manifest).frame["source_kfold5"].fillna(-1).tolist() == [2, -1, -1]
    assert "2 images have no fold in 5-fold-cv.csv" in imported.notes
    assert f"{busbra_source}/5-fold-cv.csv: 1 rows name no ID of bus_data.csv, such as x" in imported.notes


def test_cases_of_busbra_in_several_spellings_are_one_patient_and_told(busbra_source: Path, tmp_path: Path) -> None:
    rows = [["ID", "Case"], ["bus_0001-l", "1"], ["bus_0001-r", "P0001"], ["bus_0012-s", "2.0"]]
    table(busbra_source / "bus_data.csv", rows)
    imported = import_dataset("busbra", busbra_source, tmp_path / "set")
    assert read_manifest(imported.manifest).frame["patient_id"].tolist() == ["P0001", "P0001", "P0002"]
    told = [note for note in imported.notes if "one patient" in note]
    assert told == [f"{busbra_source}/bus_data.csv: Case 1 and P0001 are taken as one patient, P0001"]


def test_a_case_of_many_digits(busbra_source: Path, tmp_path: Path) -> None:
    rows = [["ID", "Case"], ["bus_0001-l", "7" * 5000], ["bus_0001-r", "0"], ["bus_0012-s", "12345"]]
    table(busbra_source / "bus_data.csv", rows)
    frame = read_manifest(import_dataset("busbra", busbra_source, tmp_path / "set").manifest).frame
    assert frame["patient_id"].tolist() == [f"P{'7' * 5000}", "P0000", "P12345"]


def test_a_table_of_patients_that_busbra_does_not_need_is_told(busbra_source: Path, tmp_path: Path) -> None:
    table(busbra_source / "patients.csv", [["image", "patient_id"], ["bus_0001-l", "9"]])
    notes = import_dataset("busbra", busbra_source, tmp_path / "set").notes
    assert [note for note in notes if note.startswith(f"{busbra_source}/patients.csv is not used")]


def test_json_in_utf_16_and_labels_in_capitals(nnunet: Path, tmp_path: Path) -> None:
    about = json.loads((nnunet / "dataset.json").read_text())
    odd = {**about, "labels": {"Background": 0, "mass": [1, 2]}, "numTraining": 2.0}
    (nnunet / "dataset.json").write_text(json.dumps(odd), encoding="utf-16")
    imported = import_dataset("nnunet", nnunet, tmp_path / "set")
    assert read_manifest(imported.manifest).frame["lesion_share"].tolist() == [400 / 2000] * 2
    assert not [note for note in imported.notes if "announces" in note or "became" in note]
