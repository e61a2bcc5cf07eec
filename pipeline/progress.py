"""Progress of long work: bars on a terminal, plain lines anywhere else.

One set of bars a process, whoever asks for one and from whichever thread, so that none draws over another; the log's
lines go above them. Worker processes show nothing, for the terminal is their parent's. Lines come at most every few
seconds, so that a log stays readable; work that is done sooner prints none.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_DRAWINGS = 0.1
log = logging.getLogger("bertmill")

Advance = Callable[..., None]
"""`advance(by=1, note="")`: the work is that much further; the note stands beside the count."""


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far `description` has come; yields `advance(by=1, note="")`."""
    show = _silent if _bars.silenced else _bars.bar if sys.stderr.isatty() else _lines
    with show(description, total) as advance:
        yield advance


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far they have come."""
    with progress(description, total) as advance:
        for item in items:
            yield item
            advance()


def show_line(text: str) -> None:
    """Write a line to standard error, above the bars where there are any."""
    _bars.line(text)


def silence() -> None:
    """Show nothing from this process: it is one of several that share a terminal."""
    _bars.silenced = True


class _Bars:
    """The process' bars: drawn from the first one's start to the last one's end.

    Whatever writes to the terminal holds the lock, redrawing too: rich's own thread for it would write between a line
    of the log and the bars that are drawn anew below.
    """

    def __init__(self) -> None:
        self.silenced = False
        self._lock = threading.Lock()
        self._shown = 0
        self._progress: Progress | None = None

    def line(self, text: str) -> None:
        with self._lock:
            sys.stderr.write(text + "\n")  # which is rich's while bars are drawn

    def _redraw(self, shared: Progress) -> None:
        while self._progress is shared:
            with self._lock:
                shared.refresh()
            time.sleep(SECONDS_BETWEEN_DRAWINGS)

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Advance]:
        with self._lock:
            if self._progress is None:
                self._progress = _drawn_on_standard_error()
                self._progress.start()
                threading.Thread(target=self._redraw, args=(self._progress,), daemon=True).start()
            self._shown += 1
            shared = self._progress
            task = shared.add_task(description, total=total, count=_count(0, total), note="")
        done = 0

        def advance(by: int = 1, note: str = "") -> None:
            nonlocal done
            done += by
            shared.update(task, completed=done, count=_count(done, total), note=note)

        try:
            yield advance
        finally:
            with self._lock:
                shared.remove_task(task)
                self._shown -= 1
                if self._shown == 0:
                    shared.stop()
                    self._progress = None


_bars = _Bars()


def _count(done: int, total: int | None) -> str:
    """How far, where there is something to count."""
    return f"{done:,} of {total:,}" if total is not None else f"{done:,}" if done else ""


def _drawn_on_standard_error() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )


@contextmanager
def _lines(description: str, total: int | None) -> Iterator[Advance]:
    done, last = 0, time.monotonic()

    def advance(by: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += by
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES or (done == total and by and note):
            last = time.monotonic()
            counted = _count(done, total)
            log.info("%s%s%s", description, f": {counted}" if counted else "", f"  {note}" if note else "")

    yield advance


@contextmanager
def _silent(description: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001 (they are shown nowhere)
    yield lambda by=1, note="": None  # noqa: ARG005
