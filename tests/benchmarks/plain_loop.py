"""The cross-validation as one would write it first: plain PyTorch, one fold after another, two threads.

    python -m tests.benchmarks.plain_loop STUDY.toml

Same folds, network, loss, augmentation settings, optimiser, schedule, epochs, precision and batch size as the study
file says; contiguous tensors, torch's own data loader and schedulers, a data set that reads an image when it is asked
for it; a GPU where there is one. Prints the mean test DSC over folds, the training images a second of all epochs but
each fold's first, the seconds before training (eus-ray's own checks and folds), and those that reading took.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from eus_ray.config import Study
from eus_ray.config_file import load_study
from eus_ray.data.dataset import check_data
from eus_ray.data.io.images import read_image, read_mask
from eus_ray.data.resizing import resize_image, resize_mask
from eus_ray.models import build_model, probability
from eus_ray.training.losses import segmentation_loss


class Images(Dataset):
    reading_s = 0.0
    """CPU seconds that reading took in this process, because the process may be frozen for a while."""

    def __init__(self, study: Study, frame: pd.DataFrame, transform: albumentations.Compose | None) -> None:
        self.data, self.transform = study.data, transform
        self.images, self.masks = frame["image"].tolist(), frame["mask"].tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        started, size, resize = time.thread_time(), self.data.image_size, self.data.resize
        image = resize_image(read_image(self.images[index], self.data.intensity), size, resize)
        mask = resize_mask(read_mask(self.masks[index]), size, resize)
        Images.reading_s += time.thread_time() - started
        if self.transform is not None:
            both = self.transform(image=image, mask=mask)
            image, mask = both["image"], both["mask"]
        return torch.from_numpy(image)[None].float() / 255, torch.from_numpy(mask)[None].float()


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LOADING = {"num_workers": 8, "pin_memory": True, "persistent_workers": True} if DEVICE.type == "cuda" else {}


def train_one_fold(study: Study, frame: pd.DataFrame, folds: np.ndarray, fold: int, seconds: list[float]) -> float:
    """Return the fold's mean test DSC, and append the seconds of its epochs but the first to the list."""
    torch.manual_seed(fold)
    half = torch.autocast(DEVICE.type, torch.bfloat16, enabled=study.train.precision == "bfloat16")
    augment = albumentations.Compose(
        [
            albumentations.Affine(rotate=(-5, 5), scale=(0.9, 1.1), p=1.0),
            albumentations.HorizontalFlip(p=study.augment.flip_probability),
        ]
    )
    train, test = Images(study, frame[folds != fold], augment), Images(study, frame[folds == fold], None)
    train_loader = DataLoader(train, batch_size=study.train.batch_size, shuffle=True, **LOADING)
    test_loader = DataLoader(test, batch_size=study.train.batch_size)
    model = build_model(study.model, seed=fold).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=study.optim.lr, weight_decay=study.optim.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=study.optim.lr, total_steps=study.train.epochs * len(train_loader)
    )
    for epoch in range(study.train.epochs):
        model.train()
        started = time.perf_counter()
        for image, mask in train_loader:
            optimizer.zero_grad()
            with half:
                outputs = model(image.to(DEVICE))
            loss = segmentation_loss(outputs, mask.to(DEVICE), study.loss)
            loss.backward()
            optimizer.step()
            schedule.step()
        loss.item()  # waits for a GPU
        seconds += [time.perf_counter() - started] * (epoch > 0)
    model.eval()
    scores = []
    with torch.no_grad():
        for image, mask in test_loader:
            with half:
                outputs = model(image.to(DEVICE))
            predicted = probability(outputs).cpu() >= 0.5
            truth = mask[:, 0] >= 0.5
            both = (predicted & truth).sum((1, 2))
            scores += (2 * both / (predicted.sum((1, 2)) + truth.sum((1, 2))).clamp(min=1)).tolist()
    return float(np.mean(scores))


def main(study_path: str) -> None:
    torch.set_num_threads(2)
    study = load_study(Path(study_path))
    started = time.perf_counter()
    dataset = check_data(study)
    before_s = time.perf_counter() - started
    (arch,) = study.models
    study = study.for_model(arch)
    seconds: list[float] = []
    scores = [train_one_fold(study, dataset.frame, dataset.folds, fold, seconds) for fold in range(study.folds.count)]
    print(f"mean test DSC over folds: {np.mean(scores):.4f} ({', '.join(f'{score:.3f}' for score in scores)})")
    print(f"before training {before_s:.1f} s, reading {Images.reading_s:.1f} s")
    trained = len(dataset.frame) * (study.folds.count - 1) * (study.train.epochs - 1)
    if seconds:
        print(f"{trained / sum(seconds):.1f} images/s in training")


if __name__ == "__main__":
    main(*sys.argv[1:])
