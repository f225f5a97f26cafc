"""Random faults during `cv` and `tune`: each run, resumed if it has ended, must give an undisturbed run's results.

python -m tests.benchmarks.chaos --faults 20 --seed 0
python -m tests.benchmarks.chaos --kills 10 --seed 0    (all of them in one search)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from eus_ray.data.phantom.dataset import make_phantom
from eus_ray.store import Store, read_trials
from tests.benchmarks.data import ROOT
from tests.helpers import LIGHT, OF_THE_MACHINE, assert_same, tables
from tests.processes import marked, name_of

SPACE = """
[search."optim.lr"]
kind = "log_float"
low = 1e-4
high = 1e-1

[search."train.batch_size"]
kind = "choice"
choices = [4, 8]
"""
_PATIENCE_S = 240
_VOLUME_MIB = 96
_PHANTOM = {"patients": 10, "images": 18, "seed": 3, "cancer_free": 2, "size": 64}
_RESULTS = ("checkpoints", "epochs", "scores", "predictions")


@dataclass(frozen=True)
class Subject:
    """A command to disturb."""

    name: str
    arguments: tuple[str, ...]
    epochs: int
    """About how many epochs its logs have in the end."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong: `strike` does it, and is given the run's mark, its driver and its folder."""

    name: str
    strike: Callable[[str, subprocess.Popen[bytes], Path], str]


# ---- what can go wrong ----------------------------------------------------------------------------


def _kill(*names: str) -> Callable[[str, subprocess.Popen[bytes], Path], str]:
    def strike(mark: str, *_: object) -> str:
        victims = [process for process in marked(mark) if any(name in name_of(process) for name in names)]
        if not victims:
            return "nobody there"
        victim = name_of(victims[0]).split(" ")[0].rsplit("/", 1)[-1]
        with contextlib.suppress(psutil.Error):
            victims[0].kill()
        return victim

    return strike


def _kill_driver(_mark: str, driver: subprocess.Popen[bytes], _folder: Path) -> str:
    driver.kill()
    return ""


def _kill_everything(mark: str, *_: object) -> str:
    return f"{_kill_marked(mark)} processes"


def _interrupt(_mark: str, driver: subprocess.Popen[bytes], _folder: Path) -> str:
    driver.send_signal(signal.SIGINT)
    return ""


def _interrupt_twice(_mark: str, driver: subprocess.Popen[bytes], _folder: Path) -> str:
    driver.send_signal(signal.SIGINT)
    time.sleep(0.3)
    driver.send_signal(signal.SIGINT)
    return ""


def _fill_the_disk(_mark: str, _driver: subprocess.Popen[bytes], folder: Path) -> str:
    """Fill the volume for some seconds."""
    ballast = folder.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    time.sleep(6)
    ballast.unlink(missing_ok=True)
    return "for 6 s"


def _damage(how: str) -> Callable[[str, subprocess.Popen[bytes], Path], str]:
    def strike(mark: str, _driver: subprocess.Popen[bytes], folder: Path) -> str:
        """Kill everything, and change the newest file of results."""
        _kill_marked(mark)
        files = [path for name in _RESULTS for path in folder.glob(f"{name}/**/*")]
        files = sorted((path for path in files if path.is_file()), key=lambda path: path.stat().st_mtime)
        if not files:
            return "no file yet"
        data = files[-1].read_bytes()
        changed = bytearray(data)
        changed[len(data) // 2] ^= 1
        files[-1].write_bytes(bytes(changed) if how == "flipped" else data[: len(data) // 2])
        return files[-1].relative_to(folder).as_posix()

    return strike


def _start_twice(mark: str, driver: subprocess.Popen[bytes], _folder: Path) -> str:
    answer = subprocess.run(
        [*driver.args, "--resume"],  # type: ignore[misc]
        env={**os.environ, "EUS_RAY_TEST": mark},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2 or driver.poll() is not None, f"a second run was let in: {answer.stderr}"
    return "the second was refused" if answer.returncode == 2 else "the first had ended"


FAULTS = (
    Fault("kill -9 of a worker", _kill("RayTrainWorker", "OneProcess", "ResourceTrainable")),
    Fault("kill -9 of the trial's controller", _kill("TrainController", "worker_group", "ImplicitFunc")),
    Fault("kill -9 of the driver", _kill_driver),
    Fault("kill -9 of the raylet", _kill("raylet/raylet")),
    Fault("kill -9 of the GCS", _kill("gcs_server")),
    Fault("kill -9 of everything", _kill_everything),
    Fault("Ctrl-C", _interrupt),
    Fault("Ctrl-C twice", _interrupt_twice),
    Fault("disk full", _fill_the_disk),
    Fault("a flipped bit in the newest file", _damage("flipped")),
    Fault("the newest file cut in half", _damage("cut")),
    Fault("a second run in the folder", _start_twice),
)


# ---- the benchmark --------------------------------------------------------------------------------


def run(faults: int, seed: int = 0) -> bool:
    """Strike so many times, each fault in turn, and print a line for each; return whether all ended well."""
    random = np.random.default_rng(seed)
    well = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, _volume(Path(name)) as (volume, is_small):
        manifest = make_phantom(volume / "phantom", **_PHANTOM)
        subjects = _subjects(manifest, volume)
        expected = {subject.name: _undisturbed(subject, volume) for subject in subjects}
        order = [fault for fault in FAULTS if is_small or fault.strike is not _fill_the_disk]
        if not is_small:
            print("disk full: left out, a small volume can be mounted by root only")
        for number in range(faults):
            fault, subject = order[number % len(order)], subjects[int(random.integers(len(subjects)))]
            after = int(random.integers(1, subject.epochs))
            print(f"{number + 1:3}/{faults} {subject.name:14} {fault.name:36}", end=" ", flush=True)
            started = time.monotonic()
            problem, said = _strike(subject, fault, after, volume, expected[subject.name])
            well += not problem
            ending = f"FAILED: {problem}" if problem else "ended as if nothing had been"
            print(f"after {after:2} epochs {said:44} {ending} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{well} of {faults} ended as if nothing had been, in {(time.monotonic() - began) / 60:.1f} minutes")
    return well == faults


def kill_one_search(kills: int, seed: int = 0) -> bool:
    """Kill one search at random moments, each time followed by `--resume`; return whether it ended well."""
    random = np.random.default_rng(seed)
    enders = [fault for fault in FAULTS if fault.strike in (_kill_driver, _kill_everything)]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        volume = Path(name)
        search = _subjects(make_phantom(volume / "phantom", **_PHANTOM), volume, "data.image_size=128", trials=10)[-1]
        expected = _undisturbed(search, volume)
        epochs = _logged(volume / f"undisturbed {search.name}")
        folder, mark = volume / "study", uuid.uuid4().hex
        before = set(Path(tempfile.gettempdir()).glob("eus-ray-*"))
        environment = _environment(mark)
        command = _command(search, folder)
        try:
            for after in sorted(random.choice(np.arange(1, epochs), kills, replace=False)):
                fault = enders[int(random.integers(len(enders)))]
                driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
                _wait(lambda driver=driver, after=after: _logged(folder) >= after or driver.poll() is not None)  # type: ignore[misc]
                assert driver.poll() is None, "the search ended by itself"
                time.sleep(random.uniform(0, 1))  # anywhere in the epoch that follows
                fault.strike(mark, driver, folder)
                code, hung = _end(driver, mark)
                assert code != 0, f"{fault.name}: exit code 0"
                assert not hung, f"{fault.name}: the run hung"
                print(f"{fault.name:24} after {_logged(folder):3} of {epochs} epochs", flush=True)
                command = [*_command(search, folder), "--resume"]
            subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
            again = _logged(folder) - epochs
            problem = _differences(folder, mark, before, expected)
            if again > kills:
                problem += f"; {again} epochs were trained twice"
            print(f"{kills} kills, {again} epochs trained twice: {problem or 'ended as if nothing had been'}")
            return not problem
        finally:
            _kill_marked(mark)


def _subjects(manifest: Path, volume: Path, *options: str, trials: int = 4) -> list[Subject]:
    space = volume / "space.toml"
    space.write_text(SPACE)
    light = ["--models", "unet", *_set(f"data.manifest={manifest}", *LIGHT, "folds.count=2", "data.image_size=64")]
    long = _set("train.epochs=8", "model.width=8")
    short = _set("train.epochs=3", "search.inner_folds=2", "search.concurrent=1", f"search.space={space}", *options)
    return [
        Subject("cv, 1 worker", ("cv", *light, *long, *_set("run.workers=1")), 16),
        Subject("cv, 2 workers", ("cv", *light, *long, *_set("run.workers=2")), 16),
        Subject("tune", ("tune", *light, *short, "--trials", str(trials)), 6 * trials),
    ]


def _set(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def _undisturbed(subject: Subject, volume: Path) -> dict[str, pd.DataFrame]:
    folder = volume / f"undisturbed {subject.name}"
    subprocess.run(_command(subject, folder), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return _results(folder)


def _command(subject: Subject, folder: Path) -> list[str]:
    return [sys.executable, "-m", "eus_ray.cli", *subject.arguments, "--out", str(folder)]


def _results(folder: Path) -> dict[str, pd.DataFrame]:
    trials = read_trials(Store(folder)).drop(columns=list(OF_THE_MACHINE))
    trials = trials.sort_values(["model", "trial"], ignore_index=True)
    return tables(folder) | {"trials": trials}


def _strike(
    subject: Subject, fault: Fault, after: int, volume: Path, expected: dict[str, pd.DataFrame]
) -> tuple[str, str]:
    """Return the problem in the end, empty if there is none, and what the fault says of itself."""
    folder, mark = volume / "study", uuid.uuid4().hex
    before = set(Path(tempfile.gettempdir()).glob("eus-ray-*"))
    environment = _environment(mark)
    command, quiet = _command(subject, folder), {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        driver = subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)  # type: ignore[call-overload]
        _wait(lambda: _logged(folder) >= after or driver.poll() is not None)
        said = fault.strike(mark, driver, folder) if driver.poll() is None else "had ended"
        code, hung = _end(driver, mark)
        for _ in range(3):
            if code == 0:
                break
            again = subprocess.Popen([*command, "--resume"], cwd=ROOT, env=environment, **quiet)  # type: ignore[call-overload]
            code, _ = _end(again, mark)
        if hung:
            return "the run hung", said
        if code:
            return f"exit code {code} after three times --resume", said
        return _differences(folder, mark, before, expected), said
    finally:
        _kill_marked(mark)
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def _environment(mark: str) -> dict[str, str]:
    """Return the environment of a disturbed run, whose mark finds its processes."""
    return {**os.environ, "EUS_RAY_TEST": mark, "RAY_gcs_rpc_server_reconnect_timeout_s": "10"}


def _kill_marked(mark: str) -> int:
    """Kill all processes of a run, and return how many there were."""
    victims = marked(mark)
    for victim in victims:
        with contextlib.suppress(psutil.Error):
            victim.kill()
    return len(victims)


def _end(driver: subprocess.Popen[bytes], mark: str) -> tuple[int, bool]:
    """Return the exit code, and whether the run had to be killed."""
    try:
        driver.communicate(timeout=_PATIENCE_S)
        return driver.returncode, False
    except subprocess.TimeoutExpired:
        _kill_marked(mark)
        driver.communicate()
        return driver.returncode, True


def _differences(folder: Path, mark: str, before: set[Path], expected: dict[str, pd.DataFrame]) -> str:
    here = _results(folder)
    try:
        assert_same(here, expected)
        pd.testing.assert_frame_equal(here["trials"], expected["trials"])
    except AssertionError as error:
        return f"other tables: {' '.join(str(error).split())[:160]}"
    _wait(lambda: not marked(mark), seconds=30)
    if left := marked(mark):
        return f"processes are left: {', '.join(name_of(process)[:40] for process in left)}"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    if left_files := [name for name in names if name == "run.json" or name.rsplit("/", 1)[-1].startswith(".")]:
        return f"files are left: {', '.join(left_files)}"
    if folders := set(Path(tempfile.gettempdir()).glob("eus-ray-*")) - before:
        return f"folders are left: {', '.join(path.name for path in folders)}"
    return ""


def _logged(folder: Path) -> int:
    """Return how many epochs the run's logs have."""
    return sum(path.read_text().count(": loss ") for path in folder.glob("logs/*.log"))


def _wait(condition: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


@contextmanager
def _volume(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield a small volume if one can be mounted, else the folder; and whether it is small."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_VOLUME_MIB}m", "tmpfs", str(folder)]
    small = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield folder, small
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--kills", type=int, default=0, help="of one search, instead")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    well = kill_one_search(chosen.kills, chosen.seed) if chosen.kills else run(chosen.faults, chosen.seed)
    sys.exit(0 if well else 1)
