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
MOST_PRINTED = 1e15
"""Larger numbers are printed with an exponent: a float does not know all of their digits."""

_SEXES = {"male": 0, "m": 0, "man": 0, "female": 1, "f": 1, "woman": 1}
_MAX_CODES = 6
"""Stages and grades have at most so many values; measurements have more."""


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
    measured = str(values.name).split("_")[-1].lower() in {*UNITS, "age", "size"}
    return bool(few and not measured and (known % 1 == 0).all())


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
