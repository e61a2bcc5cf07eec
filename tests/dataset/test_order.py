"""Each epoch sees every row once, a window of files at a time, in an order of its own that looks like chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import order
from pipeline.dataset.order import Order, permuted
from pipeline.dataset.randomness import Purpose, mixed, stream_key
from tests.dataset.chance import fits_even

SEED = 12_345
SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


def rows_of(sizes: list[int], epoch: int, seed: int = SEED) -> list[int]:
    """The rows of an epoch in their order."""
    whole = Order(sizes, seed)
    epochs, rows = whole.rows(epoch * whole.size + np.arange(whole.size))
    assert set(epochs.tolist()) == {epoch}
    return [int(row) for row in rows]


def below(key: int, *indices: int) -> int:
    """The key of a stream under another's."""
    for index in indices:
        key = mixed((key ^ index) + 0x9E3779B97F4A7C15)
    return key


def readable_permuted(place: int, size: int, key: int) -> int:
    half = next(bits for bits in range(1, 64) if 4**bits >= size)
    low = 2**half - 1
    while True:
        left, right = place >> half, place & low
        for turn in range(4):
            left, right = right, left ^ (mixed(below(key, turn) ^ right) & low)
        place = (left << half) | right
        if place < size:
            return place


def readable_order(sizes: list[int], epoch: int, window: int) -> list[int]:
    """What the order is said to be: files in a drawn order, the rows of each window of them permuted."""
    of_files, of_rows = (stream_key(SEED, purpose, epoch) for purpose in (Purpose.FILES, Purpose.ORDER))
    files = sorted(range(len(sizes)), key=lambda file: below(of_files, file))
    found = []
    for number, first in enumerate(range(0, len(files), window)):
        together = [sum(sizes[:file]) + row for file in files[first : first + window] for row in range(sizes[file])]
        key = below(of_rows, number)
        found += [together[readable_permuted(place, len(together), key)] for place in range(len(together))]
    return found


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 1_000), st.sampled_from([1, 3, 64]))
def test_each_epoch_is_the_permutation_that_is_described(sizes: list[int], epoch: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "WINDOW", window)
        rows = rows_of(sizes, epoch)
    assert rows == readable_order(sizes, epoch, window)
    assert sorted(rows) == list(range(sum(sizes)))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.lists(st.integers(0, 5_000), max_size=40))
def test_a_position_has_the_same_row_whatever_it_is_asked_with(sizes: list[int], positions: list[int]) -> None:
    whole = Order(sizes, SEED)
    epochs, rows = whole.rows(np.array(positions, np.int64))
    for position, epoch, row in zip(positions, epochs.tolist(), rows.tolist()):
        alone = Order(sizes, SEED).rows(np.array([position]))
        assert (alone[0].tolist(), alone[1].tolist()) == ([epoch], [row])
        assert epoch == position // sum(sizes)


def test_rows_come_from_a_window_of_files_and_the_next_one_is_told_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WINDOW", 4)
    sizes = [7, 0, 12, 5, 9, 1, 30, 2, 8, 8, 3]
    whole = Order(sizes, SEED)
    file_of = np.repeat(np.arange(len(sizes)), sizes)
    seen, told = list[set[int]](), set[int]()
    for position in range(2 * whole.size):
        file = int(file_of[whole.rows(np.array([position]))[1][0]])
        ahead = set(whole.files_after(position))
        if ahead != told:  # a window begins, of the files that were told
            assert file in told or position == 0
            seen.append(set())
            told = ahead
        seen[-1].add(file)
    assert len(seen) == 2 * 3
    assert max(map(len, seen)) <= 4
    for first in (0, 3):
        assert sorted(file for window in seen[first : first + 3] for file in window) == [
            file for file, size in enumerate(sizes) if size
        ]


def test_an_epoch_of_few_files_is_shuffled_as_a_whole() -> None:
    rows = rows_of([100] * 50, 0)
    assert len({row // 100 for row in rows[:500]}) > 45


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    orders = [rows_of([50, 70, 80], epoch, seed) for epoch in range(4) for seed in range(4)]
    assert len({tuple(each) for each in orders}) == 16
    assert list(range(200)) not in orders


@pytest.mark.parametrize("size", [16, 37, 100, 256])
def test_a_row_may_come_at_any_place_as_often_as_at_any_other(size: int) -> None:
    keys = [np.uint64(stream_key(SEED, Purpose.ORDER, epoch)) for epoch in range(400 * size)]
    for place in (0, size // 2, size - 1):
        counts = np.bincount([permuted(place, size, key) for key in keys], minlength=size)
        assert fits_even(counts.tolist())


def test_neighbours_are_parted_as_by_chance() -> None:
    size = 64
    steps = []
    for epoch in range(400):
        key = np.uint64(stream_key(SEED, Purpose.ORDER, epoch))
        places = np.array([permuted(place, size, key) for place in range(size)])
        steps.append((np.diff(places) % size).tolist())
    counts = np.bincount(np.concatenate(steps), minlength=size)
    assert fits_even(counts[1:].tolist())


def test_the_first_file_of_an_epoch_may_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WINDOW", 1)
    whole = Order([1] * 20, SEED)
    firsts = whole.rows(20 * np.arange(4_000))[1]
    assert fits_even(np.bincount(firsts, minlength=20).tolist())
