"""Progress of long work: a bar on a terminal, plain lines anywhere else.

Lines come at most every few seconds, so that a log stays readable; work that is done sooner prints none.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0
log = logging.getLogger("bertmill")

Advance = Callable[..., None]
"""`advance(by=1, note="")`: the work is that much further; the note stands beside the count."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far `description` has come; yields `advance(by=1, note="")`."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=total, note="")
            yield lambda by=1, note="": bar.update(task, advance=by, note=note)
        return
    done, last = 0, time.monotonic()

    def advance(by: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += by
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            log.info(
                "%s: %s%s%s", description, f"{done:,}", f" of {total:,}" if total else "", f"  {note}" if note else ""
            )

    yield advance


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far they have come."""
    with progress(description, total) as advance:
        for item in items:
            yield item
            advance()
