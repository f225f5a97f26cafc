"""The house: rooms import one way, and what is installed is what is here."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from eus_ray.cli import main

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "eus_ray"

ALLOWED = {
    "config": set(),
    "study_file": set(),
    "scores": set(),
    "store": set(),
    "table": set(),
    "columns": {"table"},
    "decoding": set(),
    "data": {"store", "table", "columns", "decoding"},
    "models": set(),
    "losses": set(),
    "optim": set(),
    "checkpoint": set(),
    "team": set(),
    "batches": set(),
    "fold": {"batches", "models", "losses", "data", "optim", "scores", "checkpoint", "team"},
    "machines": set(),
    "probe": {"data", "fold", "machines"},
    "auth_token": set(),
    "process": set(),
    "ray_session": {"auth_token", "machines", "process"},
    "claim": {"process", "store"},
    "prepare": {"data", "store"},
    "cross_validation": {"decoding", "fold", "scores", "store", "team"},
    "process_group": set(),
    "trial": {"cross_validation", "machines", "process_group", "store"},
    "loggers": {"store"},
    "trials": {"loggers", "store"},
    "status": {"claim", "store", "trials"},
    "planner": {"trial", "machines"},
    "campaign": {"trial", "cross_validation", "ray_session"},
    "racing": {"scores"},
    "replay": {"racing", "scores", "store"},
    "space": set(),
    "space_file": {"space"},
    "sampling": {"space"},
    "runs": {"campaign", "claim", "loggers", "machines", "planner", "probe", "trials", "cross_validation", "prepare"}
    | {"ray_session", "data", "store"},
    "model_search": {"campaign", "cross_validation", "racing", "sampling", "scores", "space", "store", "trials"},
    "search": {"model_search", "runs", "planner", "campaign", "prepare", "ray_session", "racing", "space", "data"}
    | {"store", "trials"},
    "progress": set(),
    "search_progress": {"progress", "model_search"},
    "analysis": {"store", "scores", "table", "columns", "decoding"},
    "video": set(),
    "overlays": {"analysis"},
    "sources": {"analysis", "columns", "data", "table", "video"},
    "ensemble": {"analysis", "fold", "models", "scores", "store", "trials"},
    "predict": {"analysis", "data", "decoding", "ensemble", "overlays", "scores", "sources", "store", "video"},
    "predict_progress": {"progress"},
    "launch_checks": {"models", "space_file", "store"},
    "recipes": {"launch_checks"},
    "launch": {"auth_token", "launch_checks", "recipes"},
}
"""What each room may import besides `config` and `study_file`; `cli`, `commands` and `demo` may import all."""
ANYTHING = {"cli", "commands", "demo"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            if node.module == "eus_ray":
                modules = [f"eus_ray.{alias.name}" for alias in node.names]
            else:
                modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("eus_ray.")}
    return found


def sources() -> list[Path]:
    files = sorted(PACKAGE.glob("*.py"))
    for room in ("data", "models", "analysis", "cli", "store"):
        files += sorted((PACKAGE / room).rglob("*.py"))
    return [path for path in files if path.name != "__init__.py" or path.parent != PACKAGE]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_one_way(path: Path) -> None:
    room = room_of(path)
    if room in ANYTHING:
        return
    wrong = imports(path) - ALLOWED[room] - {room, "config", "study_file"}
    assert not wrong, f"{room} must not import {', '.join(sorted(wrong))}"


def test_the_order_has_no_circle() -> None:
    settled: set[str] = set()
    left = dict(ALLOWED)
    while left:
        free = {room for room, needs in left.items() if needs <= settled}
        assert free, f"a circle among {sorted(left)}"
        settled |= free
        left = {room: needs for room, needs in left.items() if room not in free}


def test_the_outer_folders_are_relative_links() -> None:
    for room in ("analysis", "search_spaces", "cluster"):
        assert (PACKAGE / room).readlink() == Path(f"../{room}")


def test_files_stay_short() -> None:
    long = {str(path): count for path in sources() if (count := len(path.read_text().splitlines())) > 410}
    assert not long


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("eus_ray.cli", "torch ray timm pandas pyarrow scipy cv2"),
        ("eus_ray.analysis.analyze", "torch ray timm"),
        ("eus_ray.scores", "torch ray pandas"),
        ("eus_ray.analysis.statistics", "torch ray matplotlib scipy.stats statsmodels"),
        ("eus_ray.analysis.audit", "torch ray timm cv2"),
        ("eus_ray.predict", "torch ray timm matplotlib"),
        ("eus_ray.fold", "ray"),
        ("eus_ray.trial", "torch timm albumentations"),
        ("eus_ray.data.manifest", "torch ray"),
    ],
)
def test_heavy_libraries_stay_out(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print([name for name in {heavy.split()!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_wheel_from_the_sdist_runs_elsewhere(tmp_path: Path) -> None:
    """sdist, wheel from it, installed alone beside the parent's packages, run outside the checkout."""
    clone = tmp_path / "clone"
    ignore = shutil.ignore_patterns(".venv", ".git", "*.egg-info", "build", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, clone, symlinks=True, ignore=ignore)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(clone)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    (site,) = (environment / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    parents = [path for path in sys.path if path.endswith("site-packages")]
    (site / "parent.pth").write_text("\n".join(parents) + "\n")
    python = environment / "bin/python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import eus_ray.analysis.analyze, eus_ray; print(eus_ray.__file__)"
    where = subprocess.run([python, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert where.stdout.startswith(str(site))
    packed = {path.relative_to(site).as_posix() for path in (site / "eus_ray").rglob("*") if path.is_file()}
    here = {
        f"eus_ray/{path.relative_to(base).as_posix()}"
        for base in [PACKAGE]
        for path in base.glob("**/*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {
        f"eus_ray/{room}/{path.relative_to(ROOT / room).as_posix()}"
        for room in ("analysis", "search_spaces", "cluster")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= packed, f"not in the wheel: {sorted(here - packed)}"
    assert not {path.name for path in site.iterdir()} & {"cluster", "analysis", "search_spaces", "tests"}

    def help_() -> float:
        started = time.perf_counter()
        command = [python, "-m", "eus_ray.cli", "--help"]
        answer = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
        assert "eus-ray" in answer.stdout
        return time.perf_counter() - started

    assert min(help_() for _ in range(3)) < 1.0


@pytest.mark.parametrize(
    "command",
    [
        *("", "demo", "data phantom", "data check", "data import", "folds", "plan", "cv", "tune", "launch", "status"),
        *("replay", "predict", "analyze", "evaluate", "audit"),
    ],
)
def test_each_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert f"example: eus-ray {command}" in capsys.readouterr().out


def test_no_path_of_one_machine_and_no_pickle() -> None:
    for path in sources():
        text = path.read_text()
        assert not re.search(r"\bpickle\.load|weights_only=False", text), path
        assert "/home/" not in text, path
