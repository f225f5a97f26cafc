"""Claims: one sentence about each pair of models in each metric (`claims.csv`).

The verdict rests on the patient-level test: the two-sided Wilcoxon signed rank test of the patients' means, adjusted by
Holm over the pairs within the metric, at level 0.05. DSC is the primary metric, all others are exploratory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy.special import ndtri

from eus_ray.analysis.comparison.pairwise import Comparison
from eus_ray.analysis.comparison.paper_tables import printed
from eus_ray.analysis.labels import DASH, METRIC_LABELS, ReportKind, model_label
from eus_ray.analysis.measures.image_metrics import DISTANCES

LEVEL = 0.05
POWER = 0.8
PRIMARY = "dsc"

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
EQUIVALENT, TOO_FEW = "equivalent", "too few patients"
VERDICTS = (SUPPORTED, EQUIVALENT, NOT_SUPPORTED, TOO_FEW)
ARCHITECTURES, THESE_MODELS = "architectures", "these trained models"

COLUMNS = (
    "model_a",
    "model_b",
    "metric",
    "role",
    "n_patients",
    "n_images",
    "difference",
    "low",
    "high",
    "p_value",
    "p_adjusted",
    "rank_biserial",
    "margin",
    "equivalent_p",
    "nadeau_bengio_p",
    "nadeau_bengio_p_adjusted",
    "verdict",
    "better",
    "scope",
    "patients_needed",
    "claim",
)
"""`difference` is the mean of the patients' means of model_a minus that of model_b, `low` and `high` are its 95 %
interval. `better` is the model that a supported claim favours, `scope` is what the claim is about; both are empty if
no claim is supported."""


def claims_table(compared: Sequence[Comparison], kinds: Mapping[str, str], unit: str = "") -> pd.DataFrame:
    """Return the table of claims: one row per pair and metric.

    Args:
        compared: The pairs.
        kinds: Kind of each model. A `winner` was tuned on the folds of its own scores, and its claims say so.
        unit: Unit of distances.

    Returns:
        The columns `COLUMNS`; no rows without pairs.
    """
    rows = []
    for pair in compared:
        found = verdict(pair)
        rows.append(
            {
                "model_a": pair.first,
                "model_b": pair.second,
                "metric": pair.metric,
                "role": "primary" if pair.metric == PRIMARY else "exploratory",
                "n_patients": pair.num_patients,
                "n_images": pair.num_images,
                "difference": pair.difference,
                "low": pair.low,
                "high": pair.high,
                "p_value": pair.patients.p_value,
                "p_adjusted": pair.p_adjusted,
                "rank_biserial": pair.patients.effect_size,
                "margin": pair.margin,
                "equivalent_p": pair.equivalence.p_value,
                "nadeau_bengio_p": pair.folds.p_value,
                "nadeau_bengio_p_adjusted": pair.folds_p_adjusted,
                "verdict": found,
                "better": better(pair) if found == SUPPORTED else "",
                "scope": scope(pair) if found == SUPPORTED else "",
                "patients_needed": patients_needed(pair),
                "claim": claim(pair, kinds, unit),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"patients_needed": "Int64"})


# ---- verdicts -----------------------------------------------------------------------------------


def verdict(pair: Comparison) -> str:
    """Return the verdict on a pair: one of `VERDICTS`.

    - `supported`: the adjusted p is below 0.05, also by the exact test over all signs of these differences, and ranks
      and mean favour the same model.
    - `equivalent`: the two one-sided tests (TOST) put the mean difference within the margin.
    - `too few patients`: neither, and fewer patients than would show a difference as large as the margin.
    - `not supported`: neither, although there are that many patients.
    """
    if pair.p_adjusted < LEVEL and pair.by_signs_adjusted < LEVEL and not _is_opposed(pair):
        return SUPPORTED
    needed = patients_needed(pair)
    enough = needed is not None and pair.num_patients >= needed
    # two patients whose differences are equal are no evidence
    if pair.equivalence.equivalent and (enough or not pair.is_constant):
        return EQUIVALENT
    return NOT_SUPPORTED if enough else TOO_FEW


def _is_opposed(pair: Comparison) -> bool:
    """Return whether ranks and mean disagree, because of a few large differences."""
    return pair.patients.effect_size * pair.difference <= 0


def scope(pair: Comparison) -> str:
    """Return the scope of a supported claim: architectures, or these trained models.

    It is `ARCHITECTURES` if Nadeau-Bengio over folds agrees: other trainings would show the difference too.
    """
    statistic = pair.folds.statistic  # infinite if all folds have the same difference
    agrees = pair.folds_p_adjusted < LEVEL and math.isfinite(statistic) and statistic * pair.difference > 0
    return ARCHITECTURES if agrees else THESE_MODELS


def better(pair: Comparison) -> str:
    """Return the model that the mean difference favours."""
    return _favoured(pair, pair.difference)


def _favoured(pair: Comparison, difference: float) -> str:
    """Return the model that a difference, first minus second, favours."""
    return pair.first if (difference > 0) != (pair.metric in DISTANCES) else pair.second


def patients_needed(pair: Comparison) -> int | None:
    """Estimate how many patients would show a mean difference as large as the margin.

    This holds with probability 0.8 for normal differences with the SD seen here, by the signed rank test, two-sided at
    Holm's first step a = 0.05/m of m pairs. A t-test needs ((z_(1 - a/2) + z_0.8) SD / margin)^2 + z_(1 - a/2)^2 / 2
    patients (Guenther, Am. Stat. 35, 1981), the signed rank test π/3 times as many (its asymptotic relative efficiency
    is 3/π).

    Returns:
        At least as many as can reach the level if every patient favours the same model; None if the SD is not known.
    """
    if math.isnan(pair.sd):
        return None
    alpha = LEVEL / max(pair.num_tests, 1)
    z = -ndtri(alpha / 2)
    by_t = ((z + ndtri(POWER)) * pair.sd / pair.margin) ** 2 + z**2 / 2
    fewest = math.floor(math.log2(2 / alpha)) + 1  # who can reach the level if all agree: 2^(1 - n) < alpha
    return max(math.ceil(by_t * math.pi / 3), fewest)


# ---- sentences ----------------------------------------------------------------------------------


def claim(pair: Comparison, kinds: Mapping[str, str], unit: str = "") -> str:
    """Return the claim about a pair: its verdict, then each thing that weakens it.

    Args:
        pair: The comparison.
        kinds: Kind of each model.
        unit: Unit of distances.
    """
    found, metric = verdict(pair), METRIC_LABELS[pair.metric]
    a, b = model_label(pair.first), model_label(pair.second)
    if not pair.num_patients:
        said = f"{a} and {b} have no {metric} of the same image: nothing is compared."
    elif pair.is_same:
        end = "." if found == EQUIVALENT else ", which are too few to call them equivalent."
        said = f"{a} and {b} have the same {metric} in each of {_count(pair.num_patients, 'patient')}{end}"
    else:
        said = {SUPPORTED: _supported, EQUIVALENT: _equivalent, NOT_SUPPORTED: _not_supported, TOO_FEW: _too_few}[
            found
        ](pair, metric, unit)
    return " ".join([said, *_remarks(pair, kinds)])


def _supported(pair: Comparison, metric: str, unit: str) -> str:
    winner = better(pair)
    loser = pair.second if winner == pair.first else pair.first
    more = "lower" if pair.metric in DISTANCES else "higher"
    sizes = sorted(abs(limit) for limit in (pair.low, pair.high)) if pair.low * pair.high > 0 else None
    interval = (
        f"95 % interval {printed(pair.metric, sizes[0])} to {printed(pair.metric, sizes[1])}"
        if sizes
        else f"95 % interval of the difference {signed(pair.metric, pair.low)} to {signed(pair.metric, pair.high)}"
    )
    said = (
        f"{model_label(winner)} has a {more} {metric} than {model_label(loser)}, on average by "
        f"{printed(pair.metric, abs(pair.difference))}{_unit(pair, unit)} ({interval}; {_p(pair)}; "
        f"{_count(pair.num_patients, 'patient')})"
    )
    nadeau_bengio = f"Nadeau–Bengio {p_text(pair.folds_p_adjusted)}"
    if scope(pair) == ARCHITECTURES:
        return f"{said}, by more than other trainings would change ({nadeau_bengio})."
    doubt = f"the folds do not show it ({nadeau_bengio})"
    if math.isnan(pair.folds_p_adjusted):
        doubt = "one fold says nothing"
    elif math.isinf(pair.folds.statistic):
        doubt = "folds that do not differ at all say nothing"
    return f"Of these trained models, on patients like these, {said}; of other trainings {doubt}."


def _equivalent(pair: Comparison, metric: str, unit: str) -> str:
    return (
        f"Of these trained models, on patients like these, {model_label(pair.first)} and {model_label(pair.second)} "
        f"are equivalent in {metric}: {_effect(pair, unit)}, within ±{pair.margin:g}{_unit(pair, unit)} (TOST "
        f"{p_text(pair.equivalence.p_value)})."
    )


def _not_supported(pair: Comparison, metric: str, unit: str) -> str:
    return (
        f"No difference in {metric} between {model_label(pair.first)} and {model_label(pair.second)} is shown: "
        f"{_effect(pair, unit)}; nor are they shown to be equivalent within ±{pair.margin:g}{_unit(pair, unit)}."
    )


def _too_few(pair: Comparison, metric: str, unit: str) -> str:
    are = f"{_count(pair.num_patients, 'patient')} {'is' if pair.num_patients == 1 else 'are'} too few"
    needed = patients_needed(pair)
    cure = (
        "" if needed is None else f"; about {_rounded_up(needed)} would show one of {pair.margin:g}{_unit(pair, unit)}"
    )
    return (
        f"{are} to tell {model_label(pair.first)} and {model_label(pair.second)} apart in {metric}: "
        f"{_effect(pair, unit, has_patients=False)}{cure}."
    )


def _remarks(pair: Comparison, kinds: Mapping[str, str]) -> list[str]:
    is_supported = verdict(pair) == SUPPORTED
    remarks = [
        (pair.metric != PRIMARY, "Exploratory."),
        (
            is_supported and pair.equivalence.equivalent,
            f"The difference is smaller than the margin of {pair.margin:g}: it hardly matters.",
        ),
        (
            is_supported and pair.low <= 0 <= pair.high,
            "Most patients differ so, but the interval of the mean includes 0.",
        ),
        (
            pair.p_adjusted < LEVEL and _is_opposed(pair),
            f"Most patients favour {model_label(_favoured(pair, pair.patients.effect_size))} ({_p(pair)}), but the "
            "mean does not: a few large differences outweigh them.",
        ),
        (
            pair.p_adjusted < LEVEL <= pair.by_signs_adjusted,
            f"That p is of a normal approximation, and too small here: over all signs of the differences it is "
            f"{p_text(pair.by_signs_adjusted).removeprefix('p = ')}.",
        ),
        (pair.left_out > 0, f"Left out: {_count(pair.left_out, 'image')} that only one of them has."),
        *(
            (
                kinds.get(model) == ReportKind.WINNER,
                f"The numbers of {model_label(model)} are optimistic: it was tuned on these folds.",
            )
            for model in (pair.first, pair.second)
        ),
    ]
    return [remark for applies, remark in remarks if applies]


def p_text(p_value: float) -> str:
    """Format a p-value, never rounded across 0.05; `p unknown` if it is NaN.

    >>> [p_text(p) for p in (0.0004, 0.0496, 0.2)]
    ['p < 0.001', 'p < 0.05', 'p = 0.200']
    """
    if math.isnan(p_value):
        return "p unknown"
    if p_value < 0.001:
        return "p < 0.001"
    if round(p_value, 3) == LEVEL:
        return f"p {'<' if p_value < LEVEL else '≥'} {LEVEL}"
    return f"p = {p_value:.3f}"


def _effect(pair: Comparison, unit: str, has_patients: bool = True) -> str:
    interval = (
        ""
        if math.isnan(pair.low)
        else f"95 % interval {signed(pair.metric, pair.low)} to {signed(pair.metric, pair.high)}; "
    )
    of = f"; {_count(pair.num_patients, 'patient')}" if has_patients else ""
    return f"mean difference {signed(pair.metric, pair.difference)}{_unit(pair, unit)} ({interval}{_p(pair)}{of})"


def _p(pair: Comparison) -> str:
    return p_text(pair.p_adjusted) + (" after Holm" if pair.num_tests > 1 else "")


def signed(metric: str, value: float) -> str:
    """Format a difference with its sign; a dash if it is NaN."""
    return DASH if math.isnan(value) else f"{value:+z.2f}" if metric in DISTANCES else f"{value:+z.3f}"


def _unit(pair: Comparison, unit: str) -> str:
    return f" {unit}" if unit and pair.metric in DISTANCES else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rounded_up(number: int) -> str:
    """Round up to two digits: it is an estimate."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return f"{-(-number // step) * step:,}"
