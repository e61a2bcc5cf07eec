"""The `map` that stages take, and the one the command line gives them.

A stage splits its work by shard and asks for `map(fn, items)`: results in order, the first failure raised after the
others have finished. `fn` is a module's function or a partial of one, idempotent; items and results are small. So the
builtin `map` serves a test, a process pool the command line, and Prefect's task mapping a flow.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pipeline.progress import progress, silence


class Map(Protocol):
    """`map(fn, items)`: results in the order of the items."""

    def __call__(self, fn: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]: ...


@contextmanager
def process_map(workers: int) -> Iterator[Map]:
    """A map over `workers` processes that end with this one, even when it is killed; the builtin map for one."""
    if workers == 1:
        yield map
        return
    spawn = get_context("spawn")
    tether, held = spawn.Pipe(duplex=False)
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_as_a_worker, initargs=(tether,)) as pool:
        try:
            yield _PoolMap(pool)
        except BaseException:
            held.close()  # what still runs is given up; nobody waits for it
            raise


class _PoolMap:
    """The map of a pool of processes, which start when they are first given work."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self.is_started = False

    def __call__(self, fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
        futures = [self._pool.submit(fn, item) for item in items]
        self.is_started = self.is_started or bool(futures)
        with progress(work_name(fn), len(futures)) as advance:
            for _ in as_completed(futures):
                advance()
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]


def light(given: Map) -> Map:
    """The map for work of a second or two: less than it takes a pool's processes to start, so it is done here."""
    return map if isinstance(given, _PoolMap) and not given.is_started else given


def work_name(fn: Callable[..., Any]) -> str:
    """What people are shown of the work: the function's name, as words."""
    while isinstance(fn, partial):
        fn = fn.func
    return fn.__name__.strip("_").replace("_", "-")


def _as_a_worker(tether: Connection) -> None:
    """Leave the terminal and its Ctrl-C to the parent, and end with it.

    The parent holds the other end of a pipe; when it is closed, by the parent or by the system because the parent
    died, reading gives an end of file.
    """
    silence()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with suppress(EOFError):
            tether.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
