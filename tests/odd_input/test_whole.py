"""The table of odd inputs as a whole, and output on terminals that cannot show all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.odd_input import (
    test_evaluated_masks,
    test_imports,
    test_manifests,
    test_pictures,
    test_runs,
    test_tables,
)
from tests.odd_input.writers import NUM, a_set, a_table, statements

ROOT = Path(__file__).resolve().parents[2]
FILES = (test_evaluated_masks, test_imports, test_manifests, test_pictures, test_runs, test_tables)


def test_there_are_more_than_three_hundred_rows() -> None:
    rows = [
        odd
        for file in FILES
        for name, value in vars(file).items()
        if name.isupper() and isinstance(value, list) and name != "ROWS"
        for odd in value
        if hasattr(odd, "said")
    ]
    assert len({(odd.name, odd.command) for odd in rows}) >= 300
    assert {odd.command.split()[0] for odd in rows} == {
        *("data", "folds", "cv", "tune", "plan", "evaluate", "predict", "analyze", "audit", "replay", "status")
    }
    assert all(odd.said for odd in rows)


@pytest.mark.parametrize(
    ("encoding", "words", "said"),
    [("latin-1", ("data", "check", "m.csv"), "6 images of 6 patients"), ("ascii", ("audit", "t.csv"), "1 cannot be")],
)
def test_any_terminal_shows_any_output(encoding: str, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Tables have dashes and lines, findings roots, and names any letter."""
    a_set(age=[str(50 + n) for n in range(NUM)], patient_id=["Müller", "中文", *"abcd"])(tmp_path)
    a_table(statements(value=["0.99", "0.83"], sd=["0.30", "0.09"], group=["中文", "daf_net"]))(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-m", "eus_ray.cli", *words],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
    )
    assert answer.returncode == 0, answer.stderr
    assert said in answer.stdout.decode(encoding)
    assert not answer.stderr.strip()
