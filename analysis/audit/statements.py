"""A published table as statements: one row a number as printed, and the interval that its digits leave.

    table,group,metric,value,sd,n,unit
    Table 2,DAF-Net,dsc,82.8,11.5,330,%
    Table 2,DAF-Net,dsc_low,80.9,,,%
    Table 1,location: body,count,37,,150,patients
    Section 4,DAF-Net,share iou>0.5,90.9,,330,%

`group` is whom the number is about: a model, a stratum, both; all of them if it is empty or `all`. Numbers of other
images need another group (`DAF-Net, external`). A group written `characteristic: category` is one category of a
partition: each patient is in one. `metric` is one of `KINDS` (or `ALIASES`) for a mean; with `_low`, `_high` for the
limits of its interval, `_min`, `_max` for its range, `_kruskal_p` for the p value of a Kruskal-Wallis or Mann-Whitney
test of it; `count ...` and `share ...`, followed by what is counted if the group does not say it. `sd` and `n`
belong to a mean: `n` is how many values (images, patients or folds) mean and SD are of; 1 is read as one image. A
count's or a share's `n` is the whole that it is a part of. Empty cells say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from eus_ray.data.io.tables import Lines, read_table
from eus_ray.data.names import alike, alike_key, did_you_mean
from eus_ray.errors import UserError

COLUMNS = ("table", "group", "metric", "value", "sd", "n", "unit")

Kind = Literal["ratio", "distance", "age", "size", "count", "share"]
Aspect = Literal["mean", "low", "high", "min", "max", "kruskal_p"]

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("dsc", "iou", "sen", "sp", "pc", "acc", "auc", "nsd"), "ratio"),
    **dict.fromkeys(("avd", "hd", "mad", "hd95", "hd95_pooled", "assd", "hd_largest"), "distance"),
    **dict.fromkeys(("avd_truth_to_pred", "avd_pred_to_truth"), "distance"),
    "age": "age",
    "size": "size",
}
ALIASES = {
    "dice": "dsc",
    "jaccard": "iou",
    "sensitivity": "sen",
    "recall": "sen",
    "specificity": "sp",
    "spc": "sp",
    "precision": "pc",
    "prec": "pc",
    "ppv": "pc",
    "accuracy": "acc",
    "auroc": "auc",
}
ASPECTS: dict[str, Aspect] = {
    "_low": "low",
    "_high": "high",
    "_min": "min",
    "_max": "max",
    "_kruskal_p": "kruskal_p",
}
_ASPECT_WORDS: dict[Aspect, str] = {
    "mean": "",
    "low": "lower limit of ",
    "high": "upper limit of ",
    "min": "smallest ",
    "max": "largest ",
    "kruskal_p": "p of ",
}
COUNTED = ("patients", "images", "lesions", "frames", "videos", "cases", "folds")
UNITS: dict[str, tuple[str, Fraction]] = {
    **dict.fromkeys(("", "1", "ratio", "fraction"), ("", Fraction(1))),
    **dict.fromkeys(("%", "percent", "per cent"), ("%", Fraction(1, 100))),
    **dict.fromkeys(("px", "pixel", "pixels"), ("px", Fraction(1))),
    "mm": ("mm", Fraction(1)),
    "cm": ("mm", Fraction(10)),
    **dict.fromkeys(("year", "years"), ("years", Fraction(1))),
    **{name: (noun, Fraction(1)) for noun in COUNTED for name in (noun, noun.removesuffix("s"))},
}
"""Units as they may be written: the unit of comparison, and the factor to it."""
_UNITS_OF: dict[str, tuple[str, ...]] = {
    "ratio": ("", "%"),
    "share": ("", "%"),
    "distance": ("", "px", "mm"),
    "size": ("", "px", "mm"),
    "age": ("", "years"),
    "count": ("", *COUNTED),
}

TRUST = Fraction(1, 10**6)
"""Digits below this part of a number (of 1 if that is more) are not trusted: means may come from single precision."""

_NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,30})?|\.\d{1,30})(e[+-]?\d{1,2})?", re.ASCII)
_WHOLE = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_COUNT_OR_SHARE = re.compile(r"(count|share)(?:[\s_:]+(.*))?")


@dataclass(frozen=True)
class Printed:
    """A number as printed, and the interval of numbers that print so.

    The interval is in the unit of comparison (per cent as parts of 1, cm as mm). 0.84 is [0.835, 0.845], a little wider
    for `TRUST`; both ends belong to it, since roundings differ.
    """

    text: str
    low: Fraction
    high: Fraction


@dataclass(frozen=True)
class Statement:
    """One row of the table.

    `metric`: a name of `KINDS`, or `count` or `share` with what is counted. `unit`: that of comparison, empty for
    ratios. `row` counts as a spreadsheet does, the header being row 1.
    """

    row: int
    table: str
    group: str
    metric: str
    aspect: Aspect
    kind: Kind
    value: Printed
    sd: Printed | None
    n: int | None
    unit: str

    @property
    def name(self) -> str:
        """The metric in print: `DSC`, `lower limit of IoU`, `share iou>0.5`."""
        name = self.metric
        if name in KINDS and name not in ("age", "size"):
            name = "IoU" if name == "iou" else name.upper().replace("_", " ")
        return _ASPECT_WORDS[self.aspect] + name

    @property
    def key(self) -> tuple[str, str]:
        """Table and group for comparison.

        Names that look alike (`data.names`) are one.
        """
        return alike_key(self.table), alike_key(self.group)


def read_statements(path: str | Path, *, say: Callable[[str], None] = lambda _line: None) -> tuple[Statement, ...]:
    """Read the statements of a table.

    Args:
        path: CSV, or Parquet with text, with the columns `COLUMNS`; other columns are ignored.
        say: Hears what may have been meant otherwise, line by line.

    Raises:
        UserError: With a line for each defect: a file that is no such table, missing columns, cells that are no
            numbers, unknown metrics and units, units that a metric cannot have.
    """
    stored = read_table(Path(path))
    lines = Lines()
    defects = [
        f"has no column {name}{did_you_mean(name, stored.columns)}" for name in COLUMNS if name not in stored.columns
    ]
    if defects:
        raise UserError(*(f"{path}: {line}" for line in [*stored.defects, *defects]))
    statements = []
    for row, cells in zip(stored.numbers, stored.records(), strict=True):
        wrong: list[str] = []
        if (statement := _statement(row, cells, wrong)) is not None:
            statements.append(statement)
        for line in wrong:
            lines.add(row, line)
    if defects := [*stored.defects, *lines.told()]:
        raise UserError(*(f"{path}: {line}" for line in defects))
    names = [("table", [one.table for one in statements]), ("group", [one.group for one in statements])]
    for line in [*stored.warnings, *(line for kind, each in names for line in alike(kind, each, are_one=True))]:
        say(f"{path}: {line}")
    return tuple(statements)


def _statement(row: int, cells: Mapping[str, str], defects: list[str]) -> Statement | None:
    """Return one row's cells as a statement; None, with `defects`, if some are wrong."""
    found = _metric(cells["metric"], defects)
    unit, value_text, sd_text = " ".join(cells["unit"].casefold().split()), cells["value"], cells["sd"]
    if unit in ("", "%") and value_text.endswith("%"):
        unit, value_text, sd_text = "%", value_text.removesuffix("%").strip(), sd_text.removesuffix("%").strip()
    if unit not in UNITS:
        defects.append(f"unit {unit}: unknown{did_you_mean(unit, [name for name in UNITS if name])}")
    elif found is not None:
        allowed = ("",) if found[1] == "kruskal_p" else _UNITS_OF[found[2]]
        if UNITS[unit][0] not in allowed:
            named = ", ".join(name for name in allowed if name)
            cure = f"can be {named}, or empty" if named else "must be empty"
            defects.append(f"unit {unit}: that of {cells['metric']} {cure}")
    exact = found is not None and found[2] == "count"
    value = _number("value", value_text, unit, exact, defects)
    sd = _number("sd", sd_text, unit, False, defects) if sd_text else None
    n = cells["n"]
    if n and not _WHOLE.fullmatch(n):
        defects.append(f"n {n}: must be a whole number from 1 on, without separators; empty if it is not known")
    if defects or found is None or value is None:
        return None
    metric, aspect, kind = found
    return Statement(
        row,
        cells["table"],
        cells["group"],
        metric,
        aspect,
        kind,
        value,
        sd,
        int(n) if n else None,
        unit=UNITS[unit][0].removesuffix("%"),
    )


def _metric(written: str, defects: list[str]) -> tuple[str, Aspect, Kind] | None:
    text = " ".join(written.casefold().split())
    if match := _COUNT_OR_SHARE.fullmatch(text):
        kind: Kind = "count" if match[1] == "count" else "share"
        return f"{kind} {match[2]}" if match[2] else kind, "mean", kind
    name = text.replace(" ", "_")
    ending = next((ending for ending in ASPECTS if name.endswith(ending)), "")
    name = name.removesuffix(ending)
    name = ALIASES.get(name, name)
    if name not in KINDS:
        cure = did_you_mean(
            name, [*KINDS, *ALIASES, "count", "share"], f"there is {', '.join(KINDS)}, count ..., share ..."
        )
        defects.append(f"metric {written}: unknown{cure}" if name else "metric is empty")
        return None
    return name, ASPECTS.get(ending, "mean"), KINDS[name]


def _number(column: str, text: str, unit: str, exact: bool, defects: list[str]) -> Printed | None:
    if not text:
        defects.append(f"{column} is empty; a row states one number")
        return None
    try:
        return printed(text, unit, exact=exact)
    except ValueError:
        cure = "write digits and a decimal point alone, without separators, and an SD in its own column"
        defects.append(f"{column} {text}: is not a number; {cure}")
        return None


def printed(text: str, unit: str = "", *, exact: bool = False) -> Printed:
    """Return the interval of a printed number.

    Args:
        text: The number in digits.
        unit: A name of `UNITS`; another is none.
        exact: Whether the number has no interval, such as a count.

    Raises:
        ValueError: If the text is no number in digits.

    >>> [f"{float(end):.4f}" for end in (printed("84", "%").low, printed("84", "%").high)]
    ['0.8350', '0.8450']
    """
    plain = text.replace("\N{MINUS SIGN}", "-").lower()
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"{text} is not a number")
    compared, scale = UNITS.get(unit, ("", Fraction(1)))
    number, half = Fraction(plain), Fraction(0)
    if not exact:
        mantissa, _, power = plain.partition("e")
        half = Fraction(10) ** (int(power or 0) - len(mantissa.partition(".")[2])) / 2 + TRUST * max(
            Fraction(1), abs(number)
        )
    shown = f"{text} {'%' if compared == '%' else unit}" if compared else text
    return Printed(shown, (number - half) * scale, (number + half) * scale)
