"""One fold, trained and evaluated: plain PyTorch, no Ray.

Read it from top to bottom: what a fold is given (`FoldData`), the fold itself (`Fold`: train an epoch, evaluate, save,
load), and `train_fold`, which runs one from its first epoch to its last.

    data = FoldData(images, masks, train=..., test=..., fold=0, ...)
    record = train_fold(study.for_model("unet"), data)

Everything random derives from (seed, architecture, settings, fold, epoch, image). So a fold gives the same numbers
wherever it runs, beside whatever other folds, and after any number of interruptions.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from eus_ray.architectures import spec_of
from eus_ray.config import Study
from eus_ray.data.augmentation import Augmenter
from eus_ray.data.resizing import to_original_grid
from eus_ray.metrics import counts, from_counts, patient_means, predicted_mask, quantise
from eus_ray.models import as_input, build_model, forward, predict, to_device, without_pretraining
from eus_ray.training.checkpoint import below, pack, place_model, unpack_for
from eus_ray.training.ddp import Team, gradient_exchange
from eus_ray.training.determinism import derive_seed, prepare_process, settings_digest, settings_text
from eus_ray.training.losses import segmentation_loss, sum_of_dsc
from eus_ray.training.optim import (
    FreezableEncoder,
    learning_rate,
    load_optim_state,
    optim_state,
    optimizer_for,
    precision_for,
    set_learning_rate,
)
from eus_ray.training.prefetch import Batches, Index, Pair, cut_batches, loader_threads
from eus_ray.training.records import Record


class DivergedError(Exception):
    """A fold cannot go on: its loss is not a number. Another attempt would end the same way."""


@dataclass(frozen=True)
class FoldData:
    """The data as one fold sees it.

    Without validation images the last epoch counts, else the one whose validation patients score best.
    """

    fold: int
    images: npt.NDArray[np.uint8]
    """All images, gray `(N, S, S)` or colour `(N, S, S, 3)`, shared by all folds and never written."""
    masks: npt.NDArray[np.uint8]
    """`(N, S, S)`, 0 or 1; likewise."""
    train: Index
    """Rows of the images, as `validation` and `test` are."""
    test: Index
    image_ids: list[str]
    patient_ids: list[str]
    validation: Index = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    truth_of: Callable[[int], npt.NDArray[np.uint8]] | None = None
    """Gives the mask `(H, W)` of a row on the evaluation grid; None if that is the row of `masks`."""

    def by_name(self) -> FoldData:
        """Return the same with rows in the order of their image ids: the order of a manifest's rows changes nothing."""
        train, validation, test = (
            np.array(sorted(rows.tolist(), key=self.image_ids.__getitem__), dtype=np.int64)
            for rows in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


class Fold:
    """One fold of one architecture with one set of settings.

    Args:
        study: One architecture's settings.
        data: What the fold sees.
        device: What it computes on.
        state: What `state()` gave; None for a fold before its first epoch.
        team: The processes that train it together; None if this one does alone.

    Raises:
        ValueError: If the state is damaged, or of a fold with other settings.
    """

    def __init__(
        self, study: Study, data: FoldData, device: torch.device, state: bytes | None = None, team: Team | None = None
    ) -> None:
        self.study, self.device, self.team = study, device, team
        self.data = data.by_name()
        self.epoch = 0
        """Epochs done."""
        self.epochs = study.train.epochs_to_train
        """Epochs to train; the schedule is that of `train.epochs`."""
        self.best_epoch, self.best_value = -1, -math.inf
        """The epoch whose validation patients scored best so far (the first of equals), and their mean score."""
        self._best_weights: dict[str, torch.Tensor] = {}
        self.restored = Record()
        """The rows that the state holds: those of an unfinished fold's epochs, but for predictions."""
        self.identity = settings_digest(study)
        start = study.model if state is None else without_pretraining(study.model)
        self.model = place_model(build_model(start, self._seed("weights"), study.data.num_channels), study, device)
        self._encoder, is_encoder_late = FreezableEncoder(self.model), study.train.freeze_encoder_epochs > 0
        self._forward: torch.nn.Module = self.model
        if team is not None:
            spec = spec_of(study.model.arch)
            has_unused = not spec.is_own or ("loss.slf_weight" in spec.settings and not study.loss.slf_weight)
            self._forward = team.parallel(self.model, has_unused=has_unused or is_encoder_late)
        self.precision = precision_for(study.train.precision, device)
        is_scaled = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=is_scaled)
        self.optimizer = optimizer_for(study.optim, self.model, is_encoder_late=is_encoder_late, is_scaled=is_scaled)
        self._loaders = loader_threads(device)
        self._local = threading.local()
        if state is not None:
            self._load_state(state)

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch is trained."""
        return self.epoch == self.epochs

    # ---- training -------------------------------------------------------------------------------

    def train_epoch(self) -> dict[str, Any]:
        """Train the next epoch, and return its row of `epochs`.

        Raises:
            DivergedError: If the loss is not a number.
        """
        started = time.perf_counter()
        train, size = self.study.train, len(self.data.train)
        torch.manual_seed(self._seed("layers", self.epoch))  # for layers that draw: dropout, drop path
        order = np.random.default_rng(self._seed("order", self.epoch)).permutation(self.data.train)
        batches = cut_batches(order, train.batch_size)
        groups = [batches[first : first + train.accumulate] for first in range(0, len(batches), train.accumulate)]
        first_rate = learning_rate(self.study.optim, self.epoch, 0, len(groups), train.epochs)
        total_loss, total_dsc = torch.zeros(2, dtype=torch.float64, device=self.device)
        shares, counts_of_shares = self.team.shares(batches) if self.team else (batches, list(map(len, batches)))
        loaded = Batches(shares, self._augmented, self._loaders)
        turns = zip(loaded, counts_of_shares, strict=True)
        self.model.train()
        self._encoder.freeze(self.epoch < train.freeze_encoder_epochs)
        for step, group in enumerate(groups):
            rate = learning_rate(self.study.optim, self.epoch, step, len(groups), train.epochs)
            set_learning_rate(self.optimizer, rate)
            self.optimizer.zero_grad(set_to_none=True)
            images_in_step = sum(map(len, group))
            for place, (pairs, counted) in enumerate(itertools.islice(turns, len(group)), start=1):
                image, truth = self._to_device(pairs)
                with gradient_exchange(self._forward, is_last=place == len(group)):
                    outputs = forward(self._forward, image, self.precision)
                    loss = segmentation_loss(outputs, truth, self.study.loss)
                    loaded.prefetch()
                    # the mean over the images of the step, however they are cut into batches and shares;
                    # a team's gradients are averaged, and their sum is wanted
                    weight = counted / images_in_step * (self.team.size if self.team else 1)
                    self.scaler.scale(loss * weight).backward()
                if counted:
                    total_loss += loss.detach().double() * counted
                    total_dsc += sum_of_dsc(outputs, truth)
            if train.clip_norm > 0:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.team is not None:
            total_loss, total_dsc = self.team.total(torch.stack([total_loss, total_dsc]))
        mean_loss = total_loss.item() / size  # the one wait for a GPU in an epoch
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"the loss is {mean_loss} in fold {self.data.fold}, epoch {self.epoch}, learning rate {first_rate:g}; "
                "a lower optim.lr or train.clip_norm may help"
            )
        self.epoch += 1
        return {
            "epoch": self.epoch - 1,
            "split": "train",
            "loss": mean_loss,
            "dsc": total_dsc.item() / size,
            "lr": first_rate,
            "seconds": time.perf_counter() - started,
        }

    def _augmented(self, row: int) -> Pair:
        """Image and mask for this epoch, the same from whichever thread prepares them."""
        if not hasattr(self._local, "augment"):
            self._local.augment = Augmenter(self.study.augment)  # one a thread: it holds a generator
        seed = self._seed("augment", self.epoch, self.data.image_ids[row])
        pair: Pair = self._local.augment(self.data.images[row], self.data.masks[row], seed)
        return pair

    def _to_device(self, pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images `(B, C, S, S)` in [0, 1] and truths `(B, 1, S, S)`."""
        images, masks = map(np.stack, zip(*pairs, strict=True))
        return as_input(images, self.device, self.study.train.channels_last), to_device(masks, self.device)

    # ---- evaluation -----------------------------------------------------------------------------

    def validate(self, record: Record) -> dict[str, Any]:
        """Score the validation images after an epoch; if their patients score best so far, keep the weights.

        Args:
            record: Takes the rows of `scores`.

        Returns:
            The row of `epochs`.

        Raises:
            DivergedError: If a probability is not a number.
        """
        row, all_counts = self._score(self.data.validation, "validation", self.epoch - 1, record)
        patients = [self.data.patient_ids[image] for image in self.data.validation]
        value = float(patient_means(from_counts(self.study.search.metric, all_counts), patients).mean())
        if value > self.best_value:
            self.best_epoch, self.best_value = self.epoch - 1, value
            self._best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return row

    def evaluate(self, record: Record) -> dict[str, Any]:
        """Score the test images with the weights that count.

        Counts are taken from the stored 16-bit probabilities, so that analysis finds the same ones.

        Args:
            record: Takes the rows of `scores` and `predictions`.

        Returns:
            The row of `epochs`.

        Raises:
            DivergedError: If a probability is not a number.
        """
        if self._best_weights:
            self.model.load_state_dict(self._best_weights)
        epoch = self.best_epoch if len(self.data.validation) else self.epoch - 1
        return self._score(self.data.test, "test", epoch, record)[0]

    def _score(
        self, rows: Index, split: str, epoch: int, record: Record
    ) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
        """Score some images with the weights as they are: the row of `epochs`, and counts `(N, 4)`."""
        started = time.perf_counter()
        losses: list[float] = []
        all_counts: list[npt.NDArray[np.int64]] = []
        size, how = self.study.train.batch_size, self.study.evaluate
        self.model.eval()
        for batch in np.array_split(rows, range(size, len(rows), size)):
            image, truth = self._to_device([(self.data.images[row], self.data.masks[row]) for row in batch])
            with torch.inference_mode():
                outputs, prediction = predict(self.model, image, self.precision, how.tta)
                losses.append(segmentation_loss(outputs, truth, self.study.loss).item() * len(batch))
                maps = prediction.cpu().numpy()
            if not np.isfinite(maps).all():
                raise DivergedError(
                    f"probabilities are not numbers in fold {self.data.fold} after epoch {self.epoch - 1}"
                )
            for row, map_ in zip(batch.tolist(), maps, strict=True):
                quantised, truth_mask = self._on_evaluation_grid(row, map_)
                found = predicted_mask(quantised, how.threshold, how.keep, how.fill_holes)
                all_counts.append(counts(found, truth_mask.astype(bool)))
                image_id, patient_id = self.data.image_ids[row], self.data.patient_ids[row]
                record.add_score(epoch, image_id, patient_id, split, all_counts[-1])
                if split == "test":
                    record.add_prediction(image_id, quantised)
        stacked = np.stack(all_counts)
        epoch_row = {
            "epoch": epoch,
            "split": split,
            "loss": sum(losses) / len(rows),
            "dsc": float(from_counts("dsc", stacked).mean()),
            "lr": record.epochs[-1]["lr"] if record.epochs else self.study.optim.lr,
            "seconds": time.perf_counter() - started,
        }
        return epoch_row, stacked

    def _on_evaluation_grid(
        self, row: int, map_: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
        if self.data.truth_of is None:
            return quantise(map_), self.data.masks[row]
        truth = self.data.truth_of(row)
        height, width = truth.shape
        return quantise(to_original_grid(map_, height, width, self.study.data.resize)), truth

    # ---- state ----------------------------------------------------------------------------------

    def state(self, record: Record | None = None) -> bytes:
        """Return the fold as a safetensors file.

        There is no random state to keep: it derives from the epoch. A finished fold's file holds weights and settings
        alone, and nothing of any patient.

        Args:
            record: The fold's rows. While it is unfinished, the file holds them too, but for predictions, so that no
                other file is needed to go on.

        Returns:
            Weights under `model/`; while it is unfinished also the optimiser's state under `optimizer/`, the loss
            scaler's under `scaler/`, the best epoch's weights under `best/` and the compressed `rows`.
        """
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        if not self.is_finished:
            tensors |= optim_state(self.optimizer, self.scaler)
            tensors |= {f"best/{name}": value for name, value in self._best_weights.items()}
            if record is not None:
                tensors["rows"] = record.packed()
        metadata = {
            "epoch": str(self.epoch),
            "settings": settings_text(self.study),
            "best_epoch": str(self.best_epoch),
            "best_value": repr(self.best_value),
        }
        return pack(tensors, metadata)

    def _load_state(self, data: bytes) -> None:
        tensors, metadata = unpack_for(self.study, data)
        self.model.load_state_dict(below("model/", tensors))
        self._best_weights = {name: value.to(self.device) for name, value in below("best/", tensors).items()}
        load_optim_state(tensors, self.optimizer, self.scaler)
        self.epoch = int(metadata["epoch"])
        self.best_epoch, self.best_value = int(metadata["best_epoch"]), float(metadata["best_value"])
        if "rows" in tensors:
            self.restored = Record.unpacked(tensors["rows"])

    def _seed(self, *parts: str | int) -> int:
        return derive_seed(self.study.train.seed, self.identity, self.data.fold, *parts)


def train_fold(study: Study, data: FoldData, device: torch.device | None = None) -> Record:
    """Train one fold from its first epoch to its last, then score its test images: the serial reference.

    Args:
        study: One architecture's settings.
        data: What the fold sees.
        device: What it computes on; the CPU by default.
    """
    device = device or torch.device("cpu")
    prepare_process(study, device)
    fold, record = Fold(study, data, device), Record()
    while not fold.is_finished:
        record.epochs.append(fold.train_epoch())
        if len(data.validation):
            record.epochs.append(fold.validate(record))
    record.epochs.append(fold.evaluate(record))
    return record
