"""Which columns are categories, and how their levels are called and ordered."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from eus_ray.analysis.labels import UNITS

MOST_LEVELS = 12
"""A column with more is no category that a table could show."""

_SEXES = {"male": 0, "m": 0, "man": 0, "female": 1, "f": 1, "woman": 1}
_FEW_CODES = 6
"""Whole numbers with at most so many values are codes (a stage, a grade), not measurements."""


def known_values(values: pd.Series) -> pd.Series:
    """The same column with blank texts as missing; whatever objects it holds become texts."""
    if values.dtype == object:
        return values.map(_text)
    return values.where(values.str.strip() != "") if pd.api.types.is_string_dtype(values) else values


def _text(value: Any) -> str | None:
    missing = pd.api.types.is_scalar(value) and pd.isna(value)
    return None if missing or str(value).strip() == "" else str(value)


def is_category(values: pd.Series, patients: pd.Series) -> bool:
    """Whether the values of these images of these patients are levels to count, not measurements to average.

    Texts and truth values are; numbers are where they are few whole ones and the column's name has no unit.
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return True
    known = values.dropna()
    few = known.nunique() <= min(_FEW_CODES, patients.nunique() // 2)
    measured = str(values.name).split("_")[-1].lower() in {*UNITS, "age", "size"}
    return bool(few and not measured and (known % 1 == 0).all())


def level_text(level: object) -> str:
    """A level for print; 2.0, a whole number beside missing ones, is 2."""
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def level_order(level: object) -> tuple[object, ...]:
    """Sorts levels: male before female as in the paper; else T2 before T10."""
    text = level_text(level)
    parts = re.split(r"(\d+)", text.lower())
    return (_SEXES.get(text.lower(), 2), [(int(part), "") if part.isdecimal() else (0, part) for part in parts])
