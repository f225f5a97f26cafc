"""A whole study, and the dotted names of its fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from eus_ray.architectures import architectures, is_architecture, printed_name, spec_of
from eus_ray.config.augment import AugmentSettings
from eus_ray.config.sections import (
    AnalysisSettings,
    DataSettings,
    EvaluateSettings,
    FoldSettings,
    LogSettings,
    LossSettings,
    ModelSettings,
    OptimSettings,
    RunSettings,
    SearchSettings,
    Settings,
    TrainSettings,
)
from eus_ray.errors import UserError, did_you_mean

ARCHITECTURES = tuple(architectures())
"""The architectures of eus-ray, in their order."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = ("baseline",)
"""Names that reports give to something else."""


class Study(Settings):
    """A whole study; `for_model` applies `[only.NAME]`."""

    models: tuple[str, ...] = ARCHITECTURES
    """Names of the models to train: architectures, or variants that `[only.NAME]` describes."""
    data: DataSettings = DataSettings()
    folds: FoldSettings = FoldSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    loss: LossSettings = LossSettings()
    train: TrainSettings = TrainSettings()
    search: SearchSettings = SearchSettings()
    run: RunSettings = RunSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    log: LogSettings = LogSettings()
    only: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of one model alone, by dotted name: `[only.unet]`."""

    @field_validator("models")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"must name one model at least, and each once, not {list(value)}")
        return value

    @model_validator(mode="after")
    def _described(self) -> Study:
        """Refuse models and tables of `[only]` that are no architecture and do not say which they are."""
        lines = [f"models: {line}" for name in self.models if (line := self._objection(name))]
        others = [name for name in self.only if name not in self.models]
        lines += [f"only: {line}" for name in others if (line := self._objection(name))]
        if lines:
            raise ValueError("\n".join(lines))
        return self

    def _objection(self, name: str) -> str:
        named = self.only.get(name, {}).get("model.arch")
        if is_architecture(name):
            return f"[only.{name}] model.arch: {name} is an architecture itself" if named not in (None, name) else ""
        hint = did_you_mean(name, [*ARCHITECTURES, *(other for other in self.only if other != name)])
        if name in _RESERVED:
            return f"{name!r} is kept for reports; take another name"
        if not _NAME.fullmatch(name):
            variant = '; [only.NAME] "model.arch" says which network a model NAME is'
            return f"{name!r} is not a name of a-z, 0-9 and _, 40 at most{variant if ':' in name else hint}"
        is_alone = self.models == (name,) and "arch" in self.model.model_fields_set
        if named is None and not is_alone:
            return f'{name!r} is not a choice{hint} (a variant needs [only.{name}] with "model.arch")'
        return ""

    def for_model(self, name: str) -> Study:
        """Return the settings of one model, with `[only.NAME]` applied and dropped."""
        own = self.only.get(name, {})
        tree = self.model_dump(exclude={"only"})
        arch = name if is_architecture(name) else own.get("model.arch", self.model.arch)
        for field, value in sorted_settings({**own, "model.arch": arch, "models": [name]}):
            set_dotted(tree, field, value)
        return Study.model_validate(tree)

    @property
    def name(self) -> str:
        """Return the model's name, in the settings of one model (`for_model`)."""
        (name,) = self.models
        return name

    @property
    def label(self) -> str:
        """Return the model's name in print, in the settings of one model."""
        return printed_name(self.name, self.model.label)


def dotted_names(model: type[BaseModel] = Study, prefix: str = "") -> list[str]:
    """Return every field's dotted name, such as `optim.lr`, in the order of this file."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += dotted_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def field_of(name: str) -> str:
    """Return the field that a dotted name is, or is an entry of.

    >>> field_of("optim.lr"), field_of("model.args.depth")
    ('optim.lr', 'model.args')
    """
    return "model.args" if name.startswith("model.args.") else name


def unused_fields(arch: str) -> list[str]:
    """Return the fields that only other architectures use: settings that differ in them alone are the same to it."""
    return [name for name in _NOT_FOR_ALL if name not in spec_of(arch).settings]


_NOT_FOR_ALL = (
    *(f"model.{field}" for field in ModelSettings.model_fields if field not in ("arch", "label")),
    *("loss.slf_weight", "loss.level_weights", "loss.auxiliary_weight"),
    *("train.freeze_encoder_epochs", "optim.encoder_lr_factor"),
)


LATER: dict[str, Any] = {
    "data.channels": "gray",
    "augment.brightness_probability": 0.0,
    "augment.brightness": 0.2,
    "augment.contrast_probability": 0.0,
    "augment.contrast": 0.2,
    "augment.gamma_probability": 0.0,
    "augment.gamma": 1.5,
    "augment.blur_probability": 0.0,
    "augment.blur_sigma": 1.0,
    "augment.noise_probability": 0.0,
    "augment.noise": 0.05,
    "augment.speckle_probability": 0.0,
    "augment.speckle": 0.2,
    "augment.downscale_probability": 0.0,
    "augment.downscale": 0.5,
    "augment.occlusion_probability": 0.0,
    "augment.occlusion": 0.2,
    "optim.encoder_lr_factor": 1.0,
    "loss.auxiliary_weight": 0.4,
    "train.freeze_encoder_epochs": 0,
}
"""Fields that older versions did not have, with the values at which training is as it was without them."""


def to_dotted(study: Study, sections: Iterable[str] = ("model", "augment", "optim", "loss", "train")) -> dict[str, Any]:
    """Return the fields of some sections by dotted name, tuples as lists; `model.args` one by one."""
    tree = study.model_dump(mode="json")
    fields = {f"{section}.{name}": value for section in sections for name, value in tree[section].items()}
    arguments = fields.pop("model.args", {})
    return fields | {f"model.args.{name}": value for name, value in arguments.items()}


def sorted_settings(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return settings by dotted name in the order in which `set_dotted` takes them: a preset before its changes."""
    return sorted(settings.items(), key=lambda item: item[0] != "augment.preset")


def set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a field of a tree of settings by its dotted name; a preset takes its whole section's place.

    Raises:
        UserError: If a part of the name is a value, not a section.
    """
    *sections, name = dotted.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            raise UserError(f"{dotted}: no such field; {section} holds a value, not a section")
        tree = below
    if dotted == "augment.preset":
        tree.clear()
    tree[name] = value
