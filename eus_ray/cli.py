"""The command line: parse, call, print. What a command needs is imported inside it, so that `--help`
and refusals answer at once."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from eus_ray.config import UserError, nearest
from eus_ray.study_file import PRESETS, load_study

if TYPE_CHECKING:
    import pandas as pd

    from eus_ray.runs import Outcome

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "'" in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            choices = message.split("choose from ")[1].rstrip(")").replace("'", "").split(", ")
            message = f"{wrong}: no such choice{nearest(wrong, choices)}"
        self.exit(2, f"eus-ray: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0, 2 on a user's mistake, 1 on a fault of ours, 130 when interrupted."""
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args) or 0)
    except UserError as error:
        for line in error.lines:
            print(f"eus-ray: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("eus-ray: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does
        sys.stderr.close()
        return 0
    except Exception as error:
        traceback.print_exc()
        print(f"eus-ray: a fault of eus-ray, not yours: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


# ---- the commands -------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    from eus_ray.demo import run_demo

    print(f"report: {run_demo(_absolute(args.out))}")
    return 0


def _phantom(args: argparse.Namespace) -> int:
    from eus_ray.data.phantom import make_phantom

    manifest = make_phantom(
        _absolute(args.folder),
        patients=args.patients,
        images=args.images,
        seed=args.seed,
        videos=args.video,
        cancer_free=args.cancer_free,
        size=args.size,
    )
    print(f"synthetic EUS: {args.images} images of {args.patients} patients in {manifest}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from eus_ray.analysis.tables import table1
    from eus_ray.data.manifest import read_manifest

    manifest = read_manifest(_absolute(args.manifest))
    frame = manifest.frame
    empty = int((frame["lesion_share"] == 0).sum())
    print(f"{manifest.path}: {len(frame)} images of {frame['patient_id'].nunique()} patients, nothing wrong")
    print(f"images without a lesion: {empty}; near-duplicates within a patient: {manifest.near_duplicates_within}")
    for warning in manifest.warnings:
        print(f"warning: {warning}")
    _print_table(table1(frame), "Table 1. Patients")
    return 0


def _import(args: argparse.Namespace) -> int:
    from eus_ray.data.importers import import_dataset

    imported = import_dataset(args.format, _absolute(args.source), _absolute(args.folder))
    print(f"imported into {imported.manifest}")
    for note in imported.notes:
        print(f"note: {note}")
    return 0


def _folds(args: argparse.Namespace) -> int:
    from eus_ray.data.folds import assign_folds, balance
    from eus_ray.data.manifest import read_manifest

    out = _absolute(args.out)
    manifest = read_manifest(_absolute(args.manifest))
    plan = assign_folds(manifest.frame, args.count, args.seed, args.stratify)
    _refuse_existing(out)
    assigned = manifest.frame[["image_id", "patient_id"]].assign(fold=plan.fold)
    assigned.insert(0, "image", [_relative(path, manifest.path.parent) for path in manifest.frame["image"]])
    _write_csv(assigned[["image", "patient_id", "fold"]], out)
    _print_table(balance(manifest.frame, plan.fold, args.stratify), "Folds")
    if plan.given:
        print("taken from the manifest's fold column")
    else:
        proven = "proven the best possible" if plan.gap == 0 else f"at most {plan.gap:.0%} from the best possible"
        print(f"balance: {proven}")
    print(f"written to {out}")
    return 0


def _cv(args: argparse.Namespace) -> int:
    from eus_ray.commands import run_cv

    study = load_study(args.study, preset=args.preset, models=args.models, overrides=args.set)
    out = _place(args.out)
    outcome = run_cv(study, out, resume=args.resume, address=args.address)
    if outcome.interrupted:
        print(f"interrupted; saved in {out}, and the same command with --resume goes on")
        return INTERRUPTED
    print(f"results in {out}; next: eus-ray analyze {out}")
    return _unfinished(outcome)


def _tune(args: argparse.Namespace) -> int:
    from eus_ray.commands import run_tune

    trials = [] if args.trials is None else [f"search.trials={args.trials}"]
    study = load_study(args.study, preset=args.preset, models=args.models, overrides=[*args.set, *trials])
    out, start_from = _place(args.out), None if args.start_from is None else _place(args.start_from)
    outcome, lines = run_tune(study, out, resume=args.resume, address=args.address, start_from=start_from)
    if outcome.interrupted:
        print(f"interrupted; saved in {out}, and the same command with --resume goes on")
        return INTERRUPTED
    for line in lines:
        print(line)
    print(f"results in {out}; next: eus-ray analyze {out}")
    return _unfinished(outcome)


def _unfinished(outcome: Outcome) -> int:
    """1, and a line, where some architecture did not come to its end."""
    unfinished = [model for model, state in outcome.states.items() if state != "complete"]
    if unfinished:
        print(f"eus-ray: not complete: {', '.join(unfinished)}; the reasons stand above", file=sys.stderr)
    return int(bool(unfinished))


def _replay(args: argparse.Namespace) -> int:
    from eus_ray.replay import run_replay

    table = run_replay(_place(args.source), args.rule, args.slots)
    _print_table(table, f"Stopping rules, replayed with {args.slots} at a time", digits=3)
    for note in table.attrs["notes"]:
        print(f"note: {note}")
    print("fold_epochs: share of those of all trials to their end; lost: value against stopping nothing")
    return 0


def _analyze(args: argparse.Namespace) -> int:
    from eus_ray.analysis.analyze import analyze

    print(f"report: {analyze(_place(args.source), None if args.out is None else _place(args.out))}")
    return 0


# ---- parsing ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="eus-ray",
        description="Which segmentation architecture is best on these ultrasound images, and how sure are we?",
        epilog="example: eus-ray cv study.toml --out STUDY && eus-ray analyze STUDY",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    demo = _command(commands, "demo", _demo, "the whole path on data made on the spot", "eus-ray demo --out demo")
    demo.add_argument("--out", default="eus-ray-demo", help="a new folder (default: %(default)s)")

    data = commands.add_parser("data", help="make, check or import a data set")
    below = data.add_subparsers(required=True, metavar="ACTION", parser_class=_Parser)
    phantom = _command(below, "phantom", _phantom, "synthetic EUS images with masks and clinical columns",
                       "eus-ray data phantom P --patients 150 --images 330 --seed 0")  # fmt: skip
    phantom.add_argument("folder", metavar="DIR")
    phantom.add_argument("--patients", type=int, default=150, help="(default: %(default)s)")
    phantom.add_argument("--images", type=int, default=330, help="(default: %(default)s)")
    phantom.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    phantom.add_argument(
        "--video", type=int, default=0, metavar="N", help="sequences in which the cancer comes into view"
    )
    phantom.add_argument("--cancer-free", type=int, default=0, metavar="N", help="additional frames without cancer")
    phantom.add_argument("--size", type=int, default=256, help="side of the images in pixels (default: %(default)s)")
    check = _command(below, "check", _check, "everything wrong with a data set at once, and its Table 1",
                     "eus-ray data check P/manifest.csv")  # fmt: skip
    check.add_argument("manifest", metavar="MANIFEST")
    import_ = _command(below, "import", _import, "a known layout of folders becomes a manifest",
                       "eus-ray data import busi Dataset_BUSI_with_GT BUSI")  # fmt: skip
    import_.add_argument("format", choices=("pairs", "nnunet", "busbra", "busi"))
    import_.add_argument("source", metavar="SRC")
    import_.add_argument("folder", metavar="DIR", help="a new folder that will hold copies and manifest.csv")

    folds = _command(commands, "folds", _folds, "assign whole patients to folds, evenly",
                     "eus-ray folds P/manifest.csv --count 5 --stratify t_stage,location --out folds.csv")  # fmt: skip
    folds.add_argument("manifest", metavar="MANIFEST")
    folds.add_argument("--count", type=int, default=5, help="number of folds (default: %(default)s)")
    folds.add_argument("--stratify", type=_listed, default=[], metavar="A,B", help="columns, or lesion_size")
    folds.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    folds.add_argument("--out", required=True, metavar="FILE", help="a new CSV: image, patient_id, fold")

    cv = _command(commands, "cv", _cv, "cross-validate one or more architectures",
                  "eus-ray cv study.toml --out STUDY --models unet,daf_net --set optim.lr=1e-4")  # fmt: skip
    _study_arguments(cv)

    tune = _command(commands, "tune", _tune, "search settings on the whole cross-validation, then train the best",
                    "eus-ray tune study.toml --out STUDY --models daf_net --trials 50")  # fmt: skip
    _study_arguments(tune)
    tune.add_argument("--trials", type=int, metavar="N", help="settings to try, of each architecture (search.trials)")
    tune.add_argument("--from", dest="start_from", metavar="OLD_STUDY", help="begin with the best settings of a study")

    replay = _command(commands, "replay", _replay, "what each stopping rule would have chosen and spent",
                      "eus-ray replay STUDY --rule racing:0.05 --rule asha:3 --rule none")  # fmt: skip
    replay.add_argument(
        "source", metavar="STUDY_OR_TABLE", help="a study folder, or a table with the columns of scores"
    )
    replay.add_argument("--rule", action="append", required=True, metavar="NAME:ARG", help="may be repeated")
    replay.add_argument("--slots", type=int, default=1, metavar="N", help="trials at once (default: %(default)s)")

    analyze = _command(commands, "analyze", _analyze, "metrics, tables, figures and one report",
                       "eus-ray analyze STUDY")  # fmt: skip
    analyze.add_argument("source", metavar="DIR_OR_TABLE", help="a study folder, or a table of per-image scores")
    analyze.add_argument("--out", metavar="DIR", help="default: the study's own report folder")
    return parser


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY.toml", nargs="?", help="may be left out where --set names the manifest")
    parser.add_argument("--out", required=True, metavar="DIR", help="the study folder, a path or a URI")
    parser.add_argument("--models", type=_listed, metavar="A,B", help="these architectures only")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field; may be repeated")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="settings that the study file then changes")
    parser.add_argument("--resume", action="store_true", help="go on with models that the folder holds already")
    parser.add_argument("--address", metavar="HOST:PORT", help="join this Ray cluster instead of starting one")


def _command(commands: Any, name: str, run: Any, about: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _absolute(path: str) -> Path:
    """Ray's workers have working folders of their own."""
    return Path(path).expanduser().absolute()


def _place(text: str) -> str | Path:
    """A study folder as it was given: a URI, or a path."""
    return text if "://" in text else _absolute(text)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path}: is there already; nothing is overwritten, choose another --out")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first, or choose another --out")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    from eus_ray.store import Store

    Store(path.parent).write_text(path.name, frame.to_csv(index=False))


def _relative(path: str, folder: Path) -> str:
    try:
        return Path(path).relative_to(folder).as_posix()
    except ValueError:
        return path


def _print_table(frame: pd.DataFrame, title: str, digits: int = 1) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(str(column))
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.{digits}f}" if isinstance(value, float) else str(value) for value in row))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
