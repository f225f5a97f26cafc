"""The library's messages name no option; the command line adds the options that do what they ask for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from eus_ray.cli.parsing import OPTIONS, absolute_path, print_table, with_options
from eus_ray.errors import UserError
from tests.architecture import PACKAGE, sources


def texts() -> Iterator[str]:
    """The library's string literals, without those of the command line and docstrings."""
    for path in sources():
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield node.value


def test_the_library_names_no_option() -> None:
    found = [text for text in texts() if re.search(r"(?<![\w-])--[a-z]", text)]
    assert [text for text in found if "ray start --num-cpus" not in text] == []


def test_each_option_belongs_to_words_of_the_library() -> None:
    everything = "\n".join(texts())
    assert [words for words in OPTIONS if words not in everything] == []


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("S: holds unet already; resume it, or choose another output folder", " (--resume, --out)"),
        ("m.png: the lesion is 1 and 2; name the lesion's value", " (--label)"),
        ("m.png: is damaged", ""),
        ("S.toml: data.manifest is not set: name the manifest, or --set data.manifest=FILE", ""),
    ],
)
def test_options_follow_a_message(line: str, options: str) -> None:
    assert with_options(line) == line + options


@pytest.mark.parametrize("width", [1, 12, 20, 50, 80, 200])
def test_a_narrow_terminal_loses_no_word_of_a_table(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    frame = pd.DataFrame({"rule": ["racing:0.05", "none at all"], "top 1": [1.0, 0.8125], "saved %": [61.25, 0.0]})
    print_table(frame, "Rules", digits=3)
    out = capsys.readouterr().out
    words = {"racing:0.05", "none", "at", "all", "top", "1.000", "0.812", "saved", "61.250"}
    assert {word for word in words if word not in out} == set()
    narrowest = sum(len(word) + 3 for word in ("racing:0.05", "1.000", "61.250")) + 1
    assert max(map(len, out.splitlines())) <= max(width, narrowest)


def test_a_path_that_is_too_long_or_of_a_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert absolute_path("/" + "é" * 127).name == "é" * 127
    for path in ("/gone/" + "é" * 128 + "/a.png", "/" + "ab/" * 1400):
        with pytest.raises(UserError, match="is too long; a name has at most 255 bytes, a path 4095"):
            absolute_path(path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(UserError, match=r"a.png: the folder from which this was started is gone"):
        absolute_path("a.png")
    assert absolute_path("/a.png") == Path("/a.png")
