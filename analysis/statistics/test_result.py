"""What a test finds."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Test:
    """A two-sided test's result; what it does not have, or cannot have from such values, is NaN."""

    __test__ = False  # not one of pytest's, whatever its name begins with

    test: str
    n: int
    """How many values it is of; for pairs, how many pairs."""
    statistic: float
    p_value: float
    effect_size: float = math.nan
    effect_name: str = ""
    low: float = math.nan
    """The confidence interval of the effect, where the test gives one."""
    high: float = math.nan


def ratio(above: float, below: float) -> float:
    """A test statistic `above / below` with its limits: nothing above is 0, whatever the error; an error of 0 is ±inf.

    With any error, however small, an effect of exactly 0 gives exactly 0; so it does at error 0.
    """
    if above == 0:
        return 0.0
    return above / below if below else math.copysign(math.inf, above)
