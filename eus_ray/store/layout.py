"""What a study folder holds: every table's columns and every file's name."""

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
"""One row an epoch and split; the learning curves. `epoch` counts from 0."""

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
"""Pixel counts of each image: validation at every epoch, test only at the epoch that counts."""

PREDICTIONS = pa.schema(
    [
        *_KEY,
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("probability", pa.list_(pa.uint16())),
    ]
)
"""Probability maps of the test images, row by row: rint(p * 65535); the lesion is where it is >= 32768."""

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
"""Images and truths as the networks saw them, as gray PNG on the evaluation grid. No spacing: NaN (pixels)."""

TRIALS = pa.schema(
    [
        ("model", pa.string()),
        ("kind", pa.string()),
        ("trial", pa.int32()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("folds_done", pa.int32()),
        ("value", pa.float64()),
    ]
)
"""One row a trial; the trial's settings follow as columns named by their dotted names."""

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
"""What a search found, and how much of it to believe; one row an estimate, NULL where a column says nothing.

`naive`: the best complete trial's score as the search saw it. `nested`: each fold's own winner on its test patients.
`fold_winner`: which trial that is in `fold`. `naive_test` and `bbc`: the best score on test patients, and what is left
of it after the bias of choosing (`bias`, their difference) is taken away. `default` and `gain`: the study's own
settings on the same test patients, and by how much the fold winners are better. `importance`: of the searched field
`name`.
`trials` is how many complete trials an estimate rests on; `low` and `high` bound its 95 % interval. Where the test
folds judged (protocol `paper`) there is no `nested` and no `fold_winner`, and `gain` is that of the winners that BBC-CV
draws, on the patients that it left out.
"""

PARTS = {"epochs": EPOCHS, "scores": SCORES, "predictions": PREDICTIONS}
REPEAT = 0
"""The one repetition there is; repeated cross-validation can come later without a new schema."""


class TrialKey(NamedTuple):
    """Which trial: a model, and a number that counts from 0 in each model."""

    model: str
    trial: int

    def part(self, fold: int) -> PartKey:
        """The key of one fold's rows."""
        return PartKey(self.model, self.trial, REPEAT, fold)


class PartKey(NamedTuple):
    """Whose rows a part of `epochs`, `scores` or `predictions` holds: one fold of one trial."""

    model: str
    trial: int
    repeat: int
    fold: int


def part_name(table: str, key: PartKey) -> str:
    """The file with one fold's rows of a table."""
    return f"{table}/model={key.model}/trial-{key.trial}_repeat-{key.repeat}_fold-{key.fold}.parquet"


def whole_name(table: str, key: TrialKey) -> str:
    """The file with all rows of a trial that has ended."""
    return f"{table}/model={key.model}/trial-{key.trial}_repeat-{REPEAT}.parquet"


def checkpoint_name(model: str, trial: int, fold: int) -> str:
    return f"checkpoints/{model}/{trial}/fold_{fold}.safetensors"


def checkpoint_before_name(model: str, trial: int, fold: int) -> str:
    """The checkpoint before, of an unfinished fold: what is left where the newest one is damaged."""
    return f"checkpoints/{model}/{trial}/fold_{fold}.before.safetensors"


def log_name(model: str, trial: int) -> str:
    return f"logs/{model}_trial-{trial}.log"


def events_name(model: str, trial: int) -> str:
    """The same events as JSON lines."""
    return f"logs/{model}_trial-{trial}.jsonl"


def optuna_name(model: str) -> str:
    """Optuna's journal of a search; `optuna-dashboard` opens it."""
    return f"search/{model}.log"


def search_name(model: str) -> str:
    """What a search is: protocol, metric, space, first trial; JSON."""
    return f"search/{model}.json"


STUDY = "study.toml"
PROVENANCE = "provenance.json"
MANIFEST = "manifest.parquet"
CASES_FILE = "cases/cases.parquet"
TRIALS_FILE = "trials.parquet"
SELECTION_FILE = "selection.parquet"
RUN = "run.json"
"""Who writes here now: a token that each writer holds, host, process, heartbeat."""
