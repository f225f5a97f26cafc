"""The audit: each statement alone, each group together, and repeated statements.

Each check takes the intervals that the printed digits leave, in exact fractions. It reports only what no number within
them can repair: honest averages, however rounded, give no finding.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from eus_ray.analysis.audit.findings import Finding, apart, show
from eus_ray.analysis.audit.relations import Book, alike, check_relations
from eus_ray.analysis.audit.statements import Aspect, Statement, read_statements
from eus_ray.data.names import alike_key

TOTALS = frozenset(("", "all", "total", "overall"))
"""Names of the group of everybody."""

_CATEGORY = re.compile(r"(?P<whole>[^:=<>]+?)\s*[:=]\s*\S.*")


def audit_lines(path: str | Path, *, say: Callable[[str], None] = lambda _line: None) -> list[str]:
    """Audit a CSV table of statements; `say` is that of `read_statements`.

    Returns:
        One line a finding, the impossible first, and a last one that counts them.

    Raises:
        UserError: As `read_statements`.
    """
    statements = read_statements(path, say=say)
    findings = audit(statements)
    impossible = sum(finding.verdict == "impossible" for finding in findings)
    total = f"{len(statements)} statements: {impossible} cannot be, {len(findings) - impossible} worth a look"
    return [*(finding.line for finding in findings), total]


def audit(statements: Sequence[Statement]) -> list[Finding]:
    """Return everything that cannot be, or is worth a look, by verdict and row.

    Nothing for an honest table.
    """
    findings = [finding for one in statements for finding in _alone(one)]
    possible = [one for one in statements if not _out_of_range(one)]
    findings += [finding for book in _books(possible) for finding in check_relations(book)]
    findings += [*_stated_twice(possible), *_parts(possible)]
    return sorted(findings, key=lambda one: (one.verdict != "impossible", [row.row for row in one.statements]))


def _alone(one: Statement) -> Iterator[Finding]:
    said = f"{one.name} is {one.value.text}"
    if reason := _out_of_range(one):
        percent = one.kind in ("ratio", "share") and 1 < one.value.high <= 101 and "%" not in one.value.text
        yield Finding("impossible", (one,), said, reason, "a percentage, whose unit is %" if percent else "a slip")
    elif one.kind == "count" and one.value.low.denominator != 1:
        yield Finding("impossible", (one,), said, "a count is a whole number", "a mean of counts, or a percentage")
    elif one.kind == "count" and one.n is not None and one.value.low > one.n:
        yield Finding("impossible", (one,), f"{said} of {one.n}", "a part is not more than the whole", "another n")
    elif one.kind == "share" and one.n is not None:
        most = math.floor(one.value.high * one.n)
        if most < math.ceil(one.value.low * one.n):
            near = " and ".join(f"{k}/{one.n} = {show(Fraction(100 * k, one.n))} %" for k in (most, most + 1))
            yield Finding(
                "impossible",
                (one,),
                what=f"{said} of {one.n}",
                why=f"a share of {one.n} is a whole number of them, and the nearest are {near}",
                meaning="another n (missing values, or images in place of patients), or a mean over unequal folds",
            )
    if one.sd is not None and one.sd.high < 0:
        yield Finding(
            "impossible",
            (one,),
            what=f"the SD of {one.name} is {one.sd.text}",
            why="an SD is never negative",
            meaning="a slip",
        )
    elif one.sd is not None and one.n == 1 and one.sd.low > 0:
        yield Finding(
            "impossible",
            (one,),
            what=f"{said} with an SD of {one.sd.text} and n = 1",
            why="one value has no spread",
            meaning="another n, or an SD of other values",
        )


def _out_of_range(one: Statement) -> str:
    """Return why the number cannot be one of its metric; empty if it can.

    Limits of intervals may lie anywhere.
    """
    if one.aspect in ("low", "high"):
        return ""
    if one.value.high < 0:
        return "it is never negative"
    if one.value.low > 1 and (one.aspect == "kruskal_p" or one.kind in ("ratio", "share")):
        return "it lies between 0 and 1, or 0 and 100 %"
    return ""


def _books(statements: Iterable[Statement]) -> Iterator[Book]:
    """Yield each table's groups.

    Numbers stated differently in one place are left out: they may be of different things.
    """
    places: dict[tuple[str, str], dict[tuple[str, Aspect], list[Statement]]] = defaultdict(lambda: defaultdict(list))
    for one in statements:
        places[one.key][one.metric, one.aspect].append(one)
    for entries in places.values():
        yield {
            name: stated[0]
            for name, stated in entries.items()
            if len({(one.value, one.sd, one.n, one.unit) for one in stated}) == 1
        }


def _stated_twice(statements: Iterable[Statement]) -> Iterator[Finding]:
    """Find quantities with two values: the same group, metric and unit.

    Two tables may be of different images.
    """
    stated: dict[tuple[str, ...], list[Statement]] = defaultdict(list)
    for one in statements:
        if one.aspect not in ("low", "high"):  # those of two bootstraps differ
            stated[one.key[1], one.metric, one.aspect, one.unit].append(one)
    for several in stated.values():
        for one, other in itertools.combinations(several, 2):
            if alike(one, other) and apart(one.value, other.value):
                yield Finding(
                    "impossible" if one.key == other.key else "look",
                    (one, other),
                    what=f"{one.name} is {one.value.text} in one place and {other.value.text} in the other",
                    why="as rounded they share no number",
                    meaning="that one is wrong, or that they are of other images or averaged in another way",
                )
                break


def _parts(statements: Sequence[Statement]) -> Iterator[Finding]:
    """Find categories whose counts, or whose n, do not sum to that of all."""
    partitions: dict[tuple[str, ...], dict[str, Statement]] = defaultdict(dict)
    for one in statements:
        if one.aspect == "mean" and (match := _CATEGORY.fullmatch(one.group)):
            partitions[one.key[0], alike_key(match["whole"]), one.metric, one.unit].setdefault(one.key[1], one)
    for (table, whole, metric, unit), parts in partitions.items():
        rows = tuple(parts.values())
        total = _total([one for one in statements if (one.metric, one.unit) == (metric, unit)], table, rows)
        sizes = [size for one in rows if (size := _size(one)) is not None]
        if total is None or not 2 <= len(sizes) == len(rows):
            continue
        counted, added = rows[0].kind == "count", sum(sizes)
        what = (
            f"{'the counts' if counted else f'n of {rows[0].name}'} of {whole} are "
            f"{' + '.join(map(show, sizes))} = {show(added)}, and all are {show(total)}"
        )
        if added > total:
            yield Finding(
                "impossible" if counted else "look",
                rows,
                what,
                why=f"that is {show(added - total)} too many, since each is in one category",
                meaning="a miscount, some counted in two categories, or images counted in place of patients",
            )
        elif added < total and counted:
            yield Finding(
                "look",
                rows,
                what,
                why=f"{show(total - added)} are in no category",
                meaning="missing values, a category not shown, or a miscount",
            )


def _size(one: Statement) -> Fraction | None:
    """Return how many a statement is about: a count's value, a mean's n."""
    if one.kind == "count":
        return one.value.low
    return None if one.n is None else Fraction(one.n)


def _total(candidates: Sequence[Statement], table: str, parts: Sequence[Statement]) -> Fraction | None:
    """Return how many there are in all.

    It is the n that all counted parts name, else the table's statement about all, else (for counts) the number on which
    the other tables agree.
    """
    counted = parts[0].kind == "count"
    own = {one.n for one in parts}
    if counted and len(own) == 1 and (n := own.pop()) is not None:
        return Fraction(n)
    totals = {
        one.key[0]: size
        for one in candidates
        if one.key[1] in TOTALS and one.aspect == "mean" and (size := _size(one)) is not None
    }
    if table in totals or not counted:
        return totals.get(table)
    return next(iter(totals.values())) if len(set(totals.values())) == 1 else None
