"""Checks of the input of tests: float64 arrays without NaN."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def sample(values: npt.ArrayLike, name: str = "values", infinite: bool = False, rank: int = 1) -> Floats:
    """Return values `(n,)`, or of another rank, as float64.

    Raises:
        ValueError: For another rank, NaN and, unless allowed, infinite values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != rank:
        raise ValueError(f"{name}: must have {rank} dimension{'s' if rank > 1 else ''}, not shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name}: holds NaN")
    if not infinite and np.isinf(array).any():
        raise ValueError(f"{name}: holds infinite values")
    return array


def table(values: npt.ArrayLike) -> Floats:
    """Return values `(n, k)` as float64.

    Raises:
        ValueError: For another rank, no columns, NaN and infinite values.
    """
    array = sample(values, rank=2)
    if not array.shape[1]:
        raise ValueError(f"values: has no columns, shape {array.shape}")
    return array


def groups(values: Iterable[npt.ArrayLike]) -> tuple[Floats, ...]:
    """Return one sample a group, infinite values allowed. Errors as `sample`."""
    return tuple(sample(group, f"group {place}", infinite=True) for place, group in enumerate(values))


def pairs(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return two samples `(n,)` of one length.

    Raises:
        ValueError: As `sample`, and for different lengths.
    """
    first, second = sample(x, "x"), sample(y, "y")
    if first.shape != second.shape:
        raise ValueError(f"x and y must be pairs, but have {len(first)} and {len(second)} values")
    return first, second


def inside(value: float, name: str, low: float, high: float) -> None:
    """Raise `ValueError` unless low < value < high."""
    if not low < value < high:
        raise ValueError(f"{name}: must lie between {low:g} and {high:g}, not {value}")
