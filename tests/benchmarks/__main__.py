"""Side-by-side figures: `python -m tests.benchmarks [GROUP…] [--full]`.

speed (`make bench`, at most 15 minutes; `make bench-full`, at most an hour): folds, metrics, one cross-validation.
search (`make bench-search`): stopping rules replayed, searches without a signal, what a trial costs, a long search.
statistics (`make bench-statistics`): how often two equal models are told apart.
recipe: what pretrained weights, augmentation and the rest bring, by five folds of real images.
networks: seven networks in one study, killed on the way, from `cv` to `predict`.
gpu: folds on one GPU, packed in several ways, beside the plain loop; where there is a GPU.

Every ratio compares whole commands or functions run one after the other in this very run.
"""

from __future__ import annotations

import argparse

from tests.benchmarks import (
    cross_validation,
    false_positives,
    folds,
    gpu,
    long_search,
    metrics,
    networks,
    no_signal,
    racing,
    recipe,
    trials,
)


def speed(full: bool) -> None:
    folds.run()
    metrics.run(full)
    cross_validation.run(full)


def search(full: bool) -> None:
    racing.run(600 if full else 60)
    no_signal.run(200 if full else 20)
    trials.run()
    long_search.run(1000 if full else 50)


def statistics(full: bool) -> None:
    false_positives.run(1000 if full else 100)


GROUPS = {
    "speed": speed,
    "search": search,
    "statistics": statistics,
    "recipe": recipe.run,
    "networks": networks.run,
    "gpu": gpu.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--full", action="store_true", help="15 epochs and U-Net too; all simulated studies; all steps")
    chosen = parser.parse_args()
    for group in chosen.groups or ["speed"]:
        GROUPS[group](chosen.full)


if __name__ == "__main__":
    main()
