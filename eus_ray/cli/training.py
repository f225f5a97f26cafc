"""The commands `demo`, `cv`, `tune`, `plan`, `launch`, `status` and `replay`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from eus_ray.cli.launch.launch import add_launch_parser
from eus_ray.cli.parsing import (
    INTERRUPTED,
    absolute_path,
    add_command,
    add_quiet,
    add_settings_arguments,
    duration,
    location,
    print_lines,
    print_table,
    print_warnings,
    read_study,
    shown,
)
from eus_ray.errors import UserError

if TYPE_CHECKING:
    from eus_ray.study.cross_validate import Outcome


_MAX_TRIALS_SHOWN = 12
"""In the table of `status`; the others are counted."""


def add_demo(commands: Any) -> None:
    """Add the first thing to try."""
    demo = add_command(commands, "demo", _demo, "the whole path on data made on the spot", "eus-ray demo --out demo")
    demo.add_argument("--out", type=absolute_path, default="eus-ray-demo", help="a new folder (default: %(default)s)")
    add_quiet(demo)


def add(commands: Any) -> None:
    """Add the commands that train."""
    cv = add_command(
        commands,
        "cv",
        _cv,
        "cross-validate one or more models",
        "eus-ray cv study.toml --out STUDY --models unet,daf_net --set optim.lr=1e-4",
    )
    _study_arguments(cv)

    tune = add_command(
        commands,
        "tune",
        _tune,
        "search settings on the whole cross-validation, then train the best",
        "eus-ray tune study.toml --out STUDY --models daf_net --trials 50",
    )
    _study_arguments(tune)
    tune.add_argument("--trials", type=int, metavar="N", help="settings to try, of each model (search.trials)")
    tune.add_argument(
        "--from",
        type=location,
        dest="start_from",
        metavar="OLD_STUDY",
        help="begin with the best settings of a study",
    )

    plan = add_command(
        commands,
        "plan",
        _plan,
        "how folds and trials would lie on the machines, and for how long",
        "eus-ray plan study.toml --nodes 2 --gpus 4 --cpus 32",
    )
    _settings_arguments(plan)
    plan.add_argument("--nodes", type=int, default=1, metavar="N", help="machines (default: %(default)s)")
    plan.add_argument("--gpus", type=float, metavar="N", help="GPUs of each machine (default: those of this one)")
    plan.add_argument("--cpus", type=float, metavar="N", help="cores of each machine (default: those of this one)")
    plan.add_argument("--address", metavar="HOST:PORT", help="take the machines of this Ray cluster instead")

    add_launch_parser(commands)

    status = add_command(
        commands, "status", _status, "how a study is getting on, while it runs or afterwards", "eus-ray status STUDY"
    )
    status.add_argument("folder", type=location, metavar="STUDY", help="a study folder, a path or a URI")

    replay = add_command(
        commands,
        "replay",
        _replay,
        "what each stopping rule would have chosen and spent",
        "eus-ray replay STUDY --rule racing:0.05 --rule asha:3 --rule none",
    )
    replay.add_argument(
        "source",
        type=location,
        metavar="STUDY_OR_TABLE",
        help="a study folder, or a table with the columns of scores",
    )
    replay.add_argument("--rule", action="append", required=True, metavar="NAME:ARG", help="may be repeated")
    replay.add_argument("--slots", type=int, default=1, metavar="N", help="trials at once (default: %(default)s)")


def _settings_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY.toml", nargs="?", help="may be left out where --set names the manifest")
    add_settings_arguments(parser)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _settings_arguments(parser)
    parser.add_argument("--out", type=location, required=True, metavar="DIR", help="the study folder, a path or a URI")
    parser.add_argument("--resume", action="store_true", help="go on with models that the folder holds already")
    parser.add_argument("--address", metavar="HOST:PORT", help="join this Ray cluster instead of starting one")
    add_quiet(parser)


def _demo(args: argparse.Namespace) -> None:
    from eus_ray.cli.demo import run_demo

    print(f"report: {run_demo(args.out, quiet=args.quiet)}")


def _cv(args: argparse.Namespace) -> int:
    from eus_ray.study.cross_validate import cross_validate

    return _train(args, cross_validate)


def _tune(args: argparse.Namespace) -> int:
    from eus_ray.api import tune

    return _train(args, partial(tune, start_from=args.start_from))


def _train(args: argparse.Namespace, run: Callable[..., Outcome]) -> int:
    """Run a study with live progress, and print how it ended and where its results are."""
    from eus_ray.cli.progress.study import StudyProgress
    from eus_ray.cli.terminal import open_console

    study, out = read_study(args), shown(args.out)
    with StudyProgress(study, open_console(quiet=args.quiet)) as progress:
        outcome = run(study, args.out, resume=args.resume, address=args.address, callbacks=[progress])
    if outcome.is_interrupted:
        print(f"interrupted; saved in {out}, and the same command with --resume goes on")
        return INTERRUPTED
    print_lines(outcome.headline)
    print(f"results in {out}; next: eus-ray analyze {out}")
    if unfinished := outcome.unfinished:
        print(f"eus-ray: not complete: {', '.join(unfinished)}; the reasons stand above", file=sys.stderr)
    return int(bool(unfinished))


def _plan(args: argparse.Namespace) -> None:
    from eus_ray.config_file import without_effect
    from eus_ray.study.planning import plan_study

    study = read_study(args)
    if args.address is not None and not (args.gpus is args.cpus is None and args.nodes == 1):
        raise UserError("--address takes the cluster's machines; leave --nodes, --gpus and --cpus out")
    for title, plan in plan_study(study, args.nodes, args.cpus, args.gpus, args.address).items():
        print(f"{title}: {plan.text}")
        if plan.seconds is not None:
            print(f"  about {duration(plan.seconds)}{', less what racing saves' if title == 'tune' else ''}")
        print_lines(plan.warnings, "  note: ")
    print_warnings(without_effect(study))


def _status(args: argparse.Namespace) -> None:
    import pandas as pd

    from eus_ray.store import Store
    from eus_ray.study.status import in_words, read_status

    status = read_status(Store(args.folder))
    print(f"{status.location}: {f'run by {status.owner}' if status.owner else 'no run writes here now'}")
    print_lines(in_words(status))
    if trials := status.worth_showing(_MAX_TRIALS_SHOWN):
        rows = [
            {
                "model": trial.model,
                "trial": trial.trial,
                "kind": trial.kind,
                "state": trial.state,
                "folds": trial.folds_done,
                "fold-epochs": f"{trial.num_fold_epochs}/{trial.max_fold_epochs}",
                "DSC": "" if trial.monitor_dsc is None else f"{trial.monitor_dsc:.3f} ({trial.monitor_split})",
                "left": "" if trial.left_s is None else f"about {duration(trial.left_s)}",
                "why": trial.reason,
            }
            for trial in trials
        ]
        print_table(pd.DataFrame(rows), f"Trials ({len(trials)} of {len(status.trials)})")


def _replay(args: argparse.Namespace) -> None:
    from eus_ray.search.replay import run_replay

    table = run_replay(args.source, args.rule, args.slots)
    print_table(table, f"Stopping rules, replayed with {args.slots} at a time", digits=3)
    print_lines(table.attrs["notes"], "note: ")
    print("fold_epochs: share of those of all trials to their end; lost: value against stopping nothing")
