"""claims.csv: what may be said of each pair of models in each metric, as one plain sentence that a paper could print.

The verdict rests on the patient-level test: two-sided Wilcoxon signed rank of patients' means, Holm over the pairs
within the metric, level 0.05. DSC is the primary metric, all others are exploratory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy.special import ndtri

from eus_ray.analysis.comparison.pairwise import Comparison
from eus_ray.analysis.labels import DASH, METRIC_LABELS, model_label
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
"""`difference` is the mean of patients' means of model_a minus that of model_b, `low` and `high` its 95 % interval.
`better` is the model that a supported claim favours, `scope` of what it speaks; both are empty without one."""


def claims_table(compared: Sequence[Comparison], kinds: Mapping[str, str], unit: str = "") -> pd.DataFrame:
    """One row a pair and metric, with `COLUMNS`; none without pairs.

    kinds: each model's kind; a `winner` was tuned on the folds that its numbers are of, and the claim says so.
    unit: of distances.
    """
    rows = []
    for pair in compared:
        found, needed = verdict(pair), patients_needed(pair)
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
                "patients_needed": needed,
                "claim": claim(pair, kinds, unit),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"patients_needed": "Int64"})


# ---- verdicts -----------------------------------------------------------------------------------


def verdict(pair: Comparison) -> str:
    """One of `VERDICTS`.

    `supported`: the adjusted p is below 0.05, also over all signs of these very differences, and ranks and mean favour
    the same model. `equivalent`: the two one-sided tests put the mean difference within the margin. Else `too few
    patients`, where fewer are compared than would show a difference of the margin, and `not supported`, where that many
    are.
    """
    if differs(pair):
        return SUPPORTED
    needed = patients_needed(pair)
    enough = needed is not None and pair.num_patients >= needed
    # that all differences are equal is no evidence from two patients
    if pair.equivalence.equivalent and (enough or not pair.alike):
        return EQUIVALENT
    return NOT_SUPPORTED if enough else TOO_FEW


def differs(pair: Comparison) -> bool:
    return pair.p_adjusted < LEVEL and pair.by_signs_adjusted < LEVEL and not opposed(pair)


def opposed(pair: Comparison) -> bool:
    """Whether most patients favour one model and the mean does not: a few large differences outweigh the rest."""
    return pair.patients.effect_size * pair.difference <= 0


def scope(pair: Comparison) -> str:
    """A difference speaks of architectures only where other trainings would show it too: where Nadeau-Bengio agrees."""
    statistic = pair.folds.statistic  # infinite where the folds do not differ at all, as scores of few values may
    agrees = pair.folds_p_adjusted < LEVEL and math.isfinite(statistic) and statistic * pair.difference > 0
    return ARCHITECTURES if agrees else THESE_MODELS


def better(pair: Comparison) -> str:
    """The model that the mean difference favours."""
    first = (pair.difference > 0) != (pair.metric in DISTANCES)
    return pair.first if first else pair.second


def patients_needed(pair: Comparison) -> int | None:
    """About how many patients would show a mean difference as large as the margin; None where the SD is not known.

    With probability 0.8, by the signed rank test, two-sided at Holm's first step 0.05/m of m pairs, for normal
    differences of the SD seen here: a t-test needs ((z_(1 - a/2) + z_0.8) SD / margin)^2 + z_(1 - a/2)^2 / 2 (Guenther,
    Am. Stat. 35, 1981), the signed rank test π/3 times that many (its asymptotic relative efficiency is 3/π). Never
    fewer than can reach the level at all, when every patient favours the same model.
    """
    if math.isnan(pair.sd):
        return None
    alpha = LEVEL / max(pair.num_tests, 1)
    z = -ndtri(alpha / 2)
    by_t = ((z + ndtri(POWER)) * pair.sd / pair.margin) ** 2 + z**2 / 2
    return max(math.ceil(by_t * math.pi / 3), _fewest(alpha))


def _fewest(alpha: float) -> int:
    """The fewest patients who can reach a level at all, when every one favours the same model: 2^(1 - n) < alpha."""
    return math.floor(math.log2(2 / alpha)) + 1


# ---- sentences ----------------------------------------------------------------------------------


def claim(pair: Comparison, kinds: Mapping[str, str], unit: str = "") -> str:
    """The sentence for a verdict, and a further one for each thing that weakens it."""
    found, metric = verdict(pair), METRIC_LABELS[pair.metric]
    a, b = model_label(pair.first), model_label(pair.second)
    if not pair.num_patients:
        said = f"{a} and {b} have no {metric} of the same image: nothing is compared."
    elif pair.same:
        said = f"{a} and {b} have the same {metric} in each of {_count(pair.num_patients, 'patient')}"
        said += "." if found == EQUIVALENT else ", which are too few to call them equivalent."
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
        f"95 % interval {_amount(pair, sizes[0])} to {_amount(pair, sizes[1])}"
        if sizes
        else f"95 % interval of the difference {signed(pair.metric, pair.low)} to {signed(pair.metric, pair.high)}"
    )
    said = (
        f"{model_label(winner)} has a {more} {metric} than {model_label(loser)}, on average by "
        f"{_amount(pair, abs(pair.difference))}{_unit(pair, unit)} ({interval}; {_p(pair)}; "
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
        f"{_effect(pair, unit, patients=False)}{cure}."
    )


def _remarks(pair: Comparison, kinds: Mapping[str, str]) -> list[str]:
    found = verdict(pair)
    remarks = [] if pair.metric == PRIMARY else ["Exploratory."]
    if found == SUPPORTED and pair.equivalence.equivalent:
        remarks.append(f"The difference is smaller than the margin of {pair.margin:g}: it hardly matters.")
    if found == SUPPORTED and pair.low <= 0 <= pair.high:
        remarks.append("Most patients differ so, but the interval of the mean includes 0.")
    if pair.p_adjusted < LEVEL and opposed(pair):
        favoured = pair.first if (pair.patients.effect_size > 0) != (pair.metric in DISTANCES) else pair.second
        remarks.append(
            f"Most patients favour {model_label(favoured)} ({_p(pair)}), but the mean does "
            "not: a few large differences outweigh them."
        )
    if pair.p_adjusted < LEVEL <= pair.by_signs_adjusted:
        remarks.append(
            f"That p is of a normal approximation, and too small here: over all signs of the differences it is "
            f"{p_text(pair.by_signs_adjusted).removeprefix('p = ')}."
        )
    if pair.left_out:
        images = _count(pair.left_out, "image")
        remarks.append(f"Left out: {images} that only one of them has.")
    remarks += [
        f"The numbers of {model_label(model)} are optimistic: it was tuned on these folds."
        for model in (pair.first, pair.second)
        if kinds.get(model) == "winner"
    ]
    return remarks


def p_text(p_value: float) -> str:
    """A p-value for print, never rounded across 0.05; `p unknown` where there is none.

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


def _effect(pair: Comparison, unit: str, patients: bool = True) -> str:
    interval = (
        ""
        if math.isnan(pair.low)
        else f"95 % interval {signed(pair.metric, pair.low)} to {signed(pair.metric, pair.high)}; "
    )
    of = f"; {_count(pair.num_patients, 'patient')}" if patients else ""
    return f"mean difference {signed(pair.metric, pair.difference)}{_unit(pair, unit)} ({interval}{_p(pair)}{of})"


def _p(pair: Comparison) -> str:
    return p_text(pair.p_adjusted) + (" after Holm" if pair.num_tests > 1 else "")


def _amount(pair: Comparison, value: float) -> str:
    return f"{value:.2f}" if pair.metric in DISTANCES else f"{value:.3f}"


def signed(metric: str, value: float) -> str:
    """A difference for print; a dash where it is not known."""
    return DASH if math.isnan(value) else f"{value:+z.2f}" if metric in DISTANCES else f"{value:+z.3f}"


def _unit(pair: Comparison, unit: str) -> str:
    return f" {unit}" if unit and pair.metric in DISTANCES else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rounded_up(number: int) -> str:
    """To two digits from 100 on: it is an estimate."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return f"{-(-number // step) * step:,}"
