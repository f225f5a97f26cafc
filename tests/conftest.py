"""Fixtures of all tests: the real data if it is there, a small phantom, one Ray session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes of tests share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)  # before those who read the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a Ray session or a file in one process, and begin with the longest, those with Ray."""
    for item in items:
        shares_session = "ray_session" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray_session" if shares_session else item.path.stem))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.fixture(scope="session")
def busbra() -> Path:
    """The folder of real breast ultrasound; it is no part of the project."""
    folder = Path(os.environ.get("EUS_RAY_BUSBRA", ROOT.parent / "shared/data/busbra"))
    if not (folder / "manifest.csv").exists():
        pytest.skip(f"the real data is not at {folder}; EUS_RAY_BUSBRA names its folder")
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a small synthetic data set: 10 patients, 20 images of 64 x 64, 2 of them cancer-free."""
    from eus_ray.data.phantom.dataset import make_phantom

    folder = tmp_path_factory.mktemp("phantom") / "set"
    return make_phantom(folder, patients=10, images=18, seed=3, cancer_free=2, size=64)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[object]:
    """One local Ray cluster for all tests that need it; commands run in this process join it."""
    from eus_ray.distributed.session import session

    with session(num_cpus=2) as cluster:
        yield cluster
