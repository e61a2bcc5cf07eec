"""A rank of a training whose CPU passes for a device that trains in fp16: there is no GPU where the tests run, and
torch computes in fp16 on a CPU all the same.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.launching.local import launch_local
from pipeline.launching.tether import exit_with_launcher


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


if __name__ == "__main__":
    exit_with_launcher()
    let_this_cpu_train_in_fp16()
    from pipeline.pretraining import worker
    from pipeline.pretraining.staying_alive.preemption import Preemption

    worker.main(Path(sys.argv[1]), Preemption())
