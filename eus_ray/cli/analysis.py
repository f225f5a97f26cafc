"""`predict`, `analyze`, `evaluate` and `audit`: what networks say, and what it is worth."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from eus_ray.cli.parsing import absolute, command, place, shown


def add(commands: Any) -> None:
    """The commands that measure, test and report."""
    predict = command(
        commands,
        "predict",
        _predict,
        "the trained ensemble on new images and video",
        "eus-ray predict STUDY new_images sweep.mp4 --out predicted",
    )
    predict.add_argument("study", metavar="STUDY", help="a study folder with a trained model, a path or a URI")
    predict.add_argument("places", nargs="+", metavar="IMAGE|FOLDER|VIDEO|MANIFEST")
    predict.add_argument("--out", required=True, metavar="DIR", help="a new folder: masks, maps, overlays, areas.csv")
    predict.add_argument("--model", metavar="ARCH", help="default: the one with the best headline DSC")

    analyze = command(
        commands, "analyze", _analyze, "metrics, statistics, tables, figures and one report", "eus-ray analyze STUDY"
    )
    analyze.add_argument("source", metavar="DIR_OR_TABLE", help="a study folder, or a table of per-image scores")
    analyze.add_argument("--out", metavar="DIR", help="default: the study's own report folder")

    evaluate = command(
        commands,
        "evaluate",
        _evaluate,
        "per-image metrics of mask files from any tool",
        "eus-ray evaluate nnunet/predictions masks --manifest manifest.csv --out scores.csv",
    )
    evaluate.add_argument("predictions", metavar="PREDICTIONS", help="a folder of masks: PNG, TIFF, BMP or .npy")
    evaluate.add_argument("truths", metavar="TRUTHS", help="the folder with the true masks, of the same names")
    evaluate.add_argument("--out", required=True, metavar="FILE", help="a new .csv or .parquet, for eus-ray analyze")
    evaluate.add_argument("--model", metavar="NAME", help="default: the name of the predictions' folder")
    evaluate.add_argument("--manifest", metavar="FILE", help="patients, folds, spacing and clinical columns")
    evaluate.add_argument(
        "--label", type=int, metavar="V", help="the value that is the lesion, where there are several"
    )
    evaluate.add_argument("--probability", action="store_true", help="predictions are probabilities: AUC too")
    evaluate.add_argument(
        "--unpaired", choices=("stop", "skip"), default="stop", help="names without partner (default: %(default)s)"
    )

    audit = command(commands, "audit", _audit, "what in a published table cannot be", "eus-ray audit statements.csv")
    audit.add_argument(
        "table", metavar="TABLE.csv", help="one row a statement: table, group, metric, value, sd, n, unit"
    )


def _predict(args: argparse.Namespace) -> int:
    from rich.console import Console

    from eus_ray.cli.progress.prediction import PredictProgress
    from eus_ray.inference.predict import predict

    out = place(args.out)
    with PredictProgress(Console(soft_wrap=True)) as progress:
        found = predict(place(args.study), [absolute(where) for where in args.places], out, progress, args.model)
    frames = f" and {found.frames} video frames" if found.frames else ""
    print(f"{found.images} images{frames}, a lesion in {found.with_lesion}; results in {shown(out)}")
    return 0


def _analyze(args: argparse.Namespace) -> int:
    from eus_ray.analysis.analyze import analyze

    print(f"report: {analyze(place(args.source), None if args.out is None else place(args.out))}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from eus_ray.analysis.inputs.evaluate import evaluate

    out = absolute(args.out)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("measuring", total=None)
        evaluation = evaluate(
            absolute(args.predictions),
            absolute(args.truths),
            out,
            model=args.model,
            manifest=None if args.manifest is None else absolute(args.manifest),
            label=args.label,
            probability=args.probability,
            unpaired=args.unpaired,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for note in evaluation.notes:
        print(f"note: {note}")
    frame = evaluation.frame
    print(f"{len(frame)} images, mean DSC {frame['dsc'].mean():.3f}; distances in {evaluation.unit}")
    print(f"written to {out}; next: eus-ray analyze {out}")
    return 0


def _audit(args: argparse.Namespace) -> int:
    from eus_ray.analysis.audit import audit_lines

    for line in audit_lines(absolute(args.table)):
        print(line)
    return 0
