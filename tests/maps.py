"""The maps that a stage must give the same bytes under: one by one, finished in reverse order, in two processes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.mapping import Map, process_map

MAPS = ("builtin", "backwards", "processes")


@contextmanager
def map_named(name: str) -> Iterator[Map]:
    """One of `MAPS`."""
    if name == "processes":
        with process_map(2) as parallel:
            yield parallel
        return
    yield map if name == "builtin" else backwards


def backwards(fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
    """The last item is done first; results stand in order all the same."""
    return [fn(item) for item in reversed(list(items))][::-1]


def forbidden(fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
    """For a stage that has nothing to do."""
    raise AssertionError("a finished artifact is found, not made again")
