"""A trial's state and kind are written by their enumeration, so that a search for one finds every use."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture import PACKAGE, sources

WORDS = {"complete", "pruned", "failed", "running", "winner", "fixed"}
DEFINITIONS = PACKAGE / "store/trials.py"
OTHER_NAMES = {"search/replay.py": ["complete"], "analysis/report/sections/methods.py": ["complete"]}
"""A column and a template's variable of this name: how many trials are complete."""


def is_enumeration(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases)


def literals(tree: ast.AST) -> list[str]:
    """Return the strings that are a state or kind, outside of enumerations and docstrings."""
    within = {id(node) for outer in ast.walk(tree) if is_enumeration(outer) for node in ast.walk(outer)}
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in WORDS and id(node) not in within | prose
    ]


@pytest.mark.parametrize(
    "path", [path for path in sources() if path != DEFINITIONS], ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_no_state_or_kind_is_written_out(path: Path) -> None:
    expected = OTHER_NAMES.get(path.relative_to(PACKAGE).as_posix(), [])
    assert literals(ast.parse(path.read_text(encoding="utf-8"))) == expected


def test_a_word_in_an_enumeration_or_docstring_is_no_literal() -> None:
    code = 'class State(StrEnum):\n    FAILED = "failed"\n'
    code += 'def f():\n    "running"\n    return state == "winner", report.failed\n'
    assert literals(ast.parse(code)) == ["winner"]
