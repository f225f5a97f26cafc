"""How a study would lie on machines: what `cv` and `tune` would do, and for how long, without training."""

from __future__ import annotations

import math
import os

import torch

from eus_ray.config import Study
from eus_ray.data.dataset import check_data
from eus_ray.distributed.planner import Plan, load_of, plan_fixed, plan_search
from eus_ray.distributed.profiling import measure, probe_cluster
from eus_ray.distributed.resources import Machines, Node, worst
from eus_ray.distributed.session import session
from eus_ray.errors import UserError
from eus_ray.study.networks import others_modules


def plan_study(
    study: Study, nodes: int = 1, cpus: float | None = None, gpus: float | None = None, address: str | None = None
) -> dict[str, Plan]:
    """Plan a study's cross-validation (`cv`) and its search (`tune`).

    The time is told if a probe can be taken: of machines like this one, or of a cluster's.

    Args:
        study: What would be trained.
        nodes: How many machines, each like this one but for what follows.
        cpus: Cores of each machine.
        gpus: GPUs of each machine.
        address: Of a Ray cluster, whose machines are taken instead.

    Raises:
        UserError: If the study or its data are not as they must be, or ask for more than the machines have.
    """
    here = Node(float(os.cpu_count() or 1), float(torch.cuda.device_count()))
    if nodes < 1 or not 0 < (1.0 if cpus is None else cpus) < math.inf or not 0 <= (gpus or 0.0) < math.inf:
        raise UserError("there must be one machine at least, with cores, and no negative number of GPUs")
    if gpus is not None and gpus != int(gpus):
        raise UserError(f"{gpus:g} GPUs: write whole ones; run.gpus_per_fold says what of one a fold takes")
    dataset = check_data(study)
    if address is not None:
        with session(address, modules=others_modules(study)) as cluster:
            machines, probe = cluster.machines, probe_cluster(study, cluster)
    else:
        node = Node(here.cpus if cpus is None else cpus, here.gpus if gpus is None else gpus)
        machines = Machines((node,) * nodes)
        plan_fixed(study, machines, len(study.models))  # refuse what cannot be before anything is measured
        is_alike = bool(node.gpus) == bool(here.gpus)
        probe = worst([measure(study.for_model(model)) for model in study.models]) if is_alike else None
    trials = study.search.trials * len(study.models)
    return {
        "cv": plan_fixed(study, machines, len(study.models), probe, load_of(dataset)),
        "tune": plan_search(study, machines, trials, probe, load_of(dataset, searching=True)),
    }
