"""Processes of this machine, told apart for good: ids are given again, births are not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What a file says of the process that owns it: `host`, `pid`, `born`."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "born": birth_of(pid)}


def birth_of(pid: int) -> str:
    """When a process of this machine started, in the kernel's ticks; empty where that cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
