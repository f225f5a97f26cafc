"""Searches that never ran: score tables drawn from a model of patients, settings and learning curves.

A patient's score after epoch e of a fold is

    quality * (1 - exp(-e / tau)) + patient + patient x setting + fold x epoch + residual

where quality and tau (how slowly it learns) belong to the setting, and a setting's fold counts the mean of its last
three epochs. Patients are spread evenly over the folds, and each is judged in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eus_ray.search.replay import Curves


@dataclass(frozen=True)
class Nested:
    """A search under the nested protocol."""

    validation: Curves
    test: npt.NDArray[np.float64]
    """Each patient's score by the model of the fold that tests him, `(settings, P)`."""
    fold_of: npt.NDArray[np.int64]
    """Which one that is, `(P,)`."""
    fold_models: npt.NDArray[np.float64]
    """What each setting's model of each fold would score on countless patients like these, `(settings, K)`."""


@dataclass(frozen=True)
class Generator:
    """Standard deviations are of Dice scores."""

    settings: int = 40
    folds: int = 5
    epochs: int = 50
    patients: int = 50
    quality: float = 0.72
    quality_sd: float = 0.06
    best_quality: float = 0.86
    patient_sd: float = 0.10
    patient_setting_sd: float = 0.08
    fold_epoch_sd: float = 0.012
    residual_sd: float = 0.05
    tau_epochs: float = 6.0
    tau_log_sd: float = 0.6
    slow_is_good: float = 0.0
    """Correlation of quality with log tau."""
    delay_epochs: float = 0.0
    """Settings begin to learn only after so many epochs, from none up to this."""

    def draw(self, rng: np.random.Generator) -> tuple[Curves, npt.NDArray[np.float64]]:
        """Draw a search's scores, and what each setting would score on countless patients, `(settings,)`."""
        learnt = self.draw_learning(rng)
        fold_of = np.arange(self.patients) % self.folds
        judged = fold_of == np.arange(self.folds)[:, None]
        drawn = _Drawn(self, rng, learnt)
        return drawn.judged_by(judged), learnt[:, -3:].mean(axis=1)

    def draw_nested(self, rng: np.random.Generator, inner_folds: int = 5) -> Nested:
        """Draw a search whose folds are judged by one part in `inner_folds` of their training patients."""
        drawn = _Drawn(self, rng, self.draw_learning(rng))
        fold_of = np.arange(self.patients) % self.folds
        validation = np.zeros((self.folds, self.patients), dtype=bool)
        for fold in range(self.folds):
            training = rng.permutation(np.flatnonzero(fold_of != fold))
            validation[fold, training[: len(training) // inner_folds]] = True
        tested = drawn.judged_by(fold_of == np.arange(self.folds)[:, None]).scores[:, :, -1]
        test = np.take_along_axis(tested, fold_of[None, None], axis=1)[:, 0]
        return Nested(drawn.judged_by(validation), test.astype(np.float64), fold_of, drawn.fold_models())

    def draw_learning(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Return the expected score of each setting after each epoch, `(settings, epochs)`."""
        quality, slowness = rng.normal(size=(2, self.settings))
        slowness = self.slow_is_good * quality + np.sqrt(1 - self.slow_is_good**2) * slowness
        quality = np.minimum(self.quality + self.quality_sd * quality, self.best_quality)
        tau = self.tau_epochs * np.exp(self.tau_log_sd * slowness)
        since = np.arange(1, self.epochs + 1) - self.delay_epochs * rng.uniform(size=(self.settings, 1))
        return quality[:, None] * (1 - np.exp(-np.maximum(since, 0) / tau[:, None]))


class _Drawn:
    """One search: what stays the same wherever a setting meets a patient, and each fold model's own noise."""

    def __init__(self, generator: Generator, rng: np.random.Generator, learnt: npt.NDArray[np.float64]) -> None:
        self._generator, self._rng = generator, rng
        settings, epochs = learnt.shape
        patients = rng.normal(0, generator.patient_sd, generator.patients)
        self._patients = patients + rng.normal(0, generator.patient_setting_sd, (settings, generator.patients))
        self._level = patients.mean()
        self._models = learnt[:, None] + rng.normal(0, generator.fold_epoch_sd, (settings, generator.folds, epochs))

    def judged_by(self, judged: npt.NDArray[np.bool_]) -> Curves:
        """Return the scores of each fold's judged patients `(K, P)`; the last epoch is the mean of three."""
        settings, folds, epochs = self._models.shape
        scores = np.full((settings, folds, epochs, judged.shape[1]), np.nan, dtype=np.float32)
        for fold, mine in enumerate(judged):
            residual = self._rng.normal(0, self._generator.residual_sd, (settings, epochs, int(mine.sum())))
            scores[:, fold][:, :, mine] = residual + self._models[:, fold, :, None] + self._patients[:, None, mine]
        scores[:, :, -1] = scores[:, :, -3:].mean(axis=2)
        return Curves("synthetic", tuple(range(settings)), scores, epochs, "last")

    def fold_models(self) -> npt.NDArray[np.float64]:
        """What each setting's model of each fold would score on countless patients like these, `(settings, K)`."""
        return self._models[:, :, -3:].mean(axis=2) + self._level
