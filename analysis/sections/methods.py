"""How the numbers came about, in sentences for a manuscript; then settings and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eus_ray.analysis.averages import DRAWS
from eus_ray.analysis.labels import DASH, column_label, model_label
from eus_ray.analysis.page import render
from eus_ray.analysis.results import Results, Section

_UNITS = {"px": "pixels", "mm": "millimetres", "": "pixels"}
_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}


def build(results: Results) -> Section | None:
    settings, folds = results.settings, results.provenance.get("folds", {})
    body = render(
        "methods.html",
        images=results.patients["image_id"].nunique(),
        patients=results.patients["patient_id"].nunique(),
        synthetic=results.synthetic,
        num_folds=results.patients["fold"].nunique(),
        seed=folds.get("seed"),
        strata=_and([column_label(str(name)) for name in folds.get("stratify", ())]),
        models=_and([model_label(model) for model in settings.get("models", [])]),
        several=len(settings.get("models", [])) > 1,
        own_settings=_and([model_label(model) for model in settings.get("only", {})]),
        searched=_and([model_label(model) for model in results.searches]),
        optimizer=_OPTIMIZERS.get(settings.get("optim", {}).get("optimizer"), "the optimizer below"),
        data=settings.get("data", {}),
        train=settings.get("train", {}),
        optim=settings.get("optim", {}),
        original_grid=settings.get("evaluate", {}).get("grid") == "original",
        dash=DASH,
        kinds=set(results.images["kind"]),
        measured=not results.headline.empty,
        unit=_UNITS.get(results.unit, results.unit),
        draws=DRAWS,
        settings_text=results.settings_text,
        facts=_facts(results.provenance),
        versions=sorted(results.provenance.get("versions", {}).items()),
    )
    return Section(90, "methods", "Methods", body)


def _and(names: Sequence[str]) -> str:
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
