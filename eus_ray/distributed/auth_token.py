"""Ray's authentication token, readable by its owner alone: whoever has it can run anything on the cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

DEFAULT = Path("~/.ray/auth_token")
"""Ray reads its token here, unless RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is set."""


def make_token(path: Path) -> None:
    """Make a token if there is none. Ray itself would let every user of the machine read it."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 600
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    try:
        with contextlib.suppress(FileExistsError):  # another process was first, and its token stays
            os.link(name, path)  # atomic
    finally:
        Path(name).unlink()


def is_private(path: Path) -> bool:
    """Return whether the file's permissions admit its owner alone."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def guard_own_token() -> None:
    """Make the token of this user's local clusters if there is none, and close it to other users."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT).expanduser()
    make_token(path)
    if not is_private(path):
        path.chmod(0o600)
