"""What a report of a table from elsewhere does not claim to know: folds, units, tolerances, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eus_ray.analysis.report.report import build_sections
from eus_ray.analysis.report.results import read_table
from eus_ray.store import Store
from tests.analysis.test_analyze import Page

pytestmark = pytest.mark.usefixtures("undrawn")


def pages(folder: Path, columns: str, rows: Sequence[str]) -> dict[str, str]:
    """Return the words of each section of a table's report, by anchor."""
    (folder / "scores.csv").write_text("\n".join([columns, *rows]) + "\n")
    results = read_table(Store(folder), "scores.csv")
    return {section.anchor: Page(str(section.body)).text for section in build_sections(results)}


def many(values: str = "") -> list[str]:
    return [
        f"{model},i{number},p{number},{0.6 + bonus + 0.01 * (number % 7):.3f},{20 - number % 5}{values}"
        for model, bonus in (("a", 0.1), ("b", 0.0), ("c", 0.05))
        for number in range(12)
    ]


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, str]:
    return pages(tmp_path, "model,image_id,patient_id,dsc,hd,nsd", many(",0.5"))


def test_distances_without_a_unit_have_no_gap_where_it_would_stand(plain: dict[str, str]) -> None:
    assert "within ±0.02, of distances within ±2 in the table's unit. " in plain["methods"]
    assert "within the margin, ±0.02, for distances ±2 (two one-sided tests" in plain["claims"]
    assert not [anchor for anchor, text in plain.items() if " ." in text.replace(" .c", "")]


def test_nothing_is_said_of_folds_that_are_not_known(plain: dict[str, str]) -> None:
    for words in ("of all folds together", "one fold says nothing", "Folds 1", "within their folds"):
        assert not [anchor for anchor, text in plain.items() if words in text], words


def test_a_tolerance_that_is_not_known_is_said_to_be_so_and_no_auc_is_spoken_of(plain: dict[str, str]) -> None:
    for anchor in ("performance", "methods"):
        assert "The table does not say at which tolerance NSD was measured." in plain[anchor]
    assert "AUC" not in plain["performance"]


def test_the_paper_is_introduced_before_it_is_spoken_of(plain: dict[str, str]) -> None:
    introduced = plain["performance"].index("“The paper”, here and below, is Seo et al., 2022: Semantic Segmentation")
    assert "the paper" not in plain["performance"][:introduced]


def test_one_image_has_no_intervals_and_no_plural(tmp_path: Path) -> None:
    said = pages(tmp_path, "model,image_id,patient_id,dsc", ["a,i,p,0.8"])
    assert said["methods"].startswith("Copy text There is 1 image of 1 patient.")
    for words in ("Shapiro", "95 % percentile interval", "The data are"):
        assert words not in said["methods"], words
    for words in ("bootstrap samples", "95 % interval", "intervals overlap"):
        assert words not in said["performance"], words


def test_a_pair_of_one_image_has_no_interval_and_no_folds_to_speak_of(tmp_path: Path) -> None:
    said = pages(tmp_path, "model,image_id,patient_id,dsc,iou", ["a,i,p,0.8,0.66", "b,i,p,0.7,0.5"])
    for anchor, text in said.items():
        for words in (
            "95 % interval",
            "the interval holds",
            "Intervals hold",
            "of a fold has no",
            "asks whether other",
        ):
            assert words not in text, (anchor, words)
    assert "A model that was tested on a single patient has no interval." in said["performance"]


def test_scores_without_dsc_are_spoken_of_without_a_pronoun(tmp_path: Path) -> None:
    rows = [",".join([*row.split(",")[:3], row.split(",")[3]]) for row in many()]
    said = pages(tmp_path, "model,image_id,patient_id,iou", rows)["claims"]
    assert "all claims are exploratory. The claim speaks of the difference of the two models' averages" in said
