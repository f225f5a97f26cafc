"""The resources of a cluster, real or made up for planning, and what a fold takes of a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

_GPU_KIND_PREFIX = "accelerator_type:"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """The resources of one machine."""

    cpus: float
    gpus: float = 0.0
    gpu_kind: str = ""
    """Ray's name, such as A100; empty if there is no GPU, or if its kind is not known."""


@dataclass(frozen=True)
class Machines:
    """The machines of a cluster."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        """The CPUs of all machines."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """The GPUs of all machines."""
        return sum(node.gpus for node in self.nodes)

    @property
    def gpu_kinds(self) -> dict[str, float]:
        """The number of GPUs of each kind, the commonest first."""
        kinds = {node.gpu_kind: self.of_kind(node.gpu_kind).gpus for node in self.nodes if node.gpus}
        return dict(sorted(kinds.items(), key=lambda kind: -kind[1]))

    def of_kind(self, kind: str) -> Machines:
        """Return the machines with this kind of GPU."""
        return Machines(tuple(node for node in self.nodes if node.gpus and node.gpu_kind == kind))

    def max_workers(self, cpus: float, gpus: float = 0.0) -> int:
        """Return how many workers fit; each is a bundle of a placement group and lies on one machine.

        Args:
            cpus: The CPUs of each worker, above 0.
            gpus: The GPUs of each worker; a fraction lies on one GPU.

        >>> Machines((Node(8, 1), Node(8, 1))).max_workers(1, 0.4), Machines((Node(2),)).max_workers(0.4)
        (4, 5)
        """
        return sum(_fits(node, cpus, gpus) for node in self.nodes)


@dataclass(frozen=True)
class Probe:
    """The time and memory that one fold of one architecture takes of one device."""

    step_s: float
    """Seconds of a training step: one batch, loading included."""
    score_s: float
    """Seconds to score one batch of images."""
    busy_share: float
    """Share of a step in which the device computes; 1 on a CPU."""
    peak_bytes: int
    """The highest GPU memory in use; 0 on a CPU."""
    total_bytes: int
    """The GPU's memory; 0 on a CPU."""


def worst(probes: Sequence[Probe]) -> Probe:
    """Return the worst case for a plan: the largest of each figure, on the smallest device."""
    largest = Probe(*(max(getattr(probe, field.name) for probe in probes) for field in fields(Probe)))
    return replace(largest, total_bytes=min(probe.total_bytes for probe in probes))


def of_cluster(nodes: Sequence[Mapping[str, Any]]) -> Machines:
    """Return the living machines of `ray.nodes()`."""
    found = []
    for node in nodes:
        resources = node.get("Resources", {})
        if node.get("Alive") and (resources.get("CPU") or resources.get("GPU")):
            kinds = [name.removeprefix(_GPU_KIND_PREFIX) for name in resources if name.startswith(_GPU_KIND_PREFIX)]
            kind = kinds[0] if kinds and resources.get("GPU") else ""
            found.append(Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), kind))
    return Machines(tuple(found))


def kind_resource(kind: str) -> dict[str, float]:
    """Return the custom resource by which a worker gets this kind of GPU; empty if any kind will do."""
    return {f"{_GPU_KIND_PREFIX}{kind}": 0.001} if kind else {}


def _fits(node: Node, cpus: float, gpus: float) -> int:
    by_cpus = int(node.cpus / cpus + _ROUNDING)
    if not gpus:
        return by_cpus
    by_gpus = int(node.gpus) * int(1 / gpus + _ROUNDING) if gpus < 1 else int(node.gpus / gpus + _ROUNDING)
    return min(by_cpus, by_gpus)
