"""Other programs that follow a run: TensorBoard and MLflow, one group a trial and in it one entry a fold.

They hear what the logs hear. What they do with it is no result: a server that does not answer costs a warning.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from eus_ray.config import Study
from eus_ray.errors import UserError
from eus_ray.store import PROVENANCE, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tensorboardX import SummaryWriter

Key = tuple[str, int]
"""Model and trial."""


class Logger(Protocol):
    def heard(self, key: Key, cells: Sequence[Mapping[str, Any]]) -> None:
        """Some folds of a trial have ended an epoch."""

    def state(self, key: Key, row: Mapping[str, Any]) -> None:
        """A trial has begun, or ended: its row of `trials.parquet`."""

    def close(self) -> None: ...


def open_loggers(study: Study, store: Store) -> list[Logger]:
    """The loggers that `[log]` asks for. Raises `UserError` for one that cannot be had."""
    loggers: list[Logger] = []
    if study.log.tensorboard:
        if not store.is_local:
            raise UserError(f"{store.location}: log.tensorboard writes to a disk; set it to false, or use log.mlflow")
        loggers.append(TensorBoard(Path(store.path("logs/tensorboard"))))
    if study.log.mlflow:
        loggers.append(MLflow(study.log.mlflow, study.log.mlflow_experiment, store))
    return loggers


def values_of(cell: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an epoch of a fold by name."""
    values = {"train/loss": cell["loss"], "train/dsc": cell["dsc"]}
    if cell["judged_dsc"] is not None:
        values[f"{cell['judged']}/dsc"] = cell["judged_dsc"]
    return values


class TensorBoard:
    """`logs/tensorboard/MODEL/trial-N/fold-F`; `tensorboard --logdir STUDY/logs/tensorboard` shows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[tuple[Key, int], SummaryWriter] = {}

    def heard(self, key: Key, cells: Sequence[Mapping[str, Any]]) -> None:
        for cell in cells:
            writer = self._writer(key, cell["fold"], cell["epoch"])
            for name, value in values_of(cell).items():
                writer.add_scalar(name, value, cell["epoch"], walltime=cell["ended"])
            writer.flush()

    def _writer(self, key: Key, fold: int, epoch: int) -> SummaryWriter:
        from tensorboardX import SummaryWriter

        if (key, fold) not in self._writers:
            folder = self._folder / key[0] / f"trial-{key[1]}" / f"fold-{fold}"
            # epochs that were trained again after an interruption take the place of those from before; the file's own
            # name has whole seconds only, and within one a second file would take the place of the first
            suffix = f".{time.time_ns()}"
            self._writers[key, fold] = SummaryWriter(str(folder), purge_step=epoch, filename_suffix=suffix)
        return self._writers[key, fold]

    def state(self, key: Key, row: Mapping[str, Any]) -> None:
        if row["state"] != "running":
            for place in [place for place in self._writers if place[0] == key]:
                self._writers.pop(place).close()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """One run a trial with its settings, and below it one a fold with its curves; a resumed study goes on in them."""

    def __init__(self, uri: str, experiment: str, store: Store) -> None:
        """Raises `UserError` where the package is missing or the server does not answer."""
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise UserError(
                'log.mlflow is set, and the package mlflow is not installed; pip install "eus-ray[mlflow]"'
            ) from None
        self._errors = (MlflowException, OSError)
        self._store = store
        self._runs: dict[tuple[Key, int | None], str] = {}
        self._silent = False
        try:
            self._client: MlflowClient = MlflowClient(uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        except self._errors as error:
            raise UserError(f"log.mlflow: {uri} does not answer ({str(error).splitlines()[0]})") from None

    def heard(self, key: Key, cells: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        for cell in cells:
            moment = round(1000 * cell["ended"])
            metrics = [Metric(name, value, moment, cell["epoch"]) for name, value in values_of(cell).items()]
            self._say(lambda cell=cell, metrics=metrics: self._client.log_batch(self._run(key, cell["fold"]), metrics))

    def state(self, key: Key, row: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        settings = [Param(name, str(value)) for name, value in row.items() if "." in name]
        self._say(lambda: self._client.log_batch(self._run(key, None), params=settings))
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}.get(row["state"])
        if status is None:
            return
        if row["value"] is not None and row["value"] == row["value"]:
            self._say(lambda: self._client.log_metric(self._run(key, None), "value", row["value"]))
        self._say(lambda: self._client.set_tag(self._run(key, None), "reason", row["reason"] or ""))
        for run in [run for (owner, _), run in self._runs.items() if owner == key]:
            self._say(lambda run=run: self._client.set_terminated(run, status))

    def close(self) -> None:
        return None

    def _run(self, key: Key, fold: int | None) -> str:
        if (key, fold) not in self._runs:
            model, trial = key
            name = f"{model} trial {trial}" + ("" if fold is None else f" fold {fold}")
            started = str(self._store.read_json(PROVENANCE)["started"])  # another study may have lain there before
            tags = {"eus_ray.study": self._store.location, "eus_ray.started": started, "eus_ray.run": name}
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
                text = str(error).splitlines()[0]
                warnings.warn(f"{time.strftime('%X')} MLflow does not answer: {text}", stacklevel=2)
            self._silent = True
