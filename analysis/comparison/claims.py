"""Claims: one sentence about each pair of models in each metric (`claims.csv`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from eus_ray.analysis.comparison.pairwise import DECIMALS, Comparison
from eus_ray.analysis.comparison.verdicts import (
    EQUIVALENT,
    LEVEL,
    NOT_SUPPORTED,
    PRIMARY,
    SUPPORTED,
    THESE_MODELS,
    TOO_FEW,
    Background,
    better,
    folds_agree,
    patients_needed,
    scope,
    verdict,
    worse,
)
from eus_ray.analysis.labels import DASH, METRIC_LABELS, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.architectures import spec_of

FIXED_MASK = "one fixed mask that looks at no image"
_OF_THESE = "Of these trained models, on patients like these"
_BY_MORE = "by more than other trainings would change"

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
    "favour_a",
    "favour_b",
    "wilcoxon_p",
    "wilcoxon_p_adjusted",
    "rank_biserial",
    "margin",
    "equivalent_p",
    "nadeau_bengio_p",
    "effort",
    "verdict",
    "better",
    "scope",
    "patients_needed",
    "claim",
)
"""`difference` is the average of model_a minus that of model_b; `low` and `high` are its 95 % interval, `p_value` is of
the same test. `favour_a` and `favour_b` count the patients who favour each. `effort` says in what the two models'
efforts differ. `better` is the model that a supported claim favours, `scope` is what the claim is about; both are empty
if no claim is supported."""


def claims_table(compared: Sequence[Comparison], background: Background) -> pd.DataFrame:
    """Return the table of claims: one row per pair and metric.

    Args:
        compared: The pairs.
        background: What the claims must say besides.

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
                "low": pair.mean.low,
                "high": pair.mean.high,
                "p_value": pair.mean.p_value,
                "p_adjusted": pair.p_adjusted,
                "favour_a": pair.favour(pair.first),
                "favour_b": pair.favour(pair.second),
                "wilcoxon_p": pair.ranks.p_value,
                "wilcoxon_p_adjusted": pair.ranks_p_adjusted,
                "rank_biserial": pair.ranks.effect_size,
                "margin": pair.margin,
                "equivalent_p": pair.equivalence.p_value,
                "nadeau_bengio_p": pair.folds.p_value,
                "effort": "; ".join(background.effort_differences(pair) or ()),
                "verdict": found,
                "better": better(pair) if found == SUPPORTED else "",
                "scope": scope(pair, background) if found == SUPPORTED else "",
                "patients_needed": patients_needed(pair),
                "claim": claim(pair, background),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"patients_needed": "Int64"})


# ---- sentences ----------------------------------------------------------------------------------


def claim(pair: Comparison, background: Background) -> str:
    """Return the claim about a pair: its verdict, then each thing that weakens it.

    Args:
        pair: The comparison.
        background: What the claim must say besides.
    """
    found, metric = verdict(pair), METRIC_LABELS[pair.metric]
    a, b = (background.labels[model] for model in (pair.first, pair.second))
    if not pair.num_patients:
        said = f"{a} and {b} have no {metric} of the same image: nothing is compared."
    elif pair.is_same:
        end = "." if found == EQUIVALENT else ", which are too few to call them equivalent."
        said = f"{a} and {b} have the same {metric} in each of {_count(pair.num_patients, 'patient')}{end}"
    elif found == SUPPORTED:
        said = _supported(pair, metric, background)
    else:
        shown = {EQUIVALENT: _equivalent, NOT_SUPPORTED: _not_supported, TOO_FEW: _too_few}[found]
        said = shown(pair, metric, background)
    if background.has_baseline(pair) and found == SUPPORTED and better(pair) != pair.first:
        said = f"{said} So {a} is worse than it."
    elif background.has_baseline(pair) and found != SUPPORTED:
        said = f"{a} is not shown to be better than {FIXED_MASK}. {said}"
    return " ".join([said, *_remarks(pair, background)])


def short_claim(pair: Comparison, background: Background) -> str:
    """Return the verdict on a pair, with difference and interval, in one short sentence."""
    metric, found, labels = METRIC_LABELS[pair.metric], verdict(pair), background.labels
    a, b = labels[pair.first], labels[pair.second]
    differ = background.effort_differences(pair)
    end = f"; their efforts differ ({'; '.join(differ)})." if differ else "."
    if not pair.num_patients:
        return f"{a} and {b} have no {metric} of the same image."
    if background.has_baseline(pair):
        if found == SUPPORTED and better(pair) == pair.first:
            return f"{a} is better in {metric} than {FIXED_MASK}, {_by(pair, background.unit)}{end}"
        if found == SUPPORTED:
            return f"{a} is worse in {metric} than {FIXED_MASK}, {_by(pair, background.unit)}{end}"
        return f"{a} is not shown to be better in {metric} than {FIXED_MASK}: {_effect(pair, background.unit)}{end}"
    if found == SUPPORTED:
        more = "lower" if pair.metric in DISTANCES else "higher"
        said = f"{labels[better(pair)]} has a {more} {metric} than {labels[worse(pair)]}, {_by(pair, background.unit)}"
        is_of_these = scope(pair, background) == THESE_MODELS
        return f"{_OF_THESE}, {said}{end}" if is_of_these else f"{said}, {_BY_MORE}{end}"
    words = {EQUIVALENT: "are equivalent", NOT_SUPPORTED: "are not shown to differ", TOO_FEW: "cannot be told apart"}
    of_these = f"{_OF_THESE}, " if found == EQUIVALENT else ""
    return f"{of_these}{a} and {b} {words[found]} in {metric}: {_effect(pair, background.unit)}{end}"


def _supported(pair: Comparison, metric: str, background: Background) -> str:
    """Return what a supported difference says, and how far it reaches."""
    more = "lower" if pair.metric in DISTANCES else "higher"
    first, other = (
        FIXED_MASK if background.kinds.get(each) == ReportKind.BASELINE else background.labels[each]
        for each in (better(pair), worse(pair))
    )
    said = f"{first} has a {more} {metric} than {other}, {_by(pair, background.unit)}"
    if background.has_baseline(pair):
        return f"{said[:1].upper()}{said[1:]}."
    nadeau_bengio = f"Nadeau–Bengio {p_text(pair.folds.p_value)}"
    if scope(pair, background) != THESE_MODELS:
        return f"{said}, {_BY_MORE} ({nadeau_bengio})."
    if math.isnan(pair.folds.p_value):  # one fold says nothing of other trainings
        return f"{_OF_THESE}, {said}."
    doubt = f"the folds do not show it ({nadeau_bengio})"
    if math.isinf(pair.folds.statistic):
        doubt = "folds that do not differ at all say nothing"
    elif folds_agree(pair):
        doubt = f"the folds would show it too ({nadeau_bengio})"
    return f"{_OF_THESE}, {said}; of other trainings {doubt}."


def _by(pair: Comparison, unit: str) -> str:
    """Return the size of a supported difference; its interval lies on one side of 0."""
    low, high = sorted(abs(limit) for limit in (pair.mean.low, pair.mean.high))
    return (
        f"on average by {_size(pair.metric, pair.difference)}{_unit(pair, unit)} (95 % interval "
        f"{_size(pair.metric, low)} to {_size(pair.metric, high)}; {_p(pair)}; "
        f"{_count(pair.num_patients, 'patient')})"
    )


def _equivalent(pair: Comparison, metric: str, background: Background) -> str:
    unit = background.unit
    return (
        f"{_OF_THESE}, {_both(pair, background)} are equivalent in {metric}: "
        f"{_effect(pair, unit)}, within ±{pair.margin:g}{_unit(pair, unit)} (TOST {p_text(pair.equivalence.p_value)})."
    )


def _not_supported(pair: Comparison, metric: str, background: Background) -> str:
    unit = background.unit
    return (
        f"No difference in {metric} between {_both(pair, background)} is shown: "
        f"{_effect(pair, unit)}; nor are they shown to be equivalent within ±{pair.margin:g}{_unit(pair, unit)}."
    )


def _too_few(pair: Comparison, metric: str, background: Background) -> str:
    unit = background.unit
    are = f"{_count(pair.num_patients, 'patient')} {'is' if pair.num_patients == 1 else 'are'} too few"
    needed = patients_needed(pair)
    cure = (
        "" if needed is None else f"; about {_rounded_up(needed)} would show one of {pair.margin:g}{_unit(pair, unit)}"
    )
    return (
        f"{are} to tell {_both(pair, background)} apart in {metric}: {_effect(pair, unit, has_patients=False)}{cure}."
    )


def _both(pair: Comparison, background: Background) -> str:
    return f"{background.labels[pair.first]} and {background.labels[pair.second]}"


def _remarks(pair: Comparison, background: Background) -> list[str]:
    is_supported, labels = verdict(pair) == SUPPORTED, background.labels
    for_better, for_worse = pair.favour(better(pair)), pair.favour(worse(pair))
    wilcoxon = f"{p_text(pair.ranks_p_adjusted)}{' after Holm' if pair.num_tests > 1 else ''}"
    remarks = [
        (pair.metric != PRIMARY, "Exploratory."),
        (
            pair.metric in DISTANCES and background.unit_long not in ("", background.unit),
            f"Distances are in {background.unit_long}.",
        ),
        *((True, remark) for remark in _of_effort(pair, background)),
        (
            is_supported and pair.equivalence.equivalent,
            f"The difference is smaller than the margin of {pair.margin:g}{_unit(pair, background.unit)}: it hardly "
            "matters.",
        ),
        (
            is_supported and for_worse > for_better,
            f"More patients favour {labels[worse(pair)]} ({for_worse} against {for_better}): a few large "
            "differences outweigh them.",
        ),
        (
            is_supported and pair.ranks_p_adjusted >= LEVEL,
            f"The Wilcoxon signed rank test on patients does not show it ({wilcoxon}).",
        ),
        (
            not is_supported and pair.ranks_p_adjusted < LEVEL,
            f"The Wilcoxon signed rank test on patients finds a difference ({wilcoxon}), but it is one of ranks "
            f"({pair.favour(pair.first)} patients favour {labels[pair.first]}, {pair.favour(pair.second)} "
            f"{labels[pair.second]}), not of the mean.",
        ),
        (pair.left_out > 0, f"Left out: {_count(pair.left_out, 'image')} that only one of them has."),
        *(
            (
                background.kinds.get(model) == ReportKind.WINNER,
                f"The numbers of {labels[model]} may flatter it: its settings were chosen on these folds.",
            )
            for model in (pair.first, pair.second)
        ),
    ]
    return [remark for applies, remark in remarks if applies]


def _of_effort(pair: Comparison, background: Background) -> list[str]:
    """Return what a claim does not say of architectures, nor of settings."""
    different, arch = background.effort_differences(pair), background.architecture(pair)
    if different is None:
        is_shown = verdict(pair) == SUPPORTED and folds_agree(pair) and not background.has_baseline(pair)
        return ["What effort went into each is not known, so this says nothing about the architectures."] * is_shown
    if not arch:
        differ = f"Their efforts differ ({'; '.join(different)}), so this says nothing about the architectures."
        return [differ] if different else []
    settings = ", ".join(background.setting_differences(pair))
    compares = (
        f"with different settings ({settings}): this compares settings"
        if settings
        else ("with the same settings: this compares two trainings")
    )
    remarks = [f"Both are {spec_of(arch).label}, {compares}, not architectures."]
    if not background.has_equal_search(pair):
        tried = f"{background.efforts[pair.first].settings_tried} and {background.efforts[pair.second].settings_tried}"
        remarks.append(
            f"Different numbers of settings were tried for them ({tried}): that alone may make a difference."
        )
    return remarks


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
        f"95 % interval {signed(pair.metric, pair.mean.low)} to {signed(pair.metric, pair.mean.high)}; "
        if has_interval(pair)
        else ""
    )
    of = f"; {_count(pair.num_patients, 'patient')}" if has_patients else ""
    return f"mean difference {signed(pair.metric, pair.difference)}{_unit(pair, unit)} ({interval}{_p(pair)}{of})"


def has_interval(pair: Comparison) -> bool:
    """Return whether both limits are finite: with fewer than six patients the test rejects no shift."""
    return math.isfinite(pair.mean.low) and math.isfinite(pair.mean.high)


def _p(pair: Comparison) -> str:
    return p_text(pair.p_adjusted) + (" after Holm" if pair.num_tests > 1 else "")


def signed(metric: str, value: float) -> str:
    """Format a difference with its sign; a dash if it is NaN.

    One that is not 0 is not printed as 0: whether an interval excludes 0 must be seen.

    >>> [signed("dsc", value) for value in (0.0304, -0.000365, 0.0)]
    ['+0.030', '-0.0004', '+0.000']
    """
    return DASH if math.isnan(value) else f"{value:+z.{_decimals(metric, value)}f}"


def _size(metric: str, value: float) -> str:
    """Format a difference without its sign."""
    return DASH if math.isnan(value) else f"{abs(value):.{_decimals(metric, value)}f}"


def _decimals(metric: str, value: float) -> int:
    usual = 2 if metric in DISTANCES else 3
    return next((each for each in range(usual, DECIMALS) if round(value, each)), usual)


def _unit(pair: Comparison, unit: str) -> str:
    return f" {unit}" if unit and pair.metric in DISTANCES else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rounded_up(number: int) -> str:
    """Round up to two digits: it is an estimate."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return f"{-(-number // step) * step:,}"
