"""Section on methods: text for a manuscript, references, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eus_ray.analysis.comparison.claims import LEVEL, PRIMARY
from eus_ray.analysis.comparison.pairwise import read_margins
from eus_ray.analysis.comparison.paper_tables import shown_metrics
from eus_ray.analysis.comparison.subgroups import divide
from eus_ray.analysis.inputs.searches import Search
from eus_ray.analysis.labels import DASH, METRIC_LABELS, ReportKind, column_label, model_label
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.references import Citations
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics.bootstrap import DRAWS
from eus_ray.architectures import architectures
from eus_ray.store import TrialState

_UNITS = {"px": "pixels", "mm": "millimetres"}
_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
_SCHEDULES = {"cosine": "a cosine schedule", "one_cycle": "a one-cycle schedule"}
_SAMPLERS = {
    "tpe": "a tree-structured Parzen estimator",
    "gp": "a Gaussian process",
    "random": "random draws",
    "grid": "a grid",
}


def build(results: Results) -> Section | None:
    """Build the section."""
    folds = results.provenance.get("folds", {})
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
        strata=_and([column_label(str(name)) for name in folds.get("stratify", ())]),
        study=bool(results.settings_text),
        training=_training(results.settings, cite),
        versions=results.provenance.get("versions", {}),
        searches=[_search(search) for search in results.searches.values()],
        protocols={search.protocol for search in results.searches.values()},
        judged={search.protocol for search in results.searches.values() if not search.selection.empty},
        unended=_and([model_label(search.model) for search in results.searches.values() if search.selection.empty]),
        has_winner=ReportKind.WINNER in set(results.images["kind"]),
        original_grid=results.settings.get("evaluate", {}).get("grid") == "original",
        measured=not results.headline.empty,
        interval_note=results.interval_note,
        unit=_UNITS.get(results.unit, results.unit),
        pooled=bool(results.rocs),
        draws=DRAWS,
        level=LEVEL,
        compared=_compared(results),
    )
    body = render(
        "methods.html",
        text=text,
        references=cite.texts,
        bibtex=cite.bibtex,
        settings_text=results.settings_text,
        facts=_facts(results.provenance),
        versions=sorted(results.provenance.get("versions", {}).items()),
    )
    return Section(90, "methods", "Methods", body)


def _training(settings: Mapping[str, Any], cite: Citations) -> dict[str, Any] | None:
    """Return the training settings in words; None if some of them are missing."""
    if not {"models", "data", "optim", "loss", "train", "augment", "model"} <= settings.keys():
        return None
    only, optim, loss, augment = settings.get("only", {}), settings["optim"], settings["loss"], settings["augment"]
    specs = [spec for model in settings["models"] if (spec := architectures().get(model)) is not None]
    citations = {spec.name: cite(*spec.citations) for spec in specs if spec.citations}
    models = [
        f"{model_label(model)} ({citations[model]})" if model in citations else model_label(model)
        for model in settings["models"]
    ]
    steps = f"a learning rate multiplied by {optim['gamma']} from epochs {_and(optim['milestones'])} on"
    parts = [
        f"{weight:g} times {name}" if weight != 1 else name
        for weight, name in ((loss["dice_weight"], "the Dice loss"), (loss["bce_weight"], "binary cross-entropy"))
        if weight
    ]
    return {
        "models": _and(models),
        "several": len(models) > 1,
        "supervised": _and(spec.label for spec in specs if spec.deep_supervision),
        "encoders": [
            _encoder(spec.label, settings["model"], only.get(spec.name, {}))
            for spec in specs
            if "model.encoder" in spec.settings and {"encoder", "pretrained", "weights"} & settings["model"].keys()
        ],
        "data": settings["data"],
        "train": settings["train"],
        "optim": optim,
        "optimizer": _OPTIMIZERS.get(optim["optimizer"], optim["optimizer"]),
        "schedule": _SCHEDULES.get(optim["schedule"], steps),
        "loss": " plus ".join(parts),
        "smooth": f"{loss['smooth']:g}" if loss["dice_weight"] else "",
        "augmented": _augmented(augment),
        "own_settings": _and([model_label(model) for model in only]),
    }


def _encoder(label: str, model: Mapping[str, Any], only: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture's encoder, whose settings may be its own."""
    name, pretrained, weights = (
        only.get(f"model.{field}", model.get(field)) for field in ("encoder", "pretrained", "weights")
    )
    start = "published weights" if pretrained else "weights of a file" if weights else "random weights"
    return {"model": label, "name": name, "start": start}


def _augmented(augment: Mapping[str, Any]) -> str:
    turns, scales = augment["rotations_degrees"], augment["scales"]
    elastic = (
        f"elastic deformation (probability {augment['elastic_probability']:g}, "
        f"α {augment['elastic_alpha']:g}, σ {augment['elastic_sigma']:g} pixels)"
    )
    parts = [
        (set(turns) != {0.0}, f"rotation by {_and(f'{turn:g}' for turn in turns)} degrees"),
        (set(scales) != {1.0}, f"scaling by {_and(f'{scale:g}' for scale in scales)}"),
        (augment["flip_probability"], f"flips (probability {augment['flip_probability']:g})"),
        (augment["elastic_probability"], elastic),
    ]
    return _and(text for is_used, text in parts if is_used)


def _search(search: Search) -> dict[str, Any]:
    return {
        "model": model_label(search.model),
        "trials": len(search.trials),
        "fields": _and([dimension.name for dimension in search.dimensions]),
        "sampler": _SAMPLERS.get(search.sampler, search.sampler),
        "tpe": search.sampler == "tpe",
        "scheduler": search.scheduler,
        "alpha": f"{search.racing_alpha:g}",
        "metric": METRIC_LABELS[search.metric],
        "complete": int((search.trials["state"] == TrialState.COMPLETE).sum()),
    }


def _compared(results: Results) -> dict[str, Any] | None:
    """Return what the section of claims compares; None without scores."""
    metrics = [] if results.headline.empty else shown_metrics(results.table2)
    if not metrics:
        return None
    margins = read_margins(results.settings)
    divisions, _ = divide(results.headline)
    clinical = [division.label for division in divisions if division.is_clinical]
    return {
        "models": len(results.models),
        "folds": results.headline["fold"].nunique() > 1,
        "primary": METRIC_LABELS[PRIMARY] if PRIMARY in metrics else "",
        "others": len(metrics) > 1,
        "ratio": f"{margins.ratio:g}" if set(metrics) - set(DISTANCES) else "",
        "distance": f"{margins.distance:g}" if set(metrics) & set(DISTANCES) else "",
        "clinical": _and(clinical),
        "several_clinical": len(clinical) > 1,
        "divided": bool(divisions),
        "shares": "iou" in metrics,
    }


def _and(names: Sequence[Any] | Any) -> str:
    names = [str(name) for name in names]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = provenance.get("data", {})
    facts = [
        ("eus-ray", provenance.get("eus_ray")),
        ("Commit", provenance.get("commit")),
        ("Started", provenance.get("started")),
        ("Manifest", data.get("manifest")),
        ("Fingerprint of the data", data.get("fingerprint")),
        ("Synthetic data", "yes" if data.get("synthetic") else None),
        *((f"Hardware, {name}", value) for name, value in provenance.get("hardware", {}).items()),
    ]
    return [(name, _text(value)) for name, value in facts if value not in (None, "", [], {})]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
