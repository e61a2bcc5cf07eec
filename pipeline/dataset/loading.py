"""Steps made ahead of need, in threads: kernels let go of the interpreter, so that training isn't held back.

A step is a function of its number, so the order in which threads finish doesn't matter.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2
"""Steps that are under way or ready for each thread."""
Made = TypeVar("Made")


def steps_ahead(make: Callable[[int], Made], start: int, stop: int, workers: int) -> Generator[Made]:
    """`make(step)` of each step, in order; with no worker when it is asked for, else so many threads ahead of it.

    What a step raises is raised in its turn. When the iterator is closed, no thread goes on.
    """
    if workers == 0:
        yield from map(make, range(start, stop))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        waiting, coming = deque[Future[Made]](), iter(range(start, stop))
        try:
            for step in coming:
                waiting.append(pool.submit(make, step))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
