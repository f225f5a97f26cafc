"""Adjustment of p-values for the number of tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes most of a second

from eus_ray.analysis.statistics.validation import Floats


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return Holm's adjusted p-values `(m,)`, in the given order.

    They control the family-wise error rate: the running maximum of min(1, (m - i + 1) p_(i)) over ascending
    p_(1) ... p_(m) (Holm, Scand. J. Stat. 6, 1979). A NaN is a test without result: it stays NaN and is not counted in
    m. Raises `ValueError` for values outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given, known = _p_values(p_values)
    order = np.argsort(given[known], kind="stable")
    steps = np.arange(len(order), 0, -1) * given[known][order]
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(steps, 1.0))
    return _put_back(adjusted, known)


def benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values `(m,)`, in the given order.

    They control the false discovery rate: the running minimum, from the largest down, of min(1, m p_(i) / i)
    (J. R. Stat. Soc. B 57, 1995). NaN and errors as in `holm`.
    """
    given, known = _p_values(p_values)
    if not known.any():
        return given
    return _put_back(scipy.stats.false_discovery_control(given[known], method="bh"), known)


def _p_values(values: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    given = np.array(values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"p-values: must have 1 dimension, not shape {given.shape}")
    known = ~np.isnan(given)
    if ((given[known] < 0) | (given[known] > 1)).any():
        raise ValueError("p-values: must lie in [0, 1]")
    return given, known


def _put_back(adjusted: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    result = np.full(len(known), np.nan)
    result[known] = adjusted
    return result
