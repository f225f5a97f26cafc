"""The reporting checklist: its items, report.toml, and what counts as answered."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.report import checklist
from eus_ray.analysis.report.checklist import Fact, State, answers, item_states, read_report_file, topics
from eus_ray.errors import UserError
from eus_ray.store import Store

TRIPOD = (
    *("1", "2", "3a", "3b", "3c", "4", "5a", "5b", "6a", "6b", "6c", "7", "8a", "8b", "8c", "9a", "9b", "9c", "10"),
    *("11", "12a", "12b", "12c", "12d", "12e", "12f", "12g", "13", "14", "15", "16", "17", "18a", "18b", "18c", "18d"),
    *("18e", "18f", "19", "20a", "20b", "20c", "21", "22", "23a", "23b", "24", "25", "26", "27a", "27b", "27c"),
)
DOCS = Path(__file__).parents[3] / "docs/report_toml.md"


def written(folder: Path, text: str) -> Store:
    store = Store(folder)
    store.write_text(checklist.REPORT_FILE, text)
    return store


def test_every_item_of_both_guidelines_is_there_in_its_order() -> None:
    items = list(item_states(answers({}, {}, {})))
    assert items == [("tripod", number) for number in TRIPOD] + [("claim", str(number)) for number in range(1, 45)]


def test_the_documented_template_has_every_field_with_what_it_asks() -> None:
    template = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)[-1]
    assert tomllib.loads(template) == {topic.key: "" for topic in topics()}
    for topic in topics():
        line = template.split(f'\n{topic.key} = ""')[0].splitlines()[-1]
        assert line.startswith(f"# {topic.asks} (")
        assert all(number in line for _, number in topic.items)


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    assert set(read_report_file(written(tmp_path, example))) == {"eligibility", "readers", "ethics"}


def test_texts_are_read_and_empty_ones_are_none(tmp_path: Path) -> None:
    store = written(tmp_path, 'ethics = "  Committee 7, “2023-118”\\n"\nfunding = " "\n')
    assert read_report_file(store) == {"ethics": "Committee 7, “2023-118”"}
    assert read_report_file(Store(tmp_path / "elsewhere")) == {}


def test_every_defect_of_report_toml_is_one_line(tmp_path: Path) -> None:
    store = written(tmp_path, 'eligibilty = "all"\nreaders = 2\nzzz = ""\n[ethics]\ncommittee = "x"\n')
    with pytest.raises(UserError) as caught:
        read_report_file(store)
    where = f"{tmp_path}/report.toml"
    assert caught.value.lines == (
        f"{where}: there is no field 'eligibilty'; did you mean eligibility?",
        f"{where}: readers must be a text in quotes, not 2",
        f"{where}: there is no field 'zzz'; the report's checklist names all fields",
        f'{where}: ethics must be a text in quotes, not {{ committee = "x" }}',
    )


def test_values_that_are_no_texts_are_said_in_toml(tmp_path: Path) -> None:
    store = written(tmp_path, "readers = true\nethics = [1, 2.5, false]\nfunding = 2020-01-02\n")
    with pytest.raises(UserError) as caught:
        read_report_file(store)
    assert [line.split(", not ")[1] for line in caught.value.lines] == ["true", "[1, 2.5, false]", "2020-01-02"]


def test_a_folder_of_its_name_and_letters_of_another_code_are_told_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "one" / "report.toml").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^\S+one/report\.toml: is a folder; "):
        read_report_file(Store(tmp_path / "one"))
    (tmp_path / "report.toml").write_bytes('ethics = "Köln"'.encode("latin-1"))
    with pytest.raises(
        UserError, match=r"^\S+/report\.toml: is not TOML: its letters are not UTF-8; save it as UTF-8$"
    ):
        read_report_file(Store(tmp_path))
    (tmp_path / "report.toml").write_bytes('\ufeffethics = "Köln"'.encode())
    assert read_report_file(Store(tmp_path)) == {"ethics": "Köln"}


def test_report_toml_is_checked_before_anything_is_measured(make_study: Callable[..., Store]) -> None:
    study = make_study(whole=[])
    study.write_text(checklist.REPORT_FILE, "readers = 2\n")
    study.write_bytes("cases.parquet", b"nothing that could be read")
    with pytest.raises(UserError, match=r"report\.toml: readers must be a text in quotes, not 2$"):
        analyze(study.location)


@pytest.mark.parametrize("content", [b"ethics = yes", b'ethics = "\xff"'])
def test_a_report_toml_that_is_not_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.toml").write_bytes(content)
    with pytest.raises(UserError, match=r"^\S+/report\.toml: is not TOML: [^\n]+$"):
        read_report_file(Store(tmp_path))


def test_an_item_is_answered_if_all_of_its_topics_are_that_apply() -> None:
    """TRIPOD+AI 8a has the topics outcome and reference_standard; CLAIM 14 the latter alone, 16 readers."""
    fact, both = {"outcome": Fact("A mask.")}, ("tripod", "8a")
    states = item_states(answers(fact, {}, {}))
    assert (states[both], states["claim", "14"]) == (State.OPEN, State.OPEN)
    states = item_states(answers(fact, {}, {"reference_standard": "Two readers."}))
    assert (states[both], states["claim", "14"]) == (State.ANSWERED, State.ANSWERED)
    states = item_states(answers(fact, {"reference_standard": "No."}, {}))
    assert (states[both], states["claim", "14"]) == (State.ANSWERED, State.NOT_APPLICABLE)
    states = item_states(answers({}, {"readers": "No."}, {"readers": "Two."}))
    assert states["claim", "16"] == State.ANSWERED  # what the authors say overrules
