"""Which processes are alive, told by their environment: to show that nothing outlives the run that started it."""

import os
import time
from pathlib import Path


def living_with(variable: str, within_s: float) -> list[int]:
    """Processes, other than this one, whose environment has `variable` still when `within_s` seconds have passed."""
    deadline = time.monotonic() + within_s
    while (alive := _with(variable)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def _with(variable: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if variable.encode() in environment and not zombie and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
