"""The verdict on two models in one metric, and how far it reaches.

It rests on the sign-flip permutation test of the difference of the two models' averages, two-sided, adjusted by Holm
over the pairs within the metric, at level 0.05. DSC is the primary metric, all others are exploratory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy.special import ndtri

from eus_ray.analysis.comparison.pairwise import Comparison
from eus_ray.analysis.inputs.effort import Effort, differences
from eus_ray.analysis.labels import ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES

LEVEL = 0.05
POWER = 0.8
PRIMARY = "dsc"

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
EQUIVALENT, TOO_FEW = "equivalent", "too few patients"
VERDICTS = (SUPPORTED, EQUIVALENT, NOT_SUPPORTED, TOO_FEW)
ARCHITECTURES, THESE_MODELS = "architectures", "these trained models"


@dataclass(frozen=True)
class Background:
    """What a claim must say about two models besides their scores."""

    kinds: Mapping[str, str]
    """Kind of each model."""
    unit: str = ""
    """Unit of distances."""
    efforts: Mapping[str, Effort] = field(default_factory=dict)
    """By model; none for a table of scores."""
    unit_long: str = ""
    """The unit with the grid of its pixels."""

    def effort_differences(self, pair: Comparison) -> list[str] | None:
        """Return in what two models' efforts differ; None if it is not known."""
        if not {pair.first, pair.second} <= self.efforts.keys():
            return None
        return differences(self.efforts[pair.first], self.efforts[pair.second])

    def has_baseline(self, pair: Comparison) -> bool:
        """Return whether one of the two is the fixed mask."""
        return ReportKind.BASELINE in (self.kinds.get(pair.first), self.kinds.get(pair.second))


def verdict(pair: Comparison) -> str:
    """Return the verdict on a pair: one of `VERDICTS`.

    - `supported`: the adjusted p of the mean difference is below 0.05.
    - `equivalent`: it is not, and two one-sided tests (TOST) put the mean difference within the margin.
    - `too few patients`: neither, and fewer patients than would show a difference as large as the margin.
    - `not supported`: neither, although there are that many patients.
    """
    if pair.p_adjusted < LEVEL:
        return SUPPORTED
    needed = patients_needed(pair)
    enough = needed is not None and pair.num_patients >= needed
    # two patients whose differences are equal are no evidence
    if pair.equivalence.equivalent and (enough or not pair.is_constant):
        return EQUIVALENT
    return NOT_SUPPORTED if enough else TOO_FEW


def scope(pair: Comparison, background: Background) -> str:
    """Return the scope of a supported claim: architectures, or these trained models.

    It is `ARCHITECTURES` if Nadeau-Bengio over folds agrees, so that other trainings would show the difference too,
    and the same effort is known to have gone into both.
    """
    same_effort = background.effort_differences(pair) == []
    return ARCHITECTURES if folds_agree(pair) and same_effort else THESE_MODELS


def folds_agree(pair: Comparison) -> bool:
    """Return whether Nadeau-Bengio over folds shows the same difference as the mean over patients."""
    statistic = pair.folds.statistic  # infinite if all folds have the same difference
    return pair.folds.p_value < LEVEL and math.isfinite(statistic) and statistic * pair.difference > 0


def better(pair: Comparison) -> str:
    """Return the model that the mean difference favours."""
    return pair.first if (pair.difference > 0) != (pair.metric in DISTANCES) else pair.second


def worse(pair: Comparison) -> str:
    """Return the other model."""
    return pair.second if better(pair) == pair.first else pair.first


def patients_needed(pair: Comparison) -> int | None:
    """Estimate how many patients would show a mean difference as large as the margin.

    This holds with probability 0.8 for normal differences with the SD seen here, two-sided at Holm's first step
    a = 0.05/m of m pairs. A t-test needs ((z_(1 - a/2) + z_0.8) SD / margin)^2 + z_(1 - a/2)^2 / 2 patients (Guenther,
    Am. Stat. 35, 1981); sign flips need as many, for their power is that of the t-test (Hoeffding, Ann. Math. Stat. 23,
    1952).

    Returns:
        At least as many as can reach the level if every patient favours the same model; None if the SD is not known.
    """
    if math.isnan(pair.sd):
        return None
    alpha = LEVEL / max(pair.num_tests, 1)
    z = -ndtri(alpha / 2)
    by_t = ((z + ndtri(POWER)) * pair.sd / pair.margin) ** 2 + z**2 / 2
    fewest = math.floor(math.log2(2 / alpha)) + 1  # who can reach the level if all agree: 2^(1 - n) < alpha
    return max(math.ceil(by_t), fewest)
