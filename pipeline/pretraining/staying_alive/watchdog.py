"""The watchdog: in the process that launched the ranks, it looks at whether they get on.

A process group notices neither a stopped process, nor a GPU that waits for ever in a collective, nor a network that
silently parts. Steps that stop coming show all of these. So, when no rank of this machine gives a sign of life
(heartbeat.py) for longer than steps usually take, the watchdog has each write its stacks into the log, says which one
is behind and what state it is in, and ends them; the stage goes on from the last checkpoint, a bounded number of times.
It also ends the other ranks of one that failed, which may wait for it in a collective.

On several machines each has a watchdog for its own ranks. Costs a read of a small file a rank, five times a second.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from pipeline.errors import TrainingError
from pipeline.pretraining.staying_alive.heartbeat import OVER, PREEMPTED, Beat, read_beats
from pipeline.settings import Settings

LONGEST_LOOK_S = 2.0
"""Time between two looks counts at most so much: this process itself may have slept."""
REMEMBERED = 100
"""Steps from which the usual one is told."""
STACKS_S = 1.0
"""For a rank to write its stacks."""
GRACE_S = 5.0
"""For the other ranks of one that failed to end by themselves."""
STATES = {
    psutil.STATUS_STOPPED: "it is stopped (a SIGSTOP, a paused container)",
    psutil.STATUS_TRACING_STOP: "a debugger holds it",
    psutil.STATUS_DISK_SLEEP: "it waits in the kernel (a disk, a network mount, a GPU's driver)",
    psutil.STATUS_ZOMBIE: "it has ended",
}


class RanksLost(TrainingError):
    """The ranks hung and were ended, or one died in mid-training without a sentence that says why."""


@dataclass(frozen=True)
class Patience:
    """How long silence is borne."""

    hang_s: float
    hang_steps: float
    start_s: float

    def limit(self, all_train: bool, usual_s: float | None) -> tuple[float, str]:
        """Seconds, and the variable that says so; a rank that does something else is waited for by those that train.

        `usual_s` is a step's usual duration.
        """
        if not all_train or usual_s is None:
            return self.start_s, "BERTMILL_START_S"
        return max((self.hang_s, "BERTMILL_HANG_S"), (self.hang_steps * usual_s, "BERTMILL_HANG_STEPS"))


class Watchdog:
    """Over the ranks of one launch, whose heartbeats are in `folder` and whose output is in `log`."""

    def __init__(
        self, folder: Path, log: Path, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._log, self._clock = folder, log, clock
        self._patience = Patience(settings.hang_s, settings.hang_steps, settings.start_s)
        self._beats: list[Beat] = []
        self._looked = clock()
        self._silence_s = 0.0
        self._failed_s = 0.0
        self._step_began: tuple[int, float] | None = None
        self._durations: deque[float] = deque(maxlen=REMEMBERED)
        self._told = set[int]()
        self._is_to_stop = False
        self._have_trained = False

    @property
    def preempted(self) -> Beat | None:
        """Where a rank was that stopped because it was asked to; None where none was."""
        return next((beat for beat in read_beats(self._folder) if beat.doing in PREEMPTED), None)

    @property
    def have_trained(self) -> bool:
        """Whether the ranks took a step at any time: what ends them then seldom does when they are started again.

        Each phase's first step, which may compile, has them start anew; they have trained all the same.
        """
        self._have_trained |= any(beat.doing != "starting" for beat in read_beats(self._folder))
        return self._have_trained

    @property
    def usual_s(self) -> float | None:
        """A step's usual duration; None before there were any."""
        return median(self._durations) if self._durations else None

    def ask_to_stop(self) -> None:
        """Have the ranks stop at a step's end, from the next look on."""
        self._is_to_stop = True

    def look(self) -> None:
        """To be called often. Raises RanksLost, when it has ended the ranks."""
        now, beats = self._clock(), read_beats(self._folder)
        passed = min(now - self._looked, LONGEST_LOOK_S)
        self._looked = now
        self._silence_s = 0.0 if beats != self._beats else self._silence_s + passed
        self._beats = beats
        self._have_trained |= any(beat.doing != "starting" for beat in beats)
        self._count_steps(now)
        if self._is_to_stop:
            self._pass_on()
        self._failed_s = self._failed_s + passed if self._has_lost_one() else 0.0
        if self._failed_s > GRACE_S:
            self._end()
        limit_s, variable = self._patience.limit({beat.doing for beat in beats} == {"training"}, self.usual_s)
        if self._silence_s > limit_s:
            raise RanksLost(f"{self._ended_for_silence()} ({variable} allows {limit_s:.0f} s.)")

    def _count_steps(self, now: float) -> None:
        """Time whole steps: not those in which anything else was done."""
        if not self._beats or any(beat.doing != "training" for beat in self._beats):
            self._step_began = None
            return
        step = min(beat.step for beat in self._beats)
        if self._step_began is None:
            self._step_began = step, now
        elif step > self._step_began[0]:
            before, began = self._step_began
            self._durations.append((now - began) / (step - before))
            self._step_began = step, now

    def _pass_on(self) -> None:
        """A rank that has given a sign of life listens to signals; each is told once."""
        for beat, process in self._processes():
            if beat.pid not in self._told and beat.doing not in OVER:
                self._told.add(beat.pid)
                _signal(process, signal.SIGUSR1)

    def _has_lost_one(self) -> bool:
        """Whether a rank has ended that wasn't done, while others go on."""
        there = [psutil.pid_exists(beat.pid) for beat in self._beats if beat.doing not in OVER]
        return any(there) and not all(there)

    def _ended_for_silence(self) -> str:
        """Have the ranks write their stacks, end them, and say what was seen."""
        what = self._what_is_behind()
        self._dump_stacks()
        self._end()
        usual = f", where one usually takes {self.usual_s:.1f} s" if self.usual_s else ""
        return (
            f"The ranks gave no sign of life for {self._silence_s:.0f} s{usual}. {what} The stacks of all are in "
            f"{self._log}."
        )

    def _what_is_behind(self) -> str:
        """Which ranks have come less far than others, and what the system says of them."""
        if not self._beats:
            return "None has started: is this machine too busy, or does the environment's Python not start?"
        states = {beat.rank: STATES[status] for beat, status in self._statuses() if status in STATES}
        least = min(beat.place for beat in self._beats)
        behind = [beat for beat in self._beats if beat.place == least]
        if len(behind) == len(self._beats):
            behind = [beat for beat in behind if beat.rank in states]
        if not behind:
            return (
                f"No rank of this machine is behind another ({self._beats[0]}): look for one that is on another "
                f"machine, at the network between them, and at what the GPUs' driver says (dmesg, nvidia-smi)."
            )
        said = [
            f"rank {b.rank} (process {b.pid}, {b}{'; ' + states[b.rank] if b.rank in states else ''})" for b in behind
        ]
        return f"Behind the others: {', '.join(said)}."

    def _dump_stacks(self) -> None:
        """One after the other, so that their lines don't mix."""
        for beat, process in self._processes():
            with suppress(OSError), self._log.open("a", encoding="utf-8") as log:  # its disk may be full
                log.write(f"\n-- the stacks of rank {beat.rank}, process {beat.pid}, {beat} --\n")
            _signal(process, signal.SIGUSR2)
            if _status(process) not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                time.sleep(STACKS_S)

    def _end(self) -> None:
        """SIGKILL ends stopped processes, too; torchrun follows them."""
        for _, process in self._processes():
            _signal(process, signal.SIGKILL)

    def _statuses(self) -> list[tuple[Beat, str]]:
        return [(beat, _status(process)) for beat, process in self._processes()]

    def _processes(self) -> list[tuple[Beat, psutil.Process]]:
        """The ranks that are running, and descend from this process: a pid may be another's by now."""
        ours = {process.pid: process for process in psutil.Process(os.getpid()).children(recursive=True)}
        return [(beat, ours[beat.pid]) for beat in self._beats if beat.pid in ours]


def _status(process: psutil.Process) -> str:
    """What the system says of it; a process may end at any time, and be gone."""
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
