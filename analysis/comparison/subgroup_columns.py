"""Columns that divide images into subgroups, and their levels."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.labels import UNITS

MAX_LEVELS = 12
"""A table cannot show more."""
MAX_TESTED_LEVELS = 10
"""A category with more is tested only if the study names it."""
MOST_PRINTED = 1e15
"""Larger numbers are printed with an exponent: a float does not know all of their digits."""

_SEXES = {"male": 0, "m": 0, "man": 0, "female": 1, "f": 1, "woman": 1}
_MAX_CODES = MAX_TESTED_LEVELS
"""Stages and grades have at most so many values; measurements have more."""
_IDS = frozenset({"id", "ids", "uid", "uuid"})
_SPLITS = frozenset({"fold", "folds", "kfold", "cv", "split", "splits", "set", "subset", "partition"})
"""Words of a column's name, without digits after them, that say what it is for."""


def known_values(values: pd.Series) -> pd.Series:
    """Return the column with blank texts as missing values and other objects as texts."""
    if values.dtype == object:
        return values.map(_text)
    return values.where(values.str.strip() != "") if pd.api.types.is_string_dtype(values) else values


def _text(value: Any) -> str | None:
    missing = pd.api.types.is_scalar(value) and pd.isna(value)
    return None if missing or str(value).strip() == "" else str(value)


def is_category(values: pd.Series, patients: pd.Series) -> bool:
    """Return whether a column holds categories to count, not measurements to average.

    Texts and Booleans are categories. Numbers are if they are few whole ones and the column's name has no unit.

    Args:
        values: One value per image.
        patients: The patient of each image.
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return True
    known = values.dropna()
    few = known.nunique() <= min(_MAX_CODES, patients.nunique() // 2)
    return bool(few and not _is_measured(values.name) and (known % 1 == 0).all())


def _is_measured(column: object) -> bool:
    return str(column).split("_")[-1].lower() in {*UNITS, "age", "size"}


def purpose(values: pd.Series, patients: pd.Series) -> str:
    """Return what a column is for by its name, if that is nothing clinical: `an id`, `a part of a split`; else empty.

    Numbers that are not whole, and measurements by their name, are neither.

    Args:
        values: What `known_values` returns, one value per image, with the column's name.
        patients: The patient of each image.
    """
    if not _is_code(values, patients):
        return ""
    words = set(re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", str(values.name)).lower()))
    return "an id" if words & _IDS else "a part of a split" if words & _SPLITS else ""


def _is_code(values: pd.Series, patients: pd.Series) -> bool:
    """Return whether values are categories, or whole numbers that measure nothing."""
    return is_category(values, patients) or bool(not _is_measured(values.name) and (values.dropna() % 1 == 0).all())


def why_left_out(values: pd.Series, patients: pd.Series) -> str:
    """Return why a column divides nothing unless the study names it, in a few words; empty if it does.

    Args:
        values: What `known_values` returns, one value per image, with the column's name.
        patients: The patient of each image.
    """
    known = pd.DataFrame({"value": values, "patient": patients}).dropna(subset="value")
    levels = known["value"].nunique()
    if levels < 2:
        return "one value only" if levels else "no values"
    if found := purpose(values, patients):
        return found
    if _is_code(values, patients):
        if levels == len(known):
            return "a value of its own for each image"
        if levels == known["patient"].nunique() == len(known.drop_duplicates()):
            return "a value of its own for each patient"
    if not is_category(values, patients):
        return ""
    if levels > MAX_TESTED_LEVELS:
        return f"{levels} levels"
    differing = int((known.groupby("patient")["value"].nunique() > 1).sum())
    return f"differs between the images of {differing} patient{'s' if differing > 1 else ''}" if differing else ""


def level_text(level: object) -> str:
    """Format a level; 2.0, an integer in a column with missing values, becomes 2."""
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def level_order(level: object) -> tuple[object, ...]:
    """Return a sort key: male before female as in the paper, T2 before T10."""
    text = level_text(level)
    parts = re.split(r"(\d+)", text.lower())
    return (_SEXES.get(text.lower(), 2), [(int(part), "") if part.isdecimal() else (0, part) for part in parts])


def overflow_scale(values: npt.NDArray[np.float64]) -> float:
    """Return what to divide values by so that their sums and differences stay finite: 1 unless some are near 1e308.

    It is a power of two, so that dividing by it and multiplying again changes no bit of them.
    """
    return 2.0**64 if np.abs(values[np.isfinite(values)]).max(initial=0) > 1e280 else 1.0
