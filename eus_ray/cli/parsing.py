"""Shared by the commands: reading arguments, and printing answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from eus_ray.config import Study
from eus_ray.config_file import PRESETS, load_study
from eus_ray.data import names
from eus_ray.errors import UserError, collapsed, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130
"""Exit code of a run that was interrupted and can be resumed: 128 and the number of SIGINT, as shells have it."""

_MAX_NAME_BYTES, _MAX_BYTES = 255, 4095
"""File systems take no longer names, and Linux no longer paths."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of the whole usage, and does not break examples."""

    def __init__(self, **options: Any) -> None:
        """Take what `ArgumentParser` takes, but for the formatter."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print the message with the nearest valid choice, and exit with 2."""
        if "invalid choice" in message and "'" in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            choices = message.split("choose from ")[1].rstrip(")").replace("'", "").split(", ")
            message = f"{wrong}: no such choice{did_you_mean(wrong, choices)}"
        self.exit(2, f"eus-ray: {message} (see {self.prog} --help)\n")


# ---- arguments ------------------------------------------------------------------------------------


def add_command(commands: Any, name: str, run: Any, about: str, example: str) -> argparse.ArgumentParser:
    """Add a command and return its parser.

    Args:
        commands: What `add_subparsers` returned.
        name: The command's name.
        run: The function that is called with the parsed arguments. It returns an exit code, or None for 0.
        about: What it does: an imperative without a capital letter and a full stop.
        example: A whole command line.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that change settings of a study file; `read_study` reads them."""
    parser.add_argument("--models", type=comma_separated, metavar="A,B", help="these models only")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field; may be repeated")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="settings that the study file then changes")


def read_study(args: argparse.Namespace) -> Study:
    """Return the study of a study file, a preset and overrides. Raises `UserError`."""
    trials = [] if getattr(args, "trials", None) is None else [f"search.trials={args.trials}"]
    return load_study(args.study, preset=args.preset, models=args.models, overrides=[*args.set, *trials])


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves results, warnings and errors alone."""
    parser.add_argument("--quiet", action="store_true", help="no progress: only results, warnings and errors")


def add_allow_module(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets a study folder's network import a module of others."""
    parser.add_argument(
        "--allow-module",
        action="append",
        default=[],
        dest="allow_modules",
        metavar="MODULE",
        help="import this module, which builds the study's network, and run its code; may be repeated",
    )


def comma_separated(text: str) -> list[str]:
    """Return the parts of `A,B` without spaces around them and without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def absolute_path(path: str) -> Path:
    """Return the absolute path, because Ray's workers run in other folders.

    Raises:
        UserError: If `path` begins with `~NAME` and there is no user of that name, if it is not UTF-8 or longer than
            file systems allow, or if it is relative to a folder that is gone.
    """
    if not names.is_writable(path):
        raise UserError(f"{names.shown(path)}: its name is not UTF-8; rename it")
    try:
        absolute = Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{path}: there is no user of that name") from None
    except FileNotFoundError:
        raise UserError(f"{path}: the folder from which this was started is gone; change to another") from None
    if max(len(part.encode()) for part in absolute.parts) > _MAX_NAME_BYTES or len(str(absolute).encode()) > _MAX_BYTES:
        raise UserError(
            f"{names.shown(path)}: is too long; a name has at most {_MAX_NAME_BYTES} bytes, a path {_MAX_BYTES}"
        )
    return absolute


def location(text: str) -> str:
    """Return a study folder's location: a URI as it is, a path as an absolute path. Raises `UserError`."""
    return text if "://" in text else str(absolute_path(text))


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Raise `UserError` if a new file cannot be made at `path`, which `option` has named."""
    if path.exists():
        raise UserError(f"{path}: already exists; nothing is overwritten, choose another {option}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first, or choose another {option}")


# ---- answers --------------------------------------------------------------------------------------

OPTIONS = {
    "resume": "--resume",
    "output folder": "--out",
    "output file": "--out",
    "other models": "--models",
    "could start": "--from",
    "must not start from": "--from",
    "one machine at least": "--nodes, --cpus, --gpus",
    "GPUs: write whole ones": "--gpus",
    "trials at once: one": "--slots",
    "a setting as": "--set",
    "data.manifest is not set": "--set data.manifest=FILE",
    "the lesion's value": "--label",
    "probability maps": "--probability",
    "patients in a manifest": "--manifest",
    "the model has no name": "--model",
    "in allow_modules": "--allow-module",
    "no such model": "--model",
}
"""The command line's options by the words of the library's messages: a message names no option itself."""


def with_options(line: str) -> str:
    """Return a message of the library, followed by the options that do what it asks for.

    >>> with_options("STUDY: has files already; choose another output folder")
    'STUDY: has files already; choose another output folder (--out)'
    """
    options = [option for words, option in OPTIONS.items() if words in line and option not in line]
    return f"{line} ({', '.join(dict.fromkeys(options))})" if options else line


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings on standard error, many of one kind as one."""
    for line in collapsed(lines):
        print(f"warning: {with_options(line)}", file=sys.stderr)


def print_lines(lines: Iterable[str], prefix: str = "") -> None:
    """Print each line after the prefix."""
    for line in lines:
        print(prefix + line)


def shown(location: str) -> str:
    """Return a study folder's location as it may be printed: without a key and secret."""
    from eus_ray.store import without_credentials

    return without_credentials(location)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table that appears whole or not at all. Raises `UserError` if it cannot be written."""
    from eus_ray.store import Store

    Store(path.parent).write_text(path.name, frame.to_csv(index=False))


def duration(seconds: float) -> str:
    """Return a span of time for reading.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2 h 30 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def print_table(frame: pd.DataFrame, title: str, digits: int = 1) -> None:
    """Print a table under its title, floats with so many digits after the point.

    Cells break between words only. A table whose longest words need more than the terminal's width is wider than it.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    from eus_ray.cli.terminal import open_console

    rows = [
        [f"{value:.{digits}f}" if isinstance(value, float) else str(value) for value in row]
        for row in frame.itertuples(index=False)
    ]
    table = Table(title=title, title_justify="left")
    for cells in zip(map(str, frame.columns), *rows, strict=True):
        longest = max(map(cell_len, " ".join(cells).split()), default=0)
        table.add_column(Text(cells[0]), min_width=longest)  # texts: in a name, brackets are no markup
    for row in rows:
        table.add_row(*map(Text, row))
    console = open_console(soft_wrap=False)
    needed = console.measure(table, options=console.options.update(max_width=sys.maxsize)).minimum
    console.width = max(console.width, needed)
    console.print(table)
