"""Train a WordPiece vocabulary from word counts: a function of the counts alone, the same bytes in every run.

`bpe` merges the most frequent pair of neighbouring pieces (Sennrich et al. 2016, as everyone's BERT has them);
`wordpiece` the pair of the greatest likelihood score, count(ab) / (count(a) count(b)) (Schuster & Nakajima 2012). Ties
go to the pair whose symbols came first, the left before the right: the alphabet's in the order of their text, then
pieces as they were merged. (By text alone half of the rarest pieces differed from `tokenizers`', which has such an
order too, though not the same one twice.) Counts are compared as doubles: exactly, as they must stay below 2^53; scores
too, with the same rounding on every machine.

Left to itself the score takes the rarest pairs first, and spends the vocabulary on words that stand twice. So it
decides among pairs of the same octave: those that stand at least half as often as the most frequent one at first, then
a quarter, and so on. More pieces are learned than are asked for, and those go that the longest match from the left uses
least, such as the steps on the way to a word: an idea of Kudo's unigram model (2018). That takes 0.2 to 0.3 % fewer
pieces for a text than `bpe`; `bpe` is left as everyone has it.

Costs half a second for the 260,000 words of 70 MB of English, `wordpiece` a whole one (`merges.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from pipeline.errors import ConfigError, InputError
from pipeline.progress import progress
from pipeline.vocabulary.alphabet import CODE_POINTS, alphabet_of, too_small
from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.layout import LONGEST_WORD
from pipeline.vocabulary.merges import (
    DONE,
    NO_MORE,
    NO_ROOM,
    Places,
    Spelling,
    Symbols,
    enter_symbols,
    find_pairs,
    learn,
    spell,
)
from pipeline.vocabulary.pairs import PAIRS, Heap, Int32, Int64, Pairs, fill_heap, rehash
from pipeline.vocabulary.pieces import cut, pieces_of

MERGES_AT_ONCE = 512
FEWEST_PAIRS = 1 << 16
SURPLUS = 1.25
"""`wordpiece` learns so many times the entries that it keeps."""
MOST_EXACT = 2**53
MOST_CHARACTERS = 2**31 - 1
"""Of the distinct words together: positions are kept in 32 bits."""
Objective = Literal["bpe", "wordpiece"]


def train_wordpiece(
    counts: WordCounts,
    *,
    size: int,
    min_frequency: int,
    min_character_frequency: int,
    objective: Objective = "bpe",
    reserved: Sequence[str] = (),
) -> list[str]:
    """The vocabulary in the order of its ids: `reserved`, the alphabet by code point, pieces as they were merged.

    A hard cap: at most `size` entries. A word that is reserved is encoded whole already, and teaches no piece.
    Raises ConfigError where what is reserved and the alphabet alone are more, InputError for counts that can't be
    added up exactly, or words of over 2^31 characters together.
    """
    alphabet = alphabet_of(counts, min_character_frequency)
    vocabulary = list(dict.fromkeys([*reserved, *alphabet]))
    if len(vocabulary) > size:
        raise ConfigError(too_small(counts, size, min_character_frequency, list(reserved)))
    known = set(vocabulary)
    if counts.total * LONGEST_WORD >= MOST_EXACT:
        raise InputError(
            f"The words stand {counts.total:,} times: too often for their pairs to be counted exactly, which "
            f"{MOST_EXACT // LONGEST_WORD:,} times can be. Train on a part of the corpus."
        )
    likelihood = objective == "wordpiece"
    first, wanted = len(vocabulary), round(size * SURPLUS) if likelihood else size
    with progress("learning pieces", wanted - first) as advance:
        # Named by nothing, the arrays of merges are gone with the loop: `_most_used` needs room of its own.
        for piece in Merges(counts, alphabet, {*reserved}, wanted).pieces(min_frequency, likelihood=likelihood):
            if len(vocabulary) == wanted:
                break
            if piece not in known:
                known.add(piece)
                vocabulary.append(piece)
                advance()
    return vocabulary if len(vocabulary) <= size else _most_used(vocabulary, first, counts, size)


def _most_used(vocabulary: list[str], first: int, counts: WordCounts, size: int) -> list[str]:
    """`size` entries: without those, from number `first` on, that the words use least; of equals the last ones go."""
    ids = {"[UNK]": -1} | {entry: number for number, entry in enumerate(vocabulary)}
    found, starts = cut(counts.text, counts.starts, pieces_of(ids))
    used = np.zeros(len(vocabulary), np.int64)
    is_known = found >= 0
    np.add.at(used, found[is_known], np.repeat(counts.counts, np.diff(starts))[is_known])
    order = first + np.argsort(-used[first:], kind="stable")
    kept = np.sort(order[: size - first])
    return vocabulary[:first] + [vocabulary[number] for number in kept]


class Merges:
    """Words as symbols, their pairs, and a heap of these: arrays that grow as merges need them (`merges.py`)."""

    def __init__(self, counts: WordCounts, alphabet: Sequence[str], reserved: set[str], most: int) -> None:
        """`reserved` words are left out; there will be `most` new symbols at most."""
        self._symbols = _symbols(alphabet, most)
        self._spelling = _spelling(counts, alphabet, reserved)
        characters = len(self._spelling.symbols)
        self._room = np.empty((3, characters), np.int32)
        capacity = FEWEST_PAIRS
        while True:
            self._pairs = _empty_pairs(capacity)
            self._places = Places(np.empty(3 * characters, np.int32), *_empty_segments(capacity))
            free = self._places.positions[characters : 2 * characters]  # the words' own pairs take less than the first
            if find_pairs(self._spelling, self._symbols, self._pairs, self._places, free):
                break
            self._symbols.counts[:] = 0
            capacity *= 4

    def pieces(self, least: int, *, likelihood: bool) -> Iterator[str]:
        """The texts of the pieces as they are merged, of pairs that stand at least so often."""
        found = np.empty(MERGES_AT_ONCE, np.int32)
        for floor in self._octaves(least) if likelihood else (least,):
            heap, why = self._filled_heap(floor, likelihood), DONE
            while why != NO_MORE:
                number, why = learn(
                    self._spelling, self._symbols, self._pairs, self._places, heap, self._room, found, floor, likelihood
                )
                yield from map(self._text, found[:number].tolist())
                if why == NO_ROOM:
                    self._grow()
                    heap = self._filled_heap(floor, likelihood)

    def _octaves(self, least: int) -> Iterator[int]:
        """How often pairs must stand: as often as the most frequent one, half as often, ..., and `least`."""
        floor = int(self._pairs.counts[: self._pairs.used[PAIRS]].max(initial=0))
        while floor > least:
            yield floor
            floor //= 2
        yield least

    def _filled_heap(self, least: int, likelihood: bool) -> Heap:
        capacity = len(self._pairs.counts)
        heap = Heap(np.empty(capacity, np.float64), np.empty(capacity, np.int32), np.empty(capacity, np.int32))
        fill_heap(self._symbols, self._pairs, heap, least, likelihood)
        return heap

    def _text(self, symbol: int) -> str:
        starts = self._symbols.starts
        return self._symbols.text[starts[symbol] : starts[symbol + 1]].tobytes().decode()

    def _grow(self) -> None:
        """Make room for twice as many pairs, and segments of their places."""
        old = self._pairs
        self._pairs = _empty_pairs(2 * len(old.counts))
        for name in ("sides", "nexts", "counts", "segments", "touched", "used"):
            before = getattr(old, name)
            getattr(self._pairs, name)[..., : before.shape[-1]] = before
        rehash(self._pairs)
        places = Places(self._places.positions, *_empty_segments(2 * len(self._places.starts)))
        for name in ("starts", "sizes", "nexts"):
            before = getattr(self._places, name)
            getattr(places, name)[: len(before)] = before
        self._places = places


def _empty_pairs(capacity: int) -> Pairs:
    def numbers() -> Int32:
        return np.empty(capacity, np.int32)

    sides, nexts = np.empty((2, capacity), np.int32), np.empty((2, capacity), np.int32)
    slots = np.zeros(1 << (2 * capacity - 1).bit_length(), np.int32)
    return Pairs(sides, nexts, np.empty(capacity, np.int64), numbers(), numbers(), slots, np.zeros(4, np.int64))


def _empty_segments(capacity: int) -> tuple[Int64, Int32, Int32]:
    return np.empty(capacity, np.int64), np.empty(capacity, np.int32), np.empty(capacity, np.int32)


def _symbols(alphabet: Sequence[str], most: int) -> Symbols:
    """The alphabet, and room for so many more."""
    capacity = len(alphabet) + most + 1
    text, starts = np.empty(capacity * (4 * LONGEST_WORD + 2), np.uint8), np.zeros(capacity + 1, np.int64)
    encoded = [each.encode() for each in alphabet]
    np.cumsum([len(each) for each in encoded], out=starts[1 : len(encoded) + 1])
    text[: starts[len(encoded)]] = np.frombuffer(b"".join(encoded), np.uint8)
    slots, used = np.zeros(1 << (2 * capacity).bit_length(), np.int32), np.array([len(alphabet)], np.int64)
    symbols = Symbols(text, starts, slots, np.zeros(capacity, np.int64), np.full((2, capacity), -1, np.int32), used)
    enter_symbols(symbols)
    return symbols


def _spelling(counts: WordCounts, alphabet: Sequence[str], reserved: set[str]) -> Spelling:
    """The words as symbols of the alphabet; without those that are reserved, or that it can't spell."""
    first_ids, later_ids = np.full(CODE_POINTS, -1, np.int32), np.full(CODE_POINTS, -1, np.int32)
    for number, entry in enumerate(alphabet):
        (later_ids if len(entry) > 1 else first_ids)[ord(entry[-1])] = number
    is_kept = np.ones(len(counts), np.bool_)
    for entry in reserved:
        if counts.has(word := entry.encode()):
            is_kept[counts.place(word)] = False
    size = int(counts.starts[-1] - counts.starts[0])
    symbols, lengths, words = np.empty(size, np.int32), np.empty(size, np.uint8), np.empty(size, np.int32)
    ids = (first_ids, later_ids)
    used = spell(counts.text, counts.starts, is_kept, LONGEST_WORD, *ids, symbols, lengths, words)
    if used > MOST_CHARACTERS:
        raise InputError(
            f"The {len(counts):,} distinct words have {used:,} characters; training takes at most {MOST_CHARACTERS:,}. "
            f"Raise vocabulary.min_groups, so that rare words are left out, or train on a part of the corpus."
        )
    return Spelling(symbols[:used], lengths[:used], words[:used], counts.counts)
