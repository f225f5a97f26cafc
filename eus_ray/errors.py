"""A mistake in what the user gave, and how a message about an unknown name ends."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave; the command line exits with 2.

    Args:
        lines: One line a mistake: what is wrong, where, and how to mend it.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message about an unknown name: the nearest known one, else all of them.

    Args:
        name: What was given.
        known: The names there are.
        otherwise: What to say instead of all names if none is near.

    >>> did_you_mean("unett", ["unet", "daf_net"]), did_you_mean("x", ["unet", "daf_net"])
    ('; did you mean unet?', '; there is unet, daf_net')
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise or 'there is ' + ', '.join(known)}"
