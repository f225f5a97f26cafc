"""Findings of an audit, and how their numbers are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from eus_ray.analysis.audit.statements import Printed, Statement

Verdict = Literal["impossible", "look"]
"""`impossible`: no data give these numbers, as the rows state them. `look`: some may, or the rows leave it open."""

_VERDICTS: dict[Verdict, str] = {"impossible": "cannot be", "look": "worth a look"}


@dataclass(frozen=True)
class Finding:
    """One finding about some rows: their statement, its fault and a likely cause."""

    verdict: Verdict
    statements: tuple[Statement, ...]
    what: str
    why: str
    meaning: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        places = list(dict.fromkeys(", ".join(filter(None, (one.table, one.group))) for one in self.statements))
        where = " and ".join(places) if len(places) < 3 else f"{places[0]} and {len(places) - 1} others"
        rows = ", ".join(str(one.row) for one in self.statements)
        return (
            f"{_VERDICTS[self.verdict]}: {where} (row{'s' * (len(self.statements) > 1)} {rows}): "
            f"{self.what}; {self.why}. It could mean {self.meaning}."
        )


def apart(one: Printed, other: Printed) -> bool:
    """Return whether no number prints as both."""
    return one.low > other.high or one.high < other.low


def show(value: Fraction | int) -> str:
    """Return four digits; whole numbers in full."""
    return str(int(value)) if value == int(value) else f"{float(value):.4g}"


def show_root(square: Fraction) -> str:
    """Return four digits of the square root."""
    return f"{math.sqrt(square):.4g}"
