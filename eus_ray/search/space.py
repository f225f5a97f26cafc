"""What a search varies: an architecture's searched fields, their ranges, and when each of them counts.

`space_file.load_space` reads a space from TOML and checks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

from eus_ray.config import Study, to_dotted

Kind = Literal["float", "log_float", "int", "choice"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Dimension:
    """A searched field: a range with both ends, or choices (lists for tuples, as in the study file)."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Searched only where each of these earlier dimensions is searched too and has one of these values."""

    def contains(self, value: Any) -> bool:
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, Real) or not self.low <= float(value) <= self.high:
            return False
        return self.step is None or math.isclose(value, self.snap(value), rel_tol=0, abs_tol=1e-8 * self.step)

    def snap(self, value: Any) -> Any:
        """The value of a stepped range that is nearest; of others the value itself."""
        if self.step is None:
            return value
        return self._on_step(round((value - self.low) / self.step))

    def count(self) -> int | None:
        """How many values there are; None for a continuum."""
        if self.kind == "choice":
            return len(self.choices)
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def spread(self, most: int) -> list[Any]:
        """`most` (2 at least) values evenly over a range, both ends among them, or as many as it has; all choices."""
        if self.kind == "choice":
            return list(self.choices)
        shares = [index / (most - 1) for index in range(most)]
        if self.step is not None:
            last = (self.count() or 1) - 1
            return list(dict.fromkeys(self._on_step(round(share * last)) for share in shares))
        if self.kind == "log_float":
            between = [self.low * (self.high / self.low) ** share for share in shares[1:-1]]
        else:
            between = [self.low + (self.high - self.low) * share for share in shares[1:-1]]
        return list(dict.fromkeys([self.low, *between, self.high]))

    def _on_step(self, index: int) -> Any:
        assert self.step is not None
        value = self.low + index * self.step
        return int(value) if self.kind == "int" else min(max(round(value, 12), self.low), self.high)  # 0.3, not 0.1 * 3

    def described(self) -> str:
        """The values in words, such as `1e-05 to 0.1`."""
        if self.kind == "choice":
            return " or ".join(repr(choice) for choice in self.choices)
        by_step = f" by {self.step:g}" if self.step is not None and self.step != 1 else ""
        return f"{self.low:g} to {self.high:g}{by_step}"


@dataclass(frozen=True)
class Space:
    """The dimensions of one architecture's search, each after those that its condition names."""

    source: str = field(compare=False)
    """The file that it was read from; empty where it comes from JSON."""
    paper: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of a value for every dimension, those of the dimensions whose conditions hold: a trial's setting."""
        point: dict[str, Any] = {}
        for dimension in self.dimensions:
            if all(name in point and point[name] in wanted for name, wanted in dimension.when.items()):
                point[dimension.name] = values[dimension.name]
        return point

    def outside(self, point: Mapping[str, Any]) -> list[str]:
        """What in a setting lies outside its range, in words such as `optim.lr 0.5 (1e-05 to 0.1)`."""
        return [
            f"{dimension.name} {point[dimension.name]!r} ({dimension.described()})"
            for dimension in self.dimensions
            if dimension.name in point and not dimension.contains(point[dimension.name])
        ]

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether a setting has just the active dimensions, each inside its range."""
        try:
            return self.active(point) == dict(point) and not self.outside(point)
        except KeyError:
            return False

    def default_of(self, study: Study) -> dict[str, Any] | None:
        """The study's own setting; None where a value lies outside its range."""
        return self._inside(to_dotted(study))

    def paper_point(self, study: Study) -> dict[str, Any] | None:
        """The paper's setting, the study's own value where `[paper]` has none; None without `[paper]`, or outside."""
        return self._inside(to_dotted(study) | dict(self.paper)) if self.paper else None

    def _inside(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        point = self.active(values)
        return None if self.outside(point) else point

    def as_json(self) -> dict[str, Any]:
        """The space for JSON, without the file that it came from: the same on any machine."""
        return {"paper": dict(self.paper), "dimensions": [asdict(dimension) for dimension in self.dimensions]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Space:
        """The space that `as_json` gave, after a round trip through JSON."""
        dimensions = []
        for table in stored["dimensions"]:
            when = {name: tuple(wanted) for name, wanted in table["when"].items()}
            dimensions.append(Dimension(**{**table, "choices": tuple(table["choices"]), "when": when}))
        return cls("", stored["paper"], tuple(dimensions))
