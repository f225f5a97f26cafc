"""The assignment of patients to folds: a random draw as even as any, and its proof.

Balanced are, each as far as all before it allow:

1. patients a fold;
2. images a fold: those of the largest fold less those of the smallest;
3. for one column after another: patients of a stratum more than one above or below its even share in a fold;
4. for one column after another: patients of a stratum outside the floor and ceiling of its even share in a fold.

A seeded random draw, improved by simulated annealing, is nearly always a best assignment already. Arithmetic proves it:
no fold can be nearer to its share than the next whole number. An assignment that is not proven so goes to integer
programming (HiGHS), which finds a better one or proves that there is none. The program counts how many patients of each
type (as many images, the same strata) go to each fold, which keeps it small. Then swaps draw one of the equally good
assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

Ints = npt.NDArray[np.int64]

_ANNEALING_SWAPS_PER_PATIENT = 300
_SETTLING_SWAPS_PER_PATIENT = 100
_MAX_DRAWS = 5
"""The first draw that arithmetic proves best is taken, else the best."""
_START_TEMPERATURE = 0.5
"""In squared patients: a stratum one patient off its share is left and found again."""
_MAX_NODES_TIMES_VARIABLES = 200_000
"""Branch-and-bound nodes of all programs, times their variables. A limit of time instead would make the folds depend on
the machine's load."""
_MAX_VARIABLES = 4000
"""A larger program would spend minutes before its first node; the draw then stays, and its gap says so."""
_INFEASIBLE = 2  # a status of scipy.optimize.milp


def assign(features: Ints, count: int, rng: np.random.Generator) -> tuple[Ints, float]:
    """Assign patients to folds.

    Args:
        features: `(P, 1 + C)`: each patient's number of images, then the number of their stratum (from 0) in each of C
            columns.
        count: The number of folds.
        rng: The source of all random draws.

    Returns:
        The fold of each patient `(P,)` from 0 to count - 1, and the gap: the largest share of a balanced quantity that
        might still be avoidable, (attained - proven) / attained; 0 is proven best.
    """
    types, type_of = np.unique(features, axis=0, return_inverse=True)
    program = _Program(types, np.bincount(type_of), count)
    draws: list[tuple[tuple[int, ...], Ints, Ints]] = []
    for _ in range(_MAX_DRAWS):
        fold = rng.permutation(np.arange(len(features)) % count)
        _anneal(fold, features, program, rng)
        _settle(fold, features, program, rng)
        drawn = np.zeros((len(types), count), np.int64)
        np.add.at(drawn, (type_of, fold), 1)
        draws.append((program.quality(drawn), drawn, fold))
        if draws[-1][0] == program.ideal:
            break
    _, drawn, fold = min(draws, key=lambda draw: draw[0])
    counts, gap = program.improve(drawn)
    if counts is not drawn:
        for kind, in_fold in enumerate(counts):
            fold[rng.permutation(np.flatnonzero(type_of == kind))] = np.repeat(np.arange(count), in_fold)
        _settle(fold, features, program, rng)
        fold = rng.permutation(count)[fold]
    return fold, gap


# ---- the program ------------------------------------------------------------------------------------


class _Program:
    """The integer program: how many patients of each type go to each fold.

    `types (T, 1 + C)` are the images of a patient, then the number of their stratum in each of C columns; `num (T,)`
    patients are of each type. The quality of an answer is a tuple to be minimised, its earlier entries first: the
    spread of images over folds; for each column the patients further than one from their stratum's even share; for each
    column those outside its floor and ceiling.
    """

    def __init__(self, types: Ints, num: Ints, count: int) -> None:
        self.num, self.count, self.images = num, count, types[:, 0]
        self.patients_in = np.array([num.sum() // count + (k < num.sum() % count) for k in range(count)])
        self.members = [  # for each column (S, T): whether a type is in a stratum
            (types[:, c] == np.arange(types[:, c].max() + 1)[:, None]).astype(np.int64)
            for c in range(1, types.shape[1])
        ]
        outside = [[self._outside(int(size)) for size in member @ num] for member in self.members]
        beyond = [
            [np.maximum(0, cost - (size % count == 0)) for cost, size in zip(costs, member @ num, strict=True)]
            for costs, member in zip(outside, self.members, strict=True)
        ]
        self.costs = beyond + outside
        """For each entry of the quality after the first, and each stratum: the cost of 0, 1, … patients in a fold."""
        self.ideal = (int(self.images @ num % count > 0), *(0 for _ in self.costs))
        """A lower bound of the quality, by arithmetic alone."""

    def _outside(self, size: int) -> Ints:
        number = np.arange(size + 1)
        return np.maximum(0, np.maximum(number - -(-size // self.count), size // self.count - number))

    def quality(self, counts: Ints) -> tuple[int, ...]:
        """Return the quality of `counts (T, K)`."""
        images = self.images @ counts
        columns = (
            sum(int(costs[cells].sum()) for costs, cells in zip(strata, member @ counts, strict=True))
            for strata, member in zip(self.costs, self.members * 2, strict=True)
        )
        return int(images.max() - images.min()), *columns

    def improve(self, counts: Ints) -> tuple[Ints, float]:
        """Return the best counts `(T, K)` and the gap; `counts` itself if none is better.

        The entries of the quality are improved one after another. An entry at its lower bound is done. Else a program
        looks for a lesser value, and proves, by finding none, that there is none. The value that an entry attains is a
        constraint of the next programs.
        """
        gap = 0.0
        if self.quality(counts) == self.ideal:
            return counts, gap
        objectives, bounds, *constraints = self._build()
        num_variables = len(objectives[0])
        nodes = _MAX_NODES_TIMES_VARIABLES // num_variables if num_variables <= _MAX_VARIABLES else 0
        for step, objective in enumerate(objectives):
            attained, proven = self.quality(counts)[step], self.ideal[step]
            if attained > proven and nodes > 0:
                answer = milp(
                    objective,
                    integrality=np.ones(len(objective)),
                    bounds=bounds,
                    constraints=[*constraints, LinearConstraint(objective[None, :], -np.inf, attained - 1)],
                    options={"node_limit": nodes, "mip_rel_gap": 0.0},
                )
                nodes -= answer.mip_node_count or 0
                if answer.x is not None:
                    counts = np.rint(answer.x[: counts.size]).astype(np.int64).reshape(counts.shape)
                    attained = self.quality(counts)[step]
                if answer.status == _INFEASIBLE:
                    proven = attained
                elif answer.mip_dual_bound is not None and np.isfinite(answer.mip_dual_bound):
                    proven = max(proven, int(np.ceil(answer.mip_dual_bound - 1e-6)))
            gap = max(gap, (attained - proven) / max(attained, 1))
            constraints.append(LinearConstraint(objective[None, :], -np.inf, attained))
        return counts, gap

    def _build(self) -> tuple[list[npt.NDArray[np.float64]], Bounds, LinearConstraint]:
        """Return an objective for each entry of the quality, bounds and constraints.

        Groups of variables: x `(T, K)`; most images of a fold; fewest; then for each column, `(S, K)` each, the
        patients outside floor and ceiling, and those further than one from the even share.
        """
        num_types, count = len(self.num), self.count
        total = int(self.images @ self.num)
        identity = sparse.eye_array(count, format="csr")
        images = sparse.kron(self.images[None, :], identity, format="csr")  # (K, T K): a fold's images
        one = np.ones((count, 1))
        # Folds with as many patients are interchangeable: only those in descending order of images are searched.
        alike = np.flatnonzero(self.patients_in[:-1] == self.patients_in[1:])
        rows: list[tuple[dict[int, Any], Any, Any]] = [
            ({0: sparse.kron(sparse.eye_array(num_types), one.T)}, self.num, self.num),
            ({0: sparse.kron(np.ones((1, num_types)), identity)}, self.patients_in, self.patients_in),
            ({0: images, 1: -one}, -np.inf, 0),
            ({0: images, 2: -one}, 0, np.inf),
        ]
        if len(alike):
            rows.append(({0: images[alike] - images[alike + 1]}, 0, np.inf))
        sizes = [num_types * count, 1, 1]
        lower: list[npt.ArrayLike] = [np.zeros(sizes[0]), [-(-total // count)], [0]]
        upper: list[npt.ArrayLike] = [np.repeat(self.num, count), [total], [total // count]]
        spread, beyond, outside = {1: 1, 2: -1}, [], []
        for member in self.members:
            strata = np.repeat(member @ self.num, count)
            out, far = len(sizes), len(sizes) + 1
            cells = sparse.kron(member, identity)
            slack = sparse.eye_array(len(strata))
            rows += [
                ({0: cells, out: -slack}, -np.inf, -(-strata // count)),
                ({0: cells, out: slack}, strata // count, np.inf),
                ({out: slack, far: -slack}, -np.inf, strata % count == 0),
            ]
            sizes += [len(strata)] * 2
            lower += [np.zeros(len(strata))] * 2
            upper += [strata] * 2
            beyond.append({far: 1})
            outside.append({out: 1})
        matrix = sparse.block_array([[blocks.get(group) for group in range(len(sizes))] for blocks, _, _ in rows])
        heights = [next(iter(blocks.values())).shape[0] for blocks, _, _ in rows]
        low = np.concatenate([np.broadcast_to(low, height) for (_, low, _), height in zip(rows, heights, strict=True)])
        high = np.concatenate(
            [np.broadcast_to(high, height) for (_, _, high), height in zip(rows, heights, strict=True)]
        )
        return (
            [
                np.repeat([float(weights.get(g, 0)) for g in range(len(sizes))], sizes)
                for weights in (spread, *beyond, *outside)
            ],
            Bounds(np.concatenate(lower), np.concatenate(upper)),
            LinearConstraint(matrix.tocsr(), low, high),
        )


# ---- random swaps -----------------------------------------------------------------------------------


def _anneal(fold: Ints, features: Ints, program: _Program, rng: np.random.Generator) -> None:
    """Bring every count near its even share, in place, by simulated annealing.

    The energy is the sum of squared distances.
    """
    share = features[:, 0].sum() / program.count
    tables = [
        [(np.arange(size + 1) - size / program.count) ** 2 for size in member @ program.num]
        for member in program.members
    ]
    _swap(
        fold,
        features,
        tables,
        lambda totals: sum((t - share) ** 2 for t in totals),
        _ANNEALING_SWAPS_PER_PATIENT,
        _START_TEMPERATURE,
        rng,
    )


def _settle(fold: Ints, features: Ints, program: _Program, rng: np.random.Generator) -> None:
    """Swap, in place, unless an entry of the quality gets worse for a later one.

    Among assignments of one quality this is a symmetric random walk: in the long run all are equally likely.
    """
    weight = 1
    tables = [[[0] * (size + 1) for size in member @ program.num] for member in program.members]
    for entry, costs in reversed(list(enumerate(program.costs))):
        column = tables[entry % len(tables)]
        for table, cost in zip(column, costs, strict=True):
            table[:] = [energy + weight * int(step) for energy, step in zip(table, cost, strict=True)]
        weight *= 1 + sum(program.count * int(cost.max()) for cost in costs)  # more than this entry can be
    _swap(
        fold,
        features,
        tables,
        lambda totals: weight * int(max(totals) - min(totals)),
        _SETTLING_SWAPS_PER_PATIENT,
        0.0,
        rng,
    )


def _swap(
    fold: Ints,
    features: Ints,
    tables: Sequence[Sequence[Sequence[float]]],
    images_energy: Callable[[list[int]], float],
    swaps_per_patient: int,
    temperature: float,
    rng: np.random.Generator,
) -> None:
    """Swap pairs of patients between their folds, in place (Metropolis).

    The temperature falls to 0. The energy is `images_energy` of the folds' images, plus `tables[column][stratum][n]`
    for each stratum and fold with n patients.
    """
    num_patients, count = len(fold), int(fold.max()) + 1
    images, strata, where = features[:, 0].tolist(), features[:, 1:].tolist(), fold.tolist()
    tables = [[list(table) for table in column] for column in tables]
    totals = np.bincount(fold, weights=features[:, 0], minlength=count).astype(int).tolist()
    cells = [
        [np.bincount(fold[features[:, 1 + c] == s], minlength=count).tolist() for s in range(len(column))]
        for c, column in enumerate(tables)
    ]
    energy = images_energy(totals)
    num_swaps = swaps_per_patient * num_patients
    pairs = rng.integers(num_patients, size=(num_swaps, 2)).tolist()
    allowed = (temperature * np.linspace(1, 0, num_swaps) * rng.standard_exponential(num_swaps)).tolist()
    for (i, j), limit in zip(pairs, allowed, strict=True):
        a, b = where[i], where[j]
        if a == b:
            continue
        moved = images[j] - images[i]
        totals[a] += moved
        totals[b] -= moved
        after = images_energy(totals) if moved else energy
        change = after - energy
        for s, t, cell, table in zip(strata[i], strata[j], cells, tables, strict=True):
            if s != t:
                leaving, coming, of_s, of_t = table[s], table[t], cell[s], cell[t]
                change += leaving[of_s[a] - 1] - leaving[of_s[a]] + leaving[of_s[b] + 1] - leaving[of_s[b]]
                change += coming[of_t[b] - 1] - coming[of_t[b]] + coming[of_t[a] + 1] - coming[of_t[a]]
        if change > limit:
            totals[a] -= moved
            totals[b] += moved
            continue
        where[i], where[j], energy = b, a, after
        for s, t, cell in zip(strata[i], strata[j], cells, strict=True):
            if s != t:
                cell[s][a] -= 1
                cell[s][b] += 1
                cell[t][b] -= 1
                cell[t][a] += 1
    fold[:] = where
