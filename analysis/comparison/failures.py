"""Images that a model got wrong, by the usual measure: IoU below 0.5."""

from __future__ import annotations

import numpy as np
import pandas as pd

SUCCESS_IOU = 0.5
"""Above it the paper counts an image as segmented."""

POOR, MISSED, FALSE_ALARM = "poor", "missed", "false alarm"
"""What went wrong: the lesion is outlined badly or elsewhere; nothing is found; something is found where nothing is."""


def failures(images: pd.DataFrame) -> pd.DataFrame:
    """The rows whose IoU is below 0.5, with `wrong`: `POOR`, `MISSED` or `FALSE_ALARM`.

    images: one row a model and image, with `iou, missed, false_alarm`. None for no failure.
    """
    failed = images[images["iou"] < SUCCESS_IOU]
    wrong = np.select([failed["missed"].astype(bool), failed["false_alarm"].astype(bool)], [MISSED, FALSE_ALARM], POOR)
    return failed.assign(wrong=wrong)


def worst(failed: pd.DataFrame, number: int) -> pd.DataFrame:
    """At most `number` of one model's failures to look at, by `wrong`: poor ones first, then missed, then false alarms.

    failed: rows of `failures` with `patient_id, tp, fn, fp`. One missed lesion looks like the next, so that the worst
    poor one, the worst missed one and the worst false alarm are taken in turn, of each patient one image before any
    patient has two. Among poor ones the lowest IoU is the worst, among missed ones the largest lesion, among false
    alarms the largest find; of equals the first.
    """
    severity = np.select(
        [(failed["wrong"] == wrong).to_numpy() for wrong in (MISSED, FALSE_ALARM)],
        [failed["tp"] + failed["fn"], failed["tp"] + failed["fp"]],
        -failed["iou"],
    )
    place = failed["wrong"].map({POOR: 0, MISSED: 1, FALSE_ALARM: 2})
    ranked = failed.assign(severity=severity, place=place).sort_values("severity", ascending=False, kind="stable")
    turn = ranked.groupby("place").cumcount()
    ranked = ranked.assign(turn=turn).sort_values(["turn", "place"], kind="stable")
    again = ranked.duplicated("patient_id")
    chosen = pd.concat([ranked[~again], ranked[again]]).head(number)
    return chosen.sort_values(["place", "turn"], kind="stable").drop(columns=["severity", "place", "turn"])
