"""BERT's words of a text, compiled: what counting and encoding both start from.

Texts are UTF-8. `number_words` follows the table of `code_points` and gives each word its number in a hash table, which
grows by what is new. So counting is a count of numbers, and encoding looks up by number what a word was encoded to.
Where the table of code points leaves something open, its chunk of text is set aside for `tokenizers`.

The hot loop is one function, all but without calls: numba counts references to each array around each of them, which
costs more than the rest. Its compiled code is cached by this file, so touch that after a change of `longest` or of the
table's size, PLANES.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.vocabulary.code_points import ALONE, BREAK, DROP, LETTER, ORACLE, PLANES, TAGS, TAGS_END, code_points
from pipeline.vocabulary.layout import LONGEST_WORD, SPECIALS
from pipeline.vocabulary.pieces import Bytes, Starts, Trie, longest, make_trie

LONG, FIRST_KEPT = -1, -2
"""Instead of a word's number: it is too long; a token that is kept whole has FIRST_KEPT - its id."""
AS_TEXT = 0x7FFFFFFF
"""Instead of a kept token's id: a special token, which is text where it is written out."""
_MOST_BYTES = 4 * LONGEST_WORD + 1
"""Bytes of a word that are looked at; whatever has so many is too long."""
_BLANK, _ALONE = 1, 0x80
"""In place of a letter: what ends a word; and with these bits over it, what is a word of its own."""


class Rules(NamedTuple):
    """How a text is parted, as the kernels take it."""

    plain: Bytes
    """[256], what an ASCII character does: the letter it becomes, _BLANK, or _ALONE over what it becomes. 0 for all
    other bytes, and where a kept token may begin."""
    kinds: npt.NDArray[np.uint8]
    text: Bytes
    starts: npt.NDArray[np.int32]
    kept: Trie
    """Tokens that are kept whole, as they are written; their values are the ids, or AS_TEXT."""


_ENTRY = np.uint64((1 << 32) - 1)
_MIXER = np.uint64(0x9E3779B97F4A7C15)
_HEAD = 8
"""Bytes of a word that its slot holds itself."""


class Words(NamedTuple):
    """A hash table of words, each with a number; open addressing.

    Legend: S slots, a power of two, over twice the words; W words at most; B bytes at most.
    """

    slots: npt.NDArray[np.uint64]
    """[S, 2], a word's first eight bytes; then its number + 1, over that in 4 bits its length in bytes or 9 for more,
    and over that bits of its hash. So a word of eight bytes is known in one look at memory. 0 where it is empty."""
    text: Bytes
    """[B]"""
    starts: Starts
    """[W + 1], where each word begins in `text`."""
    used: npt.NDArray[np.int64]
    """[1], how many words there are."""

    def clear(self) -> None:
        """Forget all words."""
        self.slots[:] = 0
        self.used[0] = 0


def empty_words(words: int, size: int) -> Words:
    """A table for so many words of so many bytes in all."""
    slots = 1 << (2 * words - 1).bit_length()
    return Words(
        np.zeros((slots, 2), np.uint64),
        np.empty(size, np.uint8),
        np.zeros(words + 1, np.int64),
        np.zeros(1, np.int64),
    )


def rules_for(
    lowercase: bool, strip_accents: bool | None, kept: Mapping[str, int], specials: Iterable[str] = SPECIALS
) -> Rules:
    """How a text is parted under that form of BERT's normalisation; `kept` are tokens kept whole, with their ids.

    `tokenizers` looks for `specials` too, only to leave them; but a kept token that overlaps one is then not found.
    """
    sought = dict.fromkeys(specials, AS_TEXT) | dict(kept) if kept else {}
    table, trie = code_points(lowercase, strip_accents), make_trie(sought)
    plain = np.zeros(256, np.uint8)
    for point in np.flatnonzero(~trie.first[:128]):
        kind = table.kinds[point]
        if kind in (LETTER, ALONE):
            plain[point] = table.text[table.starts[point]] | (_ALONE if kind == ALONE else 0)
        elif kind == BREAK:
            plain[point] = _BLANK
    return Rules(plain, table.kinds, table.text, table.starts, trie)


@njit(cache=True, inline="always")
def _mixed(hashed, some):  # type: ignore[no-untyped-def]
    """A hash with eight more bytes in it."""
    hashed = (hashed ^ some) * _MIXER
    return hashed ^ (hashed >> np.uint64(32))


@njit(cache=True)
def number_words(text, starts, number, at, rules, words, numbers, ends, asked):  # type: ignore[no-untyped-def]
    """Number the words of texts, from byte `at` of text `number` on; what is new comes into the table.

    Legend: T texts, N words at most. starts: int64 [T + 1], into `text`. numbers: int32 [N], LONG or a kept token's
    number in place of a word's. ends: int64 [T], how many words there are at each text's end, or where it stopped in
    it. asked: int64 [A, 4], of each chunk set aside the text, its bytes' start and end, and its place in `numbers`.
    Returns the text and the byte where it stopped, the number of words and of chunks set aside. All is done when the
    text is number T; else `numbers`, `asked` or the table is full.
    """
    plains, kinds, new_text, new_starts = rules.plain, rules.kinds, rules.text, rules.starts
    may_be_kept = rules.kept.first
    slots, word_text, word_starts = words.slots, words.text, words.starts
    used, mask, most = words.used[0], len(slots) - 1, len(word_starts) - 1
    word = np.empty(_MOST_BYTES, np.uint8)
    out = chunks = 0
    while number < len(starts) - 1:
        end = starts[number + 1]
        while at < end:
            if out == len(numbers):
                words.used[0], ends[number] = used, out
                return number, at, out, chunks
            begun, size, continued, kept, ask = at, 0, 0, -1, False
            head = some = hashed = np.uint64(0)
            while at < end:
                plain = plains[text[at]]
                if _BLANK < plain < _ALONE:
                    if size < _MOST_BYTES:
                        word[size] = plain
                        some = some << np.uint64(8) | np.uint64(plain)
                        size += 1
                        if size & 7 == 0:
                            head, hashed, some = some if size == _HEAD else head, _mixed(hashed, some), np.uint64(0)
                    at += 1
                    continue
                if plain == _BLANK:
                    at += 1
                    if size:
                        break
                    begun = at
                    continue
                if plain >= _ALONE:
                    if size == 0:
                        word[0] = plain & 0x7F
                        some = np.uint64(word[0])
                        at, size = at + 1, 1
                    break
                lead = np.int64(text[at])
                if may_be_kept[lead]:
                    value, stop = longest(rules.kept, text, at, end)
                    if value >= 0:
                        if value == AS_TEXT:
                            ask = True
                        elif size == 0:
                            kept, at = value, stop
                        break
                if lead < 0x80:
                    point, after = lead, at + 1
                elif lead < 0xE0:
                    point, after = (lead & 0x1F) << 6 | text[at + 1] & 0x3F, at + 2
                elif lead < 0xF0:
                    point, after = (lead & 0xF) << 12 | np.int64(text[at + 1] & 0x3F) << 6 | text[at + 2] & 0x3F, at + 3
                else:
                    point = (lead & 0x7) << 18 | np.int64(text[at + 1] & 0x3F) << 12
                    point, after = point | np.int64(text[at + 2] & 0x3F) << 6 | text[at + 3] & 0x3F, at + 4
                if point >= PLANES:
                    if not TAGS <= point < TAGS_END:
                        ask = True
                        break
                    point = point - TAGS + PLANES
                kind = kinds[point]
                if kind == BREAK:
                    at = after
                    if size:
                        break
                    begun = at
                elif kind == LETTER or (kind == ALONE and size == 0):
                    for place in range(new_starts[point], new_starts[point + 1]):
                        if size < _MOST_BYTES:
                            byte = new_text[place]
                            word[size] = byte
                            continued += byte & 0xC0 == 0x80
                            some = some << np.uint64(8) | np.uint64(byte)
                            size += 1
                            if size & 7 == 0:
                                head, hashed, some = some if size == _HEAD else head, _mixed(hashed, some), np.uint64(0)
                    at = after
                    if kind == ALONE:
                        break
                elif kind == DROP:
                    at = after
                else:
                    ask = kind == ORACLE
                    break
            if ask:
                if chunks == len(asked):
                    words.used[0], ends[number] = used, out
                    return number, begun, out, chunks
                at = _chunk_end(text, begun, end, rules.kept)
                asked[chunks, 0], asked[chunks, 1], asked[chunks, 2], asked[chunks, 3] = number, begun, at, out
                chunks += 1
            elif kept >= 0:
                numbers[out] = FIRST_KEPT - kept
                out += 1
            elif size - continued > LONGEST_WORD:
                numbers[out] = LONG
                out += 1
            elif size:
                head, hashed = some if size < _HEAD else head, _mixed(hashed, some)
                tag = hashed >> np.uint64(36) << np.uint64(4) | np.uint64(min(size, _HEAD + 1))
                slot = np.int64(hashed) & mask
                entry = np.int64(-1)
                while slots[slot, 1] != 0:
                    if slots[slot, 0] == head and slots[slot, 1] >> np.uint64(32) == tag:
                        entry = np.int64(slots[slot, 1] & _ENTRY) - 1
                        if size <= _HEAD:
                            break
                        start = word_starts[entry]
                        if word_starts[entry + 1] - start == size:
                            place = _HEAD
                            while place < size and word_text[start + place] == word[place]:
                                place += 1
                            if place == size:
                                break
                        entry = np.int64(-1)
                    slot = (slot + 1) & mask
                if entry < 0:
                    start = word_starts[used]
                    if used == most or start + size > len(word_text):
                        words.used[0], ends[number] = used, out
                        return number, begun, out, chunks
                    for place in range(size):
                        word_text[start + place] = word[place]
                    word_starts[used + 1] = start + size
                    slots[slot, 0], slots[slot, 1] = head, tag << np.uint64(32) | np.uint64(used + 1)
                    entry = used
                    used += 1
                numbers[out] = entry
                out += 1
        ends[number] = out
        at = end
        number += 1
    words.used[0] = used
    return number, at, out, chunks


@njit(cache=True)
def _chunk_end(text, at, end, kept):  # type: ignore[no-untyped-def]
    """Where what `tokenizers` is asked of ends: at a blank, or before a token that is kept whole."""
    while at < end and not (text[at] == 32 or 9 <= text[at] <= 10 or text[at] == 13):
        if kept.first[text[at]]:
            value, stop = longest(kept, text, at, end)
            if value == AS_TEXT:
                at = stop
                continue
            if value >= 0:
                break
        at += 1
    return at


@njit(cache=True)
def gather_ids(numbers, ends, first, pieces, cut, cut_starts, unknown, asked, answers, answer_starts, ids, lengths):  # type: ignore[no-untyped-def]
    """Write the ids of numbered words; how many each text has is added to `lengths`, int64 [T]. Returns how many.

    numbers, ends, asked: as `number_words` left them, from text `first` on. pieces: `packed`. cut, cut_starts: the
    words' ids, as `cut_words` left them. answers: the ids of what was set aside, one chunk's after the other's;
    answer_starts: where each begins, [A + 1]. ids: no shorter than the text's bytes.
    """
    out = place = chunk = 0
    for text in range(first, len(ends)):
        begun = out
        while place <= ends[text]:
            while chunk < len(asked) and asked[chunk, 3] == place and asked[chunk, 0] <= text:
                for at in range(answer_starts[chunk], answer_starts[chunk + 1]):
                    ids[out] = answers[at]
                    out += 1
                chunk += 1
            if place == ends[text]:
                break
            number = numbers[place]
            if number >= 0:
                piece = pieces[number]
                ids[out] = piece >> 8
                out += 1
                if piece & 0xFF:
                    start = cut_starts[number] + 1
                    for at in range(start, start + (piece & 0xFF)):
                        ids[out] = cut[at]
                        out += 1
            else:
                ids[out] = unknown if number == LONG else FIRST_KEPT - number
                out += 1
            place += 1
        lengths[text] += out - begun
    return out


@njit(cache=True)
def count_numbers(numbers, ends, first, owners, counts, groups):  # type: ignore[no-untyped-def]
    """Add up how often each number stands; returns how many words are too long, and how many tokens kept whole.

    Legend: G groups. numbers, ends: as `number_words` left them, from text `first` on. owners: uint64 [T], each text's
    group. counts: int64 [W]. groups: uint64 [W, G], of each word the first G groups, 0 where there are fewer.
    """
    place = long = kept = 0
    for text in range(first, len(ends)):
        while place < ends[text]:
            number = np.int64(numbers[place])
            place += 1
            if number == LONG:
                long += 1
            elif number < 0:
                kept += 1
            else:
                counts[number] += 1
                if groups.shape[1] == 0 or groups[number, -1] != 0:
                    continue  # none are kept, or as many as there is room for
                for which in range(groups.shape[1]):
                    if groups[number, which] == 0:
                        groups[number, which] = owners[text]
                    if groups[number, which] == owners[text]:
                        break
    return long, kept


@njit(cache=True)
def visible_characters(text, kinds):  # type: ignore[no-untyped-def]
    """How many characters there are but blanks and those that normalisation takes out; all outside the table count."""
    count = at = 0
    while at < len(text):
        lead = int(text[at])
        if lead < 0x80:
            point, at = lead, at + 1
        elif lead < 0xE0:
            point, at = (lead & 0x1F) << 6 | int(text[at + 1] & 0x3F), at + 2
        elif lead < 0xF0:
            point, at = (lead & 0xF) << 12 | int(text[at + 1] & 0x3F) << 6 | int(text[at + 2] & 0x3F), at + 3
        else:
            point = (lead & 0x7) << 18 | int(text[at + 1] & 0x3F) << 12
            point, at = point | int(text[at + 2] & 0x3F) << 6 | int(text[at + 3] & 0x3F), at + 4
            if point >= PLANES:
                point = point - TAGS + PLANES if TAGS <= point < TAGS_END else -1
        count += point < 0 or not (kinds[point] == BREAK or kinds[point] == DROP)
    return count
