"""Randomness as a function: the n-th number of a stream named by (seed, purpose, indices), with no state to save.

SplitMix64 (Steele, Lea and Flood 2014) over a key that is mixed from the names: the numbers of one stream don't depend
on how many others are drawn, in which order, or by which process. Three forms of the same numbers: `Draws` in plain
Python (a microsecond a draw), and compiled, a stream's `number`th or many streams' keys (a nanosecond).
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from numba import njit

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
U64 = npt.NDArray[np.uint64]


class Purpose(IntEnum):
    """What a stream is for; a number is never given to another."""

    PAIRS = 1
    MASKS = 2
    ORDER = 3
    DONORS = 4
    REPLAY = 5
    FILES = 6
    CUTS = 7


def mixed(value: int) -> int:
    """SplitMix64's finaliser: a bijection of 64-bit numbers that looks random."""
    value &= WORD
    value = ((value ^ (value >> 30)) * FIRST) & WORD
    value = ((value ^ (value >> 27)) * SECOND) & WORD
    return value ^ (value >> 31)


def stream_key(seed: int, purpose: Purpose, *indices: int) -> int:
    """The key of a stream."""
    key = mixed(seed + GOLDEN)
    for index in (int(purpose), *indices):
        key = mixed((key ^ index) + GOLDEN)
    return key


@njit(cache=True, inline="always")
def mixed_in(value: np.uint64) -> np.uint64:
    """`mixed`, compiled."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(FIRST)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(SECOND)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, inline="always")
def key_of(above: np.uint64, index: int) -> np.uint64:
    """The key of a stream from that of the names before its last: `stream_key(..., i, j)` is `key_of(key, j)`."""
    return mixed_in((above ^ np.uint64(index)) + np.uint64(GOLDEN))  # type: ignore[no-any-return]


@njit(cache=True, inline="always")
def uniform_of(key: np.uint64, number: int) -> float:
    """The `number`th of a stream's `Draws.uniform()`, from 1."""
    return (mixed_in(key + np.uint64(number) * np.uint64(GOLDEN)) >> np.uint64(11)) * 2.0**-53  # type: ignore[no-any-return]


@njit(cache=True)
def stream_keys(above: int, epochs: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> U64:
    """`stream_key(seed, purpose, epoch, index)` of each pair [S], from `above = stream_key(seed, purpose)`."""
    keys = np.empty(len(indices), np.uint64)
    for at in range(len(indices)):
        keys[at] = key_of(key_of(np.uint64(above), epochs[at]), indices[at])
    return keys


class Draws:
    """A stream read in order."""

    def __init__(self, seed: int, purpose: Purpose, *indices: int) -> None:
        self._key = stream_key(seed, purpose, *indices)
        self._drawn = 0

    def uniform(self) -> float:
        """In [0, 1), with 53 bits."""
        self._drawn += 1
        return (mixed(self._key + self._drawn * GOLDEN) >> 11) * 2.0**-53

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        return int(self.uniform() * bound)

    def uniforms(self, count: int) -> npt.NDArray[np.float64]:
        """The next `count` of `uniform()`, as an array [count] float64."""
        numbers = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        value = np.uint64(self._key) + numbers * np.uint64(GOLDEN)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(FIRST)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(SECOND)
        return ((value ^ (value >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
