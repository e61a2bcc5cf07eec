"""Streams are SplitMix64's numbers, even and apart from each other; an order is a permutation of any size."""

from collections.abc import Sequence
from itertools import islice, product

import numpy as np
import pytest

from pipeline.dataset.randomness import GOLDEN, Draws, Purpose, mixed, shuffled, stream_key
from tests.dataset.chance import fits_even, fits_share

PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
"""The first outputs of Vigna's splitmix64.c from the seed 1234567."""
SIZES = (1, 2, 3, 4, 5, 7, 16, 17, 64, 65, 1000, 4097)


def test_the_finaliser_over_golden_steps_gives_the_published_numbers() -> None:
    assert tuple(mixed(1_234_567 + step * GOLDEN) for step in range(1, 6)) == PUBLISHED


def test_the_finaliser_takes_64_bits_of_any_number() -> None:
    assert mixed(7 + (1 << 64)) == mixed(7)
    assert mixed(0) == 0
    assert len({mixed(value) for value in range(10_000)}) == 10_000


def test_a_draw_is_the_upper_53_bits_of_its_streams_next_number() -> None:
    key = stream_key(12_345, Purpose.MASKS, 3, 9)
    expected = [(mixed(key + step * GOLDEN) >> 11) / 2**53 for step in range(1, 6)]
    draws = Draws(12_345, Purpose.MASKS, 3, 9)
    assert [draws.uniform() for _ in range(5)] == expected


@pytest.mark.parametrize("seed", [0, 1, 12_345, 2**63 - 1])
def test_an_array_of_draws_is_the_same_draws_and_moves_the_stream_as_far(seed: int) -> None:
    single, arrays = Draws(seed, Purpose.PAIRS, 1), Draws(seed, Purpose.PAIRS, 1)
    expected = [single.uniform() for _ in range(100)]
    found = [*arrays.uniforms(30), arrays.uniform(), *arrays.uniforms(0), *arrays.uniforms(69)]
    assert found == expected
    assert arrays.uniform() == single.uniform()


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 10, 100])
def test_whole_numbers_are_below_their_bound_and_even(bound: int) -> None:
    draws = Draws(5, Purpose.PAIRS, bound)
    counts = np.bincount([draws.below(bound) for _ in range(20_000)], minlength=bound)
    assert len(counts) == bound
    assert bound == 1 or fits_even(counts.tolist())


@pytest.mark.parametrize("purpose", Purpose)
def test_the_first_draws_of_neighbouring_streams_are_even_and_independent(purpose: Purpose) -> None:
    first = [Draws(12_345, purpose, 0, index).uniform() for index in range(20_000)]
    cells = np.zeros((10, 10), int)
    np.add.at(cells, tuple((np.array([first[:-1], first[1:]]) * 10).astype(int)), 1)
    assert fits_even(cells.ravel().tolist())


@pytest.mark.parametrize("seeds", [(0, 12_345, 12_346, 2**63 - 1), range(6)], ids=["any", "small"])
def test_no_two_streams_are_the_same(seeds: Sequence[int]) -> None:
    names = list(product(seeds, Purpose, range(12), range(12)))
    assert len({stream_key(*name) for name in names}) == len(names)
    assert len({Draws(*name).uniform() for name in names}) == len(names)


def test_a_streams_numbers_depend_on_their_order_and_count() -> None:
    assert len({stream_key(1, Purpose.PAIRS, *indices) for indices in [(), (0,), (0, 0), (1, 2), (2, 1)]}) == 5


def test_purposes_keep_their_numbers() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {"PAIRS": 1, "MASKS": 2, "ORDER": 3}


def order(size: int, seed: int, epoch: int) -> list[int]:
    return list(map(shuffled(size, seed, epoch), range(size)))


@pytest.mark.parametrize("size", SIZES)
def test_an_order_has_each_index_once(size: int) -> None:
    for seed, epoch in product((0, 1, 2**63 - 1), range(4)):
        assert sorted(order(size, seed, epoch)) == list(range(size))


@pytest.mark.parametrize("size", [64, 1000])
def test_an_order_is_another_in_each_epoch_and_for_each_seed_and_the_same_again(size: int) -> None:
    names = list(product((0, 1, 2), range(5)))
    orders = {tuple(order(size, *name)) for name in names}
    assert len(orders) == len(names)
    assert orders == {tuple(order(size, *name)) for name in names}


@pytest.mark.parametrize("size", [2, 16, 64, 100])
def test_each_index_comes_at_each_place_as_often_as_any_other(size: int) -> None:
    cells = np.zeros((size, size), int)
    for epoch in range(4_000):
        cells[np.arange(size), order(size, 11, epoch)] += 1
    for place in range(size):
        assert fits_even(cells[place].tolist())


def test_neighbours_in_the_data_are_no_neighbours_in_the_order() -> None:
    places = np.array(order(4_096, 3, 0))
    close = int(np.sum(np.abs(np.diff(places)) <= 8))
    assert fits_share(close, 4_095, 2 * 8 / 4_095)


def test_an_order_of_any_size_keeps_nothing_in_memory() -> None:
    few = list(map(shuffled(10**15, 1, 0), islice(range(10**15), 1_000)))
    assert len(set(few)) == 1_000
    assert all(0 <= index < 10**15 for index in few)
    assert fits_share(sum(index < 10**15 // 2 for index in few), 1_000, 0.5)
