"""One fold, trained and evaluated: plain PyTorch, no Ray.

Read it from top to bottom: what a fold is given (`FoldData`), the fold itself (`Fold`: train an epoch,
evaluate, save, load), and `train_fold`, which runs one from its first epoch to its last.

    data = FoldData(images, masks, train=..., test=..., fold=0, ...)
    record = train_fold(study.for_model("unet"), data)

Everything random derives from (seed, architecture, settings, fold, epoch, image), so a fold gives the
same numbers wherever it runs, beside whatever other folds, and after any number of interruptions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.parallel import DistributedDataParallel

from eus_ray.architectures import architectures
from eus_ray.config import Study, to_dotted
from eus_ray.data.augmentation import Augmenter
from eus_ray.data.resizing import to_original_grid
from eus_ray.metrics import THRESHOLD, counts, from_counts, patient_means, quantise
from eus_ray.models import Outputs, as_input, build_model, forward, probability
from eus_ray.training.checkpoint import below, pack, unpack
from eus_ray.training.ddp import Team
from eus_ray.training.losses import segmentation_loss
from eus_ray.training.optim import learning_rate, optimizer_for, precision_for
from eus_ray.training.prefetch import Batches, Pair

Index = npt.NDArray[np.int64]


class TrainingFailed(Exception):
    """A fold that cannot go on: its loss is not a number. Trying again would end the same way."""


@dataclass(frozen=True)
class FoldData:
    """What one fold sees of the data.

    `images` and `masks` are `(N, S, S)` uint8 of the whole data set (gray; 0 or 1), shared by all folds
    and never written; `train`, `validation` and `test` are rows of them. Without validation images the
    last epoch counts, else the one whose validation patients score best. `truth_of(row)` gives the uint8 mask on the
    evaluation grid, which is the row of `masks` unless `evaluate.grid` is `original`.
    """

    fold: int
    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    train: Index
    test: Index
    image_ids: list[str]
    patient_ids: list[str]
    validation: Index = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    truth_of: Callable[[int], npt.NDArray[np.uint8]] | None = None

    def by_name(self) -> FoldData:
        """The same, rows in the order of their images' ids: the order of a manifest's rows changes nothing."""

        def ordered(rows: Index) -> Index:
            return np.array(sorted(rows.tolist(), key=self.image_ids.__getitem__), dtype=np.int64)

        train, validation, test = map(ordered, (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


@dataclass
class Record:
    """A fold's rows for the tables of the study folder, as far as it has come."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)


class Fold:
    """One fold of one architecture with one set of settings."""

    def __init__(
        self, study: Study, data: FoldData, device: torch.device, state: bytes | None = None, team: Team | None = None
    ) -> None:
        """A fold before its first epoch, or as it was when `state()` gave these bytes.

        Raises `ValueError` where the state is damaged, or of a fold with other settings.
        """
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
        self.settings = settings_text(study)
        self.identity = settings_digest(study)
        start = study.model if state is None else study.model.model_copy(update={"pretrained": False, "weights": ""})
        self.model = build_model(start, seed=self._seed("weights")).to(device)
        if study.train.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self._forward: torch.nn.Module = self.model
        if team is not None:
            has_unused = architectures()[study.model.arch].deep_supervision and not study.loss.slf_weight
            self._forward = team.parallel(self.model, has_unused=has_unused)
        self.precision = precision_for(study.train.precision, device)
        self.optimizer = optimizer_for(study.optim, self.model)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        # on a CPU, threads that load would only take turns with the arithmetic
        self._loaders = None if device.type == "cpu" else ThreadPoolExecutor(_given_cpus())
        self._local = threading.local()
        if state is not None:
            self._load_state(state)

    @property
    def finished(self) -> bool:
        return self.epoch == self.epochs

    # ---- training -------------------------------------------------------------------------------

    def train_epoch(self) -> dict[str, Any]:
        """Train the next epoch; its row of the `epochs` table. Raises `TrainingFailed` on a NaN loss."""
        started = time.perf_counter()
        train, size = self.study.train, len(self.data.train)
        torch.manual_seed(self._seed("layers", self.epoch))  # for layers that draw: dropout, drop path
        order = np.random.default_rng(self._seed("order", self.epoch)).permutation(self.data.train)
        batches = _batches(order, train.batch_size)
        groups = [batches[first : first + train.accumulate] for first in range(0, len(batches), train.accumulate)]
        first_rate = learning_rate(self.study.optim, self.epoch, 0, len(groups), train.epochs)
        total_loss, total_dsc = torch.zeros(2, dtype=torch.float64, device=self.device)
        shares, counts_of_shares = self.team.shares(batches) if self.team else (batches, list(map(len, batches)))
        loaded = Batches(shares, self._augmented, self._loaders)
        turns = zip(loaded, counts_of_shares, strict=True)
        self.model.train()
        for step, group in enumerate(groups):
            rate = learning_rate(self.study.optim, self.epoch, step, len(groups), train.epochs)
            for options in self.optimizer.param_groups:
                options["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            images_in_step = sum(map(len, group))
            for place, (pairs, counted) in enumerate(itertools.islice(turns, len(group)), start=1):
                image, truth = self._to_device(pairs)
                with self._exchange(last=place == len(group)):
                    outputs = forward(self._forward, image, self.precision)
                    loss = segmentation_loss(outputs, truth, self.study.loss)
                    loaded.ahead()
                    # the mean over the images of the step, however they are cut into batches and shares;
                    # a team's gradients are averaged, and their sum is wanted
                    weight = counted / images_in_step * (self.team.size if self.team else 1)
                    self.scaler.scale(loss * weight).backward()
                if counted:
                    total_loss += loss.detach().double() * counted
                    total_dsc += _batch_dsc(outputs, truth)
            if train.clip_norm > 0:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.team is not None:
            total_loss, total_dsc = self.team.total(torch.stack([total_loss, total_dsc]))
        mean_loss = total_loss.item() / size  # the one wait for a GPU in an epoch
        if not math.isfinite(mean_loss):
            where = f"fold {self.data.fold}, epoch {self.epoch}, learning rate {first_rate:g}"
            raise TrainingFailed(f"the loss is {mean_loss} in {where}; a lower optim.lr or train.clip_norm may help")
        self.epoch += 1
        row = {"epoch": self.epoch - 1, "split": "train", "loss": mean_loss, "dsc": total_dsc.item() / size}
        return {**row, "lr": first_rate, "seconds": time.perf_counter() - started}

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """A team exchanges gradients at the last batch of a step only."""
        if last or not isinstance(self._forward, DistributedDataParallel):
            return nullcontext()
        return self._forward.no_sync()

    def _augmented(self, row: int) -> Pair:
        """Image and mask for this epoch. Which thread prepares them changes nothing in them."""
        if not hasattr(self._local, "augment"):
            self._local.augment = Augmenter(self.study.augment)  # one a thread: it holds a generator
        seed = self._seed("augment", self.epoch, self.data.image_ids[row])
        image, mask = self._local.augment(self.data.images[row], self.data.masks[row], seed)
        return image, mask

    def _to_device(self, pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images `(B, 1, S, S)` in [0, 1] and truths of that shape."""
        image = as_input(np.stack([image for image, _ in pairs]), self.device, self.study.train.channels_last)
        truth = torch.from_numpy(np.stack([mask for _, mask in pairs])[:, None])
        if self.device.type == "cuda":
            truth = truth.pin_memory()
        return image, truth.to(self.device, non_blocking=True).float()

    # ---- evaluation -----------------------------------------------------------------------------

    def validate(self, record: Record) -> dict[str, Any]:
        """Score the validation images after an epoch; where their patients score best so far, keep the weights."""
        started = time.perf_counter()
        loss, all_counts = self._score(self.data.validation, "validation", self.epoch - 1, record, keep_maps=False)
        patients = [self.data.patient_ids[row] for row in self.data.validation]
        value = float(patient_means(from_counts(self.study.search.metric, all_counts), patients).mean())
        if value > self.best_value:
            self.best_epoch, self.best_value = self.epoch - 1, value
            self._best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return self._epoch_row("validation", loss, float(from_counts("dsc", all_counts).mean()), record, started)

    def evaluate(self, record: Record) -> dict[str, Any]:
        """Score the test images with the weights that count: rows of all three tables.

        Counts are taken from the stored 16-bit probabilities, so that analysis finds the same ones.
        """
        started = time.perf_counter()
        if self._best_weights:
            self.model.load_state_dict(self._best_weights)
        epoch = self.best_epoch if len(self.data.validation) else self.epoch - 1
        loss, all_counts = self._score(self.data.test, "test", epoch, record, keep_maps=True)
        row = self._epoch_row("test", loss, float(from_counts("dsc", all_counts).mean()), record, started)
        return {**row, "epoch": epoch}

    def _score(
        self, rows: Index, split: str, epoch: int, record: Record, *, keep_maps: bool
    ) -> tuple[float, npt.NDArray[np.int64]]:
        """Mean loss and counts `(N, 4)` of some images with the weights as they are; rows for the record."""
        losses: list[float] = []
        all_counts: list[npt.NDArray[np.int64]] = []
        size = self.study.train.batch_size
        self.model.eval()
        for batch in np.array_split(rows, range(size, len(rows), size)):
            image, truth = self._to_device([(self.data.images[row], self.data.masks[row]) for row in batch])
            with torch.inference_mode():
                with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
                    outputs = self.model(image)
                losses.append(segmentation_loss(outputs, truth, self.study.loss).item() * len(batch))
                maps = probability(outputs).cpu().numpy()
            if not np.isfinite(maps).all():
                where = f"fold {self.data.fold} after epoch {self.epoch - 1}"
                raise TrainingFailed(f"probabilities are not numbers in {where}")
            for row, map_ in zip(batch.tolist(), maps, strict=True):
                stored, truth_mask = self._on_evaluation_grid(row, map_)
                all_counts.append(counts(stored >= THRESHOLD, truth_mask.astype(bool)))
                record.scores.append(self._score_row(row, split, epoch, all_counts[-1]))
                if keep_maps:
                    record.predictions.append(
                        {
                            "image_id": self.data.image_ids[row],
                            "height": stored.shape[0],
                            "width": stored.shape[1],
                            "probability": stored.ravel(),
                        }
                    )
        return sum(losses) / len(rows), np.stack(all_counts)

    def _on_evaluation_grid(
        self, row: int, map_: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
        if self.data.truth_of is None:
            return quantise(map_), self.data.masks[row]
        truth = self.data.truth_of(row)
        height, width = truth.shape
        return quantise(to_original_grid(map_, height, width, self.study.data.resize)), truth

    def _score_row(self, row: int, split: str, epoch: int, tp_fp_fn_tn: npt.NDArray[np.int64]) -> dict[str, Any]:
        named = dict(zip(("tp", "fp", "fn", "tn"), tp_fp_fn_tn.tolist(), strict=True))
        ids = {"image_id": self.data.image_ids[row], "patient_id": self.data.patient_ids[row]}
        return {"epoch": epoch, **ids, "split": split, **named}

    def _epoch_row(self, split: str, loss: float, dsc: float, record: Record, started: float) -> dict[str, Any]:
        """A row of `epochs`; its learning rate is that of the epoch's first step."""
        rate = record.epochs[-1]["lr"] if record.epochs else self.study.optim.lr
        seconds = time.perf_counter() - started
        return {"epoch": self.epoch - 1, "split": split, "loss": loss, "dsc": dsc, "lr": rate, "seconds": seconds}

    # ---- state ----------------------------------------------------------------------------------

    def state(self, record: Record | None = None) -> bytes:
        """Return the fold as a safetensors file.

        There is no random state to keep: it derives from the epoch. A finished fold's file holds weights and settings
        alone, and nothing of any patient.

        Args:
            record: The fold's rows. While it is unfinished, the file holds them too, but for predictions, so that no
                other file is needed to go on.

        Returns:
            Weights under `model/`; while it is unfinished also the optimiser's state under `optimizer/`, the best
            epoch's weights under `best/`, the scaler's state under `scaler/` and the compressed `rows`.
        """
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        if not self.finished:
            for index, values in self.optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items() if value is not None}
            tensors |= {f"best/{name}": value for name, value in self._best_weights.items()}
            for name, value in self.scaler.state_dict().items():
                tensors[f"scaler/{name}"] = torch.tensor(value, dtype=torch.float64)
            if record is not None:
                rows = zlib.compress(json.dumps([record.epochs, record.scores]).encode(), 1)
                tensors["rows"] = torch.frombuffer(bytearray(rows), dtype=torch.uint8)
        best = {"best_epoch": str(self.best_epoch), "best_value": repr(self.best_value)}
        return pack(tensors, {"epoch": str(self.epoch), "settings": self.settings, **best})

    def _load_state(self, data: bytes) -> None:
        tensors, metadata = unpack(data)
        if metadata.get("settings") not in (self.settings, self.identity):  # older files hold the digest
            raise ValueError("a checkpoint of other settings")
        self.model.load_state_dict(below("model/", tensors))
        self._best_weights = {name: value.to(self.device) for name, value in below("best/", tensors).items()}
        state: dict[int, dict[str, torch.Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, key = name.split("/")
                if value.shape == (parameter := parameters[int(index)]).shape and value.dim():
                    # the fused step walks moments and weights side by side in memory
                    value = torch.empty_like(parameter).copy_(value)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if scaler := {name: value.item() for name, value in below("scaler/", tensors).items()}:
            whole = {name: int(scaler[name]) for name in ("growth_interval", "_growth_tracker")}
            self.scaler.load_state_dict({**scaler, **whole})
        self.epoch = int(metadata["epoch"])
        self.best_epoch, self.best_value = int(metadata["best_epoch"]), float(metadata["best_value"])
        if "rows" in tensors:
            self.restored = Record(*json.loads(zlib.decompress(tensors["rows"].numpy().tobytes())))

    def _seed(self, *parts: str | int) -> int:
        return derive_seed(self.study.train.seed, self.identity, self.data.fold, *parts)


def train_fold(study: Study, data: FoldData, device: torch.device | None = None) -> Record:
    """One fold from its first epoch to its last, then its test images: the serial reference."""
    prepare_process(study, device or torch.device("cpu"))
    fold, record = Fold(study, data, device or torch.device("cpu")), Record()
    while not fold.finished:
        record.epochs.append(fold.train_epoch())
        if len(data.validation):
            record.epochs.append(fold.validate(record))
    record.epochs.append(fold.evaluate(record))
    return record


def prepare_process(study: Study, device: torch.device) -> None:
    """Set what a process has once: threads, and on request the same bits in each run on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_num_threads(study.run.threads_per_fold)
    cv2.setNumThreads(0)
    deterministic = study.train.deterministic and device.type == "cuda"
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)  # this call alone imports torch's compiler: seconds
    torch.backends.cudnn.benchmark = device.type == "cuda" and not study.train.deterministic


def settings_text(study: Study) -> str:
    """Return everything in a study that changes a fold's numbers, apart from its data, as JSON without paths."""
    settings = to_dotted(study, ("data", "model", "augment", "optim", "loss", "train", "evaluate"))
    del settings["data.manifest"], settings["data.duplicates"]
    settings["model.weights"] = Path(study.model.weights).name  # wherever the file lies
    return json.dumps(settings, sort_keys=True)


def settings_digest(study: Study) -> str:
    """Return a short name of `settings_text`."""
    return hashlib.sha256(settings_text(study).encode()).hexdigest()[:16]


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from what it is for; other parts, another independent seed."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _given_cpus() -> int:
    """CPUs of this process: Ray sets the variable from what it gave to the worker."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def _batches(order: Index, size: int) -> list[Index]:
    """Batches of `size`; a single image left over joins the batch before it, because batch
    normalisation cannot normalise one value."""
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    if len(batches) > 1 and len(batches[-1]) == 1 and size > 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _batch_dsc(outputs: Outputs, truth: torch.Tensor) -> torch.Tensor:
    """Sum of the images' DSC in a training batch, still on the device."""
    with torch.no_grad():
        predicted = (probability(outputs) >= 0.5).flatten(1)
        wanted = truth.flatten(1) >= 0.5
        both = (predicted & wanted).sum(1).double()
        either = predicted.sum(1) + wanted.sum(1)
        return torch.where(either == 0, 1.0, 2 * both / either.clamp(min=1)).sum()
