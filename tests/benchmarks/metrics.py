"""Metrics of 256 x 256 pairs beside public libraries, one thread each; and of many mask files through `evaluate`."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from eus_ray.analysis.measures.image_metrics import image_metrics
from eus_ray.data.manifest import read_manifest
from eus_ray.data.phantom.dataset import make_phantom
from tests.benchmarks.data import busbra

Mask = npt.NDArray[np.bool_]
Pairs = list[tuple[Mask, Mask]]
Values = dict[str, float]
Way = Callable[[Pairs], list[Values]]

SIDE = 256
NAMES = ("dsc", "iou", "hd", "hd95", "avd", "mad")
"""The metrics that each way is timed for, as far as it has them."""


def run(full: bool) -> None:
    """Print the time per pair and what agrees, then the throughput of `evaluate`: 10,000 pairs, `full` 100,000."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = lesion_pairs(Path(folder), 48)
        with threadpool_limits(1):
            cv2.setNumThreads(1)
            compare(pairs, rounds=15 if full else 5)
            cv2.setNumThreads(-1)
        many_files(Path(folder), pairs, 100_000 if full else 10_000)


def lesion_pairs(folder: Path, number: int) -> Pairs:
    """Draw lesion masks, and predictions whose outline strays from theirs by some pixels."""
    manifest = busbra() or make_phantom(folder / "phantom", patients=number, images=number, seed=0, size=SIDE)
    rng = np.random.default_rng(0)
    pairs = []
    for path in read_manifest(manifest).frame["mask"].sample(number, random_state=0):
        share = cv2.imread(path, cv2.IMREAD_GRAYSCALE).astype(bool).astype(np.float32)
        share = cv2.resize(share, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        noise = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 8)
        soft = cv2.GaussianBlur(share, (0, 0), 5) + 0.12 * noise / noise.std()
        pairs.append((share >= 0.5, soft >= 0.5))
    return [(truth, pred) for truth, pred in pairs if truth.any() and pred.any()]


# ---- the ways -----------------------------------------------------------------------------------


def eus_ray(pairs: Pairs) -> list[Values]:
    truths, preds = (np.array(masks) for masks in zip(*pairs, strict=True))
    found = image_metrics(truths, preds)  # all metrics, not only those compared
    return [{name: float(found[name][index]) for name in (*NAMES, "hd95_pooled")} for index in range(len(pairs))]


def scipy_transform(pairs: Pairs) -> list[Values]:
    """Return the exact Euclidean distance transform of each contour, on the box around both masks."""

    def distances(truth: Mask, pred: Mask) -> Values:
        union = truth | pred
        rows, columns = (np.flatnonzero(union.any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        here, there = (mask[box] & ~binary_erosion(mask[box]) for mask in (truth, pred))
        return summary(distance_transform_edt(~there)[here], distance_transform_edt(~here)[there])

    return [overlap(*pair) | distances(*pair) for pair in pairs]


def scipy_tree(pairs: Pairs) -> list[Values]:
    """Return the k-d tree of each contour's points."""

    def distances(truth: Mask, pred: Mask) -> Values:
        here, there = (np.argwhere(mask & ~binary_erosion(mask)) for mask in (truth, pred))
        return summary(cKDTree(there).query(here)[0], cKDTree(here).query(there)[0])

    return [overlap(*pair) | distances(*pair) for pair in pairs]


def scikit_image(pairs: Pairs) -> list[Values]:
    from skimage.metrics import hausdorff_distance

    def distances(truth: Mask, pred: Mask) -> Values:
        edges = [mask & ~binary_erosion(mask) for mask in (truth, pred)]
        return {"hd": hausdorff_distance(*edges), "avd": hausdorff_distance(*edges, method="modified")}

    return [overlap(*pair) | distances(*pair) for pair in pairs]


def medpy(pairs: Pairs) -> list[Values]:
    from medpy.metric import binary

    def distances(truth: Mask, pred: Mask) -> Values:
        means = binary.asd(truth, pred), binary.asd(pred, truth)
        return {"dsc": binary.dc(pred, truth), "iou": binary.jc(pred, truth), "hd": binary.hd(pred, truth),
                "hd95_pooled": binary.hd95(pred, truth), "avd": max(means), "mad": sum(means) / 2}  # fmt: skip

    return [distances(*pair) for pair in pairs]


def surface_distance(pairs: Pairs) -> list[Values]:
    import surface_distance as library

    def distances(truth: Mask, pred: Mask) -> Values:
        surfaces = library.compute_surface_distances(truth, pred, (1.0, 1.0))
        means = library.compute_average_surface_distance(surfaces)
        hd, hd95 = (library.compute_robust_hausdorff(surfaces, percent) for percent in (100, 95))
        dsc = library.compute_dice_coefficient(truth, pred)
        return {"dsc": dsc, "hd": hd, "hd95": hd95, "avd": max(means), "mad": sum(means) / 2}

    return [distances(*pair) for pair in pairs]


def overlap(truth: Mask, pred: Mask) -> Values:
    both, either = np.count_nonzero(truth & pred), np.count_nonzero(truth | pred)
    return {"dsc": 2 * both / (both + either), "iou": both / either}


def summary(forth: npt.NDArray[np.float64], back: npt.NDArray[np.float64]) -> Values:
    means = forth.mean(), back.mean()
    return {"hd": max(forth.max(), back.max()), "hd95": max(np.percentile(forth, 95), np.percentile(back, 95)),
            "avd": max(means), "mad": sum(means) / 2}  # fmt: skip


WAYS: dict[str, Way] = {
    "eus-ray": eus_ray,
    "scipy, distance transform of the box": scipy_transform,
    "scipy, k-d tree": scipy_tree,
    "scikit-image": scikit_image,
    "medpy": medpy,
    "surface-distance": surface_distance,
}


# ---- side by side -------------------------------------------------------------------------------


def compare(pairs: Pairs, rounds: int) -> None:
    ours = eus_ray(pairs)
    agreement: dict[str, dict[str, str]] = {}
    for name, way in WAYS.items():
        with contextlib.suppress(ImportError):
            agreement[name] = agrees(ours, way(pairs))
    seconds = dict.fromkeys(agreement, math.inf)
    # In turns, and in processor time: whatever else the machine does meets them all, and no way gains by threads.
    for _ in range(rounds):
        for name in agreement:
            started = time.process_time()
            WAYS[name](pairs)
            seconds[name] = min(seconds[name], time.process_time() - started)
    ms = {name: f"{1000 * seconds[name] / len(pairs):.3f}" if name in seconds else "not installed" for name in WAYS}
    table = pd.DataFrame.from_dict({name: {"ms": ms[name], **agreement.get(name, {})} for name in WAYS}, orient="index")
    print(f"\nMetrics of a pair of {SIDE} x {SIDE}, one thread; = is equal to 12 digits, else the ratio of the means")
    print(table.fillna("").to_string())
    exact = [name for name in agreement if set(agreement[name].values()) == {"="} and name != "eus-ray"]
    best = min(exact, key=seconds.__getitem__)
    print(f"eus-ray takes {seconds['eus-ray'] / seconds[best]:.2f} of the fastest that is exact too ({best})")


def agrees(ours: list[Values], theirs: list[Values]) -> dict[str, str]:
    """Return "=" for each metric that agrees, else their mean over ours."""
    found = {}
    for name in theirs[0]:
        mine, other = (np.array([row[name] for row in rows]) for rows in (ours, theirs))
        found[name] = "=" if np.allclose(other, mine, rtol=1e-12, atol=1e-12) else f"{other.mean() / mine.mean():.3f}"
    return found


def many_files(folder: Path, pairs: Pairs, number: int) -> None:
    """Run the command on PNG files, which are links to a few, but are read and decoded each time."""
    places = folder / "predictions", folder / "truths"
    for side, place in enumerate(places):
        place.mkdir()
        for index, pair in enumerate(pairs):
            cv2.imwrite(str(folder / f"{side}_{index}.png"), pair[1 - side].astype(np.uint8) * 255)
        for index in range(number):
            (place / f"{index:06}.png").hardlink_to(folder / f"{side}_{index % len(pairs)}.png")
    command = [
        sys.executable,
        "-m",
        "eus_ray.cli",
        "evaluate",
        *map(str, places),
        "--out",
        str(folder / "scores.parquet"),
    ]
    started, before, most = time.perf_counter(), os.times(), 0
    running = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while running.poll() is None:
        most = max(most, memory(running))
        time.sleep(0.1)
    seconds, after, cores = time.perf_counter() - started, os.times(), len(os.sched_getaffinity(0))
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    assert running.returncode == 0
    print(
        f"eus-ray evaluate: {number} pairs of PNG files in {seconds:.0f} s on {cores} cores, "
        f"{1000 * busy / number:.2f} ms of processor time a pair, {most / 2**30:.2f} GiB in all processes at most"
    )


def memory(process: psutil.Process) -> int:
    """Return the resident bytes of a process and its children."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


if __name__ == "__main__":
    run(full=False)
