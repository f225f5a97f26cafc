"""Any terminal: encodings that lack our signs, readers that leave, closed files, a full disk; and `--quiet`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from eus_ray.cli import main

CLI = [sys.executable, "-m", "eus_ray.cli"]


@pytest.fixture
def odd_manifest(phantom: Path) -> Path:
    """A manifest beside the phantom's with names in two scripts, and ages that the table shows as a range."""
    table = pd.read_csv(phantom).assign(site=["中文", "Köln"] * 10)
    table["age"] = 40 + table["patient_id"].astype("category").cat.codes
    table.to_csv(phantom.parent / "odd.csv", index=False)
    return phantom.parent / "odd.csv"


def answer(words: list[str], encoding: str = "utf-8") -> tuple[int, str, str]:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    run = subprocess.run([*CLI, *words], capture_output=True, env=environment, check=False)
    return run.returncode, run.stdout.decode(encoding), run.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_signs_that_a_terminal_lacks_are_replaced(odd_manifest: Path, encoding: str) -> None:
    code, out, err = answer(["data", "check", str(odd_manifest)], encoding)
    assert (code, err) == (0, "")
    assert "(40-49)" in out
    assert "\\u4e2d\\u6587" in out
    assert ("Köln" if encoding == "latin-1" else "K\\xf6ln") in out


def test_an_error_about_a_name_that_cannot_be_shown_is_one_line(tmp_path: Path) -> None:
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9cho.csv")
    for words in (["data", "check", missing], ["cv", missing, "--out", str(tmp_path / "out")]):
        code, out, err = answer(words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert "cho.csv" in err


def test_a_reader_that_leaves_is_no_error(odd_manifest: Path) -> None:
    for words in (["data", "check", str(odd_manifest)], ["--help"], ["cv", "--help"]):
        run = subprocess.Popen([*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert (run.stderr.read(), run.wait()) == ("", 0)


def test_closed_streams_are_no_error(odd_manifest: Path, tmp_path: Path) -> None:
    command = f"{' '.join(CLI)} folds {odd_manifest} --count 2 --out {tmp_path}"
    for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")):
        run = subprocess.run(
            f"{command}/{number}.csv {closed}", shell=True, capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert len(pd.read_csv(tmp_path / f"{number}.csv")) == 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_one_line(odd_manifest: Path) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [*CLI, "data", "check", str(odd_manifest)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert run.returncode == 1
    assert run.stderr == "eus-ray: the output cannot be written (No space left on device)\n"


def test_quiet_leaves_results_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("predictions", "truths"):
        (tmp_path / folder).mkdir()
        mask = np.zeros((20, 20), np.uint8)
        mask[5:10, 5:10] = 255
        cv2.imwrite(str(tmp_path / folder / "1.png"), mask)
    words = ["evaluate", str(tmp_path / "predictions"), str(tmp_path / "truths"), "--out", str(tmp_path / "scores.csv")]
    assert main([*words, "--quiet"]) == 0
    said = capsys.readouterr()
    assert "written to" in said.out
    assert "measuring" not in said.out + said.err
    for command in ("demo", "cv", "tune", "predict", "analyze", "evaluate"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "only results, warnings and errors" in capsys.readouterr().out
