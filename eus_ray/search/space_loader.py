"""The file of a search space: TOML becomes a checked `Space`.

    [paper]                          # the paper's values of searched fields: a first trial
    "optim.optimizer" = "sgd"

    [search."optim.optimizer"]
    kind = "choice"
    choices = ["sgd", "adamw"]

    [search."optim.momentum"]        # kinds: float and int (with a step, if wanted), log_float, choice
    kind = "float"
    low = 0.8
    high = 0.99
    when = { "optim.optimizer" = "sgd" }   # a value, or a list of values, of an earlier field

`load_space` reads the file. It builds the study's configuration at both ends of each range, with each choice, and with
each pair of these that one section's checks see together, so that every setting that a sampler draws can be trained.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eus_ray.architectures import spec_of
from eus_ray.config import Study, dotted_names, field_of, to_dotted, unused_fields
from eus_ray.config_file import read_toml, with_settings
from eus_ray.errors import UserError, did_you_mean
from eus_ray.search.space import KINDS, Dimension, Kind, Space

_KEYS = {
    "float": ("low", "high", "step"),
    "log_float": ("low", "high"),
    "int": ("low", "high", "step"),
    "choice": ("choices",),
}
_SECTIONS = ("model.", "augment.", "optim.", "loss.", "train.")
_NOT_SEARCHED = {
    "model.arch": "each architecture has a search of its own",
    "model.args": 'name one argument, such as [search."model.args.depth"]',
    "model.label": "it changes nothing",
    "model.weights": "it names a file; set it in the study file",
    "augment.preset": "its fields are searched one by one",
    "train.seed": "it is the same for all trials, or the best would be the luckiest",
    "train.epochs": "it is the same for all trials, so that they compare; set it in the study file",
    "train.stop_after": "it is the same for all trials, so that they compare; set it in the study file",
}


def load_space(study: Study, check_model: Callable[[Study], object]) -> Space:
    """Read and check the search space of one architecture.

    The study's own values decide conditions on fields that are not searched; a dimension whose condition cannot hold is
    not in the space.

    Args:
        study: The study of one architecture (`Study.for_model`). Its `search.space` names the file; if it is empty, the
            architecture's own file is read.
        check_model: Raises `UserError` for one model's study whose network cannot be built.

    Raises:
        UserError: With one line for each mistake in the file, `FILE:LINE: [search."FIELD"] ...`.
    """
    shipped = spec_of(study.model.arch).space_path
    file = _File(Path(study.search.space) if study.search.space else shipped)
    reader = _Reader(file, study)
    for key in file.tree.keys() - {"architecture", "paper", "search"}:
        file.defect((key,), f"no such table{did_you_mean(key, ('paper', 'search'))}")
    for name, table in reader.tables.items():
        reader.declared[name] = reader.dimension(name, table)
    paper = reader.paper()
    dimensions = tuple(d for d in reader.declared.values() if d is not None and d.name not in reader.left_out)
    if not reader.tables:
        file.defect(("search",), 'nothing to search; give a field a range, such as [search."optim.lr"]')
    elif not dimensions and None not in reader.declared.values():
        file.defect(("search",), "nothing to search in this study: no field's condition holds")
    space = Space(str(file.path), paper, dimensions)
    reader.check_together(space, check_model)
    file.raise_defects()
    return space


class _Reader:
    """Read a file's tables for one study, and note their defects in the file."""

    def __init__(self, file: _File, study: Study) -> None:
        self.file, self.study = file, study
        self.tables = file.table("search")
        self.declared: dict[str, Dimension | None] = {}
        """The dimensions read so far; None for one with a defect."""
        self.left_out: set[str] = set()
        """Dimensions whose condition holds for no trial of this study."""
        sections = {name.partition(".")[0] for name in dotted_names() if "." in name}
        self.own = to_dotted(study, sorted(sections))
        """The study's own value of every field."""

    def dimension(self, name: str, table: Any) -> Dimension | None:
        at, before = ("search", name), len(self.file.defects)
        reason = self._why_not_searched(name)
        if not reason and not isinstance(table, dict):
            reason = f'is no range; write [search."{name}"], and below it kind = ...'
        if reason:
            self.file.defect(at, reason)
            return None
        when = self._condition(name, table["when"]) if "when" in table else {}
        kind, fitting = table.get("kind"), _fitting_kinds(self.own[name])
        if kind not in KINDS:
            said = f"kind: {kind!r} is none{did_you_mean(str(kind), KINDS)}" if "kind" in table else "has no kind"
            self.file.defect((*at, "kind"), f"{said}; this field takes {' or '.join(fitting)}")
            return None
        if kind not in fitting:
            self.file.defect((*at, "kind"), f"kind: this field takes {' or '.join(fitting)}, not {kind}")
        for key in sorted(table.keys() - {"kind", "when", *_KEYS[kind]}):
            self.file.defect(
                (*at, key), f"{key}: no such key of kind {kind}{did_you_mean(key, (*_KEYS[kind], 'when'))}"
            )
        wrong = dict(_choice_defects(table, self.own[name]) if kind == "choice" else _range_defects(kind, table))
        for key, text in wrong.items():
            self.file.defect((*at, key), f"{key}: {text}")
        if wrong or kind not in fitting:
            return None
        dimension = _dimension(name, kind, table, self.own[name])
        for value in dimension.spread(2):
            key = "choices" if kind == "choice" else "low" if value == dimension.low else "high"
            for line in self._field_refusals(name, value):
                self.file.defect((*at, key), f"{key}: {line}")
        return replace(dimension, when=when) if len(self.file.defects) == before else None

    def _why_not_searched(self, name: str) -> str:
        """Return why a search may not vary this field; empty if it may."""
        known = dotted_names()
        if name in _NOT_SEARCHED:
            return f"may not be searched: {_NOT_SEARCHED[name]}"
        if field_of(name) in unused_fields(self.study.model.arch):
            return f"may not be searched: {self.study.name} has nothing that it would change"
        if name != field_of(name):
            return "" if name in self.own else "the study sets no such argument; it decides what kind of value it is"
        if name in known:
            return "" if name.startswith(_SECTIONS) else "may not be searched: it is one for the whole study"
        if any(field.startswith(f"{name}.") for field in known):
            return f'no such field; names with a dot stand in quotes, [search."{name}...."]'
        return f"no such field{did_you_mean(name, [field for field in known if not self._why_not_searched(field)])}"

    def _field_refusals(self, name: str, value: Any) -> list[str]:
        """Return the field's own objections to a value, without those of other fields."""
        return [line for line in self._refusals({name: value}) if line.startswith(name)]

    def _refusals(self, settings: Mapping[str, Any]) -> list[str]:
        """Return why the study cannot have these settings; empty if it can."""
        return [line.removeprefix(": ") for line in _objections(with_settings, self.study, settings, "")]

    def _condition(self, dimension: str, when: Any) -> dict[str, tuple[Any, ...]]:
        """Return a dimension's condition on searched fields; add it to `left_out` if the condition can never hold."""
        at = ("search", dimension, "when")
        if not isinstance(when, dict):
            self.file.defect(at, 'when: must name fields and their values, such as { "optim.optimizer" = "sgd" }')
            return {}
        searched: dict[str, tuple[Any, ...]] = {}
        for name, given in when.items():
            if name not in self.own:
                self.file.defect(at, f"when: {name}: no such field{did_you_mean(name, self.own, 'write it in quotes')}")
                continue
            wanted = _wanted(self.own[name], given)
            parent = self.declared.get(name)
            if not wanted:
                self.file.defect(at, f"when: {name}: must have one value at least")
            elif name in self.tables and name not in self.declared:
                self.file.defect(at, f'when: {name} does not stand before it; move [search."{name}"] up')
            elif name not in self.tables:
                for line in (line for value in wanted for line in self._field_refusals(name, value)):
                    self.file.defect(at, f"when: {line}")
                if self.own[name] not in wanted:
                    self.left_out.add(dimension)
            elif parent is not None and parent.count() is None:
                self.file.defect(at, f"when: {name} is a continuous range; a condition needs choices or steps")
            elif parent is not None:
                for value in (value for value in wanted if not parent.contains(value)):
                    self.file.defect(at, f"when: {name} is never {value!r} here; it is {parent.described()}")
                if name in self.left_out:
                    self.left_out.add(dimension)
                searched[name] = tuple(wanted)
        return searched

    def paper(self) -> dict[str, Any]:
        """Return the values of `[paper]`, each inside its range."""
        values: dict[str, Any] = {}
        for name, given in self.file.table("paper").items():
            if name not in self.declared:
                quotes = "names with a dot stand in quotes" if isinstance(given, dict) else "leave it out"
                self.file.defect(("paper", name), f"is not searched here{did_you_mean(name, self.declared, quotes)}")
                continue
            dimension = self.declared[name]
            if dimension is not None:
                values[name] = _alike(self.own[name], given)
                if not dimension.contains(values[name]):
                    self.file.defect(("paper", name), f"{given!r} is outside its range, {dimension.described()}")
        return values

    def check_together(self, space: Space, check_model: Callable[[Study], object]) -> None:
        """Build the configuration at each end and choice, and at each pair of these in one section.

        All other dimensions keep valid values, so that nothing is refused that no trial could have. A network is
        checked with each of its settings, and with each pair of choices: not every encoder has weights.
        """
        start = {d.name: self.own[d.name] if d.contains(self.own[d.name]) else d.spread(2)[0] for d in space.dimensions}
        ends = [(dimension, value) for dimension in space.dimensions for value in dimension.spread(2)]
        pairs = (pair for pair in itertools.combinations(ends, 2) if _section(pair[0][0]) == _section(pair[1][0]))
        told: set[str] = set()
        asked: set[str] = set()
        for probe in itertools.chain(((end,) for end in ends), pairs):
            fixed = {dimension.name: value for dimension, value in probe}
            point = _point_with(space, start, fixed) if len(fixed) == len(probe) else None
            if point is None:
                continue
            lines = self._refusals(point)
            of_choices = len(probe) == 1 or all(dimension.kind == "choice" for dimension, _ in probe)
            if not lines and _section(probe[0][0]) == "model" and of_choices:
                study = with_settings(self.study, point, space.source)
                if repr(study.model) not in asked:
                    asked.add(repr(study.model))
                    lines = _objections(check_model, study)
            values = " with ".join(f"{name} = {value!r}" for name, value in fixed.items())
            for line in (line for line in lines if line not in told):
                told.add(line)
                self.file.defect(("search", probe[0][0].name), f"{values} is refused: {line}")


def _fitting_kinds(own: Any) -> tuple[Kind, ...]:
    """Return the kinds of range that a field takes, by the type of its value."""
    if isinstance(own, float):
        return ("float", "log_float", "choice")
    return ("int", "choice") if isinstance(own, int) and not isinstance(own, bool) else ("choice",)


def _range_defects(kind: str, table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the keys among low, high and step that are wrong, and why, whatever the field."""
    wrong = {key: text for key in _KEYS[kind] if (text := _number_defect(kind, key, table))}
    yield from wrong.items()
    if wrong:
        return
    low, high, step = table["low"], table["high"], table.get("step")
    if low > high:
        yield "low", f"{low} is above high, {high}; swap them"
    elif step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-8):
        yield "high", f"{high} is not low, {low}, and whole steps of {step}; {low + (high - low) // step * step:g} is"


def _number_defect(kind: str, key: str, table: Mapping[str, Any]) -> str:
    value = table.get(key)
    if key not in table:
        return "" if key == "step" else "is missing"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"must be a finite number, not {value!r}"
    if kind == "int" and value != int(value):
        return f"must be a whole number, not {value}"
    if value <= 0 and (key == "step" or kind == "log_float"):
        return f"must be above 0{'' if key == 'step' else ' if the range is logarithmic'}, not {value}"
    return ""


def _choice_defects(table: Mapping[str, Any], own: Any) -> Iterable[tuple[str, str]]:
    choices = table.get("choices")
    if not isinstance(choices, list) or not choices:
        yield "choices", "must be a list of one value at least" + (f", not {choices!r}" if "choices" in table else "")
        return
    alike = [_alike(own, choice) for choice in choices]
    if twice := [repr(choices[index]) for index, choice in enumerate(alike) if choice in alike[:index]]:
        yield "choices", f"{', '.join(twice)} is there twice"


def _dimension(name: str, kind: Kind, table: Mapping[str, Any], own: Any) -> Dimension:
    if kind == "choice":
        return Dimension(name, kind, choices=tuple(_alike(own, choice) for choice in table["choices"]))
    number = int if kind == "int" else float
    step = table.get("step", 1 if kind == "int" else None)
    return Dimension(name, kind, number(table["low"]), number(table["high"]), None if step is None else number(step))


def _alike(own: Any, value: Any) -> Any:
    """Return a value in the type that its field has in the study: 1 becomes 1.0."""
    if isinstance(own, float) and type(value) is int:
        return float(value)
    if isinstance(own, list) and own and isinstance(value, list):
        return [_alike(own[0], element) for element in value]
    return value


def _wanted(own: Any, given: Any) -> list[Any]:
    """Return the values of a condition, given as one or as a list (of lists, if the field holds a list)."""
    several = isinstance(given, list) and (not isinstance(own, list) or all(isinstance(one, list) for one in given))
    return [_alike(own, value) for value in (given if several else [given])]


def _objections(check: Callable[..., object], *arguments: Any) -> list[str]:
    """Return the mistakes that a check raises; empty if it raises none."""
    try:
        check(*arguments)
    except UserError as error:
        return list(error.lines)
    return []


def _section(dimension: Dimension) -> str:
    return dimension.name.partition(".")[0]


def _point_with(space: Space, start: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a point with these values, and else those of `start`; None if they exclude each other."""
    values, needed = {**start, **fixed}, set(fixed)
    for dimension in reversed(space.dimensions):
        if dimension.name in needed:
            for name, wanted in dimension.when.items():
                needed.add(name)
                if values[name] not in wanted:
                    values[name] = wanted[0]
    point = space.active(values)
    return point if all(name in point and point[name] == value for name, value in fixed.items()) else None


class _File:
    """A TOML file, the line numbers of its tables and keys, and their defects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = read_toml(path)
        self.defects: list[tuple[int, str]] = []
        """Each with its line number."""
        self._lines = _line_numbers(path.read_text(encoding="utf-8"), self.tree)

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the file; empty if there is none."""
        table = self.tree.get(name, {})
        if isinstance(table, dict):
            return table
        self.defect((name,), f"must be a table, not {table!r}")
        return {}

    def defect(self, at: tuple[str, ...], text: str) -> None:
        """Note a defect at a key, or at its table if the key has no line of its own."""
        line = next((self._lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self._lines), 1)
        label = f'[{at[0]}."{at[1]}"]' if at[0] == "search" and len(at) > 1 else " ".join([f"[{at[0]}]", *at[1:]])
        self.defects.append((line, f"{self.path}:{line}: {label} {text}"))

    def raise_defects(self) -> None:
        if self.defects:
            raise UserError(*(text for _, text in sorted(self.defects, key=lambda defect: defect[0])))


_NAME = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_HEADER = re.compile(rf"\s*\[\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*\]\s*(?:#.*)?$")
_ENTRY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def _line_numbers(text: str, tree: Mapping[str, Any]) -> dict[tuple[str, ...], int]:
    """Return the line, from 1, of each table and key that `tree` has: `tomllib` does not tell."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header, entry = _HEADER.match(line), _ENTRY.match(line)
        if header and _is_in(tree, _names(header[1])):
            keys = table = _names(header[1])
        elif entry and _is_in(tree, (*table, *_names(entry[1]))):
            keys = (*table, *_names(entry[1]))
        else:
            continue
        for length in range(1, len(keys) + 1):
            lines.setdefault(keys[:length], number)
    return lines


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in re.findall(_NAME, dotted))


def _is_in(tree: Any, keys: Sequence[str]) -> bool:
    return not keys or (isinstance(tree, dict) and keys[0] in tree and _is_in(tree[keys[0]], keys[1:]))
