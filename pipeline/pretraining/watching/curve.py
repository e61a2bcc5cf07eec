"""The loss curve on rank 0's scratch disk: a line a step, which waits in memory while that disk is full.

A full disk delays checkpoints, which hold the curve, and not training.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CURVE = "curve.jsonl"
log = logging.getLogger("bertmill")


class Curve:
    """Appends to a file; only whole lines count."""

    def __init__(self, path: Path) -> None:
        """Lines that are there stay: those of the steps before, where a run goes on."""
        self.path = path
        self._size = path.stat().st_size
        self._waiting = list[str]()
        self._is_stuck = False

    def add(self, record: dict[str, Any]) -> None:
        """Take a step's line; it isn't written yet."""
        self._waiting.append(json.dumps(record) + "\n")

    def write(self) -> bool:
        """Write what waits. False where the disk doesn't take it; it waits on, and that is said once."""
        data = "".join(self._waiting).encode()
        try:
            with self.path.open("r+b") as file:
                file.truncate(self._size)  # what a full disk cut short
                file.seek(self._size)
                file.write(data)
        except OSError as error:
            if not self._is_stuck:
                log.warning("the curve waits in memory, and checkpoints with it: %s", error)
            self._is_stuck = True
            return False
        self._waiting, self._is_stuck = [], False
        self._size += len(data)
        return True

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines that are written, one at a time: of a million steps they would take a gigabyte."""
        return read_curve(self.path)


def read_curve(path: Path) -> Iterator[dict[str, Any]]:
    """The steps of a curve, one at a time."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
