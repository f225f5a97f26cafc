"""Failures: images whose IoU is 0.5 or less."""

from __future__ import annotations

import numpy as np
import pandas as pd

SUCCESS_IOU = 0.5
"""The paper counts an image as segmented above it."""

POOR, MISSED, FALSE_ALARM = "poor", "missed", "false alarm"
"""What is wrong: a poor or misplaced outline; no pixel of the lesion found; something found in an image without one."""


def failures(images: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose IoU is 0.5 or less, with what is wrong.

    Args:
        images: One row per model and image with `iou, missed, false_alarm`.

    Returns:
        The rows with the column `wrong`: `POOR`, `MISSED` or `FALSE_ALARM`; no rows without failures.
    """
    failed = images[images["iou"] <= SUCCESS_IOU]
    wrong = np.select([failed["missed"].astype(bool), failed["false_alarm"].astype(bool)], [MISSED, FALSE_ALARM], POOR)
    return failed.assign(wrong=wrong)


def worst(failed: pd.DataFrame, number: int) -> pd.DataFrame:
    """Choose at most `number` of one model's failures to look at.

    One missed lesion looks like the next. So the worst poor outline, the worst missed lesion and the worst false alarm
    are taken in turn, and each patient gets one image before any patient gets two. The worst is the lowest IoU among
    poor outlines, the largest lesion among missed ones, and the largest prediction among false alarms; ties go to the
    first.

    Args:
        failed: Rows of `failures` with `patient_id, tp, fn, fp`.
        number: How many to choose.

    Returns:
        Rows of `failed`: poor outlines first, then missed lesions, then false alarms.
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
