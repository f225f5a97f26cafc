"""Check a study and its folder before a run, and write what is fixed for the study.

A study is its data, folds, seed, image size, evaluation grid, and how masks are made of probabilities. They are written
when the folder is new and compared when it is not: a run that would mix two studies is refused before anything is
written.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from eus_ray import store as names
from eus_ray.config import EvaluateSettings, Study
from eus_ray.config_file import study_toml, without_effect
from eus_ray.data.arrays import Arrays, case_batches
from eus_ray.data.dataset import Dataset, check_data
from eus_ray.errors import UserError, collapsed
from eus_ray.models import check_model_of
from eus_ray.store import Store
from eus_ray.study.callbacks import Callback
from eus_ray.study.networks import NETWORKS, check_networks, network_entries, network_warnings
from eus_ray.study.trials import Trials

Checked = TypeVar("Checked")

_VERSIONS = ("torch", "ray", "timm", "albumentations", "numpy", "scipy", "pandas", "pyarrow")


def prepare_dataset(study: Study, store: Store, *, resume: bool) -> Dataset:
    """Read and check the data of a study, and everything else that can be checked before Ray starts.

    Args:
        study: What to train.
        store: Where its results will lie.
        resume: Whether models may be in the folder already.

    Raises:
        UserError: With one line for each mistake; nothing is written.
    """
    num_bytes = sum(collect_errors(lambda model: check_model_of(study.for_model(model)), study.models))
    dataset = check_data(study)
    check_identity(store, dataset)
    check_networks(store, study)
    check_room(store, dataset, num_bytes)
    refuse_models_there(Trials(store), store, study, resume=resume)
    return dataset


def tell_warnings(callbacks: Sequence[Callback], dataset: Dataset, store: Store) -> None:
    """Tell settings without effect and what is odd about data and networks, once nothing is left to refuse."""
    idle = collapsed(without_effect(dataset.study))
    for warning in (*idle, *network_warnings(store, dataset.study), *dataset.warnings):
        for callback in callbacks:
            callback.on_warning(warning)


def collect_errors(check: Callable[[str], Checked], models: Sequence[str]) -> list[Checked]:
    """Return what a check says of each model.

    Raises:
        UserError: With what is wrong with any of them, each line once.
    """
    found: list[Checked] = []
    lines: list[str] = []
    for model in models:
        try:
            found.append(check(model))
        except UserError as error:
            lines += error.lines
    if lines:
        raise UserError(*dict.fromkeys(lines))
    return found


def refuse_models_there(trials: Trials, store: Store, study: Study, *, resume: bool) -> None:
    """Raise `UserError` if the folder holds these models already and `resume` is not asked for."""
    for model in study.models:
        records = trials.of(model)
        if records and not resume:
            raise UserError(
                f"{store.location}: holds {model} already ({records[0].kind}, {records[0].state}); resume to go on "
                "with it, name other models, or choose another output folder"
            )


def identity(dataset: Dataset) -> dict[str, Any]:
    """Return what a study folder is about: two runs may share a folder only if all of this is equal."""
    study = dataset.study
    order = dataset.frame.assign(fold=dataset.folds).sort_values("image_id")
    folds = ",".join(f"{row.image_id}={row.fold}" for row in order[["image_id", "fold"]].itertuples())
    return {
        "data.fingerprint": dataset.manifest.fingerprint,
        "data.image_size": study.data.image_size,
        "data.channels": study.data.channels,
        "data.resize": study.data.resize,
        "data.intensity": study.data.intensity if isinstance(study.data.intensity, str) else list(study.data.intensity),
        "folds.count": study.folds.count,
        "folds.assignment": hashlib.sha256(folds.encode()).hexdigest(),
        "train.seed": study.train.seed,
        **_dotted_evaluate(study.evaluate),
    }


def _dotted_evaluate(evaluate: EvaluateSettings) -> dict[str, Any]:
    return {f"evaluate.{name}": value for name, value in evaluate.model_dump().items()}


def check_identity(store: Store, dataset: Dataset) -> bool:
    """Tell whether the folder holds this very study already; not if it is new or empty.

    Raises:
        UserError: If it holds another study, or files that are no study's.
    """
    if not store.exists(names.PROVENANCE):
        # a run that ended before its study was whole left its settings beside what it had written
        early = (names.MANIFEST, names.CASES_FILE) if store.exists(names.STUDY) else ()
        foreign = [name for name in store.names() if name not in (names.RUN, names.STUDY, *early)]
        if foreign:
            raise UserError(f"{store.location}: holds {foreign[0]} and no study; choose an empty output folder")
        return False
    # a folder that is older than a setting was made with what is its default now
    there = (
        {"data.channels": "gray"} | _dotted_evaluate(EvaluateSettings()) | store.read_json(names.PROVENANCE)["identity"]
    )
    here = identity(dataset)
    different = [name for name in here if there.get(name) != here[name]]
    if different:
        raise UserError(
            *(
                f"{store.location}: holds another study: {name} was {_short(there.get(name))} and is "
                f"{_short(here[name])}; choose another output folder"
                for name in different
            )
        )
    return True


def check_room(store: Store, dataset: Dataset, bytes_of_weights: int) -> None:
    """Raise `UserError` if the results plainly cannot fit on the disk."""
    if not store.is_local:
        return
    folder = Path(store.location)
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    study, frame = dataset.study, dataset.frame
    is_resized = study.evaluate.grid == "resized"
    pixels = len(frame) * study.data.image_size**2 if is_resized else int((frame["height"] * frame["width"]).sum())
    # probabilities shrink to about a third; weights of unfinished folds carry their optimiser's state
    needed = len(study.models) * pixels + 3 * study.folds.count * bytes_of_weights + (8 << 20)
    free = shutil.disk_usage(disk).free
    if free < needed:
        raise UserError(
            f"{store.location}: no space left: about {needed >> 20} MiB are needed and {free >> 20} MiB are free; "
            "make room or choose another output folder"
        )


def write_study(store: Store, dataset: Dataset, arrays: Arrays) -> None:
    """Write what is fixed for a study.

    Settings come first: by them a study is known whose writing was interrupted. Provenance comes last: it makes the
    study.
    """
    store.write_text(names.STUDY, study_toml(dataset.study))
    write_manifest(store, dataset)
    cases = case_batches(dataset.frame, arrays, dataset.study.data, dataset.study.evaluate)
    store.write_batches(names.CASES_FILE, names.CASES, cases)
    store.write_json(names.PROVENANCE, provenance(dataset) | {NETWORKS: network_entries(store, dataset.study)})


def renew_study(store: Store, dataset: Dataset) -> None:
    """Write again what may have changed since the study began.

    That is clinical columns, the manifest's warnings, and whose code the networks of further models are.
    """
    write_manifest(store, dataset)
    there = store.read_json(names.PROVENANCE)
    data = there["data"] | {"warnings": _warnings(dataset)}
    now = there | {"data": data, NETWORKS: network_entries(store, dataset.study)}
    if now != there:
        store.write_json(names.PROVENANCE, now)


def write_manifest(store: Store, dataset: Dataset) -> None:
    """Write the images with folds and clinical columns."""
    first = ["image_id", "patient_id", "fold"]
    rest = dataset.frame.columns.difference([*first, "image", "mask"], sort=False)
    store.write_frame(names.MANIFEST, dataset.frame.assign(fold=dataset.folds)[[*first, *rest]])


def provenance(dataset: Dataset) -> dict[str, Any]:
    """Return where the numbers of this study come from."""
    manifest, frame, study = dataset.manifest, dataset.manifest.frame, dataset.study
    return {
        "eus_ray": metadata.version("eus-ray"),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONS}},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "identity": identity(dataset),
        "data": {
            "manifest": manifest.path.name,
            "fingerprint": manifest.fingerprint,
            "images": len(frame),
            "patients": int(frame["patient_id"].nunique()),
            "near_duplicates_within": manifest.near_duplicates_within,
            "warnings": _warnings(dataset),
            # the phantom names its device so
            "synthetic": "device" in frame and bool(frame["device"].astype(str).str.startswith("synthetic").all()),
        },
        "folds": {"count": study.folds.count, "seed": study.folds.seed, "stratify": list(study.folds.stratify)},
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
    }


def _warnings(dataset: Dataset) -> list[str]:
    """Return the data's warnings without the manifest's path: the study folder travels."""
    return [line.removeprefix(f"{dataset.manifest.path}: ") for line in dataset.warnings]


def _commit() -> str | None:
    """The commit of a checkout that this runs from; None once installed."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:  # no git here
        return None
    return answer.stdout.strip() or None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "…"
