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
from eus_ray.analysis.inputs.effort import Effort, differences, different_settings
from eus_ray.analysis.labels import Labels, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES

LEVEL = 0.05
POWER = 0.8
PRIMARY = "dsc"

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
EQUIVALENT, TOO_FEW = "equivalent", "too few patients"
VERDICTS = (SUPPORTED, EQUIVALENT, NOT_SUPPORTED, TOO_FEW)
ARCHITECTURES, SETTINGS, THESE_MODELS = "architectures", "settings", "these trained models"


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
    labels: Labels = field(default_factory=Labels)
    """The models' names for print."""

    def effort_differences(self, pair: Comparison) -> list[str] | None:
        """Return in what two models' efforts differ; None if it is not known."""
        if not {pair.first, pair.second} <= self.efforts.keys():
            return None
        return differences(self.efforts[pair.first], self.efforts[pair.second])

    def architecture(self, pair: Comparison) -> str:
        """Return the architecture of which both models are variants; empty if they are not, or it is not known."""
        archs = {self.efforts[model].arch if model in self.efforts else "" for model in (pair.first, pair.second)}
        return archs.pop() if len(archs) == 1 else ""

    def setting_differences(self, pair: Comparison) -> list[str]:
        """Return in which settings two models differ whose efforts are known."""
        return different_settings([self.efforts[pair.first], self.efforts[pair.second]])

    def has_equal_search(self, pair: Comparison) -> bool:
        """Return whether equally many settings were tried for two models whose efforts are known."""
        return self.efforts[pair.first].settings_tried == self.efforts[pair.second].settings_tried

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
    """Return the scope of a supported claim: architectures, settings, or these trained models.

    Other trainings would show the difference too if Nadeau-Bengio over folds agrees. It is one of `ARCHITECTURES` if
    the same effort is known to have gone into both, and one of the `SETTINGS` in which they differ if both are variants
    of one architecture, for which a search tried equally many settings.
    """
    if not folds_agree(pair):
        return THESE_MODELS
    if background.architecture(pair):
        return SETTINGS if background.has_equal_search(pair) and background.setting_differences(pair) else THESE_MODELS
    return ARCHITECTURES if background.effort_differences(pair) == [] else THESE_MODELS


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
