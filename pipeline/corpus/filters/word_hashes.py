"""64-bit hashes of words and lines, and compiled sets of them.

A word's hash is a polynomial of its characters, so that hashes of words in a row join into that of the words joined:
an n-gram costs one multiplication more than an (n-1)-gram. Two texts' hashes are equal by chance once in 2^64.
"""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.corpus.filters.characters import points_of

Hashes = NDArray[np.uint64]
BASE = np.uint64(0x9E3779B97F4A7C15)


def hash_of(word: str) -> int:
    """A word's hash, as `hashes` gives it."""
    points = points_of(word)
    return int(hash_words(points, np.zeros(1, np.int32), np.array([len(points)], np.int32))[0][0])


@lru_cache(maxsize=64)
def hashed(words: tuple[str, ...]) -> Hashes:
    """The hashes of some words, in order, to be looked for among a text's."""
    return np.array(sorted(map(hash_of, words)), np.uint64)


@njit(cache=True)
def hash_words(points, starts, ends):  # type: ignore[no-untyped-def]
    """Each word's hash, and BASE to the power of its length, by which hashes of words in a row are joined."""
    hashes, powers = np.empty(len(starts), np.uint64), np.empty(len(starts), np.uint64)
    for word in range(len(starts)):
        value, power = np.uint64(0), np.uint64(1)
        for at in range(ends[word] - 1, starts[word] - 1, -1):
            value = value * BASE + np.uint64(points[at] + 1)
            power *= BASE
        hashes[word], powers[word] = value, power
    return hashes, powers


@njit(cache=True)
def hash_span(points, first, last):  # type: ignore[no-untyped-def]
    """A hash of the characters from `first` to `last`."""
    value = np.uint64(last - first + 1)
    for at in range(first, last):
        value = (value ^ np.uint64(points[at])) * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
    return value


@njit(cache=True)
def table_for(values):  # type: ignore[no-untyped-def]
    """An empty set for so many hashes."""
    size = 8
    while size <= 4 * values:
        size *= 2
    return np.zeros(size, np.uint64)


@njit(cache=True)
def add(table, value):  # type: ignore[no-untyped-def]
    """Add a hash to a set; whether it was there. The table's size is a power of two, over four times the values'."""
    value = value if value else np.uint64(1)
    mask = np.uint64(len(table) - 1)
    at = ((value * np.uint64(0xFF51AFD7ED558CCD)) >> np.uint64(33)) & mask
    while table[at]:
        if table[at] == value:
            return True
        at = (at + np.uint64(1)) & mask
    table[at] = value
    return False
