"""Synthetic endoscopic ultrasound with masks of pancreatic cancer.

It stands in for data that nobody may publish. `make_phantom` writes a data set that every other part of the program can
read: several images a patient, clinical columns with the paper's Table 1 (`cohort`), an anatomy a patient (`patient`,
`anatomy`), B-mode physics (`ultrasound`). Nothing in it comes from a person, and the column `device` says "synthetic"
in every row.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eus_ray.data.io.images import encode_png
from eus_ray.data.phantom.anatomy import Anatomy
from eus_ray.data.phantom.cohort import plan_cohort
from eus_ray.data.phantom.hue import SIZE_SHARE, draw_lesion, tinted
from eus_ray.data.phantom.patient import make_anatomy, still_view, sweep_views
from eus_ray.data.phantom.ultrasound import SCANNERS, Scanner, View, render, sector
from eus_ray.errors import UserError

FRAMES_PER_VIDEO = 12
_FRAME_INTERVAL_S = 0.5
"""As in the paper's Figure 8."""
_SIZE_RANGE_PX = (32, 2048)
_COHORT_COLUMNS = ["patient_id", "age", "sex", "size_mm", "t_stage", "location"]
_SCANNER_SHARES = (0.5, 0.3, 0.2)

_Shot = tuple[str, str, View, float | None, dict[str, Any]]
"""Names of image and mask, the view, the diameter of a lesion in colour (0: none; None: a gray image), and further
columns of the manifest."""


def make_phantom(
    folder: Path,
    patients: int,
    images: int,
    seed: int,
    videos: int = 0,
    cancer_free: int = 0,
    size: int = 256,
    colour: bool = False,
) -> Path:
    """Write a synthetic EUS data set and return the path of its manifest.

    The folder gets `images/*.png` (8-bit gray, or RGB), `masks/*.png` (0 and 255, the same grid) and `manifest.csv`:
    image, mask, patient_id, age, sex, size_mm, t_stage, location, device, spacing_mm. A mask has the part of the cancer
    that lies inside the sector, also if poor contact hides it. At 150 patients the clinical columns are the paper's
    Table 1 (`cohort` says how its locations, which sum to 154, are scaled).

    Videos are frames 0.5 s apart, `videos/video_000/frame_000.png` and so on, with masks of the same names in
    `videos/masks/`. Each starts at the common bile duct and vessels, with empty masks, and glides onto the cancer.
    `videos/manifest.csv` adds image_id, video, frame and time_s. Paths in a manifest are relative to it.

    The same arguments give the same bytes on any number of processor cores. The folder appears whole, or not at all.

    Args:
        folder: A folder that is new or empty.
        patients: The number of patients.
        images: The number of images that show the cancer, at least one a patient.
        seed: The seed of all random draws.
        videos: The number of videos, each of a patient of its own who has no image.
        cancer_free: The number of additional images of the same patients, taken elsewhere along the gland: their masks
            are empty, their clinical columns are the patient's.
        size: The side of an image in pixels.
        colour: Whether the images are RGB, and the lesions differ from their surroundings in hue alone (`hue`): the
            views are those elsewhere along the gland, and lesions lie anywhere in them, half of `size_mm` wide.

    Raises:
        UserError: If a number makes no sense, or the folder has content or cannot be written.
    """
    folder = Path(folder).resolve()
    _check(folder, patients, images, seed, videos, cancer_free, size, colour)
    making = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        making.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made here ({error.strerror}); choose another folder") from None
    try:
        _write_stills(making, plan_cohort(patients, images, seed, cancer_free), seed, size, colour)
        if videos:
            _write_videos(making / "videos", plan_cohort(videos, videos, seed), patients, seed, size)
        making.replace(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room or choose another"
        ) from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder / "manifest.csv"


def _check(
    folder: Path, patients: int, images: int, seed: int, videos: int, cancer_free: int, size: int, colour: bool
) -> None:
    smallest, largest = _SIZE_RANGE_PX
    checks = [
        (folder.exists() and not folder.is_dir(), f"{folder}: is a file; name a folder that does not exist yet"),
        (folder.is_dir() and any(folder.iterdir()), f"{folder}: has content already; name an empty or a new folder"),
        (patients < 1, f"patients = {patients}: at least 1 is needed"),
        (images < patients, f"images = {images}: every one of the {patients} patients needs at least one image"),
        (seed < 0, f"seed = {seed}: must not be negative"),
        (videos < 0, f"videos = {videos}: must not be negative"),
        (colour and videos > 0, f"videos = {videos}: videos are gray; leave them out of a phantom in colour"),
        (cancer_free < 0, f"cancer_free = {cancer_free}: must not be negative"),
        (not smallest <= size <= largest, f"size = {size}: the side of an image is {smallest} to {largest} pixels"),
    ]
    if lines := [line for is_wrong, line in checks if is_wrong]:
        raise UserError(*lines)


def _write_stills(folder: Path, cohort: pd.DataFrame, seed: int, size: int, colour: bool) -> None:
    def shots(index: int, rng: np.random.Generator, anatomy: Anatomy, scanner: Scanner) -> Iterator[_Shot]:
        patient = cohort.iloc[index]
        for number in range(patient.num_images + patient.num_cancer_free):
            name = f"{patient.patient_id}_{number + 1}.png"
            has_cancer = number < patient.num_images
            view = still_view(rng, anatomy, scanner, cancer=has_cancer and not colour)
            hue_mm = SIZE_SHARE * float(patient.size_mm) * has_cancer if colour else None
            yield f"images/{name}", f"masks/{name}", view, hue_mm, {}

    _write(folder, cohort, 0, shots, seed, size)


def _write_videos(folder: Path, cohort: pd.DataFrame, first_index: int, seed: int, size: int) -> None:
    def shots(index: int, rng: np.random.Generator, anatomy: Anatomy, scanner: Scanner) -> Iterator[_Shot]:
        video = f"video_{index:03d}"
        for number, view in enumerate(sweep_views(rng, anatomy, scanner, FRAMES_PER_VIDEO)):
            name = f"{video}/frame_{number:03d}.png"
            columns = {"image_id": f"{video}_frame_{number:03d}", "video": video, "frame": number}
            yield name, f"masks/{name}", view, None, {**columns, "time_s": number * _FRAME_INTERVAL_S}

    numbers = range(first_index + 1, first_index + 1 + len(cohort))
    digits = max(3, len(str(numbers[-1])))
    named = cohort.assign(patient_id=[f"synthetic_{number:0{digits}d}" for number in numbers])
    _write(folder, named, first_index, shots, seed, size)


def _write(
    folder: Path,
    cohort: pd.DataFrame,
    first_index: int,
    shots: Callable[[int, np.random.Generator, Anatomy, Scanner], Iterator[_Shot]],
    seed: int,
    size: int,
) -> None:
    """Render every patient's shots, and write images, masks and manifest."""

    def write_patient(index: int) -> list[dict[str, Any]]:
        patient = cohort.iloc[index]
        rng = np.random.default_rng([seed, first_index + index])  # depends on no other patient
        scanner = SCANNERS[rng.choice(len(SCANNERS), p=_SCANNER_SHARES)]
        anatomy = make_anatomy(rng, patient.location, float(patient.size_mm), scanner)
        rows = []
        for image_name, mask_name, view, hue_mm, columns in shots(index, rng, anatomy, scanner):
            image, mask, spacing_mm = render(anatomy, view, scanner, size, rng)
            if hue_mm is not None:
                inside = sector(view, scanner, size)
                lesion = draw_lesion(rng, inside, hue_mm / spacing_mm) if hue_mm else np.zeros_like(inside)
                image, mask = tinted(image, lesion)[..., ::-1], lesion * np.uint8(255)
            _write_png(folder / image_name, image)
            _write_png(folder / mask_name, mask)
            row = {"image": image_name, "mask": mask_name, **patient[_COHORT_COLUMNS], "device": scanner.name}
            rows.append({**row, "spacing_mm": round(spacing_mm, 5), **columns})
        return rows

    # Threads, since NumPy and SciPy release the GIL for nearly all of the work; beyond 8 it is the bottleneck.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = [row for several in pool.map(write_patient, range(len(cohort))) for row in several]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))  # cv2.imwrite would answer a full disk with False
