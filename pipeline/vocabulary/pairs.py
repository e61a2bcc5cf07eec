"""Pairs of neighbouring symbols: found by what they are of, counted, and in a heap by what is to be merged first.

The heap knows where each pair is. A key that has fallen is brought up to date when it reaches the top; one that rises
at once, by `offer`: of counts those of the pairs that a merge makes, of likelihoods those of all pairs of the merged
symbols, as these grow rarer; for that each symbol has a chain of its pairs that are in the heap.

Legend: P pairs, M symbols. Memory: 60 bytes a pair. Compiled code that calls these is cached by its own file: touch
`merges` after a change here.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """The pairs. Positions lie in segments, of which each pair has a chain."""

    sides: Int32
    """[2, P], the symbols on the left and on the right."""
    nexts: Int32
    """[2, P], the pair before with the same one there; -1 for none, or UNCHAINED where it hasn't been in the heap."""
    counts: Int64
    """[P], how often it stands."""
    segments: Int32
    """[P], the last of its segments; -1 for none."""
    touched: Int32
    """[P], positions that the merge under way has found."""
    slots: Int32
    """A hash table of their numbers + 1, a power of two in size, never over half full."""
    used: Int64
    """[4]: of pairs, of segments, of positions, of the heap."""


class Heap(NamedTuple):
    """A binary heap; the best pair is at 0."""

    keys: npt.NDArray[np.float64]
    pairs: Int32
    where: Int32
    """[P], the place of each pair; -1 where it isn't there."""


UNCHAINED = -2
PAIRS, SEGMENTS, POSITIONS, HEAP = range(4)


@njit(cache=True)
def _slot(left, right, mask):  # type: ignore[no-untyped-def]
    key = np.uint64(left) << np.uint64(32) | np.uint64(right)
    key *= np.uint64(0x9E3779B97F4A7C15)
    key ^= key >> np.uint64(32)
    return np.int64(key & np.uint64(0x7FFFFFFFFFFFFFFF)) & mask


@njit(cache=True)
def pair_number(left, right, pairs):  # type: ignore[no-untyped-def]
    """The number of a pair, which is made where it is new."""
    slots, sides = pairs.slots, pairs.sides
    mask = len(slots) - 1
    slot = _slot(left, right, mask)
    while slots[slot] != 0:
        number = slots[slot] - 1
        if sides[0, number] == left and sides[1, number] == right:
            return number
        slot = (slot + 1) & mask
    number = pairs.used[PAIRS]
    pairs.used[PAIRS] = number + 1
    slots[slot] = number + 1
    sides[0, number], sides[1, number] = left, right
    pairs.counts[number], pairs.segments[number], pairs.touched[number] = 0, -1, 0
    pairs.nexts[0, number], pairs.nexts[1, number] = UNCHAINED, UNCHAINED
    return number


@njit(cache=True)
def _chain(pair, symbols, pairs):  # type: ignore[no-untyped-def]
    """Let its symbols know of a pair that is in the heap."""
    for side in range(2):
        if pairs.nexts[side, pair] == UNCHAINED:
            symbol = pairs.sides[side, pair]
            pairs.nexts[side, pair] = symbols.firsts[side, symbol]
            symbols.firsts[side, symbol] = pair


@njit(cache=True)
def rehash(pairs):  # type: ignore[no-untyped-def]
    """Find every pair's slot again, in an empty table."""
    mask = len(pairs.slots) - 1
    for number in range(pairs.used[PAIRS]):
        slot = _slot(pairs.sides[0, number], pairs.sides[1, number], mask)
        while pairs.slots[slot] != 0:
            slot = (slot + 1) & mask
        pairs.slots[slot] = number + 1


@njit(cache=True)
def _before(one_key, one, other_key, other, sides):  # type: ignore[no-untyped-def]
    """Whether pair `one` comes before `other`: the greater key; of equals the one whose symbols came first."""
    if one_key != other_key:
        return one_key > other_key
    if sides[0, one] != sides[0, other]:
        return sides[0, one] < sides[0, other]
    return sides[1, one] < sides[1, other]


@njit(cache=True)
def _rise(at, key, pair, heap, sides):  # type: ignore[no-untyped-def]
    """Put a pair where `at` is, or above it, where it belongs."""
    keys, ids, where = heap.keys, heap.pairs, heap.where
    while at > 0:
        above = (at - 1) >> 1
        if not _before(key, pair, keys[above], ids[above], sides):
            break
        keys[at], ids[at] = keys[above], ids[above]
        where[ids[at]] = at
        at = above
    keys[at], ids[at], where[pair] = key, pair, at


@njit(cache=True)
def _sink(at, key, pair, size, heap, sides):  # type: ignore[no-untyped-def]
    """Put a pair where `at` is, or below it, where it belongs among the first `size`."""
    keys, ids, where = heap.keys, heap.pairs, heap.where
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and _before(keys[below + 1], ids[below + 1], keys[below], ids[below], sides):
            below += 1
        if not _before(keys[below], ids[below], key, pair, sides):
            break
        keys[at], ids[at] = keys[below], ids[below]
        where[ids[at]] = at
        at = below
    keys[at], ids[at], where[pair] = key, pair, at


@njit(cache=True)
def _key(pair, pairs, counts, likelihood):  # type: ignore[no-untyped-def]
    """What a pair is chosen by; the same operations in the same order wherever it is worked out."""
    count = np.float64(pairs.counts[pair])
    if count == 0 or not likelihood:
        return count
    return count / np.float64(counts[pairs.sides[0, pair]]) / np.float64(counts[pairs.sides[1, pair]])


@njit(cache=True)
def fill_heap(symbols, pairs, heap, least, likelihood):  # type: ignore[no-untyped-def]
    """Put in all pairs that stand at least so often, and nothing else."""
    size = 0
    heap.where[:] = -1
    symbols.firsts[:] = -1
    pairs.nexts[:] = UNCHAINED
    for pair in range(pairs.used[PAIRS]):
        if pairs.counts[pair] >= least:
            heap.keys[size], heap.pairs[size] = _key(pair, pairs, symbols.counts, likelihood), pair
            heap.where[pair] = size
            _chain(pair, symbols, pairs)
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        _sink(at, heap.keys[at], np.int64(heap.pairs[at]), size, heap, pairs.sides)
    pairs.used[HEAP] = size


@njit(cache=True)
def take_best(symbols, pairs, heap, least, likelihood):  # type: ignore[no-untyped-def]
    """Take the best pair out of the heap; -1 where none is left that stands at least so often."""
    while pairs.used[HEAP]:
        key, pair = heap.keys[0], np.int64(heap.pairs[0])
        now = _key(pair, pairs, symbols.counts, likelihood)
        enough = pairs.counts[pair] >= least
        if key != now and enough:
            _sink(0, now, pair, pairs.used[HEAP], heap, pairs.sides)
            continue
        pairs.used[HEAP] -= 1
        size = pairs.used[HEAP]
        heap.where[pair] = -1
        if size:
            _sink(0, heap.keys[size], np.int64(heap.pairs[size]), size, heap, pairs.sides)
        if enough:
            return pair
    return -1


@njit(cache=True)
def offer(pair, symbols, pairs, heap, least, likelihood):  # type: ignore[no-untyped-def]
    """Put a pair into the heap, where it stands often enough; or where it belongs by now."""
    at = np.int64(heap.where[pair])
    if at < 0:
        if pairs.counts[pair] < least:
            return
        at = pairs.used[HEAP]
        pairs.used[HEAP] += 1
        _chain(pair, symbols, pairs)
        _rise(at, _key(pair, pairs, symbols.counts, likelihood), pair, heap, pairs.sides)
        return
    key = _key(pair, pairs, symbols.counts, likelihood)
    if key > heap.keys[at]:
        _rise(at, key, pair, heap, pairs.sides)
    elif key < heap.keys[at]:
        _sink(at, key, pair, pairs.used[HEAP], heap, pairs.sides)
