"""Hashes by which copies are found, compiled: of whole texts, and of their shingles (MinHash).

MinHash (Broder 1997): of a set's hashes under one permutation the least is shared by two sets at the odds of their
Jaccard similarity. A shingle is hashed once, to 64 bits, of which the upper 32 go through each permutation, a
multiplication and an addition modulo 2^32, which the compiler does for eight or sixteen permutations at a time.
Keys are of 64 bits: among n different texts some two collide at the odds of n² / 2^65, 3 in 10,000 for 100 million.
They are no defence against texts made to collide. Cost: see benchmarks/README.md.

Kernels that call one another stand in one file: numba's cache of a function doesn't see changes of those that it
calls in other files.
Legend: C code points with those of a newline after each text, T texts, B bands, R rows.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.corpus.copies.folding import ALONE, BLANK, LAST_WORD, LIMIT, LONGER, LOW, WORD, Codes, Offsets

Keys = npt.NDArray[np.uint64]

_START = np.uint64(0x2545F4914F6CDD1D)
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd; 2^64 over the golden ratio
_ROLL = np.uint64(0xD1342543DE82EF95)  # odd; Steele & Vigna 2021
_BLANK, _WORD, _ALONE, _LONGER, _LOW = map(np.uint32, (BLANK, WORD, ALONE, LONGER, LOW))
_SPACE, _HALF = np.uint32(32), np.uint64(32)


@njit(cache=True, inline="always")
def _step(state: np.uint64, code: np.uint32) -> np.uint64:
    state = (state ^ np.uint64(code)) * _STEP
    return state ^ (state >> np.uint64(29))


@njit(cache=True, inline="always")
def _mixed(value: np.uint64) -> np.uint64:
    """Every bit of `value` in every bit (the finaliser of SplitMix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, inline="always")
def _entry(code: np.uint32, table: Codes) -> Any:  # np.uint32
    if code < LIMIT:
        return table[code]
    return code | _WORD | _ALONE if code <= LAST_WORD else code


@njit(cache=True)
def text_keys(codes: Codes, starts: Offsets, table: Codes, longer: Codes) -> tuple[Keys, Offsets]:
    """Of each text, casefolded and its blanks collapsed: the key [T] and the length [T] in characters.

    `" ".join(text.casefold().split())` of two texts is the same when their keys are.
    """
    count = len(starts) - 1
    keys, lengths = np.empty(count, np.uint64), np.empty(count, np.int64)
    for text in range(count):
        state, length, parted = _START, 0, False
        for at in range(starts[text], starts[text + 1] - 1):
            entry = _entry(codes[at], table)
            if entry & _BLANK:
                parted = length > 0
                continue
            if parted:
                state, length, parted = _step(state, _SPACE), length + 1, False
            if entry & _LONGER:
                for code in longer[entry & _LOW]:
                    if code:
                        state, length = _step(state, code), length + 1
            else:
                state, length = _step(state, entry & _LOW), length + 1
        keys[text], lengths[text] = _mixed(state ^ np.uint64(length)), length
    return keys, lengths


@njit(cache=True)
def _words(codes: Codes, start: int, end: int, table: Codes, longer: Codes, words: Keys) -> tuple[int, int]:
    """Fill `words` with the hashes of a text's words; returns how many, and how many of them are lone characters."""
    count, alone = 0, 0
    state = _START
    for at in range(start, end):
        entry = _entry(codes[at], table)
        if entry & _ALONE or entry & _BLANK:
            if state != _START:
                words[count] = _mixed(state)
                count += 1
                state = _START
            if entry & _ALONE:
                words[count] = _mixed(_step(_START, entry & _LOW))
                count += 1
                alone += 1
        elif entry & _WORD:
            if entry & _LONGER:
                for code in longer[entry & _LOW]:
                    if code:
                        state = _step(state, code)
            else:
                state = _step(state, entry & _LOW)
    if state != _START:
        words[count] = _mixed(state)
        count += 1
    return count, alone


@njit(cache=True)
def _power(exponent: int) -> np.uint64:
    power = np.uint64(1)
    for _ in range(exponent):
        power *= _ROLL
    return power


@njit(cache=True)
def _minima(words: Keys, count: int, size: int, factors: Codes, summands: Codes, least: Codes) -> None:
    """Fill `least` with the minimum under each permutation of the hashes of all runs of `size` words."""
    least[:] = np.uint32(0xFFFFFFFF)
    rolled, leaving = np.uint64(0), _power(size)
    for at in range(count):
        rolled = rolled * _ROLL + words[at]
        if at >= size:
            rolled -= words[at - size] * leaving
        if at + 1 >= size:
            shingle = np.uint32(_mixed(rolled ^ np.uint64(size)) >> np.uint64(32))
            for each in range(len(least)):
                least[each] = min(least[each], np.uint32(factors[each] * shingle + summands[each]))


@njit(cache=True)
def near_keys(
    codes: Codes, starts: Offsets, table: Codes, longer: Codes, sizes: Offsets, permutations: Codes, keys: Keys
) -> npt.NDArray[np.bool_]:
    """Fill `keys` [T, B] with a key per band; returns [T], whether a text has any: one without a word has none.

    `sizes` are the words of a shingle and the characters of one, which count when at least half of a text's words are
    lone characters. A text shorter than a shingle is one shingle. `permutations`: factors and summands, [2, B · R].
    """
    texts, bands = keys.shape
    rows = permutations.shape[1] // bands
    longest = 0
    for text in range(texts):
        longest = max(longest, starts[text + 1] - starts[text])
    words, least = np.empty(longest, np.uint64), np.empty(permutations.shape[1], np.uint32)
    some = np.zeros(texts, np.bool_)
    for text in range(texts):
        count, alone = _words(codes, starts[text], starts[text + 1] - 1, table, longer, words)
        if count == 0:
            continue
        some[text] = True
        size = min(count, sizes[1] if 2 * alone >= count else sizes[0])
        _minima(words, count, size, permutations[0], permutations[1], least)
        for band in range(bands):
            state = _mixed(_START ^ np.uint64(band))
            for row in range(band * rows, (band + 1) * rows):
                state = _step(state, least[row])
            keys[text, band] = _mixed(state)
    return some


@njit(cache=True)
def _run_key(words: Keys, start: int, size: int) -> Any:  # np.uint64
    rolled = np.uint64(0)
    for at in range(start, start + size):
        rolled = rolled * _ROLL + words[at]
    return _mixed(rolled ^ np.uint64(size))


@njit(cache=True)
def gram_keys(
    codes: Codes, starts: Offsets, table: Codes, longer: Codes, sizes: Offsets, least: Offsets, anchor: int
) -> tuple[Keys, Keys, Offsets, Offsets]:
    """Of all n-grams of the texts: the key, the key of the first `anchor` words, the size and the text, [N] each.

    `sizes` and `least` are of words and of lone characters, which count as in `near_keys`. A text shorter than an
    n-gram is one; one shorter than `least` has none.
    """
    count = len(codes)
    words, keys, anchors = np.empty(count, np.uint64), np.empty(count, np.uint64), np.empty(count, np.uint64)
    lengths, texts = np.empty(count, np.int64), np.empty(count, np.int64)
    grams = 0
    for text in range(len(starts) - 1):
        count, alone = _words(codes, starts[text], starts[text + 1] - 1, table, longer, words)
        kind = 1 if 2 * alone >= count else 0
        if count < least[kind]:
            continue
        size = min(count, sizes[kind])
        for at in range(count - size + 1):
            keys[grams], anchors[grams] = _run_key(words, at, size), _run_key(words, at, anchor)
            lengths[grams], texts[grams] = size, text
            grams += 1
    return keys[:grams], anchors[:grams], lengths[:grams], texts[:grams]


@njit(cache=True, inline="always")
def _is_set(bits: Keys, place: np.uint64) -> Any:  # bool
    return (bits[place >> np.uint64(6)] >> (place & np.uint64(63))) & np.uint64(1) != 0


@njit(cache=True)
def has_gram(
    codes: Codes, table: Codes, longer: Codes, anchor: int, anchors: Keys, shift: int, sizes: Offsets, grams: Keys
) -> bool:
    """Whether a text has one of the sorted `grams`, which are of `sizes` words and begin with `anchor` words.

    `anchors` is a Bloom filter of those beginnings' keys: A key's bits
    are at the places that `shift` leaves of it, and of its lower half.
    """
    words = np.empty(len(codes), np.uint64)
    count, _ = _words(codes, 0, len(codes) - 1, table, longer, words)
    rolled, leaving = np.uint64(0), _power(anchor)
    for at in range(count):
        rolled = rolled * _ROLL + words[at]
        if at >= anchor:
            rolled -= words[at - anchor] * leaving
        start = at + 1 - anchor
        if start < 0:
            continue
        key = _mixed(rolled ^ np.uint64(anchor))
        if not _is_set(anchors, key >> np.uint64(shift)) or not _is_set(anchors, (key << _HALF) >> np.uint64(shift)):
            continue
        for size in sizes:
            if start + size <= count:
                key = _run_key(words, start, size)
                found = np.searchsorted(grams, key)
                if found < len(grams) and grams[found] == key:
                    return True
    return False


@lru_cache(maxsize=8)
def permutations_of(seed: int, count: int) -> Codes:
    """Odd factors, and summands: [2, count], a function of the seed on every machine."""
    drawn = np.random.PCG64(seed).random_raw(2 * count).astype(np.uint64) >> np.uint64(32)
    permutations = drawn.astype(np.uint32).reshape(2, count)
    permutations[0] |= np.uint32(1)
    return permutations
