"""Being asked to stop: SIGTERM or SIGUSR1 to any rank or to the launcher ends the training at a step's end.

A handler only notes it. The note rides on an all-reduce that the step does anyway, so all ranks stop after the same
step, whichever of them was told; they keep a checkpoint and end as if all were well, and the command ends with status
75 (EX_TEMPFAIL of sysexits.h): the same command goes on from there. Slurm's `--signal=USR1@120`, a cluster that drains
a node and Prefect's cancel come this way. Costs nothing. Leaving at once, as on any other signal, would cost the steps
since the last checkpoint.

The launcher notes it likewise, and looks at its note while it waits for another run, before it starts ranks, and five
times a second while they run. No handler raises: libraries take what is raised in their midst for a failure of theirs.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption:
    """Whether this process, a rank or the launcher, was asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Note the signals from now on, for the process' life. Only the main thread can."""
        for each in SIGNALS:
            signal.signal(each, self._note)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals within this context.

        In a thread other than the main one, whose process' signals are another's business, it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._note) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def check(self, name: str) -> None:
        """Preempted where it was: to be called where no rank of the training of `name` runs."""
        if self.asked:
            raise Preempted(
                f"The training of {name} was asked to stop while none of its ranks ran. Run the same command again to "
                f"go on."
            )

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def preempted(name: str, step: int, steps: int, *, is_stored: bool) -> Preempted:
    """What to tell the user of a training that stopped after `step` of its steps."""
    said = f"The training of {name} was asked to stop, and did so after {step:,} of {steps:,} steps"
    if is_stored:
        return Preempted(f"{said}, with a checkpoint. Run the same command again to go on from there.")
    return Preempted(
        f"{said}, but its checkpoint couldn't be stored in time (the log says why). Run the same command again to go "
        f"on from the one before."
    )
