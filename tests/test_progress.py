"""Progress as it is seen: plain lines where no terminal is, and what a real one shows while work goes on and after."""

import fcntl
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest

from pipeline import progress as module
from pipeline.progress import progress, track

ROWS, COLUMNS = 40, 100
CONTROL = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)")
STARTED = re.compile(r"\x1b(\[[0-9;?]*)?$")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of a process without a terminal."""
    monkeypatch.setattr(sys, "stderr", StringIO())
    with caplog.at_level(logging.INFO, "bertmill"):
        yield caplog


def test_off_a_terminal_a_line_says_how_far_the_work_is(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("reading", 2_000) as advance:
        advance(1_999)
        advance(note="loss 2.5")
    with progress("waiting") as advance:
        advance(0)
        advance()
    assert lines.messages == ["reading: 1,999 of 2,000", "reading: 2,000 of 2,000  loss 2.5", "waiting", "waiting: 1"]


def test_off_a_terminal_lines_stand_at_least_the_stated_seconds_apart(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.05)
    began = time.monotonic()
    with progress("reading") as advance:
        while len(lines.messages) < 3:
            advance()
            assert time.monotonic() - began < 60, "lines do come"
    assert time.monotonic() - began >= 3 * 0.05


def test_off_a_terminal_the_last_line_of_work_that_tells_something_is_always_there(
    lines: pytest.LogCaptureFixture,
) -> None:
    with progress("training", 3) as advance:
        advance(2, "loss 2.5")
        advance(1, "loss 2.4")
    assert lines.messages == ["training: 3 of 3  loss 2.4"]


def test_off_a_terminal_short_work_prints_nothing(lines: pytest.LogCaptureFixture) -> None:
    list(track(range(10_000), "reading", 10_000))
    assert lines.messages == []


def test_track_yields_the_items_themselves_in_order_each_when_it_is_asked_for() -> None:
    items = [[number] for number in range(5)]
    source = iter(items)
    tracked = track(source, "reading")
    assert [next(tracked) for _ in range(2)] == [[0], [1]]
    assert next(source) is items[2], "no item is taken before it is asked for"
    assert next(tracked) is items[3]
    assert list(tracked) == [[4]]


def test_track_ends_with_the_consumer_that_stops_early(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    for item in track(range(5), "reading", 5):
        if item == 2:
            break
    assert lines.messages == ["reading: 1 of 5", "reading: 2 of 5"]


class Terminal:
    """A Python process whose standard error is a terminal, and what stands on its screen."""

    def __init__(self, code: str) -> None:
        self.written = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        others = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=environment | {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=slave,
            text=True,
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._master)

    def wait_until_shown(self, *texts: str) -> None:
        """Read until each of the texts stands on the screen."""
        deadline = time.monotonic() + 60
        while not all(text in "\n".join(self.screen()) for text in texts):
            assert time.monotonic() < deadline, f"{texts} never stood on the screen: {self.written!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.written += os.read(self._master, 1 << 16).decode(errors="ignore")

    def let_go(self) -> None:
        """Let the process read a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> list[str]:
        """The screen that the process leaves."""
        with suppress(OSError):  # how Linux says that nobody can write any more
            while data := os.read(self._master, 1 << 16):
                self.written += data.decode(errors="ignore")
        self._process.wait(60)
        return self.screen()

    def screen(self) -> list[str]:
        """The lines down to the last that is not empty, as a terminal makes them of what was written."""
        rows, row, column = [""], 0, 0
        for control, text in CONTROL.findall(STARTED.sub("", self.written)):
            if text:
                rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
                column += len(text)
            elif control == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif control == "\r":
                column = 0
            elif control.endswith("A"):
                row -= int(control[2:-1] or 1)
            elif control == "\x1b[2K":
                rows[row] = ""
            else:
                assert control[-1] in "mhl", f"{control!r} is not known here"
        return "\n".join(line.rstrip() for line in rows).rstrip("\n").splitlines()


TWO_THREADS = """
    import sys, threading
    from pipeline.cli import set_up_logging
    from pipeline.progress import log, progress

    set_up_logging()
    meet = threading.Barrier(3)

    def work(name):
        with progress(name, 10) as advance:
            advance(3, "and on")
            meet.wait()
            meet.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    meet.wait()
    sys.stdin.readline()
    for number in range(20):
        log.info("line %d of twenty", number)
    log.info("long " + "x" * 150)
    sys.stdin.readline()
    meet.wait()
    for thread in threads:
        thread.join()
    log.info("the end")
"""


def test_bars_of_two_threads_share_the_screen_with_whole_lines_of_the_log_and_leave_only_those() -> None:
    with Terminal(TWO_THREADS) as terminal:
        terminal.wait_until_shown("first", "second", "3 of 10", "and on")
        assert sorted(line.split()[0] for line in terminal.screen()) == ["first", "second"], "a line each"
        terminal.let_go()
        terminal.wait_until_shown("line 19", "x" * 50, "first", "second")
        log, bars = terminal.screen()[:20], terminal.screen()[-2:]
        assert [line[9:] for line in log] == [f"line {number} of twenty" for number in range(20)]
        assert sorted(line.split()[0] for line in bars) == ["first", "second"], "they stay below"
        terminal.let_go()
        left = terminal.end()
    assert left[:20] == log
    assert "".join(left[20:-1])[9:].replace(" ", "") == "long" + "x" * 150, "what is wider than the screen is all there"
    assert left[-1][9:] == "the end"
    assert terminal.written.rindex("\x1b[?25h") > terminal.written.rindex("\x1b[?25l"), "the cursor is shown again"


MANY_THREADS = """
    import threading
    from pipeline.cli import set_up_logging
    from pipeline.progress import log, progress

    set_up_logging()

    def work(thread):
        for number in range(50):
            with progress(f"bar {number} of thread {thread}", 3) as advance:
                advance()
                log.info("line %d of thread %d", number, thread)

    for thread in [threading.Thread(target=work, args=(thread,)) for thread in range(4)]:
        thread.start()
"""


def test_bars_that_come_and_go_in_threads_write_over_no_line_of_the_log_and_none_stays() -> None:
    with Terminal(MANY_THREADS) as terminal:
        left = terminal.end()
    assert [line for line in left if "line" not in line] == []
    assert sorted(line[9:] for line in left) == sorted(
        f"line {number} of thread {thread}" for number in range(50) for thread in range(4)
    )


@pytest.mark.parametrize(
    ("work", "left"),
    [
        ("for name in ('the first', 'looking'): list(track(range(3), name))\nsys.exit('after')", ["after"]),
        ("next(iter(track(range(3), 'looking')))\nsys.exit('after')", ["after"]),
        ("for item in track(range(3), 'looking'):\n    if item: sys.exit('no more water')", ["no more water"]),
    ],
    ids=["done, and done again", "stopped early", "failed"],
)
def test_nothing_is_left_of_work_that_is_done_or_stopped_early_or_has_failed(work: str, left: list[str]) -> None:
    with Terminal(f"import sys\nfrom pipeline.progress import track\n{work}") as terminal:
        assert terminal.end() == left
    assert "looking" in terminal.written


def test_a_silenced_process_shows_nothing() -> None:
    code = "from pipeline.progress import silence, track; silence(); list(track(range(3), 'looking', 3))"
    with Terminal(code) as terminal:
        assert terminal.end() == []
    assert terminal.written == ""


def some_work(number: int) -> None:
    list(track([number], "within the work"))


@pytest.mark.parametrize(("workers", "shown"), [(1, "within the work"), (2, "some-work")])
def test_a_map_over_processes_shows_one_bar_and_the_workers_none_of_their_own(workers: int, shown: str) -> None:
    code = f"""
        from pipeline.mapping import process_map
        from tests.test_progress import some_work
        with process_map({workers}) as mapped:
            list(mapped(some_work, range(4)))
    """
    with Terminal(code) as terminal:
        assert terminal.end() == []
    assert [each for each in ("within the work", "some-work") if each in terminal.written] == [shown]
