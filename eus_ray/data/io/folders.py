"""The files of a folder and of those in it, and what was passed over there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from eus_ray.data.names import counted_by_kind, shown


@dataclass
class Found:
    """What a folder holds."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    """Of all folders in it, sorted; none that is hidden."""
    links: list[Path] = field(default_factory=list)
    """Linked folders that were not entered."""
    hidden: list[Path] = field(default_factory=list)
    """Hidden folders, and hidden files with a suffix: those without, such as `.DS_Store`, belong to a system."""
    closed: list[Path] = field(default_factory=list)
    """Folders that could not be opened."""

    def passed_over(self, others: Iterable[Path]) -> str:
        """Return how many of these files, linked and hidden ones there are, each with an example; empty if none."""
        told = [counted_by_kind(self._below(path) for path in others)]
        for paths, kind in (
            (self.links, "linked folder{s} (links are not followed)"),
            (self.hidden, "hidden file{s} or folder{s}"),
            (self.closed, "folder{s} that cannot be opened"),
        ):
            s = "s" * (len(paths) > 1)
            told += [f"{len(paths)} {kind.format(s=s)}, such as {shown(self._below(min(paths)))}"] if paths else []
        return "; ".join(filter(None, told))

    def _below(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def look_into(folder: Path, used: Iterable[Path] = ()) -> Found:
    """Find the files of a folder and of those in it.

    Links to folders are not followed: they may lead out of the folder, or in a circle.

    Args:
        folder: A folder, or a link to one.
        used: Files that were read already: links on the way to them are entered.
    """
    found = Found(folder)
    entered = {parent for path in used for parent in path.parents}

    def note(error: OSError) -> None:
        found.closed.append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=note, followlinks=True):
        inner = []
        for path in (Path(place, name) for name in folders):
            if path.name.startswith("."):
                found.hidden.append(path)
            elif path.is_symlink() and path not in entered:
                found.links.append(path)
            else:
                inner.append(path.name)
        folders[:] = inner
        for path in (Path(place, name) for name in files):
            if not path.name.startswith("."):
                found.files.append(path)
            elif path.suffix:
                found.hidden.append(path)
    found.files.sort()
    return found
