"""`eus-ray tune` from the command line, through Ray: side by side, killed, refused."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from eus_ray.cli import main
from eus_ray.config_file import study_toml
from eus_ray.store import Store, read_trials
from tests.helpers import assert_same, light_study, tables
from tests.processes import marked, wait_until

SPACE = """
[search."optim.lr"]
kind = "log_float"
low = 1e-5
high = 3e-2
"""


def study_file(manifest: Path, folder: Path, *overrides: str, models: tuple[str, ...] = ("unet",)) -> Path:
    (folder / "space.toml").write_text(SPACE)
    options = ("folds.count=3", "search.inner_folds=3", f"search.space={folder / 'space.toml'}", "search.trials=4")
    path = folder / "study.toml"
    path.write_text(study_toml(light_study(manifest, *options, *overrides, models=models)))
    return path


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.long
def test_two_architectures_are_searched_side_by_side(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = study_file(phantom, tmp_path, models=("unet", "daf_net")), tmp_path / "study"
    assert main(["tune", str(path), "--out", str(out), "--trials", "3"]) == 0
    said = capsys.readouterr().out
    assert "2 trials at once" in said
    assert "Nested estimate" in said
    rows = read_trials(Store(out))
    for model in ("unet", "daf_net"):
        mine = rows[rows["model"] == model]
        assert mine["kind"].tolist() == ["trial"] * 3 + ["winner"]
        assert set(mine["state"]) <= {"complete", "pruned"}
        assert mine["trial"].tolist() == [0, 1, 2, 3]
    spans = [
        line.split()[:2] for log in (out / "logs").glob("*trial-[012].log") for line in log.read_text().splitlines()
    ]
    began, ended = zip(*sorted(spans), strict=True)
    assert any(start < end for start, end in zip(began[1:], ended, strict=False)), "no two epochs shared a moment"
    winner = tables(out, "unet")["scores"]
    winner = winner[winner["trial"] == 3]
    assert set(winner["split"]) == {"test"}
    assert winner["image_id"].nunique() == 20, "every patient is tested, and trained on in all other folds"
    groups = ray.util.placement_group_table
    wait_until(lambda: all(group["state"] == "REMOVED" for group in groups().values()), groups)

    assert main(["tune", str(path), "--out", str(out), "--trials", "3"]) == 2
    assert "holds unet already" in capsys.readouterr().err
    before = tables(out)
    assert main(["tune", str(path), "--out", str(out), "--trials", "3", "--resume"]) == 0  # nothing to do
    assert_same(tables(out), before)
    assert main(["analyze", str(out)]) == 0
    table2 = pd.read_csv(out / "report/table2.csv")
    assert set(table2["model"]) == {"unet", "daf_net", "baseline"}
    capsys.readouterr()
    assert main(["replay", str(out), "--rule", "racing:0.05", "--rule", "none"]) == 0
    replayed = capsys.readouterr().out
    assert "racing:0.05" in replayed
    assert "1.000" in replayed, "without a rule every trial trains to its end"
    assert main(["replay", str(out), "--rule", "rasing"]) == 2
    assert "did you mean racing?" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_several_workers_search_what_one_does(phantom: Path, tmp_path: Path) -> None:
    """Three folds on two workers: two waves, and the same trials as with one worker."""
    found = {}
    for workers in (1, 2):
        out = tmp_path / f"study{workers}"
        options = ("search.scheduler=none", f"run.workers={workers}", "search.concurrent=1", "search.trials=1")
        assert main(["tune", str(study_file(phantom, tmp_path, *options)), "--out", str(out)]) == 0
        found[workers] = tables(out)
    assert_same(found[1], found[2])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_search_begins_with_the_best_of_another(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    path = str(study_file(phantom, tmp_path, "search.scheduler=none", "run.workers=1"))
    assert main(["tune", path, "--out", str(first)]) == 0
    rows = read_trials(Store(first)).query("kind == 'trial'")
    assert main(["tune", path, "--out", str(second), "--from", str(first), "--trials", "2"]) == 0
    begun = read_trials(Store(second)).query("kind == 'trial'")["optim.lr"].tolist()
    best = rows.sort_values("value", ascending=False)["optim.lr"].tolist()
    assert begun == [0.001, next(lr for lr in best if lr != 0.001)]
    assert main(["tune", path, "--out", str(tmp_path / "third"), "--from", str(tmp_path), "--trials", "2"]) == 2
    assert "(--from)" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


Search = tuple[Path, dict[str, pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def unbroken(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A study file of a search long enough to be killed, and its tables when it is not."""
    folder = tmp_path_factory.mktemp("unbroken")
    options = ("search.concurrent=1", "search.trials=5", "run.workers=1", "train.epochs=6", "data.image_size=64")
    path = study_file(phantom, folder, *options)
    subprocess.run([sys.executable, "-m", "eus_ray.cli", "tune", str(path), "--out", str(folder / "study")], check=True)
    return path, tables(folder / "study"), read_trials(Store(folder / "study"))


@pytest.mark.ray
def test_a_killed_search_ends_as_if_it_had_not_been(unbroken: Search, tmp_path: Path) -> None:
    path, expected, rows = unbroken
    out, moments = tmp_path / "study", random.Random(0)
    command = [sys.executable, "-m", "eus_ray.cli", "tune", str(path), "--out", str(out)]
    mark = uuid.uuid4().hex
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "10", "EUS_RAY_TEST": mark}
    for how in ("everything", "interrupt"):
        seen = progress(out)
        run = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
        wanted = seen + moments.randint(1, 12)
        wait_until(lambda wanted=wanted, run=run: progress(out) >= wanted or run.poll() is not None)
        assert run.poll() is None, run.stderr and run.stderr.read()
        if how == "interrupt":
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=120) == 130
        else:
            for victim in marked(mark):
                with contextlib.suppress(Exception):
                    victim.kill()
            run.wait(timeout=30)
        if "--resume" not in command:
            command.append("--resume")
    last = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert last.returncode == 0, last.stderr
    assert_same(tables(out), expected)
    pd.testing.assert_frame_equal(read_trials(Store(out)), rows, check_exact=True)


def progress(folder: Path) -> int:
    if not folder.exists():
        return 0
    return int((Store(folder).read_parts("epochs").to_pandas()["split"] == "train").sum())


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("", "space.toml"),
        ('[search."optim.lrr"]\nkind = "float"\nlow = 0.1\nhigh = 0.2\n', "optim.lr"),
        ('[search."optim.lr"]\nkind = "float"\nlow = 0.2\nhigh = 0.1\n', "low"),
        ('[search."optim.lr"]\nkind = "log_float"\nlow = 0.0\nhigh = 0.1\n', "low"),
        ('[search."model.width"]\nkind = "choice"\nchoices = [8, -8]\n', "model.width"),
    ],
)
def test_bad_spaces_are_refused_before_anything_is_written(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], space: str, said: str
) -> None:
    path = study_file(phantom, tmp_path)
    (tmp_path / "space.toml").write_text(space)
    assert main(["tune", str(path), "--out", str(tmp_path / "study")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "space.toml") in error
    assert said in error
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["search.scheduler=asha", "search.protocol=paper"], "judges by epoch"),
        (["search.trials=0"], "search.trials"),
        (["search.sampler=tpee"], "did you mean tpe?"),
        (["search.metric=hd"], "search.metric"),
        (["search.space=nowhere.toml"], "nowhere.toml: cannot be read"),
        (["run.order=abreast"], "run.order is abreast"),
    ],
)
def test_impossible_searches_are_refused(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    path = study_file(phantom, tmp_path)
    command = ["tune", str(path), "--out", str(tmp_path / "study")]
    assert main([*command, *np.ravel([["--set", option] for option in options])]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
