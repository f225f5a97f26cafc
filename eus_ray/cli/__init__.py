"""The command line: parse, call, print. What a command needs is imported inside it, so that `--help`
and refusals answer at once."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from eus_ray.cli import analysis, data, training
from eus_ray.cli.parsing import INTERRUPTED, Parser
from eus_ray.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 0, 2 on a user's mistake, 1 on a fault of ours, 130 when interrupted."""
    try:
        args = parser().parse_args(argv)
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


def parser() -> Parser:
    """All commands, in the order of a user's work."""
    whole = Parser(
        prog="eus-ray",
        description="Which segmentation architecture is best on these ultrasound images, and how sure are we?",
        epilog="example: eus-ray cv study.toml --out STUDY && eus-ray analyze STUDY",
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for group in (training.add_demo, data.add, training.add, analysis.add):
        group(commands)
    return whole
