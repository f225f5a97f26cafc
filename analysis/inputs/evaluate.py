"""Per-image metrics of mask files from any tool, as a table that `analyze` takes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.inputs.mask_files import MaskFile, Masks, Pair, Pairing, pair_files, read_pair
from eus_ray.analysis.inputs.mask_manifest import Described, describe, undescribed
from eus_ray.analysis.inputs.process_pool import in_processes
from eus_ray.analysis.inputs.study_images import IDENTITY
from eus_ray.analysis.labels import ReportKind
from eus_ray.analysis.measures.distances import diagonal
from eus_ray.analysis.measures.image_metrics import METRICS, image_metrics
from eus_ray.data.io.images import told_remarks
from eus_ray.data.names import alike_key, composed, is_writable, near_hint, shown
from eus_ray.data.signs import MaskFacts, equal_signs, mask_signs, repeated_masks
from eus_ray.errors import UserError
from eus_ray.metrics import quantise
from eus_ray.store import Store

_OUT_SUFFIXES = (".csv", ".parquet")
_NUM_PAIRS_IN_JOB = 64
_MAX_PIXELS = 2**22
"""Pairs of one size are measured together, as far as memory for their pixels is no concern."""
_LESION_VALUES = (1, 255, 65535)
"""Tools write a lesion so in masks of 1, 8 and 16 bits: masks of one folder may differ in them."""

Progress = Callable[[int, int], None]
"""Called with the number of measured pairs, and the number of all."""


@dataclass(frozen=True)
class Evaluation:
    """The table that `evaluate` wrote."""

    frame: pd.DataFrame
    """The columns of `images.parquet`, one row a pair; then `unit` (of distances) and `grid` (rows x columns)."""
    unit: Literal["px", "mm"]
    """The unit of distances."""
    notes: tuple[str, ...]
    """Remarks for the user."""


def evaluate(
    predictions: str | Path,
    truths: str | Path,
    out: str | Path,
    *,
    model: str | None = None,
    manifest: str | Path | None = None,
    label: int | None = None,
    probability: bool = False,
    unpaired: Literal["stop", "skip"] = "stop",
    processes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure every predicted mask against its truth, and write a table.

    Args:
        predictions: A folder of PNG, TIFF, BMP or .npy files (2-D arrays), folders within it included. A mask has 0 and
            one other value, the same throughout a folder (1, 255 and 65535 count as one).
        truths: Such a folder. Masks are paired by name without suffix.
        out: A new .csv or .parquet file; `analyze` takes it.
        model: The table's `model`; by default the name of the predictions' folder.
        manifest: A CSV or Parquet table with the pairs' patients, and optionally their folds, spacing and clinical
            columns, see `describe`. Without it each image is a patient of its own, in fold 0, measured in pixels.
        label: The value of the lesion in the masks; all others are background (of a palette file: the index).
        probability: Predictions are probabilities (8- or 16-bit levels, floats from 0 to 1). A pixel is lesion from a
            half on, and the AUC ranks the probabilities as they are.
        unpaired: What to do if a name has no partner; `skip` leaves it out, with a note.
        processes: How many processes measure; by default all cores share many pairs.
        progress: Called after each job.

    Raises:
        UserError: With a line for each defect; nothing is written then.
    """
    predictions, truths, out = Path(predictions), Path(truths), Path(out)
    manifest = None if manifest is None else Path(manifest)
    name = predictions.resolve().name if model is None else composed(model).strip()
    lines = _output_defects(out)
    if not name:
        lines.append("the model has no name; give it one")
    elif not is_writable(name):
        lines.append(f"the model has no name that is UTF-8, but {shown(name)}; give it one")
    if label == 0:
        lines.append("label 0 is the background; name the lesion's value")
    try:
        pairing = pair_files(predictions, truths)
    except UserError as error:
        raise UserError(*lines, *error.lines) from None
    if lines:
        raise UserError(*lines)
    lines += pairing.defects
    notes = _judge_unpaired(pairing, predictions, truths, unpaired, lines)
    names = [pair.name for pair in pairing.pairs]
    described = undescribed(names)
    if manifest is not None:
        try:
            described = describe(manifest, names)
        except UserError as error:
            lines += error.lines
    measured = _measure(_tasks(pairing.pairs, described), label, probability, processes, progress)
    lines += measured.problems
    masks = [(1, truths)] if probability else [(0, predictions), (1, truths)]
    lines += _value_defects(measured, pairing.pairs, masks, label, notes)
    if lines:
        raise UserError(*lines)
    unit: Literal["px", "mm"] = "mm" if described.frame["spacing_row"].notna().all() else "px"
    frame = _table(name, described, measured, unit)
    if not frame[["tp", "fp"]].to_numpy().any():
        hint = "; if they are masks of 0 and 1, do not read them as probability maps" if probability else ""
        notes.append(f"{predictions}: every prediction is empty{hint}")
    if manifest is None:
        notes.append(
            "no manifest names the patients, so each image is a patient of its own: if images share a patient, "
            "intervals are too narrow and p-values too small; name the patients in a manifest"
        )
    elif described.num_unused:
        notes.append(f"{manifest}: {described.num_unused} of its rows describe none of these masks")
    notes += [*pairing.notes, *described.warnings, *_signs(measured, pairing.pairs, predictions, truths)]
    if manifest is not None:
        patients = described.frame["patient_id"].sort_index().tolist()
        notes += [f"{truths}: {line}" for line in repeated_masks(names, patients, measured.facts(1))]
    _write(frame, out)
    return Evaluation(frame, unit, tuple(notes))


def _output_defects(out: Path) -> list[str]:
    lines = []
    if out.suffix.lower() not in _OUT_SUFFIXES:
        lines.append(f"{out}: the table is CSV or Parquet; end its name in {' or '.join(_OUT_SUFFIXES)}")
    if out.exists():
        lines.append(f"{out}: exists already; nothing is overwritten, choose another output file")
    elif not out.absolute().parent.is_dir():
        lines.append(f"{out.parent}: no such folder; make it first, or choose another output file")
    return lines


def _write(frame: pd.DataFrame, out: Path) -> None:
    store = Store(out.absolute().parent)
    if out.suffix.lower() == ".csv":
        store.write_text(out.name, frame.to_csv(index=False))
    else:
        store.write_frame(out.name, frame)


def _judge_unpaired(
    pairing: Pairing, predictions: Path, truths: Path, unpaired: Literal["stop", "skip"], lines: list[str]
) -> list[str]:
    """Return notes about what is left out; add to `lines` what may not be."""
    if not pairing.pairs:
        lines.append(
            f"{predictions}: no name is in {truths} too; a pair shares its name without suffix, as a.png and a.tif"
        )
    without_truth, without_prediction = pairing.alone
    truths_by_look, predictions_by_look = ({alike_key(name): name for name in side} for side in reversed(pairing.alone))

    def hint(name: str, others: Mapping[str, str]) -> str:
        other = others.get(alike_key(name))
        return near_hint(name, () if other is None else (other,))

    if unpaired == "stop":
        lines += [
            f"{shown(str(path))}: has no truth of this name in {truths}{hint(name, truths_by_look)}"
            for name, path in without_truth.items()
        ]
        lines += [
            f"{shown(str(path))}: has no prediction of this name in {predictions}"
            + (hint(name, predictions_by_look) or "; if no lesion was found, give an empty mask")
            for name, path in without_prediction.items()
        ]
        return []
    notes = []
    hints = [f"{shown(name)}{told}" for name in without_truth if (told := hint(name, truths_by_look))]
    if without_truth:
        example = shown(str(next(iter(without_truth.values()))))
        notes.append(f"left out: {len(without_truth)} predictions without truth, such as {example}")
    if without_prediction:
        example = shown(str(next(iter(without_prediction.values()))))
        notes.append(
            f"left out: {len(without_prediction)} truths without prediction, such as {example}; "
            "if they are lesions that were missed, the scores are too good"
        )
    if hints:
        notes.append(f"left out: {len(hints)} pairs whose names differ only in spelling, such as {hints[0]}")
    return notes


# ---- measuring ----------------------------------------------------------------------------------


class _Task(NamedTuple):
    pair: Pair
    spacing: tuple[float, float] = (1.0, 1.0)
    size: tuple[float, float] | None = None
    """Height and width that the spacing was given for; None if they are not known."""


class _Measured(NamedTuple):
    columns: dict[str, npt.NDArray[np.generic]]
    """`METRICS`, `diagonal` and `grid` of the pairs without a problem."""
    files: list[tuple[MaskFile, MaskFile] | None]
    """Prediction and truth of each pair; None if they could not be read."""
    problems: list[str]

    def side(self, side: int) -> list[tuple[int, MaskFile]]:
        """Return the predictions (0) or truths (1) that could be read, with their pair's place."""
        return [(place, both[side]) for place, both in enumerate(self.files) if both is not None]

    def facts(self, side: int) -> list[MaskFacts]:
        """Return the facts of the predictions (0) or truths (1)."""
        return [file.facts for _, file in self.side(side)]


def _tasks(pairs: Sequence[Pair], described: Described) -> list[_Task]:
    if described.frame["spacing_row"].isna().any():
        return [_Task(pair) for pair in pairs]
    told = described.frame.sort_index()[["spacing_row", "spacing_col", "height", "width"]].to_numpy()
    return [
        _Task(pair, (row, column), None if np.isnan(height + width) else (height, width))
        for pair, (row, column, height, width) in zip(pairs, told.tolist(), strict=True)
    ]


def _measure(
    tasks: Sequence[_Task], label: int | None, probability: bool, processes: int | None, progress: Progress | None
) -> _Measured:
    jobs = [tasks[at : at + _NUM_PAIRS_IN_JOB] for at in range(0, len(tasks), _NUM_PAIRS_IN_JOB)]
    measure = partial(_measure_job, label=label, probability=probability)
    done, parts = 0, []
    for part in in_processes(measure, jobs, processes, len(tasks)):
        parts.append(part)
        done += len(part.files)
        if progress is not None:
            progress(done, len(tasks))
    if not parts:
        return _Measured({}, [], [])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    chain = itertools.chain.from_iterable
    return _Measured(columns, list(chain(part.files for part in parts)), list(chain(part.problems for part in parts)))


def _measure_job(job: Sequence[_Task], label: int | None, probability: bool) -> _Measured:
    files: list[tuple[MaskFile, MaskFile] | None] = []
    problems: list[str] = []
    tables: list[dict[str, npt.NDArray[np.generic]]] = []
    waiting: list[tuple[Masks, tuple[float, float]]] = []
    for task in job:
        try:
            masks = read_pair(task.pair.prediction, task.pair.truth, label, probability)
        except UserError as error:
            problems += error.lines
            files.append(None)
            continue
        files.append(masks.files)
        height, width = masks.truth.shape
        if task.size is not None and task.size != (height, width):
            problems.append(
                f"{task.pair.truth}: is {height} × {width} pixels (rows × columns), but the manifest gives its "
                f"spacing for {task.size[0]:.0f} × {task.size[1]:.0f}; give masks of that size, or their own spacing"
            )
            continue
        if waiting and not _stackable(masks, waiting[0][0], len(waiting)):
            tables.append(_metrics(waiting))
            waiting = []
        waiting.append((masks, task.spacing))
    if waiting:
        tables.append(_metrics(waiting))
    tables = tables or [{name: np.empty(0) for name in (*METRICS, "diagonal", "grid")}]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    return _Measured(columns, files, problems)


def _stackable(masks: Masks, first: Masks, number: int) -> bool:
    kinds = [None if one.scores is None else one.scores.dtype for one in (masks, first)]
    return masks.truth.shape == first.truth.shape and kinds[0] == kinds[1] and number * masks.truth.size < _MAX_PIXELS


def _metrics(waiting: Sequence[tuple[Masks, tuple[float, float]]]) -> dict[str, npt.NDArray[np.generic]]:
    """Return `METRICS`, `diagonal` and `grid` of pairs of one shape.

    One call for all costs half of one call for each.
    """
    masks, spacing = zip(*waiting, strict=True)
    truth, pred = np.stack([one.truth for one in masks]), np.stack([one.pred for one in masks])
    scores = None if masks[0].scores is None else np.stack([one.scores for one in masks])
    levels = None if scores is None else _as_levels(scores)
    num_pairs, height, width = truth.shape
    return {
        **image_metrics(truth, pred, scores=scores, levels=levels, spacing=spacing),
        "diagonal": np.array([diagonal((height, width), step) for step in spacing]),
        "grid": np.full(num_pairs, f"{height} x {width}", dtype=object),
    }


def _as_levels(probability: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return probabilities of 8 or 16 bits, or floats, as a study stores them; 8 bits fit exactly."""
    if probability.dtype == np.uint8:
        return probability.astype(np.uint16) * np.uint16(257)
    return probability if probability.dtype == np.uint16 else quantise(np.clip(probability, 0, 1))


# ---- what all masks of a folder have in common --------------------------------------------------


def _value_defects(
    measured: _Measured, pairs: Sequence[Pair], masks: Sequence[tuple[int, Path]], label: int | None, notes: list[str]
) -> list[str]:
    """Find values that are wrong though no single file shows it.

    A folder has several lesion values, the folders have two, or no mask has the label. `masks`: the folders that hold
    masks, and which of a pair's files lies there. What may be right goes to `notes`.
    """
    if label is not None:
        lacking = [folder for side, folder in masks if not any(file.lesion_value for _, file in measured.side(side))]
        if len(lacking) < len(masks):
            notes += [f"{folder}: no mask holds the label {label}" for folder in lacking]
            return []
        return [f"{' and '.join(map(str, lacking))}: no mask holds the label {label}; name the lesion's value"]
    lines = []
    labels: dict[float, str] = {}
    for side, folder in masks:
        places: dict[float, list[int]] = defaultdict(list)
        files = [(place, file) for place, file in measured.side(side) if file.lesion_value]
        for place, file in files:
            places[1.0 if file.lesion_value in _LESION_VALUES else file.lesion_value].append(place)
        if len(places) > 1:
            each = [f"{value:g} ({len(at)} masks, such as {pairs[at[0]].name})" for value, at in sorted(places.items())]
            lines.append(f"{folder}: the lesion is {' and '.join(each)}; name the lesion's value")
        elif files and not any(file.is_colour for _, file in files):
            labels |= dict.fromkeys(places, f"{files[0][1].lesion_value:g} in {folder}")
    if len(labels) > 1 and not lines:
        lines.append(f"the lesion is {' and '.join(labels.values())}; save both with one value if they mean the same")
    return lines


def _signs(measured: _Measured, pairs: Sequence[Pair], predictions: Path, truths: Path) -> list[str]:
    """Return how files were read, and what is odd about masks."""
    names = [shown(pair.name) for pair in pairs]
    remarks = [
        (path, remark)
        for pair, files in zip(pairs, measured.files, strict=True)
        for path, file in zip((pair.prediction, pair.truth), files or (), strict=False)
        for remark in file.remarks
    ]
    found, true = measured.facts(0), measured.facts(1)
    is_equal = [wrong == (0, 0) for wrong in zip(measured.columns["fp"], measured.columns["fn"], strict=True)]
    signs = [*mask_signs(names, found, "predictions"), *equal_signs(true, is_equal)]
    if not any(mask.share for mask in found):
        signs = []  # which is told with its cure
    return [
        *told_remarks(remarks),
        *(f"{truths}: {line}" for line in mask_signs(names, true, "truths")),
        *(f"{predictions}: {line}" for line in signs),
    ]


def _table(model: str, described: Described, measured: _Measured, unit: str) -> pd.DataFrame:
    """Return the columns of `images.parquet`, then `unit` and `grid`, in the order of a manifest if given."""
    fold = described.frame.get("fold", np.int64(0))
    about = described.frame.assign(model=model, kind=ReportKind.FIXED.value, fold=fold)
    metrics = pd.DataFrame(measured.columns).loc[about.index]
    grid = metrics.pop("grid")
    table = pd.concat([about[[*IDENTITY, *described.clinical]], metrics], axis=1)
    return table.assign(unit=unit, grid=grid).reset_index(drop=True)
