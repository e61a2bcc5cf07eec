"""A step is the same for any number of ranks and loader workers, wherever a run starts, and after it is killed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.dataset.loading import AHEAD, steps_ahead
from pipeline.dataset.samples import Samples
from pipeline.store import Store
from tests.dataset.reading import digest_of, step_of_all, steps_over
from tests.dataset.stored import rows_of, stored, with_masks

STEPS = 30
"""Over three epochs."""


@pytest.fixture(params=["each_epoch", "stored"])
def samples(store: Store, request: pytest.FixtureRequest) -> Samples:
    """Of several files, with masks that are drawn or stored."""
    files = [with_masks(rows_of([8 + n % 60 for n in range(count)]), 7) for count in (50, 1, 99, 70)]
    return Samples(store, stored(store, files, masks=request.param))


def digests(samples: Samples, world: int = 1, workers: int = 0, start: int = 0, stop: int = STEPS) -> list[str]:
    with closing(steps_ahead(step_of_all(steps_over(samples), world), start, stop, workers)) as made:
        return [digest_of(batches) for batches in made]


def read_into(seen: list[int], steps: Iterable[int]) -> None:
    """Keep what comes, up to an error."""
    for step in steps:
        seen.append(step)  # noqa: PERF402


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert loaders() == []


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_a_step_is_the_same_for_any_number_of_ranks_and_workers(samples: Samples, world: int, workers: int) -> None:
    expected = digests(samples)
    assert len(set(expected)) == STEPS
    assert digests(samples, world, workers) == expected


@pytest.mark.parametrize("workers", [0, 4])
def test_a_run_that_starts_at_any_step_sees_what_one_from_the_first_would(samples: Samples, workers: int) -> None:
    expected = digests(samples)
    for start in range(STEPS):
        afresh = Samples(samples._store, samples.dataset)
        assert digests(afresh, 2, workers, start, min(start + 3, STEPS)) == expected[start : start + 3]


@pytest.mark.parametrize("workers", ["0", "4"])
def test_a_run_that_is_killed_goes_on_at_its_step_with_what_it_would_have_seen(samples: Samples, workers: str) -> None:
    expected = digests(samples, stop=25)
    told = list[str]()
    for until in (7, 11, 25):  # killed after so many, thrice
        told += read_and_kill(samples, start=len(told), count=until - len(told), workers=workers)
    assert told == expected


def read_and_kill(samples: Samples, start: int, count: int, workers: str) -> list[str]:
    """What a process tells of `count` steps from `start` on, before it is killed in mid-run."""
    command = [sys.executable, "-m", "tests.dataset.reading", samples.dataset.reference, str(start), workers]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, env=os.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().split() for _ in range(count)]
        finally:
            process.kill()
    assert [int(step) for step, _ in lines] == list(range(start, start + count))
    return [digest for _, digest in lines]


# The loader alone


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_steps_come_in_order_each_made_once(workers: int) -> None:
    made = list[int]()

    def make(step: int) -> int:
        made.append(step)
        return step * step

    assert list(steps_ahead(make, 5, 40, workers)) == [step * step for step in range(5, 40)]
    assert sorted(made) == list(range(5, 40))
    assert list(steps_ahead(make, 5, 5, workers)) == []


def test_without_workers_a_step_is_made_when_it_is_asked_for() -> None:
    made = list[int]()
    steps = steps_ahead(made.append, 0, 9, 0)
    assert made == []
    next(steps)
    assert made == [0]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_a_few_steps_are_made_ahead(workers: int) -> None:
    made = list[int]()

    def make(step: int) -> int:
        made.append(step)
        return step

    with closing(steps_ahead(make, 0, 1_000, workers)) as steps:
        for step in steps:
            assert len(made) <= step + AHEAD * workers
            if step == 50:
                break


def test_while_a_step_is_used_the_next_ones_are_made() -> None:
    second = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            second.set()
        return step

    with closing(steps_ahead(make, 0, 9, 1)) as steps:
        next(steps)
        assert second.wait(timeout=60)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_what_a_step_raises_is_raised_in_its_turn(workers: int) -> None:
    def make(step: int) -> int:
        if step in (6, 7):
            raise KeyError(step)
        return step

    seen = list[int]()
    with closing(steps_ahead(make, 0, 20, workers)) as steps, pytest.raises(KeyError, match="6"):
        read_into(seen, steps)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert loaders() == []


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_loader_that_is_closed_early_leaves_no_thread(workers: int, taken: int) -> None:
    steps = steps_ahead(lambda step: step, 0, 1_000, workers)
    for _ in range(taken):
        next(steps)
    steps.close()
    assert loaders() == []
    assert list(steps) == []
