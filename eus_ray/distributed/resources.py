"""The machines that a run has, from a cluster or made up for planning, and what a fold takes of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

_KIND = "accelerator_type:"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """What one machine offers to workers."""

    cpus: float
    gpus: float = 0.0
    gpu_kind: str = ""
    """As Ray names it, such as A100; empty where there is none, or where it is not known."""


@dataclass(frozen=True)
class Machines:
    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    @property
    def gpu_kinds(self) -> dict[str, float]:
        """How many GPUs there are of each kind, the most first."""
        kinds: dict[str, float] = {}
        for node in self.nodes:
            if node.gpus:
                kinds[node.gpu_kind] = kinds.get(node.gpu_kind, 0.0) + node.gpus
        return dict(sorted(kinds.items(), key=lambda kind: -kind[1]))

    def of_kind(self, kind: str) -> Machines:
        """The machines with this kind of GPU."""
        return Machines(tuple(node for node in self.nodes if node.gpus and node.gpu_kind == kind))

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers of this shape fit, each on one node; a fraction of a GPU is one of one GPU.

        >>> Machines((Node(8, 1), Node(8, 1))).room(1, 0.4), Machines((Node(2),)).room(0.4, 0)
        (4, 5)
        """
        return sum(_fits(node, cpus, gpus) for node in self.nodes)


@dataclass(frozen=True)
class Probe:
    """What one fold of one architecture takes of one device."""

    step_s: float
    """A training step: one batch, loading included."""
    score_s: float
    """Scoring one batch of images."""
    load_s: float
    """Reading and augmenting one image, by one thread."""
    busy: float
    """Share of a step in which the device computes; 1 on a CPU."""
    device_bytes: int
    """GPU memory at its highest; 0 on a CPU."""
    of_bytes: int
    """GPU memory there is; 0 on a CPU."""


def worst(probes: Sequence[Probe]) -> Probe:
    """What a plan for all of them must reckon with: the largest of each figure, on the smallest device."""
    largest = Probe(*(max(getattr(probe, field.name) for probe in probes) for field in fields(Probe)))
    return replace(largest, of_bytes=min(probe.of_bytes for probe in probes))


def of_cluster(nodes: Sequence[Mapping[str, Any]]) -> Machines:
    """The living machines of `ray.nodes()`."""
    found = []
    for node in nodes:
        resources = node.get("Resources", {})
        if node.get("Alive") and (resources.get("CPU") or resources.get("GPU")):
            kinds = [name.removeprefix(_KIND) for name in resources if name.startswith(_KIND)]
            kind = kinds[0] if kinds and resources.get("GPU") else ""
            found.append(Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), kind))
    return Machines(tuple(found))


def kind_resource(kind: str) -> dict[str, float]:
    """What a worker asks Ray for so that it gets this kind of GPU."""
    return {f"{_KIND}{kind}": 0.001} if kind else {}


def _fits(node: Node, cpus: float, gpus: float) -> int:
    by_cpus = int(node.cpus / cpus + _ROUNDING)
    if not gpus:
        return by_cpus
    by_gpus = int(node.gpus) * int(1 / gpus + _ROUNDING) if gpus < 1 else int(node.gpus / gpus + _ROUNDING)
    return min(by_cpus, by_gpus)
