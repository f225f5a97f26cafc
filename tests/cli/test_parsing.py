"""The library's messages name no option; the command line adds the options that do what they ask for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from eus_ray.cli.parsing import OPTIONS, with_options
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
