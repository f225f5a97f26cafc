"""What every test has in common: what it refuses, and that it is light to import."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from eus_ray.analysis import statistics

ONE = [0.1, 0.4, 0.3]
TWO = [0.2, 0.5, 0.9]

PAIRED: dict[str, Callable[[list[float], list[float]], object]] = {
    "wilcoxon": statistics.wilcoxon_signed_rank,
    "tost": lambda x, y: statistics.tost_paired(x, y, -1, 1),
    "friedman": lambda x, y: statistics.friedman(np.transpose([x, y])),
    "nemenyi": lambda x, y: statistics.nemenyi(np.transpose([x, y])),
    "nadeau_bengio": lambda x, y: statistics.nadeau_bengio([*x, *y], 0.25),
    "shapiro": lambda x, y: statistics.shapiro_wilk([*x, *y]),
}
INDEPENDENT: dict[str, Callable[[list[float], list[float]], object]] = {
    "mann_whitney": statistics.mann_whitney,
    "cliffs_delta": statistics.cliffs_delta,
    "kruskal_wallis": lambda x, y: statistics.kruskal_wallis([x, y]),
    "dunn": lambda x, y: statistics.dunn([x, y]),
}


@pytest.mark.parametrize("name", [*PAIRED, *INDEPENDENT])
def test_nan_is_refused(name: str) -> None:
    function = (PAIRED | INDEPENDENT)[name]
    function(ONE, TWO)
    for x, y in ([0.1, math.nan, 0.3], TWO), (ONE, [0.2, 0.5, math.nan]):
        with pytest.raises(ValueError, match="holds NaN"):
            function(x, y)


@pytest.mark.parametrize("name", PAIRED)
def test_infinite_values_are_refused_where_they_are_paired(name: str) -> None:
    for x, y in ([0.1, math.inf, 0.3], TWO), (ONE, [0.2, 0.5, -math.inf]):
        with pytest.raises(ValueError, match="holds infinite values"):
            PAIRED[name](x, y)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_infinite_values_are_ranks_like_others(name: str) -> None:
    assert INDEPENDENT[name]([0.1, math.inf, -math.inf], TWO) == INDEPENDENT[name]([0.1, 7.0, -7.0], TWO)


@pytest.mark.parametrize("name", ["wilcoxon", "tost"])
def test_pairs_are_of_one_length(name: str) -> None:
    with pytest.raises(ValueError, match="x and y must be pairs, but have 3 and 2 values"):
        PAIRED[name](ONE, [0.2, 0.5])


def test_other_shapes_are_refused() -> None:
    for function in (
        lambda: statistics.shapiro_wilk([ONE]),
        lambda: statistics.wilcoxon_signed_rank([ONE], [TWO]),
        lambda: statistics.mann_whitney(0.5, TWO),
        lambda: statistics.kruskal_wallis([[ONE], [TWO]]),
        lambda: statistics.friedman(ONE),
        lambda: statistics.nadeau_bengio([ONE], 0.25),
    ):
        with pytest.raises(ValueError, match=r"must have \d dimension"):
            function()
    with pytest.raises(ValueError, match="method: must be auto, exact or normal"):
        statistics.mann_whitney(ONE, TWO, method="asymptotic")


def test_input_is_left_as_it_was() -> None:
    x, y = np.array(ONE), np.array(TWO)
    for function in (PAIRED | INDEPENDENT).values():
        function(x, y)
    np.testing.assert_array_equal(x, ONE)
    np.testing.assert_array_equal(y, TWO)


def test_all_is_importable_and_sorted() -> None:
    assert sorted(statistics.__all__) == statistics.__all__
    assert all(hasattr(statistics, name) for name in statistics.__all__)


def test_heavy_libraries_wait_for_the_first_test() -> None:
    code = (
        "import sys, eus_ray.analysis.statistics as statistics\n"
        "heavy = {'torch', 'ray', 'matplotlib', 'statsmodels', 'scipy.stats'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert statistics.holm([0.01, 0.04]).tolist() == [0.02, 0.04]\n"
        "assert 'scipy.stats' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
