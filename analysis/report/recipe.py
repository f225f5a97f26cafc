"""The training of each model in words for a manuscript, and its settings as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eus_ray.analysis.inputs.effort import Effort, setting_names, span
from eus_ray.analysis.inputs.searches import setting_text
from eus_ray.analysis.labels import DASH, KIND_LABELS, ReportKind
from eus_ray.analysis.report.references import Citations
from eus_ray.architectures import architectures, is_of_smp, spec_of
from eus_ray.config import ModelSettings

_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
_STARTS = {"published": "published weights", "file": "weights of a file", "random": "random weights"}


@dataclass(frozen=True)
class Statement:
    """What is true of some models."""

    names: str
    who: str
    """Their names; `Both models` or `All models` if there are no others."""
    several: bool
    everyone: bool
    """Whether it is true of every model, or of the only one."""
    text: str


def statements(efforts: Sequence[Effort], words: Callable[[Effort], str]) -> list[Statement]:
    """Return what is said of each model, once for all models of which the same is said.

    Args:
        efforts: The models.
        words: Returns what is to be said of a model; an empty text for nothing.
    """
    groups: dict[str, list[str]] = {}
    for effort in efforts:
        if text := words(effort):
            groups.setdefault(text, []).append(effort.label)
    number = len(efforts)
    return [
        Statement(
            listed(names),
            f"{'Both' if number == 2 else 'All'} models" if len(names) == number > 1 else listed(names),
            len(names) > 1,
            len(names) == number,
            text,
        )
        for text, names in groups.items()
    ]


def listed(names: Sequence[Any] | Any, last: str = "and") -> str:
    """Join names for a sentence.

    >>> listed(["a", "b", "c"]), listed([1, 2], "or"), listed([])
    ('a, b and c', '1 or 2', '')
    """
    texts = [str(name) for name in names]
    return f" {last} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


# ---- what a model is ----------------------------------------------------------------------------


def cited(effort: Effort, cite: Citations) -> str:
    """Return a model's name, with citations if it is its architecture's; else `origins` has them."""
    spec = spec_of(effort.arch)
    return f"{effort.label} ({cite(*spec.citations)})" if spec.citations and _is_named(effort) else effort.label


def origins(efforts: Sequence[Effort], networks: Mapping[str, Any], cite: Citations) -> list[str]:
    """Return a sentence on each architecture whose models have other names, and on each of others' networks.

    Args:
        efforts: The models.
        networks: What provenance.json says of others' networks, by model; empty in older studies.
        cite: Cites.
    """
    said = statements(efforts, lambda effort: _origin(effort, networks.get(effort.model, {}), cite))
    return [f"The network of {each.names} was {each.text}." for each in said]


def _is_named(effort: Effort) -> bool:
    """Return whether a model has the name of an architecture of eus-ray, which is its own."""
    return effort.arch in architectures() and effort.label == spec_of(effort.arch).label


def _origin(effort: Effort, told: Mapping[str, Any], cite: Citations) -> str:
    """Return in words what a model's architecture is; empty if its name says it, or nothing is known."""
    spec = spec_of(effort.arch)
    if _is_named(effort) or not (spec.is_own or told or ":" in effort.arch):
        return ""
    if spec.is_own:
        return f"{spec.label} ({cite(*spec.citations)})"
    told = told if told.get("arch") == effort.arch else {}
    version = f" {told['version']}" if told.get("version") else ""
    if is_of_smp(effort.arch):
        works = f" ({cite(*known)})" if (known := spec.citations[1:]) else ""
        return f"the decoder {spec.label}{works} of segmentation_models_pytorch{version} ({cite('smp')})"
    module = told.get("module") or effort.arch.rpartition(":")[0]
    digest = f" (SHA-256 of its file: {told['sha256'][:12]}…)" if told.get("sha256") else ""
    return f"the authors' own code: {spec.label} of the module {module}{version}{digest}"


def networks(efforts: Sequence[Effort], cite: Citations) -> list[tuple[str, str]]:
    """Return models and their `network`; models of one architecture of which the same is said stand together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for effort in efforts:
        if had := network(effort, cite):
            groups.setdefault((effort.arch, had), []).append(effort.label)
    return [
        (listed(names), had if len(names) == 1 else had.replace(" its ", " their "))
        for (_, had), names in groups.items()
    ]


def network(effort: Effort, cite: Citations) -> str:
    """Return a network's size and encoder, to follow `had`; empty if nothing is known."""
    size = f"{span(effort.parameters)} trainable parameters" if effort.parameters else ""
    if effort.is_foreign:
        return listed(filter(None, [size, _arguments(effort)]))
    encoders = _options(effort, lambda settings: _encoder(effort.arch, settings, cite))
    starts = listed(dict.fromkeys(_STARTS[start] for start in effort.starts), "or")
    uniform = effort.values("model.decoder_init") == ["uniform"]
    parts = [
        f"{width} channel{_s(width)} at its first level" if (width := _numbers(effort, "model.width")) else "",
        f"{width} channels in its decoder" if (width := _numbers(effort, "model.decoder_width")) else "",
        "decoder weights drawn from [0, 1]" if uniform else "",
        size,
        f"the encoder {encoders}, begun from {starts}" if encoders else "",
        _arguments(effort),
    ]
    return listed(filter(None, parts))


def _encoder(arch: str, settings: Mapping[str, Any], cite: Citations) -> str:
    """Return an encoder, with its library's citation if it is surely of timm."""
    name = settings.get("model.encoder", "")
    is_of_timm = not is_of_smp(arch) or "." in name  # others may be SMP's own
    return f"{name} ({cite('wightman')})" if name and is_of_timm else name


def _arguments(effort: Effort) -> str:
    """Return what a network was built with; others' code may have no use for a field of `[model]` that is not set."""
    plain = ModelSettings().model_dump()
    names = [name for name in setting_names([effort]) if name.startswith("model.args.")]
    if effort.is_foreign:
        names = [f"model.{name}" for name in plain if effort.values(f"model.{name}") not in ([], [plain[name]])] + names
    said = [f"{name.rpartition('.')[2]} = {_options_of(effort.values(name))}" for name in names if name != "model.arch"]
    return f"the argument{'s' if len(said) > 1 else ''} {listed(said)}" if said else ""


def training(effort: Effort) -> str:
    """Return how long, in which batches and with which optimiser a model was trained, to follow `were`."""
    parts = list(filter(None, [_duration(effort), _batches(effort)]))
    rest = list(filter(None, [_optimizer(effort), _frozen(effort), _precision(effort)]))
    return ", ".join(filter(None, [" ".join(["trained", *parts]) if parts or rest else "", *rest]))


def loss(effort: Effort) -> str:
    """Return a model's loss."""
    terms = [("loss.dice_weight", "the Dice loss"), ("loss.bce_weight", "binary cross-entropy")]
    shown = [(_numbers(effort, name), term) for name, term in terms]
    parts = [term if weight == "1" else f"{weight} times {term}" for weight, term in shown if weight not in ("", "0")]
    smooth = _numbers(effort, "loss.smooth")
    return f"{' plus '.join(parts)}{f' (smooth {smooth})' if smooth and parts else ''}"


def supervision(effort: Effort) -> str:
    """Return over which outputs the loss is added up; empty for a network that is known to have only one."""
    used = spec_of(effort.arch).settings
    deep, output, auxiliary = (_numbers(effort, f"loss.{name}_weight") for name in ("slf", "si", "auxiliary"))
    if "loss.auxiliary_weight" in used and auxiliary not in ("", "0"):
        return f"the output and, if there are any, auxiliary outputs (weight {auxiliary} of their mean)"
    if "loss.slf_weight" not in used or not deep:
        return ""
    levels = effort.values("loss.level_weights")
    weighted = "" if levels == [[1, 1, 1, 1]] else f", with weights by level of {_options_of(levels)}"
    features = "" if deep == "0" else f"single-layer features (weight {deep}) and "
    return f"{features}single images (weight {output}){weighted}"


def augmentation(effort: Effort) -> str:
    """Return how training images were changed, to follow `were`; empty if nothing is known."""
    known = [_augmented(settings) for settings in effort.settings if "augment.flip_probability" in settings]
    different = list(dict.fromkeys(known))
    if len(different) > 1:
        return "augmented at random, differently in each fold, as its own setting says"
    return "".join(f"augmented at random by {text}" if text else "not augmented" for text in different)


def kept_epoch(effort: Effort) -> str:
    """Return after which epoch the weights of a fold were taken, to follow `after`."""
    if effort.kind != ReportKind.NESTED:
        return "the last epoch"
    chosen = span(effort.chosen_epochs)
    scored = "at which the fold's validation patients scored best"
    return f"the epoch {scored}{f' ({chosen} epoch{_s(chosen)})' if chosen else ''}"


def cost(effort: Effort) -> str:
    """Return the hours that all trials of a model took; empty if no epoch is known."""
    if math.isnan(effort.hours):
        return ""
    kinds = [(effort.gpu_hours, "GPU hours"), (effort.cpu_hours, "CPU hours")]
    known = [f"{hours_text(hours)} {kind}" for hours, kind in kinds if hours]
    return listed(known) or f"{hours_text(effort.hours)} hours"


def hours_text(hours: float) -> str:
    """Format hours: with two digits at least, and none after the point from 10 on.

    >>> [hours_text(hours) for hours in (0.0379, 1.26, 12.3, 1234.5)]
    ['0.038', '1.3', '12', '1,234']
    """
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _duration(effort: Effort) -> str:
    if not effort.epochs:
        return ""
    trained, planned = span(effort.epochs), _numbers(effort, "train.epochs")
    stopped = any(effort.values("train.stop_after")) and planned != trained
    return f"for {trained} epoch{_s(trained)}{f' of a schedule of {planned}' if stopped and planned else ''}"


def _batches(effort: Effort) -> str:
    size, joined = _numbers(effort, "train.batch_size"), _numbers(effort, "train.accumulate")
    steps = f" ({joined} of them to a step)" if joined not in ("", "1") else ""
    return f"in batches of {size}{steps}" if size else ""


def _optimizer(effort: Effort) -> str:
    names = [
        f"{_OPTIMIZERS.get(name, name)}{_momentum(effort) if name == 'sgd' else ''}"
        for name in effort.values("optim.optimizer")
    ]
    decay, clip = _numbers(effort, "optim.weight_decay"), _numbers(effort, "train.clip_norm")
    parts = [
        listed(names, "or"),
        f"learning rate {rate}{_encoder_rate(effort)}" if (rate := _numbers(effort, "optim.lr")) else "",
        f"weight decay {decay}" if decay else "",
        f"gradients cut to norm {clip}" if clip not in ("", "0") else "",
    ]
    schedules = dict.fromkeys(
        _schedule(settings, epochs)
        for settings, epochs in zip(effort.settings, effort.epochs or [None] * len(effort.settings), strict=True)
        if "optim.schedule" in settings
    )
    said = " and ".join(filter(None, [", ".join(filter(None, parts)), listed(schedules, "or")]))
    return f"with {said}" if said else ""


def _encoder_rate(effort: Effort) -> str:
    factor = _numbers(effort, "optim.encoder_lr_factor")
    return f" ({factor} times that in the encoder)" if factor not in ("", "1") else ""


def _frozen(effort: Effort) -> str:
    number = _numbers(effort, "train.freeze_encoder_epochs")
    if number in ("", "0"):
        return ""
    first = f"first {number} epochs" if number != "1" else "first epoch"
    return f"with the encoder left as it was for the {first}"


def _momentum(effort: Effort) -> str:
    momentum = _numbers(effort, "optim.momentum")
    return f" (momentum {momentum})" if momentum else ""


def _schedule(settings: Mapping[str, Any], epochs: int | None) -> str:
    """Return a learning rate's schedule; milestones that were not reached changed nothing."""
    name = settings["optim.schedule"]
    if name != "steps":
        return {"cosine": "a cosine schedule", "one_cycle": "a one-cycle schedule"}.get(name, f"the schedule {name}")
    reached = [each for each in settings.get("optim.milestones", ()) if epochs is None or each < epochs]
    if not reached:
        return "a constant schedule"
    after = f"after {listed(reached)} epoch{_s(listed(reached))}"
    return f"a learning rate multiplied by {settings.get('optim.gamma', math.nan):g} {after}"


def _precision(effort: Effort) -> str:
    names = [name for name in effort.precisions or effort.values("train.precision") if name != "auto"]
    return f"in {listed(names)} arithmetic" if names else ""


def _augmented(settings: Mapping[str, Any]) -> str:
    turns, scales = (settings.get(f"augment.{name}", []) for name in ("rotations_degrees", "scales"))
    flips, elastic = (settings.get(f"augment.{name}_probability", 0) for name in ("flip", "elastic"))
    strength = [f"{settings[f'augment.elastic_{name}']:g}" for name in ("alpha", "sigma")] if elastic else []
    parts = [
        f"rotation by {listed((f'{turn:g}' for turn in turns), 'or')} degrees" if set(turns) - {0} else "",
        f"scaling by {listed((f'{scale:g}' for scale in scales), 'or')}" if set(scales) - {1} else "",
        f"flips (probability {flips:g})" if flips else "",
        f"elastic deformation (probability {elastic:g}, α {strength[0]}, σ {strength[1]} pixels)" if elastic else "",
        *(_changed(name, settings) for name in _CHANGES),
    ]
    return listed(filter(None, parts))


_CHANGES: dict[str, tuple[str, Callable[[float], str]]] = {
    "brightness": ("brightness", lambda most: f"changes of brightness by up to {100 * most:g} % of the full range"),
    "contrast": ("contrast", lambda most: f"changes of contrast by factors of {1 - most:g} to {1 + most:g}"),
    "gamma": ("gamma", lambda most: f"gamma curves with exponents of {1 / most:.3g} to {most:g}"),
    "blur": ("blur_sigma", lambda most: f"Gaussian blur with σ of up to {most:g} pixel{'s' * (most != 1)}"),
    "noise": ("noise", lambda most: f"added noise with an SD of up to {100 * most:g} % of the full range"),
    "speckle": ("speckle", lambda most: f"multiplied noise (speckle) with an SD of up to {most:g}"),
    "downscale": ("downscale", lambda least: f"lower resolution, down to a factor of {least:g}"),
    "occlusion": ("occlusion", lambda most: f"black rectangles with sides of up to {100 * most:g} % of the image's"),
}
"""Later changes: the field with each one's strength, and what it does."""


def _changed(name: str, settings: Mapping[str, Any]) -> str:
    """Return one of `_CHANGES` in words; empty if it is off."""
    field, words = _CHANGES[name]
    probability, strength = settings.get(f"augment.{name}_probability", 0), settings.get(f"augment.{field}")
    return f"{words(strength)} (probability {probability:g})" if probability and strength is not None else ""


def _numbers(effort: Effort, name: str) -> str:
    """Return a number, or the range of the folds' numbers; empty if the setting changes nothing or is not known."""
    values = sorted(effort.values(name))
    return " to ".join(dict.fromkeys(f"{value:g}" for value in [*values[:1], *values[-1:]]))


def _options(effort: Effort, words: Callable[[Mapping[str, Any]], str]) -> str:
    return listed(dict.fromkeys(filter(None, map(words, effort.settings))), "or")


def _options_of(values: Sequence[Any]) -> str:
    return listed(map(setting_text, values), "or")


def _s(number: str) -> str:
    return "" if number == "1" else "s"


# ---- all settings -------------------------------------------------------------------------------


def varies_by_fold(effort: Effort) -> bool:
    """Return whether the folds of a model had different settings."""
    return any(len(effort.values(name)) > 1 for name in setting_names([effort]))


def settings_table(efforts: Sequence[Effort]) -> dict[str, Any]:
    """Return the settings that all models share, and then each model's own, as texts."""
    shared = [
        name
        for name in setting_names(efforts)
        if len(efforts[0].values(name)) == 1
        and all(effort.values(name) == efforts[0].values(name) for effort in efforts)
        and all(name in settings for effort in efforts for settings in effort.settings)
    ]
    own = [
        {
            "label": effort.label,
            "note": KIND_LABELS.get(effort.kind, ""),
            "rows": [
                {"name": name, "text": _by_fold(effort, name)} for name in setting_names([effort]) if name not in shared
            ],
        }
        for effort in efforts
    ]
    rows = [{"name": name, "text": _printed(efforts[0].values(name)[0])} for name in shared]
    return {"several": len(efforts) > 1, "shared": rows, "own": [each for each in own if each["rows"]]}


def _by_fold(effort: Effort, name: str) -> str:
    """Return a setting's value; if it differs among the folds, each value with its folds.

    A setting that plays no part in a fold has a dash there.
    """
    folds: dict[str, list[int]] = {}
    for fold, settings in zip(effort.folds, effort.settings, strict=True):
        folds.setdefault(_printed(settings[name]) if name in settings else DASH, []).append(fold)
    if len(folds) == 1:
        return next(iter(folds))
    return "; ".join(
        f"{text} (fold{'s' if len(numbers) > 1 else ''} {listed(numbers)})" for text, numbers in folds.items()
    )


def _printed(value: Any) -> str:
    return setting_text(value) or DASH
