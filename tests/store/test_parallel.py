"""Side by side, within a bound, and in order all the same."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.store.parallel import in_parallel


def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    def slower_first(item: int) -> int:
        time.sleep((20 - item) / 2_000)
        return item * item

    assert list(in_parallel(slower_first, range(20), 8)) == [item * item for item in range(20)]


@pytest.mark.parametrize("count", [0, 1])
def test_no_thread_is_started_for_none_or_one(count: int) -> None:
    threads = list(in_parallel(lambda _: threading.current_thread(), range(count)))
    assert threads == [threading.main_thread()] * count


def test_no_more_are_under_way_or_taken_than_the_bound() -> None:
    lock, under_way, most, taken = threading.Lock(), 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(30):
            taken += 1
            yield item

    def work(item: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.002)
        with lock:
            under_way -= 1
        return item

    for given, _ in enumerate(in_parallel(work, items(), 4)):
        assert taken <= given + 1 + 4, "memory is bounded by what is under way"
    assert 2 <= most <= 4


def test_a_failure_is_raised_in_its_turn_and_no_more_is_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("the fourth")
        return item

    results = in_parallel(work, range(1_000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert len(begun) < 10
