"""The code of others' networks in Ray's workers, which have never heard of the folder that holds it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from eus_ray.architectures import entry_points
from eus_ray.distributed import shared_code
from eus_ray.distributed.session import session
from eus_ray.distributed.shared_code import SharedCode, share_code
from eus_ray.errors import UserError
from eus_ray.store import TrialState
from eus_ray.study.cross_validate import cross_validate
from tests.helpers import assert_same, serial, tables
from tests.others import NETS, Package


def write_package(folder: Path, name: str, answer: int) -> None:
    """A package whose module needs another one and a file of data, beside what is no code."""
    files = {
        "__init__.py": "",
        "nets.py": f"from {name}.parts import answer\n",
        "parts.py": "from pathlib import Path\nanswer = int(Path(__file__).with_name('answer.txt').read_text())\n",
        "answer.txt": str(answer),
        "__pycache__/nets.pyc": "old",
        ".git/config": "mine",
        ".gitignore": "*.txt",
    }
    for file, text in files.items():
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_text(text)


def answer_there(code: SharedCode, module: str) -> tuple[str, Any, list[str]]:
    """In a worker: whether it finds the module by itself, what the module says then, and where its files are."""
    import importlib
    import importlib.util

    alone = "known" if importlib.util.find_spec(module.partition(".")[0]) else "unknown"
    code.install()
    code.install()  # as the next trial does in the same process
    found = importlib.import_module(module)
    files = [path.relative_to(sys.path[0]).as_posix() for path in Path(sys.path[0]).rglob("*") if path.is_file()]
    return alone, found.answer, sorted(file for file in files if "__pycache__" not in file)


def in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    import ray

    return ray.get(ray.remote(num_cpus=1, max_calls=1)(function).remote(*arguments))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_workers_import_what_the_driver_finds_on_its_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package and a single file; the cluster is older than both, as in a program with several studies."""
    write_package(tmp_path, "ourlab_here", 7)
    (tmp_path / "one_file.py").write_text("answer = 8\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with session(modules=["ourlab_here.nets", "one_file"]) as cluster:
        (tmp_path / "one_file.py").write_text("answer = 9\n")  # a run trains with the code that it began with
        alone, answer, files = in_worker(answer_there, cluster.code, "ourlab_here.nets")
        assert (alone, answer) == ("unknown", 7)
        package = [f"ourlab_here/{name}" for name in ("__init__.py", "answer.txt", "nets.py", "parts.py")]
        assert [file for file in files if "dist-info" not in file] == [".owner", "one_file.py", *package]
        assert in_worker(answer_there, cluster.code, "one_file")[:2] == ("unknown", 8)
        place = in_worker(shared_code._place, cluster.code.folder)
        assert in_worker(Path.exists, place)
    assert not in_worker(Path.exists, place)


def test_nothing_is_shared_if_all_networks_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is not asked for anything: there is none here."""
    monkeypatch.setitem(sys.modules, "ray", None)
    for code in (share_code([], "x"), share_code(["timm.models"], "x")):  # the second is installed
        code.install()
        code.delete()
        assert code == SharedCode()


def test_a_package_with_data_in_it_and_the_running_program_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, "ourlab_large", 7)
    with (tmp_path / "ourlab_large/scans.npz").open("wb") as file:
        file.truncate(shared_code.MAX_BYTES)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"the package ourlab_large has 100 MiB.*scans\.npz is the largest"):
        share_code(["ourlab_large.nets"], "x")
    with pytest.raises(UserError, match="__main__ is no module that Ray's workers could import"):
        share_code(["__main__"], "x")


def test_an_entry_point_travels_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's machine knows neither; here the archive is unpacked without Ray."""
    write_package(tmp_path / "lab", "ourlab_pointed", 7)
    about = tmp_path / "lab/ourlab-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ourlab\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[eus_ray.models]\nour_net = ourlab_pointed.nets:answer\nx = elsewhere:y\n")
    with monkeypatch.context() as driver:
        driver.syspath_prepend(str(tmp_path / "lab"))
        entry_points.cache_clear()
        assert entry_points() == {"our_net": "ourlab_pointed.nets:answer", "x": "elsewhere:y"}
        archive = shared_code._packed(shared_code._files_of("ourlab_pointed"))
    entry_points.cache_clear()
    assert entry_points() == {}
    shared_code._unpack(archive, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("there")] == ["there"]
    monkeypatch.syspath_prepend(str(tmp_path / "there"))
    assert {point.name: point.value for point in metadata.entry_points(group="eus_ray.models")} == {
        "our_net": "ourlab_pointed.nets:answer"
    }
    entry_points.cache_clear()


def test_a_folder_that_somebody_else_has_made_is_not_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "code").symlink_to(tmp_path / "theirs")
    before = list(sys.path)
    with pytest.raises(PermissionError, match="somebody else"):
        SharedCode("code", archive=object()).install()  # type: ignore[arg-type]
    assert sys.path == before


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_network_that_only_the_driver_finds_is_cross_validated(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the trial's own process; on several machines it is tested in test_cluster.py."""
    package = Package(tmp_path / "lab", "lab_of_the_test")
    package.put_on_path(monkeypatch)
    study = package.study(phantom, "run.workers=1")
    assert cross_validate(study, tmp_path / "study").states == {"ours": TrialState.COMPLETE}
    assert_same(tables(tmp_path / "study"), serial(study, "ours"))
    package.write(nets=NETS + "\n# changed")
    with pytest.raises(UserError, match="ours was begun with another file of the module"):
        cross_validate(study, tmp_path / "study", resume=True)
