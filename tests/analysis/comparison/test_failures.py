"""Failures: which images they are, which are shown, and what the report says of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.comparison import failures as module
from eus_ray.analysis.comparison.failures import FALSE_ALARM, MISSED, POOR, failures, worst
from eus_ray.analysis.figures import image_panels
from eus_ray.analysis.report.results import Results, read_study
from eus_ray.analysis.report.sections import claims, performance
from eus_ray.analysis.report.sections import failures as section
from eus_ray.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")

MakeStudy = Callable[..., Store]


def row(image_id: str, patient_id: str, iou: float, truth: int, found: int) -> dict[str, object]:
    """Return an image with so many pixels in truth and prediction."""
    tp = round(iou * (truth + found) / (1 + iou))
    return {
        "model": "m",
        "image_id": image_id,
        "patient_id": patient_id,
        "iou": iou,
        "tp": tp,
        "fp": found - tp,
        "fn": truth - tp,
        "missed": truth > 0 and found == 0,
        "false_alarm": truth == 0 and found > 0,
    }


IMAGES = pd.DataFrame(
    [
        row("good", "A", 0.8, 100, 100),
        row("edge", "A", 0.501, 100, 100),
        row("half", "B", 0.4, 100, 100),
        row("beside", "C", 0.0, 50, 50),
        row("small", "D", 0.0, 20, 0),
        row("large", "E", 0.0, 900, 0),
        row("alarm", "F", 0.0, 0, 30),
        row("loud", "G", 0.0, 0, 70),
        row("third", "C", 0.3, 60, 60),
        row("nothing", "H", 1.0, 0, 0),
    ]
)


def test_failures_are_not_above_one_half() -> None:
    failed = failures(IMAGES)
    assert failed.set_index("image_id")["wrong"].to_dict() == {
        "half": POOR,
        "beside": POOR,
        "small": MISSED,
        "large": MISSED,
        "alarm": FALSE_ALARM,
        "loud": FALSE_ALARM,
        "third": POOR,
    }
    assert module.SUCCESS_IOU == 0.5


def test_no_failures() -> None:
    failed = failures(IMAGES[:2])
    assert failed.empty
    assert "wrong" in failed
    assert worst(failed, 3).empty


def test_the_worst_of_each_kind_come_in_turn() -> None:
    failed = failures(IMAGES)
    # In turn: beside, large, loud; then third is C's second image, so that half, small and alarm come first.
    assert worst(failed, 3)["image_id"].tolist() == ["beside", "large", "loud"]
    assert worst(failed, 4)["image_id"].tolist() == ["beside", "large", "small", "loud"]
    assert worst(failed, 6)["image_id"].tolist() == ["beside", "half", "large", "small", "loud", "alarm"]
    assert worst(failed, 9)["image_id"].tolist() == ["beside", "third", "half", "large", "small", "loud", "alarm"]
    assert list(worst(failed, 3).columns) == list(failed.columns)


def test_one_patient_alone_fills_the_strip() -> None:
    failed = failures(IMAGES).assign(patient_id="A")
    assert len(worst(failed, 6)) == 6


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[image_panels.Row]]:
    """Record the rows of each grid of pictures that is drawn."""
    seen: list[list[image_panels.Row]] = []
    draw = image_panels.picture_grid

    def remember(rows: list[image_panels.Row], *rest: object) -> object:
        seen.append(list(rows))
        return draw(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(image_panels, "picture_grid", remember)
    return seen


def text(results: Results) -> str:
    built = section.build(results)
    assert built is not None
    return " ".join(str(built.body).split())


def test_the_section_shows_missed_lesions_and_false_alarms(
    make_study: MakeStudy, drawn: list[list[image_panels.Row]]
) -> None:
    results = read_study(make_study())
    failed = failures(results.headline)
    built = section.build(results)
    assert built is not None
    assert set(built.files) == {"figures/failures.svg", "figures/failures.png"}
    ((unet,),) = drawn  # daf_net has no failure, and no row
    assert unet.label == "U-Net"
    assert len(unet.panels) == len(failed) < 7
    titles = [panel.title for panel in unet.panels]
    assert "i03\nmissed" in titles
    assert "i06\nfalse alarm" in titles
    missed, alarm = (unet.panels[titles.index(title)] for title in ("i03\nmissed", "i06\nfalse alarm"))
    assert [len(one.outline) for one in missed.drawn] == [1, 0]
    assert [len(one.outline) for one in alarm.drawn] == [0, 1]
    said = text(results)
    assert '<th scope="row">Missed: no pixel of the lesion is found</th><td>1</td><td>0</td>' in said
    assert (
        '<th scope="row">False alarm: something is predicted, and there is no lesion</th><td>1</td><td>0</td>' in said
    )
    share = f"{len(failed)} ({100 * len(failed) / 12:.1f} %)"
    assert f'<th scope="row">IoU of 0.5 or less</th><td>{share}</td><td>0 (0.0 %)</td>' in said


def test_failures_that_no_image_could_have_are_a_dash() -> None:
    """There is no false alarm to make if every image has a lesion, and none to miss if no image has."""
    images = pd.DataFrame(
        {"model": ["a", "a", "b", "b"], "kind": "fixed", "fold": 0, "image_id": list("xyxy"), "patient_id": "p"}
        | {"dsc": 0.1, "iou": 0.05, "tp": [1, 1, 0, 0], "fn": [9, 9, 0, 0], "fp": 5, "tn": 85}
        | {"missed": False, "false_alarm": [False, False, True, True]}
    )
    said = text(Results("scores.csv", images, images))
    assert "Missed: no pixel of the lesion is found</th><td>0</td><td>–</td>" in said
    assert "and there is no lesion</th><td>–</td><td>2</td>" in said


def test_where_all_went_well_the_section_says_so(make_study: MakeStudy, drawn: list[list[image_panels.Row]]) -> None:
    results = read_study(make_study(without=[("unet", fold) for fold in range(3)]))
    assert "Every image of every model is above 0.5" in text(results)
    assert drawn == []


def test_a_table_of_scores_has_numbers_and_no_pictures(drawn: list[list[image_panels.Row]]) -> None:
    images = IMAGES.assign(kind="fixed", fold=0)
    assert "<td>7 (70.0 %)</td>" in text(Results("scores.csv", images, images))
    assert drawn == []
    assert section.build(Results("scores.csv", images.drop(columns="missed"), images)) is None
    assert section.build(Results("scores.csv", images[:0], images)) is None


def test_all_predictions_empty(make_study: MakeStudy, drawn: list[list[image_panels.Row]]) -> None:
    study = make_study()
    results = read_study(study)
    nothing = {(model, image): np.zeros((48, 64)) for model in ("unet", "daf_net") for image in results.cases}
    text(read_study(make_study("empty", probabilities=nothing)))
    assert [len(line.panels) for line in drawn[-1]] == [6, 6]
    assert all(panel.title.endswith("missed") for line in drawn[-1] for panel in line.panels)


def test_each_image_is_a_success_or_a_failure() -> None:
    """49 of 80 are 61.25 %, which is printed alike wherever it stands; an IoU of exactly 0.5 is no success."""
    iou = [0.9] * 49 + [0.5] * 2 + [0.1] * 29
    names = [f"i{number}" for number in range(80)]
    images = pd.DataFrame({"model": "a", "kind": "fixed", "fold": 0, "image_id": names, "patient_id": names})
    images = images.assign(iou=iou, dsc=0.5, missed=False, false_alarm=False)
    results = Results("scores.csv", images, images)
    assert '<th scope="row">IoU of 0.5 or less</th><td>31 (38.8 %)</td>' in text(results)
    pages = [performance.build(results), claims.build(results)]
    above, share = (str(page.body) for page in pages if page is not None)
    assert "49 of 80 (61.3 %)" in above
    assert "which the paper counts as a success: a 61.3 % (95 % interval" in share
