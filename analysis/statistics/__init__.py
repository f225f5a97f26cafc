"""Statistical tests as functions over arrays, each in one place and by one convention.

- One sample: `shapiro_wilk`.
- Independent groups: `kruskal_wallis` and `dunn` after it, `mann_whitney`, `cliffs_delta`.
- Pairs: `sign_flip_test` of their mean, `wilcoxon_signed_rank`, `tost_paired`, `nadeau_bengio` over folds.
- Several models on the same cases: `friedman`, `nemenyi`.
- Many p-values: `holm`, `benjamini_hochberg`.
- Two areas under the ROC curve of the same cases: `delong`.
- Intervals: `patient_bootstrap`.
- What agreement tells of errors: `risk_coverage`.

All tests are two-sided, ties get average ranks, and arithmetic is float64. The cases of a test must be independent:
give one value a patient. If values are too few or all equal, the result is NaN; each function says what it does then.
NaN among the values is a `ValueError`. Infinite values are allowed only in rank tests between independent groups, in
which all of one sign tie; paired tests refuse them, because two of them have no difference.
"""

from eus_ray.analysis.statistics.auc import DeLong, delong
from eus_ray.analysis.statistics.independent import Pair, cliffs_delta, dunn, kruskal_wallis, mann_whitney
from eus_ray.analysis.statistics.many_models import Friedman, Nemenyi, friedman, nemenyi
from eus_ray.analysis.statistics.multiple import benjamini_hochberg, holm
from eus_ray.analysis.statistics.normality import shapiro_wilk
from eus_ray.analysis.statistics.paired import (
    Tost,
    nadeau_bengio,
    tost_paired,
    wilcoxon_signed_rank,
)
from eus_ray.analysis.statistics.resampling import Estimate, patient_bootstrap
from eus_ray.analysis.statistics.risk_coverage import RiskCoverage, risk_coverage
from eus_ray.analysis.statistics.sign_flips import sign_flip_test, sign_flip_tests
from eus_ray.analysis.statistics.test_result import Test

__all__ = [
    "DeLong",
    "Estimate",
    "Friedman",
    "Nemenyi",
    "Pair",
    "RiskCoverage",
    "Test",
    "Tost",
    "benjamini_hochberg",
    "cliffs_delta",
    "delong",
    "dunn",
    "friedman",
    "holm",
    "kruskal_wallis",
    "mann_whitney",
    "nadeau_bengio",
    "nemenyi",
    "patient_bootstrap",
    "risk_coverage",
    "shapiro_wilk",
    "sign_flip_test",
    "sign_flip_tests",
    "tost_paired",
    "wilcoxon_signed_rank",
]
