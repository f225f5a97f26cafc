"""Callbacks for other programs: TensorBoard and MLflow, one group a trial and in it one entry a fold.

They are told what the logs are told. It is no result: a server that does not answer costs a warning.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eus_ray.config import Study
from eus_ray.errors import UserError
from eus_ray.store import PROVENANCE, Store, TrialKey, TrialRecord, TrialState
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tensorboardX import SummaryWriter

_MLFLOW_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}


class Logger(Callback):
    """A callback that holds something open."""

    def close(self) -> None:
        """Let it go."""


def open_loggers(study: Study, store: Store) -> list[Logger]:
    """Return the loggers that `[log]` asks for.

    Raises:
        UserError: If one of them cannot be had.
    """
    loggers: list[Logger] = []
    if study.log.tensorboard:
        if not store.is_local:
            raise UserError(f"{store.location}: log.tensorboard writes to a disk; set it to false, or use log.mlflow")
        loggers.append(TensorBoard(Path(store.path("logs/tensorboard"))))
    if study.log.mlflow:
        loggers.append(MLflow(study.log.mlflow, study.log.mlflow_experiment, store))
    return loggers


def _values_of(report: FoldReport) -> dict[str, float]:
    """The figures of an epoch of a fold by name."""
    values = {"train/loss": report.loss, "train/dsc": report.train_dsc}
    if report.monitor_dsc is not None:
        values[f"{report.monitor_split}/dsc"] = report.monitor_dsc
    return values


class TensorBoard(Logger):
    """Write `MODEL/trial-N/fold-F` below a folder; `tensorboard --logdir STUDY/logs/tensorboard` shows them.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[tuple[TrialKey, int], SummaryWriter] = {}

    def on_fold_report(self, key: TrialKey, report: FoldReport) -> None:
        """Add a fold's epoch to its curves."""
        writer = self._writer(key, report.fold, report.epoch)
        for name, value in _values_of(report).items():
            writer.add_scalar(name, value, report.epoch, walltime=report.ended)
        writer.flush()

    def _writer(self, key: TrialKey, fold: int, epoch: int) -> SummaryWriter:
        from tensorboardX import SummaryWriter

        if (key, fold) not in self._writers:
            folder = self._folder / key[0] / f"trial-{key[1]}" / f"fold-{fold}"
            # epochs that were trained again after an interruption take the place of those from before; the file's own
            # name has whole seconds only, and within one a second file would take the place of the first
            self._writers[key, fold] = SummaryWriter(
                str(folder), purge_step=epoch, filename_suffix=f".{time.time_ns()}"
            )
        return self._writers[key, fold]

    def on_trial_end(self, trial: TrialRecord) -> None:
        """Close the files of a trial."""
        for place in [place for place in self._writers if place[0] == trial.key]:
            self._writers.pop(place).close()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()


class MLflow(Logger):
    """Keep one run a trial with its settings, and below it one a fold with its curves; a resumed study goes on in them.

    Args:
        uri: Of the tracking server.
        experiment: Its name there.
        store: The study folder.

    Raises:
        UserError: If the package is missing, or the server does not answer.
    """

    def __init__(self, uri: str, experiment: str, store: Store) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise UserError(
                'log.mlflow is set, and the package mlflow is not installed; pip install "eus-ray[mlflow]"'
            ) from None
        self._errors = (MlflowException, OSError)
        self._store = store
        self._runs: dict[tuple[TrialKey, int | None], str] = {}
        self._silent = False
        try:
            self._client: MlflowClient = MlflowClient(uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        except self._errors as error:
            raise UserError(f"log.mlflow: {uri} does not answer ({str(error).splitlines()[0]})") from None

    def on_trial_begin(self, trial: TrialRecord) -> None:
        """Begin a trial's run with its settings."""
        from mlflow.entities import Param

        settings = [Param(name, str(value)) for name, value in trial.settings.items()]
        self._say(lambda: self._client.log_batch(self._run(trial.key, None), params=settings))

    def on_fold_report(self, key: TrialKey, report: FoldReport) -> None:
        """Add a fold's epoch to its curves."""
        from mlflow.entities import Metric

        moment = round(1000 * report.ended)
        metrics = [Metric(name, value, moment, report.epoch) for name, value in _values_of(report).items()]
        self._say(lambda: self._client.log_batch(self._run(key, report.fold), metrics))

    def on_trial_end(self, trial: TrialRecord) -> None:
        """End a trial's run and its folds'; one that was interrupted stays open."""
        status = _MLFLOW_STATUS.get(trial.state)
        if status is None:
            return
        if trial.value is not None:
            self._say(lambda: self._client.log_metric(self._run(trial.key, None), "value", trial.value))
        self._say(lambda: self._client.set_tag(self._run(trial.key, None), "reason", trial.reason))
        for run in [run for (owner, _), run in self._runs.items() if owner == trial.key]:
            self._say(lambda run=run: self._client.set_terminated(run, status))

    def _run(self, key: TrialKey, fold: int | None) -> str:
        if (key, fold) not in self._runs:
            name = f"{key.model} trial {key.trial}" + ("" if fold is None else f" fold {fold}")
            tags = {
                "eus_ray.study": self._store.location,
                # another study may have lain there before
                "eus_ray.started": str(self._store.read_json(PROVENANCE)["started"]),
                "eus_ray.run": name,
            }
            words = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
            found = self._client.search_runs([self._experiment], words, max_results=1)
            if fold is not None:
                tags["mlflow.parentRunId"] = self._run(key, None)
            run = found[0] if found else self._client.create_run(self._experiment, tags=tags, run_name=name)
            if found:
                self._client.update_run(run.info.run_id, status="RUNNING")
            self._runs[key, fold] = run.info.run_id
        return self._runs[key, fold]

    def _say(self, call: Any) -> None:
        """A server that is gone costs one warning, and is asked again the next time."""
        try:
            call()
            self._silent = False
        except self._errors as error:
            if not self._silent:
                warnings.warn(
                    f"{time.strftime('%X')} MLflow does not answer: {str(error).splitlines()[0]}", stacklevel=2
                )
            self._silent = True
