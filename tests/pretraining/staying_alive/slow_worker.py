"""A rank of a training of which rank 1 takes four times as long over its part of each step as it would."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.launching.local import launch_local
from pipeline.launching.tether import exit_with_launcher


def launch_with_a_slow_one(_module: str, argument: Path, ranks: int, log: Path, poll: Callable[[], None]) -> int:
    """A launcher of such ranks."""
    return launch_local("tests.pretraining.staying_alive.slow_worker", argument, ranks, log, poll)


def be_slow() -> None:
    """By what each step has taken so far, so that it doesn't matter how fast the machine is."""
    from pipeline.pretraining.staying_alive.stragglers import Stopwatch

    stop = Stopwatch.stop

    def stop_late(self: Stopwatch, *given: Any) -> None:
        time.sleep(3 * (time.monotonic() - self._began))
        stop(self, *given)

    Stopwatch.stop = stop_late  # type: ignore[method-assign]


if __name__ == "__main__":
    exit_with_launcher()
    if os.environ["RANK"] == "1":
        be_slow()
    from pipeline.pretraining import worker
    from pipeline.pretraining.staying_alive.preemption import Preemption

    worker.main(Path(sys.argv[1]), Preemption())
