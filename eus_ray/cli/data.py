"""`data phantom`, `data check`, `data import` and `folds`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from eus_ray.cli.parsing import (
    Parser,
    absolute_path,
    add_command,
    comma_separated,
    print_lines,
    print_table,
    refuse_existing,
    write_csv,
)
from eus_ray.data.importers import format_names
from eus_ray.errors import UserError, collapsed


def add(commands: Any) -> None:
    """Add the commands that make, check and divide data."""
    data = commands.add_parser("data", help="make, check or import a data set")
    below = data.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    phantom = add_command(
        below,
        "phantom",
        _phantom,
        "make synthetic EUS images with masks and clinical columns",
        "eus-ray data phantom P --patients 150 --images 330 --seed 0",
    )
    phantom.add_argument("folder", type=absolute_path, metavar="DIR", help="a new folder")
    phantom.add_argument("--patients", type=int, default=150, help="(default: %(default)s)")
    phantom.add_argument("--images", type=int, default=330, help="(default: %(default)s)")
    phantom.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    phantom.add_argument(
        "--video", type=int, default=0, metavar="N", help="video sequences in which the cancer comes into view"
    )
    phantom.add_argument("--cancer-free", type=int, default=0, metavar="N", help="additional images without cancer")
    phantom.add_argument("--size", type=int, default=256, help="side of the images in pixels (default: %(default)s)")
    phantom.add_argument(
        "--colour", action="store_true", help="RGB images, with lesions that differ in hue alone (data.channels = rgb)"
    )
    check = add_command(
        below,
        "check",
        _check,
        "list everything that is wrong with a data set, and print its Table 1",
        "eus-ray data check P/manifest.csv",
    )
    check.add_argument("manifest", type=absolute_path, metavar="MANIFEST")
    _add_duplicates(check)
    import_ = add_command(
        below,
        "import",
        _import,
        "make a manifest from a known folder layout",
        "eus-ray data import busi Dataset_BUSI_with_GT BUSI",
    )
    import_.add_argument("format", choices=format_names())
    import_.add_argument("source", type=absolute_path, metavar="SRC", help="the folder to import")
    import_.add_argument("folder", type=absolute_path, metavar="DIR", help="a new folder, for copies and manifest.csv")
    import_.add_argument(
        "--pseudonymise",
        type=absolute_path,
        metavar="KEY_FILE",
        help="replace patients' and images' names by keyed hashes; a missing key file is made",
    )

    folds = add_command(
        commands,
        "folds",
        _folds,
        "assign whole patients to folds, evenly",
        "eus-ray folds P/manifest.csv --count 5 --stratify t_stage,location --out folds.csv",
    )
    folds.add_argument("manifest", type=absolute_path, metavar="MANIFEST")
    folds.add_argument("--count", type=int, default=5, help="number of folds (default: %(default)s)")
    folds.add_argument(
        "--stratify", type=comma_separated, default=[], metavar="A,B", help="clinical columns, or lesion_size"
    )
    folds.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    _add_duplicates(folds)
    folds.add_argument(
        "--out", type=absolute_path, required=True, metavar="FILE", help="a new CSV: image, patient_id, fold"
    )


def _add_duplicates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--duplicates",
        choices=("stop", "warn"),
        default="stop",
        help="if two patients share a picture (default: %(default)s)",
    )


def _phantom(args: argparse.Namespace) -> None:
    from eus_ray.data.phantom.dataset import make_phantom

    manifest = make_phantom(
        args.folder,
        patients=args.patients,
        images=args.images,
        seed=args.seed,
        videos=args.video,
        cancer_free=args.cancer_free,
        size=args.size,
        colour=args.colour,
    )
    print(f"synthetic EUS: {args.images} images of {args.patients} patients in {manifest}")


def _check(args: argparse.Namespace) -> None:
    from eus_ray.analysis.comparison.paper_tables import table1
    from eus_ray.data.manifest import read_manifest

    manifest = read_manifest(args.manifest, args.duplicates)
    frame = manifest.frame
    empty = int((frame["lesion_share"] == 0).sum())
    odd = f"no defect, warnings: {len(manifest.warnings)}" if manifest.warnings else "nothing wrong"
    print(f"{manifest.path}: {len(frame)} images of {frame['patient_id'].nunique()} patients, {odd}")
    print(f"images without a lesion: {empty}; near-duplicates within a patient: {manifest.near_duplicates_within}")
    print_lines([*manifest.warnings, *manifest.training_warnings()], "warning: ")
    print_table(table1(frame), "Table 1. Patients")


def _import(args: argparse.Namespace) -> None:
    from eus_ray.data.importers import import_dataset
    from eus_ray.data.pseudonyms import Pseudonyms, read_key

    pseudonyms = None
    if args.pseudonymise is not None:
        if args.pseudonymise.is_relative_to(args.folder):
            raise UserError(f"{args.pseudonymise}: lies in the folder that is to be shared; keep the key elsewhere")
        pseudonyms = Pseudonyms(read_key(args.pseudonymise))
    imported = import_dataset(args.format, args.source, args.folder, pseudonyms)
    print(f"{imported.num_images} images of {imported.num_patients} patients imported into {imported.manifest}")
    print_lines(collapsed(imported.notes), "note: ")


def _folds(args: argparse.Namespace) -> None:
    import pandas as pd

    from eus_ray.data.manifest import read_manifest
    from eus_ray.data.splits import assign_folds, balance

    manifest = read_manifest(args.manifest, args.duplicates)
    plan = assign_folds(manifest.frame, args.count, args.seed, args.stratify)
    refuse_existing(args.out)
    folder = manifest.path.parent.resolve()
    images = [_relative(path, folder) for path in manifest.frame["image"]]
    write_csv(pd.DataFrame({"image": images, "patient_id": manifest.frame["patient_id"], "fold": plan.fold}), args.out)
    print_lines(manifest.warnings, "warning: ")
    print_table(balance(manifest.frame, plan.fold, args.stratify), "Folds")
    if plan.given:
        print("taken from the manifest's fold column")
    else:
        proven = "proven the best possible" if plan.gap == 0 else f"at most {plan.gap:.0%} from the best possible"
        print(f"balance: {proven}")
    print(f"written to {args.out}")


def _relative(path: str, folder: Path) -> str:
    image = Path(path)
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else path
