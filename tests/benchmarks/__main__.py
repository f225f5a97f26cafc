"""Side-by-side figures: `make bench` (minutes) and `make bench-full` (up to an hour).

Every ratio compares whole commands or functions run one after the other in this very run.
"""

from __future__ import annotations

import argparse

from tests.benchmarks import cross_validation, folds, no_signal, racing, trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="15 epochs and U-Net too; all simulated searches")
    full = parser.parse_args().full
    folds.run()
    racing.run(600 if full else 60)
    no_signal.run(200 if full else 20)
    trials.run()
    cross_validation.run(full)


if __name__ == "__main__":
    main()
