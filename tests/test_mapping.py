"""The command line's `map`: in order, every item before the first failure, and no process that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from io import StringIO
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest

from pipeline import progress
from pipeline.errors import InputError
from pipeline.mapping import light, process_map, work_name
from tests.processes import living_with

SECONDS = 10.0


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A variable that only processes started from this test carry."""
    monkeypatch.setenv("TEST_MARK", unique := uuid.uuid4().hex)
    return f"TEST_MARK={unique}"


def wait_for(path: Path, within_s: float = 60) -> None:
    """Return when the file is there."""
    deadline = time.monotonic() + within_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} didn't come")
        time.sleep(0.01)


def overtaken(number: int, *, folder: Path) -> int:
    """The square; item 0 is done when item 3 is."""
    if number == 0:
        wait_for(folder / "3")
    (folder / str(number)).touch()
    return number * number


def fails_at_zero_and_three(number: int, *, folder: Path) -> None:
    """Item 3 fails first, then item 0, and item 4 is done a while after both."""
    if number in (0, 4):
        wait_for(folder / str({0: 3, 4: 0}[number]))
        time.sleep(0.2)
    (folder / str(number)).touch()
    if number in (0, 3):
        raise InputError(f"shard {number} is empty")


def together(number: int, *, folder: Path) -> int:
    """The process that does item 0 or 1, while another does the other."""
    (folder / str(number)).touch()
    wait_for(folder / str(1 - number))
    return os.getpid()


def endless(number: int, *, folder: Path) -> None:
    (folder / str(number)).touch()
    time.sleep(120)


def lines_of_progress(number: int) -> list[str]:
    """What the log shows of two steps, where each is worth a line."""
    handler, level = BufferingHandler(capacity=100), progress.log.level
    progress.log.addHandler(handler)
    progress.log.setLevel("INFO")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
            patch.setattr(sys, "stderr", StringIO())
            list(progress.track(range(2), f"shard {number}", 2))
    finally:
        progress.log.setLevel(level)
        progress.log.removeHandler(handler)
    return [record.getMessage() for record in handler.buffer]


def test_results_stand_in_the_order_of_the_items_whichever_is_done_first(tmp_path: Path) -> None:
    with process_map(2) as parallel:
        assert parallel(partial(overtaken, folder=tmp_path), iter(range(5))) == [0, 1, 4, 9, 16]
        assert parallel(overtaken, []) == []


def test_the_first_items_failure_is_raised_when_all_others_have_been_tried(tmp_path: Path) -> None:
    with process_map(2) as parallel:
        with pytest.raises(InputError, match="shard 0 is empty"):
            parallel(partial(fails_at_zero_and_three, folder=tmp_path), range(5))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]


def test_two_workers_are_two_other_processes_that_work_at_once_and_end_with_the_map(tmp_path: Path, mark: str) -> None:
    with process_map(2) as parallel:
        workers = set(parallel(partial(together, folder=tmp_path), range(2)))
        assert len(workers) == 2
        assert workers <= set(living_with(mark, within_s=0)), "they are kept for the next call"
        assert os.getpid() not in workers
    assert not living_with(mark, within_s=SECONDS)


def test_one_worker_is_the_builtin_map() -> None:
    with process_map(1) as mapped:
        assert mapped is map


@pytest.mark.parametrize("work", [endless, together])
def test_workers_end_with_a_killed_parent_busy_or_idle(
    work: Callable[..., object], tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    code = (
        "import pathlib, sys, time; from functools import partial; from pipeline.mapping import process_map\n"
        f"from tests.test_mapping import {work.__name__} as work\n"
        "with process_map(2) as parallel:\n"
        "    parallel(partial(work, folder=pathlib.Path(sys.argv[1])), range(2)); print(flush=True); time.sleep(120)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    try:
        for number in range(2):
            wait_for(tmp_path / str(number))
        if work is together:
            assert parent.stdout.readline() == b"\n", "both are done, and wait for more"
        assert len(living_with(mark, within_s=0)) >= 3, "the parent, two workers"
    finally:
        parent.kill()
        parent.stdout.close()
        parent.wait()
    left = living_with(mark, within_s=SECONDS)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_what_a_worker_would_show_is_not_shown() -> None:
    assert lines_of_progress(7) == ["shard 7: 1 of 2", "shard 7: 2 of 2"], "this process does show it"
    with process_map(2) as parallel:
        assert parallel(lines_of_progress, range(2)) == [[], []]


def _make_pairs(unit: int, *, seed: int, passes: int) -> None: ...


@pytest.mark.parametrize(
    "fn", [_make_pairs, partial(_make_pairs, seed=1), partial(partial(partial(_make_pairs, seed=1), passes=2))]
)
def test_work_is_named_after_the_function_under_all_partials(fn: Callable[..., None]) -> None:
    assert work_name(fn) == "make-pairs"


def own_process(_: int) -> int:
    return os.getpid()


def test_light_work_starts_no_processes_and_goes_to_those_that_run() -> None:
    with process_map(2) as parallel:
        assert set(light(parallel)(own_process, range(4))) == {os.getpid()}
        assert os.getpid() not in parallel(own_process, range(4))
        assert light(parallel) is parallel
    assert light(map) is map
