"""The stopping rules, by numbers worked by hand, by scipy, and by Ray Tune's own scheduler."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from eus_ray.config import SearchSettings
from eus_ray.errors import UserError
from eus_ray.search.pruners import Asha, Never, Pruner, Racing, make_pruner, parse_rule, wilcoxon_less
from eus_ray.search.standings import Standing, fair_value
from eus_ray.store import TrialState

NAN = float("nan")


def standing(*folds: list[float], finished: int | None = None, epochs: int = 1) -> Standing:
    """A trial with these patients' scores in its folds; the first `finished` folds are final, all by default."""
    scores = np.array(folds, dtype=float)
    done = np.arange(len(scores)) < (len(scores) if finished is None else finished)
    scores[~done] = scores[~done] if finished is None else NAN
    return Standing(np.where(done, epochs, 0), done, scores)


def by_fold(*scores: float, folds: int = 2, finished: int = 1) -> Standing:
    """Each fold judges its own `len(scores)` patients, and they score the same in each."""
    rows = [
        [NAN] * (len(scores) * fold) + list(scores) + [NAN] * (len(scores) * (folds - fold - 1))
        for fold in range(folds)
    ]
    return standing(*rows, finished=finished)


def heard(rule: Pruner, *standings: Standing) -> Pruner:
    for trial, each in enumerate(standings):
        rule.hear(trial, each)
    return rule


# ---- the test of two trials ---------------------------------------------------------------------


def test_five_patients_that_are_all_worse_are_one_case_in_32() -> None:
    assert wilcoxon_less(np.array([-0.1, -0.2, -0.3, -0.4, -0.5])) == 1 / 32


def test_the_smallest_difference_alone_is_better() -> None:
    # W+ = 1: of the 2**5 sign patterns, those with W+ of 0 and of 1
    assert wilcoxon_less(np.array([0.1, -0.2, -0.3, -0.4, -0.5])) == 2 / 32


def test_no_difference_at_all_says_nothing() -> None:
    assert wilcoxon_less(np.zeros(8)) == 1.0
    assert math.isnan(wilcoxon_less(np.array([])))


def test_float_noise_does_not_break_ties() -> None:
    noisy = np.array([0.81 - 0.79, 0.77 - 0.79, 0.75 - 0.79, 0.71 - 0.79])
    assert wilcoxon_less(noisy) == pytest.approx(wilcoxon([0.02, -0.02, -0.04, -0.08], alternative="less").pvalue)
    assert wilcoxon_less(np.array([0.3 - 0.2 - 0.1, -0.5, -0.4])) == wilcoxon_less(np.array([0.0, -0.5, -0.4]))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.sampled_from([1, 10]))
@settings(max_examples=12, deadline=None)
def test_the_test_is_scipys(differences: list[float], decimals: int) -> None:
    rounded = np.round(differences, decimals)
    if not rounded.any():
        return
    assert wilcoxon_less(rounded) == pytest.approx(wilcoxon(rounded, alternative="less").pvalue, abs=1e-12)


# ---- racing -------------------------------------------------------------------------------------


def test_a_trial_that_is_worse_on_every_patient_stops_and_says_why() -> None:
    rule = heard(Racing(0.05), by_fold(0.8, 0.7, 0.9, 0.6, 0.85), by_fold(0.7, 0.58, 0.77, 0.46, 0.7))
    assert rule.stops(1) == "plainly worse than trial 0 on 5 patients of 1 fold (p = .031)"
    assert rule.stops(0) is None


def test_four_patients_cannot_say_so_at_five_per_cent() -> None:
    rule = heard(Racing(0.05), by_fold(0.8, 0.7, 0.9, 0.6), by_fold(0.1, 0.2, 0.3, 0.4))  # p = 1/16 at least
    assert rule.stops(1) is None


def test_nobody_leads_yet() -> None:
    rule = heard(Racing(0.05), by_fold(0.1, 0.1, 0.1, 0.1, 0.1))
    assert rule.stops(0) is None


def test_a_trial_that_was_never_heard_of_goes_on() -> None:
    assert Racing(0.05).stops(7) is None


def test_an_unfinished_fold_does_not_count() -> None:
    learning = by_fold(0.1, 0.1, 0.1, 0.1, 0.1)
    learning = Standing(learning.epochs, np.array([False, False]), learning.scores)
    rule = heard(Racing(0.05), by_fold(0.8, 0.7, 0.9, 0.6, 0.85), learning)
    assert rule.stops(1) is None


def test_two_folds_are_compared_on_the_patients_of_both() -> None:
    one, other = by_fold(0.8, 0.7, 0.9, finished=2), by_fold(0.7, 0.5, 0.6, finished=2)
    reason = heard(Racing(0.05), one, other).stops(1)
    # six patients, all worse: 1/64
    assert reason == "plainly worse than trial 0 on 6 patients of 2 folds (p = .016)"


def test_the_test_needs_the_criterion_on_its_side() -> None:
    """Worse on most patients, far better on one: the mean, which the search goes by, is better."""
    good = by_fold(*[0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.05])
    odd = by_fold(*[0.45, 0.45, 0.45, 0.45, 0.45, 0.45, 0.45, 0.95])
    assert heard(Racing(0.2), good, odd).stops(1) is None


def test_a_patient_judged_in_two_folds_enters_once_by_his_mean() -> None:
    # five patients, each judged in both folds: means of 5 differences, so p = 1/32 and not 1/1024
    one = standing([0.8, 0.7, 0.9, 0.6, 0.85], [0.8, 0.7, 0.9, 0.6, 0.85])
    other = standing([0.7, 0.5, 0.6, 0.2, 0.3], [0.7, 0.5, 0.6, 0.2, 0.35])
    reason = heard(Racing(0.05), one, other).stops(1)
    assert reason == "plainly worse than trial 0 on 5 patients of 2 folds (p = .031)"


def test_an_unfinished_trial_can_lead() -> None:
    rule = heard(Racing(0.05), by_fold(0.7, 0.5, 0.6, 0.4, 0.5, folds=3), by_fold(0.8, 0.7, 0.9, 0.6, 0.85, folds=3))
    assert rule.stops(0) is not None


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAILED])
def test_a_trial_that_is_out_does_not_lead(state: str) -> None:
    rule = heard(Racing(0.05), by_fold(0.8, 0.7, 0.9, 0.6, 0.85), by_fold(0.7, 0.5, 0.6, 0.4, 0.5))
    rule.end(0, state)
    assert rule.stops(1) is None


def test_a_complete_trial_goes_on_leading() -> None:
    rule = heard(Racing(0.05), by_fold(0.8, 0.7, 0.9, 0.6, 0.85, finished=2), by_fold(0.7, 0.5, 0.6, 0.4, 0.5))
    rule.end(0, TrialState.COMPLETE)
    assert rule.stops(1) is not None


def test_a_running_trial_is_judged_again_as_soon_as_another_finishes_a_fold() -> None:
    rule = heard(Racing(0.05), by_fold(0.7, 0.5, 0.6, 0.4, 0.5))
    assert rule.stops(0) is None
    rule.hear(1, by_fold(0.8, 0.7, 0.9, 0.6, 0.85))
    assert rule.stops(0) is not None


def test_of_several_rivals_the_best_one_leads() -> None:
    worst, middle, best = ([value - lag for value in (0.8, 0.7, 0.9, 0.6, 0.85)] for lag in (0.3, 0.1, 0.0))
    middle[0] -= 0.01  # no ties
    reason = heard(Racing(0.4), by_fold(*worst), by_fold(*middle), by_fold(*best)).stops(0)
    assert reason is not None
    assert "trial 2" in reason


def test_a_complete_trial_with_all_folds_in_common_leads_before_one_that_has_just_begun() -> None:
    values = (0.8, 0.7, 0.9, 0.6, 0.85)
    complete = by_fold(*values, finished=2)
    lucky = by_fold(*(value + 0.1 for value in values), finished=1)
    behind = by_fold(0.7, 0.58, 0.77, 0.46, 0.7, finished=2)
    reason = heard(Racing(0.05), complete, lucky, behind).stops(2)
    assert reason is not None
    assert "trial 0 on 10 patients of 2 folds" in reason


# ---- asha ---------------------------------------------------------------------------------------


def test_asha_decides_as_ray_tunes_scheduler_does() -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    rng = np.random.default_rng(0)
    tunes = AsyncHyperBandScheduler("epoch", "score", "max", max_t=12, grace_period=2, reduction_factor=3)
    ours = parse_rule("asha:3:2", num_epochs=12)
    stopped = 0
    for trial in range(12):
        theirs = SimpleNamespace(trial_id=f"their {trial}")
        tunes.on_trial_add(None, theirs)
        for epoch in range(1, 13):
            scores = rng.uniform(size=(2, 4))
            ours.hear(trial, Standing(np.array([epoch, epoch]), np.array([epoch == 12] * 2), scores))
            decision = tunes.on_trial_result(None, theirs, {"epoch": epoch, "score": scores.mean()})
            if epoch == 12:
                break
            assert (ours.stops(trial) is not None) == (decision == "STOP")
            if decision == "STOP":
                stopped += 1
                break
    assert stopped > 3


def test_asha_judges_the_last_of_the_folds_and_each_epoch_once() -> None:
    """Two folds that report one after the other are one result; the second trial, worse at the rung, stops."""
    rule = Asha(reduction=2, grace=1, epochs=4)
    for trial, score in enumerate((0.8, 0.3)):
        rule.hear(trial, Standing(np.array([1, 0]), np.array([False, False]), np.array([[score], [NAN]])))
        assert rule.stops(trial) is None
        rule.hear(trial, Standing(np.array([1, 1]), np.array([False, False]), np.array([[score], [score]])))
    assert rule.stops(0) is None
    assert rule.stops(1) == "behind the best at epoch 1 (score 0.3000)"


# ---- rules by name ------------------------------------------------------------------------------


def test_rules_from_settings() -> None:
    assert isinstance(make_pruner(SearchSettings(), 50), Racing)
    assert make_pruner(SearchSettings(), 50).order == "by_fold"
    assert make_pruner(SearchSettings(scheduler="asha", asha_grace=9), 3).order == "abreast"
    assert isinstance(make_pruner(SearchSettings(scheduler="none"), 50), Never)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raceing:0.05", "rule raceing:0.05: no such rule; did you mean racing?"),
        ("racing:0.7", "rule racing:0.7: search.racing_alpha: Input should be less than 0.5, not '0.7'"),
        ("racing:0.05:3", "rule racing:0.05:3: racing takes search.racing_alpha after its name"),
        ("none:1", "rule none:1: none takes nothing after its name"),
        ("", "rule : no such rule; there is racing, asha, none"),
    ],
)
def test_wrong_rules_are_named(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse_rule(text, 50)
    assert error.value.lines == (said,)


# ---- a fair value -------------------------------------------------------------------------------


def test_an_easy_first_fold_is_no_merit() -> None:
    """The best trial has .9 in the easy fold and .7 over both; .85 in the easy fold is worth .65."""
    best = standing([0.9, 0.9], [0.5, 0.5])
    mine = standing([0.85, 0.85], [0.0, 0.0], finished=1)
    assert fair_value(mine, best) == pytest.approx(0.85 + 0.7 - 0.9)
    assert fair_value(mine, None) == pytest.approx(0.85)
    assert fair_value(best, best) == pytest.approx(0.7)


def test_a_fair_value_is_one_that_a_criterion_can_have() -> None:
    """.1 in a fold that is easy by .2 would be -.1 over both."""
    best = standing([0.9, 0.9], [0.5, 0.5])
    assert fair_value(standing([0.1, 0.1], [0.0, 0.0], finished=1), best) == 0.0
    hard = standing([0.3, 0.3], [0.9, 0.9])
    assert fair_value(standing([0.9, 0.9], [0.0, 0.0], finished=1), hard) == 1.0


def test_a_trial_without_a_finished_fold_is_worth_its_scores_so_far() -> None:
    so_far = Standing(np.array([3, 3]), np.array([False, False]), np.array([[0.4], [0.2]]))
    assert fair_value(so_far, None) == pytest.approx(0.3)
    nothing = Standing(np.array([0, 0]), np.array([False, False]), np.full((2, 1), NAN))
    assert math.isnan(fair_value(nothing, None))
