"""A vocabulary's entries as prefix trees over bytes, and words cut into them: the longest first from the left.

What WordPiece does to a word (google-research/bert, tokenization.py), on words that are normalised already. Words and
entries are UTF-8, in which one character's bytes never begin another's, so a match of bytes is one of characters. A
tree is one hash table of its edges: 16 to 32 bytes for each byte of the entries, and a look into memory for each of a
word.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.compiled import reading
from pipeline.errors import ConfigError
from pipeline.vocabulary.layout import CONTINUES

Bytes = npt.NDArray[np.uint8]
Starts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
MOST_NODES = 1 << 24
_LOWER = np.uint64((1 << 32) - 1)


class Trie(NamedTuple):
    """Byte strings by their prefixes, as nodes of numbers below 2^24; number 0 is the root."""

    edges: npt.NDArray[np.uint64]
    """A hash table, a power of two long. Of an edge the node and the byte in the upper half, in the lower one twice the
    node that it leads to, and 1 more where a string ends there; 0 where a slot is empty."""
    values: npt.NDArray[np.int32]
    """Of each node the value of the string that ends there."""
    first: npt.NDArray[np.bool_]
    """[256], whether a string begins with that byte."""


class Pieces(NamedTuple):
    """A vocabulary's entries: those that begin a word, and those that continue one, without their mark."""

    begins: Trie
    continues: Trie
    unknown: np.int32
    """The id of [UNK]."""


def flat(texts: Sequence[str]) -> tuple[Bytes, Starts]:
    """Texts as UTF-8 one after the other, and where each begins: [T + 1]."""
    encoded = [text.encode() for text in texts]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(each) for each in encoded], out=starts[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), starts


def make_trie(strings: Mapping[str, int]) -> Trie:
    """A trie in which each string has its value; an empty one is left out. Raises ConfigError for 16 MB or more."""
    values = {text: value for text, value in strings.items() if text}
    text, starts = flat(list(values))
    if len(text) >= MOST_NODES:
        raise ConfigError(
            f"A vocabulary's entries have {len(text):,} bytes, which is more than the {MOST_NODES - 1:,} there may be. "
            f"Take fewer or shorter entries."
        )
    slots = 1 << (2 * len(text) + 1).bit_length()
    trie = Trie(np.zeros(slots, np.uint64), np.empty(len(text) + 1, np.int32), np.zeros(256, np.bool_))
    _grow(trie, text, starts, np.array(list(values.values()), np.int32))
    return trie


def pieces_of(vocabulary: Mapping[str, int], prefix: str = CONTINUES, unknown: str = "[UNK]") -> Pieces:
    """The entries and their ids, ready to cut words into."""
    continues = {entry.removeprefix(prefix): number for entry, number in vocabulary.items() if entry.startswith(prefix)}
    return Pieces(make_trie(vocabulary), make_trie(continues), np.int32(vocabulary[unknown]))


def cut(text: Bytes, word_starts: Starts, pieces: Pieces) -> tuple[Numbers, Starts]:
    """The ids of normalised words, one word's after the other; and where each word's begin: [W + 1]."""
    ids = np.empty(int(word_starts[-1] - word_starts[0]), np.int32)
    starts = np.zeros(len(word_starts), np.int64)
    cut_words(text, word_starts, 0, len(word_starts) - 1, pieces, ids, starts)
    return ids[: starts[-1]], starts


@reading
def _slot_of(edges: npt.NDArray[np.uint64], node: Any, byte: Any) -> Any:  # int
    """Where the edge is, or the empty slot where it belongs."""
    mask = len(edges) - 1
    key = np.uint64(node) << np.uint64(8) | np.uint64(byte)
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while edges[slot] != 0 and edges[slot] >> np.uint64(32) != key:
        slot = (slot + 1) & mask
    return slot


@reading
def _grow(trie: Trie, text: Bytes, starts: Starts, values: Numbers) -> None:
    nodes = 1
    for number in range(len(values)):
        node = slot = np.int64(0)
        trie.first[text[starts[number]]] = True
        for at in range(starts[number], starts[number + 1]):
            slot = _slot_of(trie.edges, node, text[at])
            if trie.edges[slot] == 0:
                trie.edges[slot] = np.uint64(node) << np.uint64(40) | np.uint64(text[at]) << np.uint64(32)
                trie.edges[slot] |= np.uint64(2 * nodes)
                nodes += 1
            node = np.int64(trie.edges[slot] & _LOWER) >> 1
        trie.edges[slot] |= np.uint64(1)
        trie.values[node] = values[number]


@reading
def longest(trie: Trie, text: Bytes, at: int, end: int) -> tuple[Any, int]:
    """The value of the longest string of the trie that stands at `at`, and where it ends; -1 where none does."""
    found, stop, node = np.int64(-1), at, np.int64(0)
    while at < end:
        edge = trie.edges[_slot_of(trie.edges, node, text[at])]
        if edge == 0:
            break
        node = np.int64(edge & _LOWER) >> 1
        at += 1
        if edge & np.uint64(1):
            found, stop = node, at
    return trie.values[found] if found >= 0 else -1, stop


@reading
def cut_words(
    text: Bytes, word_starts: Starts, first: int, last: int, pieces: Pieces, ids: Numbers, starts: Starts
) -> None:
    """The ids of words from number `first` to before `last`: the longest pieces from the left, else [UNK] alone.

    word_starts: int64 [W + 1], where each begins in `text`. ids: int32 [B], no shorter than the words' text. starts:
    int64 [W + 1], where each word's begin in `ids`.
    """
    out = starts[first]
    for number in range(first, last):
        at, end = word_starts[number], word_starts[number + 1]
        trie = pieces.begins
        while at < end:
            value, at = longest(trie, text, at, end)
            if value < 0:
                out = starts[number]
                ids[out] = pieces.unknown
                at = end
            else:
                ids[out] = value
            out += 1
            trie = pieces.continues
        starts[number + 1] = out
