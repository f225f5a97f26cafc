"""The layout of a study folder: every table's columns and every file's name."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = "1"

_KEY = [("model", pa.string()), ("trial", pa.int32()), ("repeat", pa.int32()), ("fold", pa.int32())]

EPOCHS = pa.schema(
    [
        *_KEY,
        ("epoch", pa.int32()),
        ("split", pa.string()),
        ("loss", pa.float64()),
        ("dsc", pa.float64()),
        ("lr", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
"""The learning curves: one row an epoch and split. `epoch` counts from 0."""

SCORES = pa.schema(
    [
        *_KEY,
        ("epoch", pa.int32()),
        ("image_id", pa.string()),
        ("patient_id", pa.string()),
        ("split", pa.string()),
        ("tp", pa.int64()),
        ("fp", pa.int64()),
        ("fn", pa.int64()),
        ("tn", pa.int64()),
    ]
)
"""Pixel counts of each image: of validation images at every epoch, of test images at the chosen epoch alone."""

PREDICTIONS = pa.schema(
    [
        *_KEY,
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("probability", pa.list_(pa.uint16())),
    ]
)
"""Probability maps of the test images, row by row, as rint(p * 65535); see `metrics.predicted_mask`."""

CASES = pa.schema(
    [
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("image", pa.binary()),
        ("truth", pa.binary()),
        ("spacing_row", pa.float64()),
        ("spacing_col", pa.float64()),
    ]
)
"""Images (gray or RGB) and truths (gray) as the networks saw them: PNGs on the evaluation grid. Spacing in mm; NaN if
unknown."""

TRIALS = pa.schema(
    [
        ("model", pa.string()),
        ("kind", pa.string()),
        ("trial", pa.int32()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("folds_done", pa.int32()),
        ("value", pa.float64()),
        ("parameters", pa.int64()),
        ("device", pa.string()),
        ("gpus", pa.float64()),
        ("threads", pa.int32()),
        ("precision", pa.string()),
    ]
)
"""One row a trial; its settings follow as columns, by their dotted names.

`parameters` is the number of trainable weights of a fold's network; the columns after it are the fields of `Hardware`.
Tables of older studies have none of these.
"""

SELECTION = pa.schema(
    [
        ("model", pa.string()),
        ("estimate", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("trials", pa.int32()),
        ("fold", pa.int32()),
        ("trial", pa.int32()),
        ("name", pa.string()),
    ]
)
"""The estimates of a search's result; one row an estimate, NULL in columns that do not apply.

`naive`: the best complete trial's score as the search saw it. `nested`: each fold's own winner on its test patients.
`fold_winner`: which trial that is in `fold`. `naive_test`: the best score on test patients. `bbc`: the same without
the selection bias (BBC-CV). `bias`: their difference. `default`: the study's own settings on the same test patients.
`gain`: by how much the fold winners are better. `baseline` and `over_baseline`: the same for one fixed mask that looks
at no image. `importance`: the importance of the searched field `name`.

`trials` is how many complete trials an estimate rests on; `low` and `high` are the ends of its 95 % interval. If the
test folds judged (protocol `paper`), there is no `nested` and no `fold_winner`, and `gain` is that of the winners that
BBC-CV draws, on the patients that it left out.
"""

PARTS = {"epochs": EPOCHS, "scores": SCORES, "predictions": PREDICTIONS}
REPEAT = 0
"""The only repetition; with the column, repeated cross-validation needs no new schema."""


class TrialKey(NamedTuple):
    """A trial: its model, and its number, which counts from 0 in each model."""

    model: str
    trial: int

    def part(self, fold: int) -> PartKey:
        """Return the key of one fold's rows."""
        return PartKey(self.model, self.trial, REPEAT, fold)


class PartKey(NamedTuple):
    """One fold of one trial, whose rows are a part of `epochs`, `scores` or `predictions`."""

    model: str
    trial: int
    repeat: int
    fold: int


def part_name(table: str, key: PartKey) -> str:
    """Return the file with one fold's rows of a table."""
    return f"{table}/model={key.model}/trial-{key.trial}_repeat-{key.repeat}_fold-{key.fold}.parquet"


def whole_name(table: str, key: TrialKey) -> str:
    """Return the file with all rows of a trial that has ended."""
    return f"{table}/model={key.model}/trial-{key.trial}_repeat-{REPEAT}.parquet"


def checkpoint_name(model: str, trial: int, fold: int) -> str:
    """Return the file with a fold's newest checkpoint."""
    return f"checkpoints/{model}/{trial}/fold_{fold}.safetensors"


def checkpoint_before_name(model: str, trial: int, fold: int) -> str:
    """Return the file with an unfinished fold's checkpoint before the newest one, in case that is damaged."""
    return f"checkpoints/{model}/{trial}/fold_{fold}.before.safetensors"


def log_name(model: str, trial: int) -> str:
    """Return the file with a trial's log for people."""
    return f"logs/{model}_trial-{trial}.log"


def events_name(model: str, trial: int) -> str:
    """Return the file with the log's events as JSON lines."""
    return f"logs/{model}_trial-{trial}.jsonl"


def optuna_name(model: str) -> str:
    """Return the file with Optuna's journal of a search, which `optuna-dashboard` opens."""
    return f"search/{model}.log"


def search_name(model: str) -> str:
    """Return the JSON file that describes a search: its protocol, metric, space and first trial."""
    return f"search/{model}.json"


STUDY = "study.toml"
PROVENANCE = "provenance.json"
MANIFEST = "manifest.parquet"
CASES_FILE = "cases/cases.parquet"
TRIALS_FILE = "trials.parquet"
SELECTION_FILE = "selection.parquet"
RUN = "run.json"
"""The study lock's owner: its token, host, process and heartbeat."""
