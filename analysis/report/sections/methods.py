"""Section on methods: text for a manuscript, references, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eus_ray import store as layout
from eus_ray.analysis.comparison.claims import has_interval
from eus_ray.analysis.comparison.paper_tables import shown_metrics
from eus_ray.analysis.comparison.verdicts import LEVEL, PRIMARY
from eus_ray.analysis.inputs.effort import Effort, different_settings, has_variants
from eus_ray.analysis.inputs.searches import Search
from eus_ray.analysis.labels import DASH, METRIC_LABELS, Labels, ReportKind, column_label, in_sentence
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report import recipe
from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.recipe import listed, statements
from eus_ray.analysis.report.references import Citations
from eus_ray.analysis.report.results import HEADLINE_KINDS, Results, Section
from eus_ray.analysis.statistics import sign_flips
from eus_ray.analysis.statistics.bootstrap import DRAWS, FEWEST_PATIENTS
from eus_ray.config_file import build_study
from eus_ray.store import TrialState

_SAMPLERS = {
    "tpe": "a tree-structured Parzen estimator",
    "gp": "a Gaussian process",
    "random": "random draws",
    "grid": "a grid",
}
_PROGRAMS = {"ray": "Ray", "torch": "PyTorch", "timm": "timm"}


def build(results: Results) -> Section | None:
    """Build the section."""
    folds, versions = results.provenance.get("folds", {}), results.provenance.get("versions", {})
    cite = Citations()
    text = render(
        "methods_text.html",
        cite=cite,
        dash=DASH,
        images=results.patients["image_id"].nunique(),
        patients=results.patients["patient_id"].nunique(),
        synthetic=results.synthetic,
        num_folds=results.patients["fold"].nunique(),
        seed=folds.get("seed"),
        strata=listed([in_sentence(column_label(str(name))) for name in folds.get("stratify", ())]),
        study=bool(results.settings_text),
        training=_training(results, cite),
        programs=listed([f"{label} {versions[name]}" for name, label in _PROGRAMS.items() if name in versions]),
        searches=[_search(search) for search in results.searches.values()],
        protocols={search.protocol for search in results.searches.values()},
        judged={search.protocol for search in results.searches.values() if not search.selection.empty},
        unended=listed(search.label for search in results.searches.values() if not search.ended),
        winners=_winners(results),
        measured=_measured(results),
        averaged=_averaged(results),
        interval_note=results.interval_note,
        draws=f"{DRAWS:,}",
        level=LEVEL,
        compared=_compared(results),
    )
    efforts = [*_efforts(results), *_winners_beside(results)]
    body = render(
        "methods.html",
        text=text,
        references=cite.texts,
        bibtex=cite.bibtex,
        settings=recipe.settings_table(efforts) if any(effort.settings for effort in efforts) else None,
        settings_text=results.settings_text,
        facts=_facts(results.provenance, results.labels),
        versions=sorted(versions.items()),
    )
    return Section(90, "methods", "Methods", body)


# ---- training -----------------------------------------------------------------------------------


def _efforts(results: Results) -> list[Effort]:
    """Return the effort behind each model's headline; before any is predicted, what is to be its headline's."""
    if results.efforts:
        return list(results.efforts.values())
    first = sorted(results.all_efforts.items(), key=lambda item: HEADLINE_KINDS.index(ReportKind(item[0][1])))
    by_model = {model: effort for (model, _), effort in reversed(first)}
    return [by_model[model] for model in dict.fromkeys(model for model, _ in results.all_efforts)]


def _winners_beside(results: Results) -> list[Effort]:
    """Return the efforts of winners that are not their model's headline."""
    shown = _efforts(results)
    return [
        effort for (_, kind), effort in results.all_efforts.items() if kind == ReportKind.WINNER and effort not in shown
    ]


def _winners(results: Results) -> list[dict[str, Any]]:
    """Return each model that was trained again with its best setting, and how, if the text has not said it yet."""
    beside = _winners_beside(results)
    return [
        {
            "model": effort.label,
            "training": recipe.training(effort) if effort in beside else "trained again",
            "by_median": model in results.searches and results.searches[model].protocol == "nested",
        }
        for (model, kind), effort in results.all_efforts.items()
        if kind == ReportKind.WINNER
    ]


def _training(results: Results, cite: Citations) -> dict[str, Any] | None:
    """Return in words how the models were trained, model by model; None for a table of scores."""
    efforts, data = _efforts(results), results.settings.get("data", {})
    if not efforts:
        return None
    seeds = [effort.values("train.seed") for effort in efforts]
    tuned = [effort for effort in efforts if effort.kind != ReportKind.FIXED]
    return {
        "models": listed(recipe.cited(effort, cite) for effort in efforts),
        "origins": recipe.origins(efforts, results.provenance.get("networks", {}), cite),
        "several": len(efforts) > 1,
        "networks": recipe.networks(efforts, cite),
        "size": data.get("image_size"),
        "is_padded": data.get("resize") == "pad",
        "in_colour": data.get("channels") == "rgb",
        "different": listed(different_settings(efforts)) if len(efforts) > 1 else "",
        "seed": seeds[0][0] if len(seeds[0]) == 1 and all(seed == seeds[0] for seed in seeds) else None,
        "trained": statements(efforts, recipe.training),
        "kept": statements(efforts, recipe.kept_epoch),
        "losses": statements(efforts, recipe.loss),
        "supervised": statements(efforts, recipe.supervision),
        "augmented": statements(efforts, recipe.augmentation),
        "tuned": listed(effort.label for effort in tuned if effort.kind == ReportKind.WINNER),
        "nested": listed(effort.label for effort in tuned if effort.kind == ReportKind.NESTED),
        "varied": listed(effort.label for effort in efforts if recipe.varies_by_fold(effort)),
        "costs": listed(
            f"{cost}{f' for {effort.label}' if len(efforts) > 1 else ''}"
            for effort in efforts
            if (cost := recipe.cost(effort))
        ),
        "is_added_up": any(effort.gpu_hours is None for effort in efforts),
        "has_search": any(effort.settings_tried > 1 for effort in efforts),
        "devices": listed(dict.fromkeys(device for effort in efforts for device in effort.devices)),
    }


def _search(search: Search) -> dict[str, Any]:
    number, complete = len(search.trials), int((search.trials["state"] == TrialState.COMPLETE).sum())
    return {
        "model": search.label,
        "trials": f"{number} trials, each a cross-validation" if number != 1 else "1 trial, a cross-validation",
        "complete": f"{complete or 'none'} {'was' if complete < 2 else 'were'} completed",
        "fields": listed([dimension.name for dimension in search.dimensions]),
        "sampler": _SAMPLERS.get(search.sampler, search.sampler),
        "tpe": search.sampler == "tpe",
        "scheduler": search.scheduler,
        "alpha": f"{search.racing_alpha:g}",
        "metric": METRIC_LABELS[search.metric],
    }


# ---- measuring and comparing --------------------------------------------------------------------


def _measured(results: Results) -> dict[str, Any] | None:
    """Return how masks were made and measured; None without predicted images."""
    if results.headline.empty:
        return None
    evaluate = build_study({"evaluate": results.settings.get("evaluate", {})}, layout.STUDY).evaluate
    return {
        "target": results.target,
        "flips": evaluate.tta == "flip",
        "threshold": f"{evaluate.threshold:g}",
        "keeps_largest": evaluate.keep == "largest",
        "fills_holes": evaluate.fill_holes,
        "original_grid": evaluate.grid == "original",
        "unit": results.unit_long,
        "tolerance": _in_unit(results.analysis.tolerance, results.unit),
        "has_nsd": "nsd" in results.headline and bool(results.headline["nsd"].notna().any()),
        "pooled": bool(results.rocs),
        "has_distances": bool(set(DISTANCES) & set(results.headline.dropna(axis=1, how="all"))),
        "calibrated": "brier" in results.headline and bool(results.headline["brier"].notna().any()),
        "baseline": _has_baseline(results),
    }


def _in_unit(distance: float, unit: str) -> str:
    return f"{distance:g} {unit}" if unit else f"{distance:g} in the table's unit"


def _has_baseline(results: Results) -> bool:
    return bool((results.images["kind"] == ReportKind.BASELINE).any())


def _has_intervals(results: Results) -> bool:
    limits = [f"{name}_low" for name in shown_metrics(results.table2)]
    return bool(results.table2[limits].notna().any(axis=None))


def _averaged(results: Results) -> dict[str, Any] | None:
    """Return what a model's number is the mean of; None without predicted images."""
    if results.headline.empty:
        return None
    words = results.average_words
    return {
        "words": words,
        "by_patient": words.endswith("patients"),
        "by_fold": results.headline["fold"].nunique() > 1,
        "has_intervals": _has_intervals(results),
    }


def _compared(results: Results) -> dict[str, Any] | None:
    """Return what the section of claims compares; None without scores."""
    metrics = [] if results.headline.empty else shown_metrics(results.table2)
    if not metrics:
        return None
    divisions, _ = results.divided
    clinical = [in_sentence(division.label) for division in divisions if division.is_clinical]
    return {
        "pairs": len(results.models) > 1 or _has_baseline(results),
        "baseline": _has_baseline(results),
        "several": len(results.models) > 1,
        "many": len(results.models) > 2,
        "variants": has_variants(results.efforts.values()),
        "folds": results.headline["fold"].nunique() > 1,
        "primary": METRIC_LABELS[PRIMARY] if PRIMARY in metrics else "",
        "others": len(metrics) > 1,
        "has_intervals": any(map(has_interval, results.pairs)),
        "most_for_all_flips": sign_flips.MOST_FOR_ALL_FLIPS,
        "flips": f"{sign_flips.DRAWS:,}",
        "ratio": f"{results.analysis.margin:g}" if set(metrics) - set(DISTANCES) else "",
        "distance": _in_unit(results.analysis.distance_margin, results.unit) if set(metrics) & set(DISTANCES) else "",
        "clinical": listed(clinical),
        "several_clinical": len(clinical) > 1,
        "divided": bool(divisions),
        "normality": results.headline["patient_id"].nunique() > 2,
        "fewest": FEWEST_PATIENTS,
        "shares": "iou" in metrics and results.headline["patient_id"].nunique() > 1,
    }


# ---- provenance ---------------------------------------------------------------------------------


def _facts(provenance: Mapping[str, Any], labels: Labels) -> list[tuple[str, str]]:
    data = provenance.get("data", {})
    facts = [
        ("eus-ray", provenance.get("eus_ray")),
        ("Commit", provenance.get("commit")),
        ("Started", provenance.get("started")),
        ("Manifest", data.get("manifest")),
        ("Fingerprint of the data", data.get("fingerprint")),
        ("Synthetic data", "yes" if data.get("synthetic") else None),
        *((f"Network of {labels[model]}", value) for model, value in provenance.get("networks", {}).items()),
        *((f"Hardware, {name}", value) for name, value in provenance.get("hardware", {}).items()),
    ]
    return [(name, _text(value)) for name, value in facts if value not in (None, "", [], {})]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items() if inner is not None)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return ", ".join(map(_text, value)) if is_list else str(value)
