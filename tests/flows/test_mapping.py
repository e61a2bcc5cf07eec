"""Prefect's tasks as a `map`: in order, a bounded number at once, and a failure after the others have finished."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run

from flows.mapping import task_map
from pipeline.errors import InputError
from tests.flows.conftest import User
from tests.flows.runs import tasks_of

DONE: list[int] = []


def squared(number: int, *, pause_s: float = 0.0) -> int:
    time.sleep(pause_s * (5 - number))
    return number * number


def test_results_stand_in_the_order_of_the_items(here: User) -> None:
    assert mapped(partial(squared, pause_s=0.05), range(5))[0] == [0, 1, 4, 9, 16]


def test_no_items_are_no_tasks(here: User) -> None:
    assert mapped(squared, [])[0] == []


def test_no_more_run_at_once_than_there_are_workers(here: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTMILL_WORKERS", "3")
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def watched(number: int) -> None:
        with lock:
            running.append(number)
            most.append(len(running))
        time.sleep(0.1)
        with lock:
            running.remove(number)

    mapped(watched, range(10))
    assert max(most) == 3


def test_the_first_failure_is_raised_when_the_others_have_finished(here: User) -> None:
    DONE.clear()
    with pytest.raises(InputError, match="shard 1 is empty"):
        mapped(fails_at_one_and_three, range(5))
    assert sorted(DONE) == [0, 2, 4]


def fails_at_one_and_three(number: int) -> None:
    if number in (1, 3):
        raise InputError(f"shard {number} is empty")
    time.sleep(0.1)
    DONE.append(number)


def test_each_shard_is_a_task_named_after_the_function(here: User) -> None:
    runs = tasks_of(mapped(partial(partial(squared), pause_s=0), range(3))[1])
    assert sorted(run.name for run in runs) == ["squared-0", "squared-1", "squared-2"]
    assert {run.state_name for run in runs} == {"Completed"}


@flow(name="mapped")
def mapped_in_a_flow(fn: Callable[[Any], Any], items: Any) -> tuple[list[Any], Any]:
    return task_map(fn, items), flow_run.id


def mapped(fn: Callable[[Any], Any], items: Any) -> tuple[list[Any], Any]:
    """What `task_map` gives within a flow, and the flow run's id."""
    return mapped_in_a_flow(fn, items)
