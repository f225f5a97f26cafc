"""What `cv` and `tune` do, from a checked study to results in its folder; the demo runs the same."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eus_ray.config import Study
from eus_ray.errors import UserError

if TYPE_CHECKING:
    from eus_ray.data.dataset import Dataset
    from eus_ray.distributed.planner import Plan
    from eus_ray.search.space import Space
    from eus_ray.store import Store
    from eus_ray.study.cross_validate import Outcome


def run_tune(
    study: Study,
    out: str | Path,
    *,
    resume: bool = False,
    address: str | None = None,
    start_from: str | Path | None = None,
) -> tuple[Outcome, list[str]]:
    """Check everything, then search with live progress; how it ended, and its headline in plain lines.

    Raises `UserError` before anything is written.
    """
    from rich.console import Console

    from eus_ray.analysis.comparison.selection_bias import headline, write_selection
    from eus_ray.models import check_model
    from eus_ray.search.space_loader import load_space
    from eus_ray.store import TRIALS_FILE, Store

    spaces: dict[str, Space] = {}
    lines: list[str] = []
    for arch in study.models:
        try:
            spaces[arch] = load_space(study.for_model(arch), check_model)
        except UserError as error:
            lines += error.lines
    if lines:
        raise UserError(*dict.fromkeys(lines))
    store, old = Store(out), None if start_from is None else Store(start_from)
    if old is not None and not old.exists(TRIALS_FILE):
        raise UserError(f"{old.location}: --from names no study with trials")
    dataset = checked_dataset(study, store, resume)

    from eus_ray.cli.progress.cross_validation import LiveProgress
    from eus_ray.cli.progress.search import SearchProgress
    from eus_ray.distributed.session import session
    from eus_ray.study.tune import starts, tune

    begin = starts(dataset, spaces, old)
    console = Console(soft_wrap=True)
    epochs: dict[str, int] = {arch: study.for_model(arch).train.epochs_to_train for arch in study.models}
    winners = LiveProgress(study.models, study.folds.count, epochs, console)
    begun = session(address, dashboard=study.run.dashboard)
    with begun as cluster, SearchProgress(study.models, winners, console) as progress:
        outcome = tune(store, dataset, begin, cluster, progress, resume=resume)
    return outcome, [] if outcome.interrupted else headline(write_selection(store))


def run_cv(study: Study, out: str | Path, *, resume: bool = False, address: str | None = None) -> Outcome:
    """Check everything, then cross-validate with live progress. Raises `UserError` before anything is written."""
    from rich.console import Console

    from eus_ray.store import Store

    store = Store(out)
    dataset = checked_dataset(study, store, resume)

    from eus_ray.cli.progress.cross_validation import LiveProgress
    from eus_ray.distributed.session import session
    from eus_ray.study.cross_validate import cross_validate

    epochs: dict[str, int] = {arch: study.for_model(arch).train.epochs_to_train for arch in study.models}
    console = Console(soft_wrap=True)
    begun = session(address, dashboard=study.run.dashboard)
    with begun as cluster, LiveProgress(study.models, study.folds.count, epochs, console) as progress:
        return cross_validate(store, dataset, cluster, progress, resume=resume)


def plans(
    study: Study, nodes: int, cpus: float | None, gpus: float | None, address: str | None
) -> list[tuple[str, Plan]]:
    """How `cv` and `tune` of a study would lie on machines: `nodes` like this one but for what is said, or a cluster's.

    The time is told where a probe can be taken: of machines like this one, or of the cluster's. Raises `UserError`.
    """
    import os

    import torch

    from eus_ray.data.dataset import check_data
    from eus_ray.distributed.planner import plan_fixed, plan_search
    from eus_ray.distributed.profiling import measure
    from eus_ray.distributed.resources import Machines, Node, worst
    from eus_ray.distributed.session import session
    from eus_ray.study.cross_validate import load_of, probe_of

    here = Node(float(os.cpu_count() or 1), float(torch.cuda.device_count()))
    if nodes < 1 or not 0 < (1.0 if cpus is None else cpus) < math.inf or not 0 <= (gpus or 0.0) < math.inf:
        raise UserError("--nodes and --cpus must be above 0, and --gpus not below")
    if gpus is not None and gpus != int(gpus):
        raise UserError(f"--gpus {gpus:g}: write whole GPUs; run.gpus_per_fold says what of one a fold takes")
    dataset = check_data(study)
    if address is not None:
        with session(address) as cluster:
            machines, probe = cluster.machines, probe_of(study, cluster)
    else:
        node = Node(here.cpus if cpus is None else cpus, here.gpus if gpus is None else gpus)
        machines = Machines((node,) * nodes)
        plan_fixed(study, machines, len(study.models))  # what cannot be is said before anything is measured
        alike = bool(node.gpus) == bool(here.gpus)
        probe = worst([measure(study.for_model(arch)) for arch in study.models]) if alike else None
    trials = study.search.trials * len(study.models)
    return [
        ("cv", plan_fixed(study, machines, len(study.models), probe, load_of(dataset))),
        ("tune", plan_search(study, machines, trials, probe, load_of(dataset, searching=True))),
    ]


def checked_dataset(study: Study, store: Store, resume: bool) -> Dataset:
    """The study's data, with everything checked that can be before Ray starts. Raises `UserError`."""
    from eus_ray.data.dataset import check_data
    from eus_ray.models import check_model
    from eus_ray.study.cross_validate import refuse_unwanted
    from eus_ray.study.prepare import check_identity, check_room

    bytes_of_weights = 0
    lines: list[str] = []
    for arch in study.models:
        try:
            bytes_of_weights += check_model(study.for_model(arch).model)
        except UserError as error:
            lines += error.lines
    if lines:
        raise UserError(*dict.fromkeys(lines))
    dataset = check_data(study)
    check_identity(store, dataset)
    check_room(store, dataset, bytes_of_weights)
    refuse_unwanted(store, study, resume)
    for warning in dataset.manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return dataset
