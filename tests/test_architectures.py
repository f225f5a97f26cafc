"""The facts of each architecture: complete, known elsewhere, and in the order of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from eus_ray import architectures as module
from eus_ray.analysis.report.references import REFERENCES
from eus_ray.architectures import ArchitectureSpec, architectures
from eus_ray.config import dotted_names
from eus_ray.errors import UserError

TABLE = """
[architecture]
label = "Plain"
order = 2
citations = []
settings = ["model.width"]
"""


@pytest.fixture
def spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of `search_spaces/`."""
    monkeypatch.setattr(module, "SPACES", tmp_path)
    return tmp_path


def test_the_papers_three_come_in_its_order() -> None:
    assert [(spec.name, spec.label) for spec in architectures().values()] == [
        ("unet", "U-Net"),
        ("attention_unet", "Att-U-Net"),
        ("daf_net", "DAF-Net"),
    ]


def test_what_they_name_is_there() -> None:
    fields = set(dotted_names())
    for spec in architectures().values():
        assert spec.citations
        assert set(spec.citations) <= set(REFERENCES)
        assert set(spec.settings) <= fields
        assert spec.space_path.is_file()


def test_files_without_the_table_are_no_architectures(spaces: Path) -> None:
    (spaces / "second.toml").write_text(TABLE)
    (spaces / "first.toml").write_text(TABLE.replace("order = 2", "order = 1"))
    (spaces / "mine.toml").write_text('[search."optim.lr"]\nkind = "log_float"\nlow = 1e-4\nhigh = 1e-2\n')
    found = architectures.__wrapped__()
    assert list(found) == ["first", "second"]
    assert found["second"] == ArchitectureSpec("second", "Plain", 2, (), ("model.width",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[architecture\n", "is not TOML"),
        (TABLE.replace("label", "lable"), "[architecture] lacks or does not know label, lable"),
    ],
)
def test_a_table_that_is_wrong_is_refused(spaces: Path, text: str, said: str) -> None:
    (spaces / "plain.toml").write_text(text)
    with pytest.raises(UserError) as refused:
        architectures.__wrapped__()
    assert str(refused.value).startswith(f"{spaces / 'plain.toml'}: ")
    assert said in str(refused.value)
