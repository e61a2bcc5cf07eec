"""Requests side by side, with a bound: of results in memory as much as of those under way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
SMALL_REQUESTS = 16
"""Side by side: each waits for the network most of its time."""


def in_parallel(work: Callable[[T], R], items: Iterable[T], concurrency: int = SMALL_REQUESTS) -> Iterator[R]:
    """Results in the order of the items, with `concurrency` under way; the first failure is raised in its turn."""
    waiting = iter(items)
    first = list(islice(waiting, 2))
    if len(first) < 2:  # no thread for a single one
        yield from map(work, first)
        return
    with ThreadPoolExecutor(concurrency) as pool:
        under_way: deque[Future[R]] = deque(pool.submit(work, item) for item in first)
        try:
            for item in waiting:
                if len(under_way) == concurrency:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(work, item))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for each in under_way:
                each.cancel()
