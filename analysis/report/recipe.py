"""The training of each model in words for a manuscript, and its settings as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eus_ray.analysis.inputs.effort import Effort, span
from eus_ray.analysis.inputs.searches import setting_text
from eus_ray.analysis.labels import DASH, KIND_LABELS, ReportKind, model_label
from eus_ray.analysis.report.references import Citations
from eus_ray.architectures import architectures

_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
_WORDS = {
    "optim.optimizer": "optimiser",
    "optim.lr": "learning rate",
    "optim.momentum": "momentum",
    "optim.weight_decay": "weight decay",
    "optim.schedule": "schedule of the learning rate",
    "train.epochs": "epochs",
    "train.stop_after": "epochs",
    "train.batch_size": "batch size",
    "train.precision": "precision",
    "model.width": "width",
    "model.encoder": "encoder",
    "model.pretrained": "pretraining",
    "model.weights": "pretraining",
    "model.decoder_width": "width of the decoder",
}
_SECTIONS = {
    "augment": "augmentation",
    "loss": "loss",
    "optim": "optimisation",
    "train": "training",
    "model": "network",
}
_STARTS = {"published": "published weights", "file": "weights of a file", "random": "random weights"}


@dataclass(frozen=True)
class Statement:
    """What is true of some models."""

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
            groups.setdefault(text, []).append(model_label(effort.model))
    number = len(efforts)
    return [
        Statement(
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


def network(effort: Effort, cite: Citations) -> str:
    """Return a network's size and encoder, to follow `had`; empty if nothing is known."""
    encoders = _options(effort, lambda settings: settings.get("model.encoder", ""))
    starts = listed(dict.fromkeys(_STARTS[start] for start in effort.starts), "or")
    uniform = effort.values("model.decoder_init") == ["uniform"]
    parts = [
        f"{width} channel{_s(width)} at its first level" if (width := _numbers(effort, "model.width")) else "",
        f"{width} channels in its decoder" if (width := _numbers(effort, "model.decoder_width")) else "",
        "decoder weights drawn from [0, 1]" if uniform else "",
        f"{span(effort.parameters)} trainable parameters" if effort.parameters else "",
        f"the encoder {encoders} ({cite('wightman')}), begun from {starts}" if encoders else "",
    ]
    return listed(filter(None, parts))


def training(effort: Effort) -> str:
    """Return how long, in which batches and with which optimiser a model was trained, to follow `were`."""
    parts = list(filter(None, [_duration(effort), _batches(effort)]))
    rest = list(filter(None, [_optimizer(effort), _precision(effort)]))
    return ", ".join(filter(None, [" ".join(["trained", *parts]) if parts or rest else "", *rest]))


def loss(effort: Effort) -> str:
    """Return a model's loss."""
    terms = [("loss.dice_weight", "the Dice loss"), ("loss.bce_weight", "binary cross-entropy")]
    shown = [(_numbers(effort, name), term) for name, term in terms]
    parts = [term if weight == "1" else f"{weight} times {term}" for weight, term in shown if weight not in ("", "0")]
    smooth = _numbers(effort, "loss.smooth")
    return f"{' plus '.join(parts)}{f' (smooth {smooth})' if smooth and parts else ''}"


def supervision(effort: Effort) -> str:
    """Return over which outputs the loss is added up; empty for a network without deep supervision."""
    spec = architectures().get(effort.model)
    deep, output = (_numbers(effort, f"loss.{name}") for name in ("slf_weight", "si_weight"))
    if spec is None or "loss.slf_weight" not in spec.settings or not deep:
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
        f"learning rate {rate}" if (rate := _numbers(effort, "optim.lr")) else "",
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
        f"rotation by {listed(f'{turn:g}' for turn in turns)} degrees" if set(turns) - {0} else "",
        f"scaling by {listed(f'{scale:g}' for scale in scales)}" if set(scales) - {1} else "",
        f"flips (probability {flips:g})" if flips else "",
        f"elastic deformation (probability {elastic:g}, α {strength[0]}, σ {strength[1]} pixels)" if elastic else "",
    ]
    return listed(filter(None, parts))


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
    return any(len(effort.values(name)) > 1 for name in _names([effort]))


def different_settings(efforts: Sequence[Effort]) -> list[str]:
    """Return in words the settings that several models have and that are not the same in all of them."""
    names = [
        name
        for name in _names(efforts)
        if (found := [values for effort in efforts if (values := effort.values(name))])
        and any(values != found[0] for values in found)
    ]
    return list(dict.fromkeys(_WORDS.get(name) or _SECTIONS.get(name.split(".")[0], name) for name in names))


def settings_table(efforts: Sequence[Effort]) -> dict[str, Any]:
    """Return the settings that all models share, and then each model's own, as texts."""
    shared = [
        name
        for name in _names(efforts)
        if len(efforts[0].values(name)) == 1
        and all(effort.values(name) == efforts[0].values(name) for effort in efforts)
        and all(name in settings for effort in efforts for settings in effort.settings)
    ]
    own = [
        {
            "label": model_label(effort.model),
            "note": KIND_LABELS.get(effort.kind, ""),
            "rows": [{"name": name, "text": _by_fold(effort, name)} for name in _names([effort]) if name not in shared],
        }
        for effort in efforts
    ]
    rows = [{"name": name, "text": _printed(efforts[0].values(name)[0])} for name in shared]
    return {"several": len(efforts) > 1, "shared": rows, "own": [each for each in own if each["rows"]]}


def _names(efforts: Sequence[Effort]) -> list[str]:
    return list(dict.fromkeys(name for effort in efforts for settings in effort.settings for name in settings))


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
