"""The command line: parse, call, print.

Each command imports what it needs inside its own function, so that `--help` and refusals answer at once.
"""

from __future__ import annotations

import argparse
import errno
import platform
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from eus_ray.cli import analysis, data, model, training
from eus_ray.cli.parsing import INTERRUPTED, Parser, with_options
from eus_ray.cli.terminal import discard, flush_streams, ready_streams
from eus_ray.errors import UserError, collapsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The words after `eus-ray`; those of this process by default.

    Returns:
        0, or 2 after a user's mistake, 1 after a fault of eus-ray or an unfinished study, 130 after an interruption.
    """
    ready_streams()
    try:
        return _run(argv)
    finally:
        flush_streams()


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
        return int(args.run(args) or 0)
    except UserError as error:
        for line in collapsed(error.lines):
            print(f"eus-ray: {with_options(line)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("eus-ray: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does
        discard(sys.stdout)
        discard(sys.stderr)
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # files are written by `Store`, which says where
            discard(sys.stdout)
            print(f"eus-ray: the output cannot be written ({error.strerror})", file=sys.stderr)
            return 1
        traceback.print_exc()
        print(f"eus-ray: a fault of eus-ray, not yours: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def parser() -> Parser:
    """Return the parser of all commands, which `--help` lists in the order of a user's work."""
    whole = Parser(
        prog="eus-ray",
        description="Which segmentation architecture is best on these ultrasound images, and how sure are we?",
        epilog="example: eus-ray cv study.toml --out STUDY && eus-ray analyze STUDY",
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the versions of eus-ray and its libraries")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for group in (training.add_demo, data.add, model.add, training.add, analysis.add):
        group(commands)
    return whole


class _Version(argparse.Action):
    """Prints one line for a bug report; the libraries themselves are not imported."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        distributions = {"Ray": "ray", "PyTorch": "torch", "Optuna": "optuna"}
        libraries = ", ".join(f"{title} {_version(name)}" for title, name in distributions.items())
        print(f"eus-ray {_version('eus-ray')} (Python {platform.python_version()}, {libraries})")
        parser.exit()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
