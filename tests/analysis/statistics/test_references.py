"""The same numbers as statsmodels and scikit-posthocs, on data with ties and groups of different sizes."""

from __future__ import annotations

import numpy as np
import pytest
import scikit_posthocs
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from eus_ray.analysis import statistics

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_dunn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.integers(0, 12, size).astype(float) + place for place, size in enumerate((6, 15, 9, 4))]
    plain = scikit_posthocs.posthoc_dunn(groups).to_numpy()
    adjusted = scikit_posthocs.posthoc_dunn(groups, p_adjust="holm").to_numpy()
    for pair in statistics.dunn(groups):
        assert pair.p_value == pytest.approx(plain[pair.i, pair.j], rel=1e-9)
        assert pair.p_adjusted == pytest.approx(adjusted[pair.i, pair.j], rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_nemenyi(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 10, (20, 4)) + np.arange(4.0)
    expected = scikit_posthocs.posthoc_nemenyi_friedman(values).to_numpy()
    np.testing.assert_allclose(statistics.nemenyi(values).p_values, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_holm_and_benjamini_hochberg(seed: int) -> None:
    p_values = np.round(np.random.default_rng(seed).beta(0.3, 2, 15), 3)
    np.testing.assert_allclose(statistics.holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)
    expected = multipletests(p_values, method="fdr_bh")[1]
    np.testing.assert_allclose(statistics.benjamini_hochberg(p_values), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_tost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(0.8, 0.1, 25)
    x = y + rng.normal(0.005, 0.03, 25)
    p_value, (t_low, p_low, _), (t_upp, p_upp, _) = ttost_paired(x, y, -0.02, 0.02)
    found = statistics.tost_paired(x, y, -0.02, 0.02)
    assert (found.t_low, found.t_upp) == pytest.approx((t_low, t_upp), rel=1e-9)
    assert (found.p_low, found.p_upp, found.p_value) == pytest.approx((p_low, p_upp, p_value), rel=1e-9)
