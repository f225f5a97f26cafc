"""What all commands share: how arguments are read, and how answers are printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from eus_ray.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130
"""Exit code of a run that was interrupted and can be resumed."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong command line with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "'" in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            choices = message.split("choose from ")[1].rstrip(")").replace("'", "").split(", ")
            message = f"{wrong}: no such choice{did_you_mean(wrong, choices)}"
        self.exit(2, f"eus-ray: {message} (see {self.prog} --help)\n")


def command(commands: Any, name: str, run: Any, about: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def absolute(path: str) -> Path:
    """Ray's workers have working folders of their own. Raises `UserError` for the home of nobody."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{path}: there is no user of that name") from None


def place(text: str) -> str | Path:
    """A study folder as it was given: a URI, or a path."""
    return text if "://" in text else absolute(text)


def shown(place: str | Path) -> str:
    """A study folder as it may be printed: whoever reads a log learns no key."""
    from eus_ray.store import without_credentials

    return without_credentials(str(place))


def refuse_existing(path: Path) -> None:
    if path.exists():
        raise UserError(f"{path}: is there already; nothing is overwritten, choose another --out")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first, or choose another --out")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    from eus_ray.store import Store

    Store(path.parent).write_text(path.name, frame.to_csv(index=False))


def relative(path: str, folder: Path) -> str:
    try:
        return Path(path).relative_to(folder).as_posix()
    except ValueError:
        return path


def duration(seconds: float) -> str:
    """A span of time for reading.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2 h 30 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def print_table(frame: pd.DataFrame, title: str, digits: int = 1) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")  # texts: in a name, brackets are no markup
    for column in frame.columns:
        table.add_column(Text(str(column)))
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(f"{value:.{digits}f}" if isinstance(value, float) else str(value)) for value in row))
    Console().print(table)
