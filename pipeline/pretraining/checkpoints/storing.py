"""One checkpoint on its way from this rank's memory into the store, in a thread, while training goes on.

Each rank stores its files and commits its part; rank 0 waits until the parts of all are there, and commits the whole.
They meet in the store alone: no collective runs in a thread, and a rank that dies leaves nobody waiting but a thread
that ends with its process. Parts carry a number that the run drew, so that what a killed run left is never taken for
this one's. Whatever fails (a full disk, a store that doesn't answer) is said and tried again until it succeeds; the
copy in memory is kept so long. Costs scratch for one file at a time, a third of the rank's 12 bytes a parameter.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from pipeline.errors import StoreError
from pipeline.pretraining.checkpoints.fragments import Fragment
from pipeline.pretraining.checkpoints.stored import file_name, write_fragments
from pipeline.pretraining.place import Place
from pipeline.pretraining.watching.curve import CURVE
from pipeline.store import FileEntry, Work

SPARE_BYTES = 64 << 20
"""Left free on the scratch disk, for the curve and the logs, which must go on."""
LEAVE_S = 5.0
"""How long a thread that is to end is waited for: it may be in the middle of a request."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
FIRST_POLL_S, LONGEST_POLL_S = 0.05, 2.0
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Snapshot:
    """What a rank has copied at the end of a step."""

    step: int
    """Steps that are done."""
    fragments: Sequence[Fragment]
    numbers: dict[str, Tensor]
    """Of each kind, the fragments' numbers end to end, in host memory."""
    curve: Path
    curve_bytes: int
    """The file goes on growing; so much of it is this step's."""
    record: dict[str, Any]
    """Of the whole checkpoint; rank 0's counts."""
    stored: dict[str, FileEntry] = field(default_factory=dict)
    """Files that are in the store already."""


def whole_name(step: int) -> str:
    """A whole checkpoint's name; they sort by their steps."""
    return f"step-{step:09d}"


def step_of(name: str) -> int | None:
    """The step of a whole checkpoint's name; None for any other."""
    head, _, digits = name.partition("-")
    return int(digits) if head == "step" and len(digits) == 9 and digits.isdecimal() else None


class Storing:
    """Stores a snapshot; begins at once."""

    def __init__(
        self, snapshot: Snapshot, work: Work, place: Place, run: str, folder: Path, committed: Callable[[], None]
    ) -> None:
        """`run` marks the parts of one run; `committed` is called on rank 0 when the whole is in the store."""
        self.step = snapshot.step
        self.trouble = ""
        """What it waits for, or what failed last."""
        self._snapshot, self._work, self._place, self._run, self._folder = snapshot, work, place, run, folder
        self._committed = committed
        self._is_whole = False
        self._stopped = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._store_on, name=f"checkpoint-{self.step}", daemon=True)
        self._thread.start()

    @property
    def is_snapshot(self) -> bool:
        """Whether an artifact is to be made of it; the same on all ranks."""
        return bool(self._snapshot.record["snapshot"])

    def is_done(self) -> bool:
        """Whether this rank's share of it is; what was a fault of ours, not of the store or the disk, is raised."""
        if self._fault is not None:
            raise self._fault
        return not self._thread.is_alive()

    def wait(self, within_s: float | None) -> bool:
        """Whether it is done within that time."""
        self._thread.join(within_s)
        return self.is_done()

    def stop(self, patience_s: float) -> None:
        """Let it come to its end within that time; then it tries no more, and what is stored by then stays."""
        self._thread.join(patience_s)
        self._stopped.set()
        self._thread.join(LEAVE_S)

    def _store_on(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                self._store()
            except (StoreError, OSError, SafetensorError) as error:
                self._say(error)
            except Exception as error:
                self._fault = error
                return
            else:
                self.trouble = ""
                return
            self._stopped.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _say(self, error: Exception) -> None:
        """Once for each thing that is wrong, though it is tried many times."""
        trouble = f"the checkpoint of step {self.step:,} isn't stored yet: {str(error).rstrip('.')}"
        if trouble != self.trouble:
            log.warning("%s. Training goes on, and it is tried again.", trouble)
        self.trouble = trouble

    def _store(self) -> None:
        """From wherever the last try came to."""
        if not self._is_whole:
            self._store_part()
            if self._place.rank == 0 and (files := self._parts()) is not None:
                self._work.commit(whole_name(self.step), files, self._snapshot.record)
                self._is_whole = True
        if self._is_whole:
            self._committed()

    def _store_part(self) -> None:
        for kind, numbers in self._snapshot.numbers.items():

            def write(path: Path, numbers: Tensor = numbers) -> None:
                write_fragments(path, self._snapshot.fragments, numbers)

            self._add(file_name(kind, self._place.rank), numbers.nbytes, write)
        if self._place.rank == 0:
            self._add(CURVE, self._snapshot.curve_bytes, self._write_curve)
        self._work.commit(self._part(self._place.rank), list(self._snapshot.stored.values()), {})

    def _add(self, name: str, size: int, write: Callable[[Path], None]) -> None:
        """Write a file to scratch and store it, unless that is done."""
        if name in self._snapshot.stored:
            return
        path = self._folder / f"storing-{name}"  # the curve itself may lie there too
        try:
            if shutil.disk_usage(self._folder).free < (room := size + SPARE_BYTES):
                raise StoreError(
                    f"{self._folder} has less than the {room / 1e6:,.0f} MB free that {name} and the logs want. Free "
                    f"some room there, or set TMPDIR to a larger disk."
                )
            write(path)
            self._snapshot.stored[name] = self._work.add(path, name, whole_name(self.step))
        finally:
            path.unlink(missing_ok=True)

    def _write_curve(self, path: Path) -> None:
        with self._snapshot.curve.open("rb") as lines:
            path.write_bytes(lines.read(self._snapshot.curve_bytes))

    def _parts(self) -> list[FileEntry] | None:
        """The files of all ranks, as soon as all are there; None when it is to stop."""
        wanted = {self._part(rank): rank for rank in range(self._place.world)}
        pause = FIRST_POLL_S
        while missing := wanted.keys() - set(self._work.names()):
            ranks = ", ".join(str(rank) for name, rank in wanted.items() if name in missing)
            self.trouble = f"the checkpoint of step {self.step:,} waits for rank {ranks}"
            if self._stopped.wait(pause):
                return None
            pause = min(2 * pause, LONGEST_POLL_S)
        return [entry for name in wanted for entry in self._work.load(name)[0]]

    def _part(self, rank: int) -> str:
        return f"part-{self.step:09d}-{self._run}-{rank:05d}"
