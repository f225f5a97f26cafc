"""The effort that went into each reported model: what was trained, and what it took.

It is read from `trials.parquet`, `epochs` and the checkpoints, model by model. The study file of the first run says
nothing of a model that was added later, nor of what a search chose.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from eus_ray.analysis.inputs.settings import read_labels
from eus_ray.analysis.labels import ReportKind
from eus_ray.architectures import module_of
from eus_ray.config import Study, field_of, to_dotted
from eus_ray.config_file import idle_fields, with_settings
from eus_ray.errors import UserError
from eus_ray.store import TRIALS, TRIALS_FILE, Store, TrialKind, checkpoint_name

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of a checkpoint that batch norm counts and no gradient changes."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of safetensors; a damaged file may claim more."""
_ANY_MODEL = Study(models=("unet",))
_LISTS = frozenset(name for name, value in to_dotted(Study()).items() if isinstance(value, list))

_WORDS = {
    "optim.optimizer": "optimiser",
    "optim.lr": "learning rate",
    "optim.encoder_lr_factor": "learning rate of the encoder",
    "optim.momentum": "momentum",
    "optim.weight_decay": "weight decay",
    "optim.schedule": "schedule of the learning rate",
    "train.epochs": "epochs",
    "train.stop_after": "epochs",
    "train.freeze_encoder_epochs": "epochs in which the encoder stays",
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


@dataclass(frozen=True)
class Effort:
    """The effort that went into one model, as reported under one kind.

    Tuples have one entry a reported fold, in the order of the folds: a nested search chooses a setting in each.
    """

    model: str
    label: str
    """The model's name for print."""
    arch: str
    """Its architecture; in older studies a model's name is its architecture's."""
    kind: str
    settings_tried: int
    """Trials of the search that chose the settings; 1 without a search."""
    folds: tuple[int, ...]
    trials: tuple[int, ...]
    """The trial whose predictions are reported."""
    epochs: tuple[int, ...]
    """Epochs trained; empty if neither `epochs` nor `trials.parquet` has them."""
    chosen_epochs: tuple[int, ...]
    """Epochs after which the weights were taken; empty if `epochs` does not say."""
    settings: tuple[Mapping[str, Any], ...]
    """The settings that change this model, by dotted name; those that a table lacks are left out."""
    parameters: tuple[int, ...]
    """Trainable weights of a network; empty if no table and no checkpoint has them."""
    devices: tuple[str, ...]
    """Different names of what all trials of the model were trained on; empty if the table does not say."""
    precisions: tuple[str, ...]
    """Different arithmetic of the reported trials; empty likewise."""
    fold_epochs: int
    """Epochs trained in all folds of all trials of the model."""
    hours: float
    """Time of these epochs, with scoring, added up over folds that may have been trained at once; NaN without any."""
    gpu_hours: float | None
    """The same, times the share of GPUs that a fold had; None if a table does not say."""
    cpu_hours: float | None
    """The same for folds without a GPU, times their threads."""

    @property
    def pretrained(self) -> bool:
        """Return whether the encoder of any fold began from trained weights."""
        return any(start in ("published", "file") for start in self.starts)

    @property
    def starts(self) -> tuple[str, ...]:
        """Return where each fold's encoder had its weights from: `published`, `file` or `random`.

        Empty if there is no encoder, or the table does not say.
        """
        return tuple(
            "file" if settings.get("model.weights") else "published" if settings.get("model.pretrained") else "random"
            for settings in self.settings
            if "model.encoder" in settings
        )

    @property
    def is_foreign(self) -> bool:
        """Return whether the network is code of which is not known which settings it uses, nor how it begins."""
        return module_of(self.arch) is not None

    def values(self, name: str) -> list[Any]:
        """Return the different values of a setting, in the order of the folds; none if it changes nothing."""
        found = [settings[name] for settings in self.settings if name in settings]
        return [value for place, value in enumerate(found) if value not in found[:place]]


def differences(one: Effort, other: Effort) -> list[str]:
    """Return in words what two models' efforts differ in: settings tried, epochs, pretraining.

    What is not known of one of them is passed over.
    """
    found = []
    if one.settings_tried != other.settings_tried:
        found.append(f"settings tried: {one.settings_tried} and {other.settings_tried}")
    if one.epochs and other.epochs and set(one.epochs) != set(other.epochs):
        found.append(f"epochs: {span(one.epochs)} and {span(other.epochs)}")
    if one.pretrained != other.pretrained:
        found.append(f"pretrained: {(one if one.pretrained else other).label} alone")
    return found


def different_settings(efforts: Sequence[Effort]) -> list[str]:
    """Return in words the settings that several models have and that are not the same in all of them.

    Their architecture is none of these.
    """
    names = [
        name
        for name in setting_names(efforts)
        if name != "model.arch"
        and (found := [values for effort in efforts if (values := effort.values(name))])
        and any(values != found[0] for values in found)
    ]
    return list(dict.fromkeys(_WORDS.get(name) or _SECTIONS.get(name.split(".")[0], name) for name in names))


def has_variants(efforts: Iterable[Effort]) -> bool:
    """Return whether several models are of one architecture."""
    archs = [effort.arch for effort in efforts]
    return len(set(archs)) < len(archs)


def setting_names(efforts: Sequence[Effort]) -> list[str]:
    """Return the dotted names of all settings that some models have."""
    return list(dict.fromkeys(name for effort in efforts for settings in effort.settings for name in settings))


def span(numbers: Iterable[int]) -> str:
    """Return whole numbers as their range, with separators of thousands; empty if there are none.

    >>> span([12, 12]), span([1200, 6]), span([])
    ('12', '6 to 1,200', '')
    """
    different = sorted(set(numbers))
    return " to ".join(f"{number:,}" for number in dict.fromkeys([*different[:1], *different[-1:]]))


def read_efforts(
    store: Store,
    trials: pd.DataFrame,
    reported: pd.DataFrame,
    tested: pd.DataFrame,
    epochs: pd.DataFrame,
) -> dict[tuple[str, str], Effort]:
    """Read the efforts of a study by model and kind.

    Args:
        store: The study folder.
        trials: `trials.parquet`.
        reported: `model, kind, trial, fold` of the folds that are reported, or will be.
        tested: `model, kind, fold` of the predicted images. Of a model with some, only folds with some count.
        epochs: `epochs` of all trials.
    """
    rows = {(row["model"], row["trial"]): row for row in trials.to_dict("records")}
    trained = epochs[epochs["split"] == "train"].groupby(["model", "trial", "fold"])["epoch"].max() + 1
    counted = epochs[epochs["split"] == "test"].groupby(["model", "trial", "fold"])["epoch"].max() + 1
    num_tried = trials[trials["kind"] == TrialKind.TRIAL].groupby("model").size()
    done = tested.drop_duplicates().groupby(["model", "kind"])["fold"].agg(set)
    labels, efforts = read_labels(store, trials), {}
    for (model, kind), mine in reported.sort_values("fold", kind="stable").groupby(["model", "kind"], sort=False):
        arch = _arch(rows[model, mine["trial"].iloc[0]])
        mine = mine[mine["fold"].isin(done.get((model, kind), mine["fold"]))]
        keys = [(str(model), int(trial), int(fold)) for trial, fold in zip(mine["trial"], mine["fold"], strict=True)]
        settings = [_settings(rows[key[:2]]) for key in keys]
        planned = (each.get("train.stop_after") or each.get("train.epochs") for each in settings)
        num_epochs = [trained.get(key, otherwise) for key, otherwise in zip(keys, planned, strict=True)]
        parameters = [_parameters(store, rows[key[:2]], key) for key in keys]
        efforts[str(model), str(kind)] = Effort(
            model=str(model),
            label=labels[str(model)],
            arch=arch,
            kind=str(kind),
            settings_tried=1 if kind == ReportKind.FIXED else int(num_tried.get(model, 1)),
            folds=tuple(fold for _, _, fold in keys),
            trials=tuple(trial for _, trial, _ in keys),
            epochs=_all_known(num_epochs),
            chosen_epochs=_all_known([counted.get(key) for key in keys]),
            settings=tuple(settings),
            parameters=_all_known(parameters),
            devices=_different(trials.loc[trials["model"] == model, "device"]),
            precisions=_different(rows[key[:2]]["precision"] for key in keys),
            **_cost(trials[trials["model"] == model], epochs[epochs["model"] == model]),
        )
    return efforts


def _settings(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the settings of a row of `trials.parquet` that it has and that change its model."""
    known = {
        str(name): _value(str(name), value)
        for name, value in row.items()
        if name not in (*TRIALS.names, "model.label") and value is not None and value == value
    }
    arch = _arch(row)
    try:
        idle = idle_fields(with_settings(_ANY_MODEL, {**known, "model.arch": arch}, TRIALS_FILE))
    except UserError:  # an older study may have values that are refused now
        idle = {}
    told = {"model.arch"} if arch == row["model"] else set()
    return {name: value for name, value in known.items() if field_of(name) not in {*idle, *told}}


def _arch(row: Mapping[Any, Any]) -> str:
    """Return the architecture of a row of `trials.parquet`."""
    arch = row.get("model.arch")
    return str(row["model"] if arch is None or arch != arch else arch)


def _value(name: str, value: Any) -> Any:
    """Return a setting as it was.

    Lists and entries of `model.args` are JSON, and whole numbers are floats if another row has none.
    """
    if name in _LISTS or name != field_of(name):
        return json.loads(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parameters(store: Store, row: Mapping[Any, Any], key: tuple[str, int, int]) -> int | None:
    """Return the trainable weights that a trial's row tells, or else the header of a fold's checkpoint."""
    if pd.notna(row["parameters"]):
        return int(row["parameters"])
    try:
        with store.fs.open_input_stream(store.path(checkpoint_name(*key))) as stream:
            header = json.loads(stream.read(min(int.from_bytes(stream.read(8), "little"), _MAX_HEADER_BYTES)))
    except (OSError, ValueError, pa.ArrowException):  # no checkpoint, or none that can be read
        return None
    weights = [
        math.prod(tensor["shape"])
        for name, tensor in header.items()
        if name.startswith("model/") and not name.endswith(_BUFFERS)
    ]
    return sum(weights) or None


def _all_known(values: Iterable[Any]) -> tuple[int, ...]:
    """Return values as whole numbers; none if one of them is not known."""
    listed = list(values)
    return () if any(pd.isna(value) for value in listed) else tuple(map(int, listed))


def _different(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the different names in a column of names that are separated by semicolons."""
    names = (name for value in values if pd.notna(value) for name in str(value).split("; "))
    return tuple(dict.fromkeys(filter(None, names)))


def _cost(trials: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, Any]:
    """Return what all trials of a model took."""
    hours = epochs.groupby("trial")["seconds"].sum() / 3600
    each = trials.set_index("trial")[["gpus", "threads"]].astype(np.float64).reindex(hours.index)
    known = each.notna().all(axis=None) and len(each)
    on_gpus = hours * each["gpus"]
    on_cpus = (hours * each["threads"])[each["gpus"] == 0]
    return {
        "fold_epochs": int((epochs["split"] == "train").sum()),
        "hours": float(hours.sum()) if len(hours) else np.nan,
        "gpu_hours": float(on_gpus.sum()) if known else None,
        "cpu_hours": float(on_cpus.sum()) if known else None,
    }
