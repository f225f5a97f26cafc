"""`predict`, `analyze`, `evaluate` and `audit`."""

from __future__ import annotations

import argparse
from typing import Any

from eus_ray.cli.parsing import (
    absolute_path,
    add_allow_module,
    add_command,
    add_quiet,
    location,
    print_lines,
    print_warnings,
    shown,
    with_options,
)


def add(commands: Any) -> None:
    """Add the commands that predict, measure, test and report."""
    predict = add_command(
        commands,
        "predict",
        _predict,
        "segment new images and videos with the trained ensemble",
        "eus-ray predict STUDY new_images sweep.mp4 --out predicted",
    )
    predict.add_argument(
        "study", type=location, metavar="STUDY", help="a study folder with a trained model, a path or a URI"
    )
    predict.add_argument("sources", type=absolute_path, nargs="+", metavar="IMAGE|FOLDER|VIDEO|MANIFEST")
    predict.add_argument(
        "--out",
        type=location,
        required=True,
        metavar="DIR",
        help="a new folder, for masks, maps, overlays and areas.csv",
    )
    predict.add_argument("--model", metavar="NAME", help="the model (default: the one with the best headline DSC)")
    add_allow_module(predict)
    add_quiet(predict)

    analyze = add_command(
        commands,
        "analyze",
        _analyze,
        "compute metrics, statistics, tables, figures and one report",
        "eus-ray analyze STUDY",
    )
    analyze.add_argument(
        "source", type=location, metavar="DIR_OR_TABLE", help="a study folder, or a table of per-image scores"
    )
    analyze.add_argument("--out", type=location, metavar="DIR", help="a folder (default: report in the study folder)")
    add_quiet(analyze)

    evaluate = add_command(
        commands,
        "evaluate",
        _evaluate,
        "compute per-image metrics of mask files from any tool",
        "eus-ray evaluate nnunet/predictions masks --manifest manifest.csv --out scores.csv",
    )
    evaluate.add_argument(
        "predictions", type=absolute_path, metavar="PREDICTIONS", help="a folder of masks: PNG, TIFF, BMP or .npy"
    )
    evaluate.add_argument(
        "truths", type=absolute_path, metavar="TRUTHS", help="the folder with the true masks, of the same names"
    )
    evaluate.add_argument(
        "--out",
        type=absolute_path,
        required=True,
        metavar="FILE",
        help="a new .csv or .parquet file, for eus-ray analyze",
    )
    evaluate.add_argument(
        "--model", metavar="NAME", help="the model's name (default: the name of the predictions' folder)"
    )
    evaluate.add_argument(
        "--manifest", type=absolute_path, metavar="FILE", help="patients, folds, spacing and clinical columns"
    )
    evaluate.add_argument("--label", type=int, metavar="V", help="the lesion's value, if masks have several")
    evaluate.add_argument("--probability", action="store_true", help="predictions are probabilities; computes AUC too")
    evaluate.add_argument(
        "--unpaired",
        choices=("stop", "skip"),
        default="stop",
        help="names that only one folder has (default: %(default)s)",
    )
    add_quiet(evaluate)

    audit = add_command(
        commands,
        "audit",
        _audit,
        "find numbers in a published table that cannot be right",
        "eus-ray audit statements.csv",
    )
    audit.add_argument(
        "table",
        type=absolute_path,
        metavar="TABLE.csv",
        help="one row per number, with the columns table, group, metric, value, sd, n and unit",
    )


def _predict(args: argparse.Namespace) -> None:
    from eus_ray.cli.progress.bars import Bars
    from eus_ray.cli.terminal import open_console
    from eus_ray.inference.predict import predict

    with Bars("images", open_console(quiet=args.quiet)) as bars:
        found = predict(
            args.study,
            args.sources,
            args.out,
            model=args.model,
            allow_modules=args.allow_modules,
            progress=lambda done, total: bars.update("predicting", done, total, ""),
            say=bars.say,
            warn=lambda line: print_warnings([line]),
        )
    frames = f" and {found.frames} video frames" if found.frames else ""
    print(f"{found.images} images{frames}, a lesion in {found.with_lesion}; results in {shown(args.out)}")


def _analyze(args: argparse.Namespace) -> None:
    from eus_ray.analysis.analyze import analyze

    report = analyze(args.source, args.out, warn=lambda line: print_warnings([line]))
    print(f"report: {report}")


def _evaluate(args: argparse.Namespace) -> None:
    from eus_ray.analysis.inputs.evaluate import evaluate
    from eus_ray.cli.progress.bars import Bars
    from eus_ray.cli.terminal import open_console

    with Bars("images", open_console(quiet=args.quiet, stderr=True), transient=True) as bars:
        evaluation = evaluate(
            args.predictions,
            args.truths,
            args.out,
            model=args.model,
            manifest=args.manifest,
            label=args.label,
            probability=args.probability,
            unpaired=args.unpaired,
            progress=lambda done, total: bars.update("measuring", done, total, ""),
        )
    print_lines(map(with_options, evaluation.notes), "note: ")
    frame = evaluation.frame
    print(f"{len(frame)} images, mean DSC {frame['dsc'].mean():.3f}; distances in {evaluation.unit}")
    print(f"written to {args.out}; next: eus-ray analyze {args.out}")


def _audit(args: argparse.Namespace) -> None:
    from eus_ray.analysis.audit import audit_lines

    print_lines(audit_lines(args.table, say=lambda line: print_warnings([line])))
