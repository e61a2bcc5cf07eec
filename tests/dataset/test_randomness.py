"""Streams are SplitMix64's numbers, even and apart from each other, in plain Python and compiled alike."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.randomness import GOLDEN, Draws, Purpose, key_of, mixed, stream_key, stream_keys, uniform_of
from tests.dataset.chance import fits_even

PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
"""The first outputs of Vigna's splitmix64.c from the seed 1234567."""


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
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "PAIRS": 1,
        "MASKS": 2,
        "ORDER": 3,
        "DONORS": 4,
        "REPLAY": 5,
        "FILES": 6,
        "CUTS": 7,
    }


def test_the_compiled_numbers_are_those_of_the_draws() -> None:
    key = stream_key(12_345, Purpose.DONORS, 3, 9)
    assert [uniform_of(np.uint64(key), number) for number in range(1, 51)] == uniforms(12_345, Purpose.DONORS, 3, 9)
    assert key_of(np.uint64(stream_key(12_345, Purpose.DONORS, 3)), 9) == key
    epochs, indices = np.array([0, 3, 1 << 40]), np.array([1 << 40, 9, 0])
    keys = stream_keys(np.uint64(stream_key(12_345, Purpose.DONORS)), epochs, indices)
    expected = [stream_key(12_345, Purpose.DONORS, *each) for each in zip(epochs.tolist(), indices.tolist())]
    assert keys.tolist() == expected


def uniforms(*names: Any) -> list[float]:
    draws = Draws(*names)
    return [draws.uniform() for _ in range(50)]
