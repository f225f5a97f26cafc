"""The rooms of the code: which may import which, no circles, short files, and heavy libraries where they belong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import (
    PAGE,
    ROOT,
    Graph,
    boxes_graph,
    circles,
    floors,
    imported,
    modules_graph,
    page_picture,
    page_with,
    sources,
)

ALLOWED: Graph = {
    "errors": set(),
    "metrics": set(),
    "architectures": {"errors"},
    "config": {"architectures", "errors"},
    "config_file": {"architectures", "config", "errors"},
    "store": {"config", "config_file", "errors"},
    "models": {"architectures", "config", "errors"},
    "data": {"config", "config_file", "errors", "metrics", "store"},
    "search": {"architectures", "config", "config_file", "data", "errors", "metrics", "store"},
    "training": {"architectures", "config", "data", "errors", "metrics", "models"},
    "distributed": {"architectures", "config", "config_file", "data", "errors", "metrics", "store", "training"},
    "study": {"config", "config_file", "data", "distributed", "errors", "metrics", "models", "search", "store"},
    "analysis": {"architectures", "config", "config_file", "data", "errors", "metrics", "store"},
    "api": {"analysis", "config", "config_file", "errors", "inference", "store", "study"},
    "inference": {"analysis", "config", "config_file", "data", "errors", "metrics", "models", "store", "study"}
    | {"training"},
}
"""What each room may import. `cli` may import all of them, and no room imports it; the package itself imports `api`."""

ANALYSIS: Graph = {
    "audit": set(),
    "measures": set(),
    "labels": {"measures"},
    "statistics": {"measures"},
    "inputs": {"labels", "measures"},
    "comparison": {"inputs", "labels", "measures", "statistics"},
    "figures": {"comparison", "inputs", "labels", "measures", "statistics"},
    "report": {"comparison", "figures", "inputs", "labels", "measures", "statistics"},
    "analyze": {"inputs", "report"},
}
"""The same inside of `analysis`."""

MODULES = modules_graph()


@pytest.mark.parametrize("room", boxes_graph(MODULES, "eus_ray"))
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    allowed = set(ALLOWED) if room == "cli" else ALLOWED[room]
    assert boxes_graph(MODULES, "eus_ray")[room] <= allowed


@pytest.mark.parametrize("room", boxes_graph(MODULES, "eus_ray.analysis"))
def test_a_room_of_the_analysis_imports_only_rooms_below_it(room: str) -> None:
    assert boxes_graph(MODULES, "eus_ray.analysis")[room] <= ANALYSIS[room]


def test_the_analysis_reads_foreign_files_by_data_io_and_its_rules_alone() -> None:
    rules = ("eus_ray.data.io", "eus_ray.data.names", "eus_ray.data.resizing", "eus_ray.data.signs")
    wrong = {
        f"{name} imports {need}"
        for name, needs in MODULES.items()
        if name.startswith("eus_ray.analysis")
        for need in needs
        if need.startswith("eus_ray.data.") and not need.startswith(rules)
    }
    assert not wrong


def test_no_circle_anywhere() -> None:
    assert not circles(MODULES)
    assert not circles(ALLOWED)
    assert not circles(ANALYSIS)


def test_the_house_stays_small() -> None:
    whole, analysis = boxes_graph(MODULES, "eus_ray"), boxes_graph(MODULES, "eus_ray.analysis")
    assert len(whole) <= 16
    assert len(analysis) <= 10


def test_files_stay_short() -> None:
    long = {str(path): count for path in sources() if (count := len(path.read_text().splitlines())) > 410}
    assert not long


def test_lazy_imports_and_imports_for_types_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from eus_ray.store import Store\n"
        "def late():\n    from eus_ray import metrics\n    import eus_ray.config\n"
    )
    assert imported(file, MODULES) == {"eus_ray.store", "eus_ray.metrics", "eus_ray.config"}


def test_circles_and_floors_of_drawings_worked_by_hand() -> None:
    tower: Graph = {"roof": {"walls"}, "walls": {"ground"}, "ground": set()}
    assert floors(tower) == [["ground"], ["walls"], ["roof"]]
    assert circles(tower) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("eus_ray", "torch ray timm pandas numpy"),
        ("eus_ray.cli", "torch ray timm pandas pyarrow scipy cv2"),
        ("eus_ray.analysis.analyze", "torch ray timm"),
        ("eus_ray.metrics", "torch ray pandas"),
        ("eus_ray.analysis.statistics", "torch ray matplotlib scipy.stats statsmodels"),
        ("eus_ray.analysis.audit", "torch ray timm cv2"),
        ("eus_ray.inference.predict", "torch ray timm matplotlib"),
        ("eus_ray.training.fold", "ray"),
        ("eus_ray.distributed.trainable", "torch timm albumentations"),
        ("eus_ray.data.manifest", "torch ray"),
    ],
)
def test_heavy_libraries_stay_out(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([name for name in {heavy.split()!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


def test_the_picture_in_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page_with(text, page_picture()) == text, "make architecture draws it anew"
