"""Results of tests."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Test:
    """A two-sided test's result; NaN if it has none."""

    __test__ = False  # not one of pytest's, whatever its name begins with

    test: str
    n: int
    """The number of values; for pairs, the number of pairs."""
    statistic: float
    p_value: float
    effect_size: float = math.nan
    effect_name: str = ""
    low: float = math.nan
    """The confidence interval of the effect, if the test gives one."""
    high: float = math.nan


def ratio(above: float, below: float) -> float:
    """Return a test statistic `above / below` with its limits.

    With an effect of exactly 0 it is 0, whatever the error. With another effect and an error of 0 it is ±inf.
    """
    if above == 0:
        return 0.0
    return above / below if below else math.copysign(math.inf, above)
