"""Standard output and error on any terminal: no encoding, closed file or broken pipe stops a command."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN = {"–": "-", "−": "-", "×": "x", "√": "sqrt", "…": "...", "≥": ">=", "≤": "<=", "±": "+/-", "²": "^2"}
"""What stands for a sign of ours on a terminal that does not have it."""


def ready_streams() -> None:
    """Make standard output and error take any text, and stand for those that are closed.

    Signs that a stream's encoding lacks become plain ones, or escapes with their number.
    """
    codecs.register_error("plain", _plain)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its place and receive what is printed
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def flush_streams() -> None:
    """Write out what is printed; a reader that has left is no error.

    Raises:
        SystemExit: With 1 if something else prevents it, such as a full disk.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            discard(stream)
        except OSError as error:
            discard(stream)
            print(f"eus-ray: the output cannot be written ({error.strerror})", file=sys.stderr)
            raise SystemExit(1) from None


def discard(stream: TextIO) -> None:
    """Let everything that is printed to a stream from now on go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_console(*, quiet: bool = False, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """Return a console that prints on if its reader leaves: that is no reason to stop a training.

    Args:
        quiet: Whether it prints nothing.
        stderr: Whether it prints to standard error.
        soft_wrap: Whether the terminal breaks long lines, not the console.
    """
    from rich.console import Console

    class PatientConsole(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            discard(sys.stderr if self.stderr else sys.stdout)

    return PatientConsole(quiet=quiet, stderr=stderr, soft_wrap=soft_wrap)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded; an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign) or _escaped(sign) for sign in text), error.end


def _escaped(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode()
