"""A rank of a training whose CPU passes for a device that trains in fp16: there is no GPU where the tests run, and
torch computes in fp16 on a CPU all the same. Of what it changes nothing leaves its process.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.launching.local import launch_local
from pipeline.launching.tether import exit_with_launcher

FIRST_SCALE, DIES_AFTER = "TESTS_FIRST_SCALE", "TESTS_DIES_AFTER"
"""Environment variables of such a rank: the scale that it begins with, and the step whose checkpoint is its last."""


def launch_in_fp16(_module: str, argument: Path, ranks: int, log: Path, poll: Callable[[], None]) -> int:
    """A launcher of such ranks."""
    return launch_local("tests.pretraining.fp16_worker", argument, ranks, log, poll)


def let_this_cpu_train_in_fp16() -> None:
    """In this process alone."""
    from pipeline.pretraining import engine

    engine.import_deepspeed()
    from deepspeed.accelerator import get_accelerator

    engine.check_device = lambda _: None
    get_accelerator().is_fp16_supported = lambda: True


def begin_with(scale: float) -> None:
    from pipeline.pretraining import loss_scale

    loss_scale.FIRST = scale


def die_after(last: int) -> None:
    """By SIGKILL, as soon as the checkpoint of that step is whole."""
    from pipeline.pretraining.checkpoints.checkpoint import Checkpoints

    save = Checkpoints.save

    def save_and_die(self: Checkpoints, engine: Any, step: int, *given: Any, **named: Any) -> None:
        self.drain()
        save(self, engine, step, *given, **named)
        if step == last:
            self.drain()
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    exit_with_launcher()
    let_this_cpu_train_in_fp16()
    if FIRST_SCALE in os.environ:
        begin_with(float(os.environ[FIRST_SCALE]))
    if DIES_AFTER in os.environ:
        die_after(int(os.environ[DIES_AFTER]))
    from pipeline.pretraining import worker
    from pipeline.pretraining.staying_alive.preemption import Preemption

    worker.main(Path(sys.argv[1]), Preemption())
