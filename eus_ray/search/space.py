"""The search space of an architecture: the searched fields, their ranges and their conditions.

`space_loader.load_space` reads a space from TOML and checks it.
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
    """A searched field: a closed range, or choices (lists for tuples, as in the study file)."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The condition: searched only if each of these earlier dimensions is searched and has one of these values."""

    def contains(self, value: Any) -> bool:
        """Return whether a value is one of the choices, or in the range and on a step."""
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, Real) or not self.low <= float(value) <= self.high:
            return False
        return self.step is None or math.isclose(value, self.snap(value), rel_tol=0, abs_tol=1e-8 * self.step)

    def snap(self, value: Any) -> Any:
        """Return the nearest value of a stepped range; without steps, the value itself."""
        return value if self.step is None else self._on_step(round((value - self.low) / self.step))

    def count(self) -> int | None:
        """Return how many values there are; None for a continuous range."""
        if self.kind == "choice":
            return len(self.choices)
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def spread(self, max_num: int) -> list[Any]:
        """Return evenly spaced values of a range, both ends among them; of choices, return all.

        Args:
            max_num: How many values of a range, at least 2; a stepped range may have fewer.
        """
        if self.kind == "choice":
            return list(self.choices)
        shares = [index / (max_num - 1) for index in range(max_num)]
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
        """Return the values in words, such as `1e-05 to 0.1`."""
        if self.kind == "choice":
            return " or ".join(repr(choice) for choice in self.choices)
        by_step = f" by {self.step:g}" if self.step is not None and self.step != 1 else ""
        return f"{self.low:g} to {self.high:g}{by_step}"


@dataclass(frozen=True)
class Space:
    """The dimensions of one architecture's search, each after the dimensions that its condition names."""

    source: str
    """The file that it was read from."""
    paper: Mapping[str, Any]
    """The paper's values of searched fields."""
    dimensions: tuple[Dimension, ...]

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's setting: the values of those dimensions whose conditions hold.

        Args:
            values: A value for every dimension, by its name.
        """
        point: dict[str, Any] = {}
        for dimension in self.dimensions:
            if all(name in point and point[name] in wanted for name, wanted in dimension.when.items()):
                point[dimension.name] = values[dimension.name]
        return point

    def outside(self, point: Mapping[str, Any]) -> list[str]:
        """Return the values of a setting outside their ranges, in words such as `optim.lr 0.5 (1e-05 to 0.1)`."""
        return [
            f"{dimension.name} {point[dimension.name]!r} ({dimension.described()})"
            for dimension in self.dimensions
            if dimension.name in point and not dimension.contains(point[dimension.name])
        ]

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Return whether a setting has exactly the active dimensions, each inside its range."""
        try:
            return self.active(point) == dict(point) and not self.outside(point)
        except KeyError:
            return False

    def default_of(self, study: Study) -> dict[str, Any] | None:
        """Return the study's own setting; None if a value lies outside its range."""
        return self._inside(to_dotted(study))

    def paper_point(self, study: Study) -> dict[str, Any] | None:
        """Return the paper's setting, with the study's own values for fields that `[paper]` does not name.

        Returns:
            None without `[paper]`, or if a value lies outside its range.
        """
        return self._inside(to_dotted(study) | dict(self.paper)) if self.paper else None

    def _inside(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        point = self.active(values)
        return None if self.outside(point) else point

    def as_json(self) -> dict[str, Any]:
        """Return the space for JSON, without its file's path: the same on any machine."""
        return {"paper": dict(self.paper), "dimensions": [asdict(dimension) for dimension in self.dimensions]}
