"""Which process is meant: its id may be given again, the time of its start is not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return what a file says of the process that owns it: `host`, `pid`, `born`."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "born": birth_of(pid)}


def birth_of(pid: int) -> str:
    """Return when a process of this machine started, in the kernel's ticks; empty if that cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
