"""A mistake in what the user gave, and how messages are told."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable

_NUM_OF_A_KIND = 3
"""So many lines of one kind are told one by one."""
_PARTICULARS = re.compile(r"\S*[\d/\\'\"]\S+|\d")
"""Words of a line that tell it from another of its kind: paths, numbers, quoted values; names of settings do not."""


class UserError(Exception):
    """A mistake in what the user gave; the command line exits with 2.

    Args:
        lines: One line a mistake: what is wrong, where, and how to mend it.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message about an unknown name: the nearest known one in any case, else all of them.

    Args:
        name: What was given.
        known: The names there are.
        otherwise: What to say instead of all names if none is near.

    >>> did_you_mean("U-Net", ["unet", "daf_net"]), did_you_mean("x", ["unet", "daf_net"])
    ('; did you mean unet?', '; there is unet, daf_net')
    """
    known = list(known)
    by_letters = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_letters, n=1, cutoff=0.5)
    return f"; did you mean {by_letters[near[0]]}?" if near else f"; {otherwise or 'there is ' + ', '.join(known)}"


def collapsed(lines: Iterable[str]) -> list[str]:
    """Return the lines, many of one kind as the first of them with their number and two more examples.

    Lines are of one kind if they differ in names of files, numbers and quoted values alone.

    >>> collapsed(f"a/{n}.png: is empty" for n in range(320))
    ['a/0.png: is empty (and 319 more such lines, as of a/1.png, a/2.png)']
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        kinds[_PARTICULARS.sub("", line)].append(line)
    told = []
    for alike in kinds.values():
        if len(alike) <= _NUM_OF_A_KIND:
            told += alike
            continue
        first = set(alike[0].split())
        examples = ["; ".join(_own_words(line, first)) for line in alike[1:3]]
        told.append(f"{alike[0]} (and {len(alike) - 1} more such lines, as of {', '.join(examples)})")
    return told


def _own_words(line: str, others: set[str]) -> list[str]:
    return [word.strip(":;,()") for word in line.split() if word not in others][:1] or [line]
