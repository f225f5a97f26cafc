"""Reporting guidelines: what they ask, what a report answers by itself, and what report.toml adds.

`checklist.toml` has the topics, `checklist_facts.py` what follows from results.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import tomli_w

from eus_ray.errors import UserError, did_you_mean
from eus_ray.store import Store

REPORT_FILE = "report.toml"
"""What the authors of a study say about it, in the study folder."""
GUIDELINES = {"tripod": "TRIPOD+AI", "claim": "CLAIM 2024"}

_TOPICS_PATH = Path(__file__).parent / "checklist.toml"


class State(StrEnum):
    """Whether a report answers a topic or an item."""

    ANSWERED = "answered"
    OPEN = "open"
    NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True)
class Topic:
    """One thing that guidelines ask for."""

    key: str
    """Its field in report.toml."""
    items: tuple[tuple[str, str], ...]
    """Guideline, a key of `GUIDELINES`, and item number of each item that it belongs to."""
    asks: str

    def numbers(self, guideline: str) -> list[str]:
        """Return the item numbers in one guideline."""
        return [number for name, number in self.items if name == guideline]


@dataclass(frozen=True)
class Fact:
    """What follows from the results about one topic."""

    text: str
    anchor: str = ""
    """The section of the report that has more; empty if there is none."""


@dataclass(frozen=True)
class Answer:
    """What a report says about one topic."""

    topic: Topic
    fact: Fact | None
    given: str
    """The text of report.toml; empty without one."""
    reason: str
    """Why the topic does not apply; empty if it does. A given text overrules it."""

    @property
    def state(self) -> State:
        """Return whether the topic is answered."""
        if self.fact is not None or self.given:
            return State.ANSWERED
        return State.NOT_APPLICABLE if self.reason else State.OPEN


@cache
def topics() -> tuple[Topic, ...]:
    """Return all topics, in the order of TRIPOD+AI."""
    with _TOPICS_PATH.open("rb") as file:
        tables = tomllib.load(file)
    return tuple(
        Topic(key, tuple((name, number) for name in GUIDELINES for number in table[name]), table["asks"])
        for key, table in tables.items()
    )


def read_report_file(store: Store) -> dict[str, str]:
    """Read the texts of report.toml by topic, without spaces around them; none if there is no file.

    An empty text leaves its topic open.

    Raises:
        UserError: If it is no file of TOML; one line for each field that is unknown or no text.
    """
    if not store.exists(REPORT_FILE):
        return {}
    where = store.path(REPORT_FILE)
    if store.fs.get_file_info(store.path(REPORT_FILE)).type == pafs.FileType.Directory:
        raise UserError(f"{where}: is a folder; give the texts of the checklist as a file, or rename the folder")
    try:
        fields = tomllib.loads(store.read_text(REPORT_FILE).removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise UserError(f"{where}: is not TOML: its letters are not UTF-8; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: is not TOML: {error}") from None
    known = [topic.key for topic in topics()]
    defects = []
    for key, value in fields.items():
        if key not in known:
            otherwise = "the report's checklist names all fields"
            defects.append(f"{where}: there is no field {key!r}{did_you_mean(key, known, otherwise)}")
        elif not isinstance(value, str):
            defects.append(f"{where}: {key} must be a text in quotes, not {_as_toml(value)}")
    if defects:
        raise UserError(*defects)
    return {key: text.strip() for key, text in fields.items() if text.strip()}


def _as_toml(value: Any) -> str:
    """Return a value as TOML has it on one line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_as_toml(inner)}' for key, inner in value.items())} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return tomli_w.dumps({"v": value}).strip().removeprefix("v = ")


def answers(facts: Mapping[str, Fact], reasons: Mapping[str, str], given: Mapping[str, str]) -> list[Answer]:
    """Return the answer to each topic.

    Args:
        facts: What follows from the results, by topic.
        reasons: Why a topic does not apply, by topic.
        given: The texts of report.toml, by topic.
    """
    return [
        Answer(topic, facts.get(topic.key), given.get(topic.key, ""), reasons.get(topic.key, "")) for topic in topics()
    ]


def item_states(found: Iterable[Answer]) -> dict[tuple[str, str], State]:
    """Return the state of each item by guideline and number, in the guidelines' order.

    An item is answered if all of its topics are that apply; it does not apply if none of them does.
    """
    states: dict[tuple[str, str], set[State]] = {}
    for answer in found:
        for item in answer.topic.items:
            states.setdefault(item, set()).add(answer.state)
    order = list(GUIDELINES)
    return {
        item: State.OPEN if State.OPEN in here else State.ANSWERED if State.ANSWERED in here else State.NOT_APPLICABLE
        for item, here in sorted(states.items(), key=lambda entry: (order.index(entry[0][0]), _place(entry[0][1])))
    }


def _place(number: str) -> tuple[int, str]:
    """Return what item numbers such as `12c` are sorted by."""
    digits = number.rstrip("abcdefg")
    return int(digits), number[len(digits) :]
