"""Fonts for the letters of names: DejaVu Sans, and installed ones for what it lacks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font

FAMILY = "DejaVu Sans"
"""It comes with matplotlib, and has Latin, Greek, Cyrillic, Arabic and Hebrew letters."""
_PLACEHOLDERS = "Last Resort"
"""Fonts of this name have a box for every letter, which says nothing."""
_UNDRAWN = ("Cc", "Cf", "Zl", "Zp", "Zs")


def families(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the font families that draw these texts: DejaVu Sans, then installed ones for letters that it lacks.

    The font that has the most of these letters comes first.
    """
    return _chosen(_letters(texts))[0]


def letters_without_font(texts: Iterable[str]) -> str:
    """Return the letters that no installed font has, each once; figures have a box for each."""
    return _chosen(_letters(texts))[1]


def _letters(texts: Iterable[str]) -> str:
    """Return the letters that need a glyph, each once, but for those of ASCII, which all fonts have."""
    letters = dict.fromkeys(letter for text in texts if not text.isascii() for letter in text if not letter.isascii())
    return "".join(letter for letter in letters if unicodedata.category(letter) not in _UNDRAWN)


@cache
def _chosen(letters: str) -> tuple[tuple[str, ...], str]:
    """Return the families, and the letters that are left without a font."""
    names = [FAMILY]
    left = set(letters) - _covered(findfont(FontProperties(family=[FAMILY])), letters)
    found = {entry.name: _covered(entry.fname, "".join(left)) for entry in (_installed() if left else ())}
    while left:
        best = min(found, key=lambda name: (-len(found[name] & left), "Sans" not in name, name))
        if not found[best] & left:
            break
        names.append(best)
        left -= found[best]
    return tuple(names), "".join(letter for letter in letters if letter in left)


def _installed() -> list[FontEntry]:
    """Return the upright fonts; of each family a regular one is last."""
    upright = [entry for entry in fontManager.ttflist if entry.style == "normal" and _PLACEHOLDERS not in entry.name]
    return sorted(upright, key=lambda entry: (entry.name, entry.weight == 400, entry.fname))


def _covered(path: str, letters: str) -> set[str]:
    """Return the letters for which a font file has a glyph; none if it cannot be read."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a file that is gone, or no font
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}
