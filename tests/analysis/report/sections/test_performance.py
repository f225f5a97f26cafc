"""Performance: what the means hide, as counts of the images that could be so."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eus_ray.analysis.labels import DASH
from eus_ray.analysis.report.sections.performance import behind_the_means

PIXELS = 100


def images(*counts: tuple[int, int, int], model: str = "unet", **columns: object) -> pd.DataFrame:
    """Return one row per image of a patient of its own, with TP, FP and FN."""
    tp, fp, fn = np.array(counts).T
    named = [f"{model}{number}" for number in range(len(counts))]
    frame = pd.DataFrame({"model": model, "kind": "fixed", "fold": 0, "image_id": named, "patient_id": named})
    frame = frame.assign(tp=tp, fp=fp, fn=fn, tn=PIXELS - tp - fp - fn, iou=tp / np.maximum(tp + fp + fn, 1))
    return frame.assign(**columns)


def lines_of(frame: pd.DataFrame, target: str = "lesion") -> dict[str, list[str]]:
    found = behind_the_means(frame, target, "patients")
    return {line["name"]: line["values"] for line in found["lines"]}


def test_rates_have_the_images_that_could_be_so() -> None:
    hit, elsewhere, nothing, alarm, silence = (5, 1, 1), (0, 4, 6), (0, 0, 6), (0, 3, 0), (0, 0, 0)
    lines = lines_of(images(hit, hit, elsewhere, nothing, alarm, silence, silence), "fetal head")
    assert lines["Missed: no pixel of the fetal head is found"] == ["2 of 4 (50.0 %)"]  # elsewhere counts, too
    assert lines["Empty: nothing is predicted"] == ["3 of 7 (42.9 %)"]
    assert lines["False alarm: something is predicted, and there is no fetal head"] == ["1 of 3 (33.3 %)"]
    assert lines["IoU above 0.5"] == ["2 of 7 (28.6 %)"]
    assert not behind_the_means(images(hit, silence), "lesion", "patients")["has_no_negatives"]


def test_what_no_image_can_be_is_a_dash_and_not_zero() -> None:
    everywhere = images((5, 1, 1), (4, 0, 0))
    assert lines_of(everywhere)["False alarm: something is predicted, and there is no lesion"] == [DASH]
    assert behind_the_means(everywhere, "lesion", "patients")["has_no_negatives"]
    nowhere = lines_of(images((0, 0, 0), (0, 2, 0)))
    assert nowhere["Missed: no pixel of the lesion is found"] == [DASH]
    assert nowhere["False alarm: something is predicted, and there is no lesion"] == ["1 of 2 (50.0 %)"]


def test_the_price_of_specks_stands_beside_hd() -> None:
    two = images(
        *[(5, 1, 1)] * 3, components=[1, 3, 2], hd=[2.0, 40.0, np.inf], hd_largest=[2.0, 6.0, np.inf], diagonal=100.0
    )
    lines = lines_of(two.assign(hd95=[1.0, 20.0, np.inf], assd=[1.0, 2.0, np.inf]))
    assert lines["Predictions in several pieces"] == ["2 of 3 (66.7 %)"]
    assert lines["Distances not finite, because one mask is empty"] == ["1"]
    assert lines["Mean HD of the finite ones"] == ["21.00"]
    assert lines["Mean HD"] == ["47.33"]  # (2 + 40 + 100) / 3
    assert lines["Mean HD with the largest piece alone"] == ["36.00"]
    assert lines["Mean HD95"] == ["40.33"]
    assert lines["Mean ASSD"] == ["34.33"]


def test_tables_without_counts_have_what_their_columns_say() -> None:
    scores = images((5, 1, 1), (0, 0, 3)).drop(columns=["tp", "fp", "fn", "tn"])
    assert list(lines_of(scores)) == ["Patients", "Images", "IoU above 0.5"]
    told = lines_of(scores.assign(missed=[False, True], false_alarm=False))
    assert told["Missed: no pixel of the lesion is found"] == ["1"]
    assert told["False alarm: something is predicted, and there is no lesion"] == ["0"]
    assert not behind_the_means(scores, "lesion", "patients")["has_no_negatives"]  # that is not known
    assert list(lines_of(scores.drop(columns="iou"))) == ["Patients", "Images"]


def test_a_model_that_lacks_a_number_has_a_dash() -> None:
    both = pd.concat([images((5, 1, 1), hd=3.0), images((5, 1, 1), model="daf_net", hd=np.nan)])
    assert lines_of(both)["Mean HD"] == ["3.00", DASH]
    with_unit = behind_the_means(both, "lesion", "patients", unit="mm")["lines"]
    assert {"name": "Mean HD, mm", "values": ["3.00", DASH]} in with_unit
    assert behind_the_means(both, "lesion", "patients")["models"] == ["U-Net", "DAF-Net"]
