"""Ray's token, for its owner's eyes only: whoever has it can run anything on the cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

DEFAULT = Path("~/.ray/auth_token")
"""Where Ray looks for its token unless RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH says otherwise."""


def make_token(path: Path) -> None:
    """Make a token where there is none; one that is there stays. Ray, left to itself, lets everybody read it."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 600
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    try:
        with contextlib.suppress(FileExistsError):  # another process was first: its token is the one
            os.link(name, path)  # whole or not at all
    finally:
        Path(name).unlink()


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def guard_own_token() -> None:
    """See that the token with which a local cluster of this user will start is his alone."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT).expanduser()
    make_token(path)
    if not is_private(path):
        path.chmod(0o600)
