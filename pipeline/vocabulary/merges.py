"""The merging of neighbouring pieces, compiled: words as symbols in one flat array, and the pairs that stand in it.

A symbol begins at a position of the array and is as long as it has characters; where it begins and where it ends its
length is kept, so that both neighbours are one step away. Each pair knows its count and the positions where it once
stood; those that no longer hold are passed over. Which pair is next, `pairs` says.

Legend: N characters of all words, W words, M symbols, P pairs. Memory: 9 bytes a character, and 4 for each position
that is noted of a pair, of which there are 3 a character at most (2.1 of English words).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.vocabulary.alphabet import decoded
from pipeline.vocabulary.pairs import (
    PAIRS,
    POSITIONS,
    SEGMENTS,
    Int32,
    Int64,
    offer,
    pair_number,
    take_best,
)


class Spelling(NamedTuple):
    """The words as symbols."""

    symbols: Int32
    """[N], the symbol that begins there."""
    lengths: npt.NDArray[np.uint8]
    """[N], its characters; valid where a symbol begins and where it ends."""
    words: Int32
    """[N], which word it is of."""
    weights: Int64
    """[W], how often each word stands."""


class Symbols(NamedTuple):
    """The symbols' texts, with `##` where they continue a word; told apart by text, whatever made them."""

    text: npt.NDArray[np.uint8]
    starts: Int64
    """[M + 1]"""
    slots: Int32
    """A hash table of their numbers + 1, a power of two in size, never over half full."""
    counts: Int64
    """[M], how often each stands."""
    firsts: Int32
    """[2, M], the last pair to come into the heap that has it on the left, and on the right; -1 for none."""
    used: Int64
    """[1]"""


class Places(NamedTuple):
    """Where pairs stand."""

    positions: Int32
    starts: Int64
    sizes: Int32
    nexts: Int32
    """Of each segment the one before it, or -1."""


DONE, NO_MORE, NO_ROOM = range(3)
"""Why `learn` stopped: as many as were asked for; no pair is left; arrays must grow first."""


@njit(cache=True)
def spell(text, starts, is_kept, longest, first_ids, later_ids, symbols, lengths, words):  # type: ignore[no-untyped-def]
    """Write words as their characters' symbols; returns how many characters there are.

    Left out are words that aren't kept (bool [W]), have over `longest` characters or one without a symbol. first_ids,
    later_ids: int32 [0x110000], of each code point the symbol at a word's start and after it, or -1.
    """
    out = 0
    for word in range(len(is_kept)):
        begun, at = out, starts[word]
        while is_kept[word] and at < starts[word + 1]:
            point, after = decoded(text, at)
            symbol = first_ids[point] if out == begun else later_ids[point]
            if symbol < 0 or out - begun == longest:
                out = begun
                break
            symbols[out], lengths[out], words[out] = symbol, 1, word
            out += 1
            at = after
    return out


@njit(cache=True)
def find_pairs(spelling, symbols, pairs, places, found):  # type: ignore[no-untyped-def]
    """Count the symbols and pairs of the words, and note where the pairs stand; stops where there is no room for them.

    found: int32 [N], room for the pair of each position. Returns whether there was room.
    """
    size = len(spelling.symbols)
    for at in range(size):
        weight = spelling.weights[spelling.words[at]]
        symbols.counts[spelling.symbols[at]] += weight
        found[at] = -1
        if at + 1 < size and spelling.words[at + 1] == spelling.words[at]:
            if pairs.used[PAIRS] == len(pairs.counts):
                return False
            number = pair_number(spelling.symbols[at], spelling.symbols[at + 1], pairs)
            pairs.counts[number] += weight
            pairs.touched[number] += 1
            found[at] = number
    start = 0
    for number in range(pairs.used[PAIRS]):
        pairs.segments[number] = number
        places.starts[number], places.sizes[number], places.nexts[number] = start, 0, -1
        start += pairs.touched[number]
        pairs.touched[number] = 0
    for at in range(size):
        if found[at] >= 0:
            number = found[at]
            places.positions[places.starts[number] + places.sizes[number]] = at
            places.sizes[number] += 1
    pairs.used[SEGMENTS], pairs.used[POSITIONS] = pairs.used[PAIRS], start
    return True


@njit(cache=True)
def _joined(left, right, symbols):  # type: ignore[no-untyped-def]
    """The symbol of both texts joined, without the mark between; it is made where it is new."""
    text, starts, slots = symbols.text, symbols.starts, symbols.slots
    number = symbols.used[0]
    begun = starts[number]
    end = begun
    for at in range(starts[left], starts[left + 1]):
        text[end] = text[at]
        end += 1
    for at in range(starts[right] + 2, starts[right + 1]):
        text[end] = text[at]
        end += 1
    slot = text_slot(text, begun, end) & (len(slots) - 1)
    while slots[slot] != 0:
        other = slots[slot] - 1
        if starts[other + 1] - starts[other] == end - begun:
            same = True
            for at in range(end - begun):
                if text[starts[other] + at] != text[begun + at]:
                    same = False
                    break
            if same:
                return other
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = number + 1
    starts[number + 1] = end
    symbols.counts[number] = 0
    symbols.firsts[0, number], symbols.firsts[1, number] = -1, -1
    symbols.used[0] = number + 1
    return number


@njit(cache=True)
def text_slot(text, start, end):  # type: ignore[no-untyped-def]
    """Where a text is looked for first."""
    hashed = np.uint64(0xCBF29CE484222325)
    for at in range(start, end):
        hashed = (hashed ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    hashed ^= hashed >> np.uint64(32)
    return np.int64(hashed & np.uint64(0x7FFFFFFFFFFFFFFF))


@njit(cache=True)
def enter_symbols(symbols):  # type: ignore[no-untyped-def]
    """Give each symbol its slot."""
    for number in range(symbols.used[0]):
        slot = text_slot(symbols.text, symbols.starts[number], symbols.starts[number + 1]) & (len(symbols.slots) - 1)
        while symbols.slots[slot] != 0:
            slot = (slot + 1) & (len(symbols.slots) - 1)
        symbols.slots[slot] = number + 1


@njit(cache=True)
def _occurrences(pair, spelling, pairs, places, room):  # type: ignore[no-untyped-def]
    """Write where a pair still stands to `room`, in the order in which they are joined; returns how many there are."""
    left, right = pairs.sides[0, pair], pairs.sides[1, pair]
    symbols, lengths, words = spelling.symbols, spelling.lengths, spelling.words
    found, segment, chained = 0, pairs.segments[pair], 0
    while segment >= 0:
        for place in range(places.starts[segment], places.starts[segment] + places.sizes[segment]):
            at = np.int64(places.positions[place])
            after = at + lengths[at]
            if symbols[at] == left and after < len(symbols) and symbols[after] == right and words[after] == words[at]:
                room[found] = at
                found += 1
        segment = places.nexts[segment]
        chained += 1
    if chained > 1 and left == right:
        room[:found] = np.sort(room[:found])  # so that aaaa is joined from its start
    return found


@njit(cache=True)
def _merge(pair, spelling, symbols, pairs, places, room):  # type: ignore[no-untyped-def]
    """Join a pair wherever it stands; returns the new symbol, and how many neighbours there now are in `room`.

    room: int32 [3, N]: the positions; then the pairs that the new symbol makes, and where.
    """
    left, right = pairs.sides[0, pair], pairs.sides[1, pair]
    piece = _joined(left, right, symbols)
    found = _occurrences(pair, spelling, pairs, places, room[0])
    cells, lengths, words, counts = spelling.symbols, spelling.lengths, spelling.words, pairs.counts
    made, total = 0, np.int64(0)
    for occurrence in range(found):
        at = np.int64(room[0, occurrence])
        after = at + lengths[at]
        if cells[at] != left or after >= len(cells) or cells[after] != right or words[after] != words[at]:
            continue  # the place before it has taken its left, as in aaa
        weight = spelling.weights[words[at]]
        size = np.int64(lengths[at]) + lengths[after]
        end = at + size
        has_left = at > 0 and words[at - 1] == words[at]
        has_right = end < len(cells) and words[end] == words[at]
        before = at - lengths[at - 1] if has_left else np.int64(-1)
        counts[pair] -= weight
        total += weight
        if has_left:
            counts[pair_number(cells[before], left, pairs)] -= weight
            number = pair_number(cells[before], piece, pairs)
            counts[number] += weight
            room[1, made], room[2, made] = number, before
            made += 1
        if has_right:
            counts[pair_number(right, cells[end], pairs)] -= weight
            number = pair_number(piece, cells[end], pairs)
            counts[number] += weight
            room[1, made], room[2, made] = number, at
            made += 1
        cells[after] = -1
        cells[at], lengths[at], lengths[end - 1] = piece, size, size
    symbols.counts[left] -= total
    symbols.counts[right] -= total
    symbols.counts[piece] += total
    pairs.segments[pair] = -1
    return piece, made


@njit(cache=True)
def _note_places(made, room, pairs, places):  # type: ignore[no-untyped-def]
    """Add where new pairs stand to their segments; leaves in `room[0]` each such pair once, and returns how many."""
    distinct = 0
    for place in range(made):
        number = room[1, place]
        if pairs.touched[number] == 0:
            room[0, distinct] = number
            distinct += 1
        pairs.touched[number] += 1
    for place in range(distinct):
        number, segment = room[0, place], pairs.used[SEGMENTS]
        places.starts[segment], places.sizes[segment] = pairs.used[POSITIONS], 0
        places.nexts[segment], pairs.segments[number] = pairs.segments[number], segment
        pairs.used[SEGMENTS] += 1
        pairs.used[POSITIONS] += pairs.touched[number]
        pairs.touched[number] = 0
    for place in range(made):
        segment = pairs.segments[room[1, place]]
        places.positions[places.starts[segment] + places.sizes[segment]] = room[2, place]
        places.sizes[segment] += 1
    return distinct


@njit(cache=True)
def learn(spelling, symbols, pairs, places, heap, room, pieces, least, likelihood):  # type: ignore[no-untyped-def]
    """Merge the best pairs, as many as there is room for in `pieces`, where the new symbols are written.

    Legend: R merges at most. pieces: int32 [R]. least: how often a pair must stand. Returns how many were merged, and
    why it stopped.
    """
    for merge in range(len(pieces)):
        neighbours = 2 * symbols.used[0] + 2  # a merge makes no more pairs
        if pairs.used[PAIRS] + neighbours > len(pairs.counts) or pairs.used[SEGMENTS] + neighbours > len(places.starts):
            return merge, NO_ROOM
        if symbols.used[0] == len(symbols.counts):
            return merge, NO_MORE
        pair = take_best(symbols, pairs, heap, least, likelihood)
        if pair < 0:
            return merge, NO_MORE
        piece, made = _merge(pair, spelling, symbols, pairs, places, room)
        pieces[merge] = piece
        distinct = _note_places(made, room, pairs, places)
        for place in range(distinct):
            offer(np.int64(room[0, place]), symbols, pairs, heap, least, likelihood)
        if likelihood:
            for symbol in (np.int64(pairs.sides[0, pair]), np.int64(pairs.sides[1, pair]), np.int64(piece)):
                for side in range(2):
                    other = np.int64(symbols.firsts[side, symbol])
                    while other >= 0:
                        offer(other, symbols, pairs, heap, least, likelihood)
                        other = np.int64(pairs.nexts[side, other])
    return len(pieces), DONE
