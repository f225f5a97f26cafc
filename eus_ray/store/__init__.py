"""The study folder: every path, file and column name, and how they are written.

Training and analysis meet only here. A study lives on a local path or on any URI that pyarrow.fs
opens. Each file has one writer and appears atomically: on a disk it is written aside and renamed, on
an object store one PUT is atomic already. So a reader sees the old file or the new one, and a folder
in which a run goes on, or was killed, can be read at any moment.
"""

from eus_ray.store.layout import (
    CASES,
    CASES_FILE,
    EPOCHS,
    MANIFEST,
    PARTS,
    PREDICTIONS,
    PROVENANCE,
    REPEAT,
    RUN,
    SCHEMA_VERSION,
    SCORES,
    SELECTION,
    SELECTION_FILE,
    STUDY,
    TRIALS,
    TRIALS_FILE,
    PartKey,
    TrialKey,
    checkpoint_before_name,
    checkpoint_name,
    events_name,
    log_name,
    optuna_name,
    part_name,
    search_name,
    whole_name,
)
from eus_ray.store.location import without_credentials
from eus_ray.store.study_folder import DamagedFileError, Store
from eus_ray.store.trials import (
    Hardware,
    TrialKind,
    TrialRecord,
    TrialState,
    read_manifest,
    read_records,
    read_trials,
    write_trials,
)

__all__ = [
    "CASES",
    "CASES_FILE",
    "EPOCHS",
    "MANIFEST",
    "PARTS",
    "PREDICTIONS",
    "PROVENANCE",
    "REPEAT",
    "RUN",
    "SCHEMA_VERSION",
    "SCORES",
    "SELECTION",
    "SELECTION_FILE",
    "STUDY",
    "TRIALS",
    "TRIALS_FILE",
    "DamagedFileError",
    "Hardware",
    "PartKey",
    "Store",
    "TrialKey",
    "TrialKind",
    "TrialRecord",
    "TrialState",
    "checkpoint_before_name",
    "checkpoint_name",
    "events_name",
    "log_name",
    "optuna_name",
    "part_name",
    "read_manifest",
    "read_records",
    "read_trials",
    "search_name",
    "whole_name",
    "without_credentials",
    "write_trials",
]
