"""Real processes that start within milliseconds, meet to race each other, and end with the one that started them.

A server that has imported the store already forks them: a test may have hundreds.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing.synchronize import Barrier
from typing import Any

from pipeline.settings import Settings
from pipeline.store import Store, open_store

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "boto3", "pipeline.store.s3", "tests.artifacts"])
PATIENCE_S = 60
_barrier: list[Barrier] = []


@contextmanager
def racers(number: int, variables: Mapping[str, str]) -> Iterator[Callable[..., list[Any]]]:
    """`race(fn)` runs `fn(racer)` in `number` processes at once, each of which must `meet` the others at least once.

    The processes live through all races. `variables` lead boto3 to the S3 server.
    """
    with ProcessPoolExecutor(
        number, FORKS, initializer=_as_a_racer, initargs=(FORKS.Barrier(number), dict(variables))
    ) as pool:
        yield lambda fn: list(pool.map(fn, range(number)))  # who waits at the barrier takes no second turn


def meet() -> None:
    """In a racer: go on when all racers have come here."""
    _barrier[0].wait(PATIENCE_S)


@cache
def opened(settings: Settings) -> Store:
    """In a child: the store, opened once and kept from race to race."""
    return open_store(settings)


def as_a_child(variables: Mapping[str, str]) -> None:
    """In a child: take the variables as the environment's, and end when the parent does, however that ends."""
    os.environ.update(variables)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _as_a_racer(barrier: Barrier, variables: Mapping[str, str]) -> None:
    as_a_child(variables)
    _barrier.append(barrier)
