"""The `map` that stages take, and the one the command line gives them.

A stage splits its work by shard and asks for `map(fn, items)`: results in order, the first failure raised after the
others have finished. `fn` is a module's function or a partial of one, idempotent; items and results are small. So the
builtin `map` serves a test, a process pool the command line, and Prefect's task mapping a flow.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol


class Map(Protocol):
    """`map(fn, items)`: results in the order of the items."""

    def __call__(self, fn: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]: ...


@contextmanager
def process_map(workers: int) -> Iterator[Map]:
    """A map over `workers` processes that end with this one, even when it is killed; the builtin map for one."""
    if workers == 1:
        yield map
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)

    def parallel_map(fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
        futures = [pool.submit(fn, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    with pool:
        yield parallel_map


def _end_with_parent() -> None:
    """A killed parent closes its end of the sentinel's pipe, however it died; no child may outlive it."""
    parent = parent_process()
    assert parent is not None, "runs in a child of multiprocessing"

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
