"""Signs of life: each rank overwrites one small file as it gets on, and the process that launched it reads them.

A rank beats as it enters whatever may block: a step, each of its micro-batches, a checkpoint. So when all are silent,
the one that is behind has the lowest place. Files and not messages, because a rank that hangs answers none, and because
they cost a write of 192 bytes into memory: about 10 µs a micro-batch.
"""

import faulthandler
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Doing = Literal[
    "starting", "training", "validating", "checkpointing", "finishing", "preempted", "preempted_unstored", "done"
]
SIZE = 192
"""Bytes of a record; it is overwritten whole."""
PREEMPTED: tuple[Doing, ...] = ("preempted", "preempted_unstored")
OVER: tuple[Doing, ...] = (*PREEMPTED, "done")
"""After these a rank may end."""


@dataclass(frozen=True)
class Beat:
    """Where a rank was when it last gave a sign."""

    step: int
    """Steps that are done."""
    part: int
    """Micro-batches of the next one that are done."""
    number: int
    """Counts the signs."""
    rank: int
    pid: int
    doing: Doing

    @property
    def place(self) -> tuple[int, int]:
        """Of two ranks, the one whose place is less is behind."""
        return self.step, self.part

    def __str__(self) -> str:
        return f"{self.doing}, with {self.step:,} steps and {self.part} micro-batches of the next done"


class Heartbeat:
    """One rank's file."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(exist_ok=True)
        self._rank, self._pid, self._number = rank, os.getpid(), 0
        self._file = os.open(folder / f"rank-{rank:05d}", os.O_WRONLY | os.O_CREAT, 0o600)
        self.beat("starting")

    def beat(self, doing: Doing, step: int = 0, part: int = 0) -> None:
        """Tell that this rank is about to do that, with so many steps and micro-batches done."""
        self._number += 1
        beat = Beat(step, part, self._number, self._rank, self._pid, doing)
        os.pwrite(self._file, json.dumps(vars(beat)).ljust(SIZE).encode(), 0)


def stacks_on_request() -> None:
    """Have SIGUSR2 write the stacks of all threads to standard error, which is the log, whatever they wait for."""
    faulthandler.register(signal.SIGUSR2, all_threads=True)


def read_beats(folder: Path) -> list[Beat]:
    """The last sign of every rank of this machine that has given one, by rank."""
    beats = []
    for path in sorted(folder.glob("rank-*")):
        try:
            beats.append(Beat(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue  # it is being written for the first time
    return beats
