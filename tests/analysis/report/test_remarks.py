"""What is odd about the data, as the report and the terminal tell it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.figures import fonts
from eus_ray.cli import main
from eus_ray.store import Store
from tests.analysis.conftest import PROVENANCE, example_manifest, example_probabilities, example_truths

MakeStudy = Callable[..., Store]
COUNTS = {"tp": 10, "fp": 2, "fn": 2, "tn": 86}
SEEN = "patients A and a differ in case only; they are taken as 2 patients"

pytestmark = pytest.mark.usefixtures("undrawn")


def told(source: str | Path, out: Path) -> tuple[list[str], str]:
    """Analyze, and return the warnings and the page."""
    lines: list[str] = []
    return lines, Path(analyze(source, out, warn=lines.append)).read_text()


def two_spellings() -> pd.DataFrame:
    return example_manifest().assign(patient_id=lambda frame: frame["patient_id"].replace("B", "a"))


def scores(tmp_path: Path, **columns: object) -> Path:
    """Write a table of 4 images of 2 patients by one model, whose columns are numbers or one a row."""
    frame = pd.DataFrame({"model": "a", "image_id": list("wxyz"), "patient_id": list("ppqq"), "dsc": 0.8, **COUNTS})
    frame.assign(**columns).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path / "scores.csv"


def test_a_study_that_is_older_than_warnings_is_judged_by_the_analysis(make_study: MakeStudy, tmp_path: Path) -> None:
    manifest = two_spellings().assign(t_stage=lambda frame: frame["t_stage"].where(frame.index > 0, "t2"))
    lines, page = told(make_study(manifest=manifest).location, tmp_path / "out")
    assert lines == [SEEN, "column t_stage: categories t2 and T2 differ in case only; they are taken as 2 categories"]
    assert all(page.count(f"<li>{line}</li>") == 1 for line in lines)


def test_what_was_told_when_the_data_were_read_is_told_once(make_study: MakeStudy, tmp_path: Path) -> None:
    warnings = [SEEN, "row 2: image a.png has one gray value only"]
    provenance = PROVENANCE | {"data": PROVENANCE["data"] | {"warnings": warnings}}
    lines, page = told(make_study(manifest=two_spellings(), provenance=provenance).location, tmp_path / "out")
    assert lines == warnings
    assert page.count("differ in case") == 1


def test_nothing_is_said_of_sound_data(make_study: MakeStudy, tmp_path: Path) -> None:
    for source in (make_study().location, scores(tmp_path)):
        lines, page = told(source, tmp_path / Path(source).name[:3])
        assert not lines
        assert "Remarks on the data" not in page


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ({"patient_id": ["P1", "P1", "p1", "p1"]}, ["patients P1 and p1 differ in case only; they are taken as 2 "]),
        ({"tp": 0, "fn": 0, "fp": 2}, ["all 4 truths are empty: no lesion is marked anywhere"]),
        (
            {"fp": 0, "fn": [0, 0, 0, 0]},
            ["all 4 predictions of a equal their truths pixel by pixel: see that they are not the truths themselves"],
        ),
        ({"fp": 0, "fn": [0, 0, 0, 1]}, []),
        ({"tp": 0, "fp": 0}, ["all 4 predictions of a are empty: no lesion is marked anywhere"]),
        (
            {"tn": [86, 86, 86, 1]},  # 10 + 2 of 15 pixels
            [
                "in 1 of 4 truths the lesion covers most of the image or all its corners, such as z: see that lesion ",
                "in 1 of 4 predictions of a the lesion covers most of the image or all its corners, such as z: see ",
            ],
        ),
    ],
)
def test_names_and_counts_of_a_table_from_elsewhere(tmp_path: Path, columns: dict, lines: list[str]) -> None:
    found, page = told(scores(tmp_path, **columns), tmp_path / "out")
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines
    assert ("Remarks on the data" in page) == bool(lines)
    assert str(tmp_path) not in page  # a report may be given away


def test_a_table_that_names_no_patients_but_images_says_so(tmp_path: Path) -> None:
    (line,), page = told(scores(tmp_path, patient_id=list("wxyz")), tmp_path / "out")
    assert line.startswith("patients are named as their images, so each image counts as a patient of its own: if")
    assert line in page


def test_a_network_that_finds_too_much_is_no_sign_of_swapped_masks(make_study: MakeStudy, tmp_path: Path) -> None:
    probabilities = {name: value * 0 + 1 for name, value in example_probabilities(example_truths()).items()}
    assert told(make_study(probabilities=probabilities).location, tmp_path / "out")[0] == []


def test_letters_without_a_font_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "letters_without_font", lambda names: "中文" if "中文" in names else "")
    lines, _ = told(scores(tmp_path, model="中文"), tmp_path / "out")
    assert len(lines) == 1
    assert lines[0].startswith("no installed font has 中文: figures show boxes instead")


def test_the_command_line_prints_them_on_standard_error(
    make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", make_study(manifest=two_spellings()).location, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"warning: {SEEN}\n"
    assert printed.out == f"report: {tmp_path / 'out/report.html'}\n"
