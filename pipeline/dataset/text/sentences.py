"""Text parted into sentences, compiled: at newlines first, then where a reader would part it.

Western marks end a sentence where a blank and no lowercase letter follows; a full stop not after an abbreviation, an
initial or the number of a list's item, nor inside a number. Chinese, Japanese and other scripts' marks (Unicode's
Sentence_Terminal) end one without a blank, and so do "!" and "?" between Han. What closes stays with what it closes,
and a quotation in Han or kana is kept whole, with who said so. What is longer than a cap is cut, so nothing is lost.

Costs 3 to 8 ns a byte, and a number a sentence: sentences are places in the UTF-8 they were found in.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.compiled import reading
from pipeline.dataset.text.characters import Bytes, kind_at, past_blanks, past_letters, point_at
from pipeline.dataset.text.ends import ends, opens, past_closing, past_marks
from pipeline.dataset.text.marks import BLANK, BRACKET, BREAK, COMMA, DOT, QUOTE, Tables, tables
from pipeline.errors import ConfigError

LONGEST = 1000
"""Characters: more than a sentence of prose has, so that only what has no ends is cut."""
Starts = npt.NDArray[np.int64]


def sentence_spans(text: Bytes, starts: Starts, longest: int = LONGEST) -> tuple[Starts, Starts]:
    """Where each sentence begins, int64 [S + 1], and how many each document has, int64 [D].

    Document d is the UTF-8 text[starts[d]:starts[d + 1]], and sentence s text[begins[s]:begins[s + 1]]: it begins with
    a character that isn't blank, and ends with the blanks, if any, before the next. `longest` is in characters.
    Raises ConfigError where it isn't positive.
    """
    if longest < 1:
        raise ConfigError(f"A sentence's longest length was given as {longest}. Give 1 character or more.")
    text = text.view()
    text.flags.writeable = False  # as Arrow's memory is: one type, compiled once
    begins, counts = np.empty(int(starts[-1] - starts[0]) // 32 + 16, np.int64), np.zeros(len(starts) - 1, np.int64)
    number, at, used = 0, int(starts[0]), 0
    while True:
        number, at, used = _split(text, starts, number, at, tables(), longest, begins[:-1], counts, used)
        if number == len(counts):
            break
        begins = np.resize(begins, 2 * len(begins))
    begins[used] = starts[-1]
    begins = begins[: used + 1]
    if (np.diff(begins) > longest).any():  # bytes, so that it may yet be short enough
        begins, counts = _cut(text, begins, counts, tables().kinds, longest)
    return begins, counts


def split_sentences(text: str, longest: int = LONGEST) -> list[str]:
    """The sentences of `text` in order, trimmed, none empty."""
    data = text.encode("utf-8", "surrogatepass")
    begins = sentence_spans(np.frombuffer(data, np.uint8), np.array([0, len(data)]), longest)[0].tolist()
    return [data[first:last].decode("utf-8", "surrogatepass").strip() for first, last in pairwise(begins)]


@reading
def _split(
    text: Bytes,
    starts: Starts,
    number: int,
    at: int,
    known: Tables,
    longest: int,
    begins: Starts,
    counts: Starts,
    used: int,
) -> tuple[int, int, int]:
    """The sentences, however long they are, from byte `at` of document `number` on, of which there are `used` already.

    Returns the document, the byte of it and their number where it stopped: at the end, or before a line for which there
    is no room in `begins`.
    """
    while number < len(counts):
        end = starts[number + 1]
        at = past_blanks(text, at, end, known.kinds, True)
        while at < end:
            more, stop = _split_line(text, at, end, known, longest, begins, used)
            if more > len(begins):
                return number, at, used
            counts[number] += more - used
            used, at = more, past_blanks(text, stop, end, known.kinds, True)
        number += 1
    return number, at, used


@reading
def _split_line(
    text: Bytes, at: int, end: int, known: Tables, longest: int, begins: Starts, used: int
) -> tuple[int, int]:
    """Add where the sentences of the line at `at` begin; returns how many there are then, and where it ends.

    Ends inside a quotation in Han count until it closes, so that one that never does hides none. Where `begins` has no
    room, more are returned than it holds.
    """
    kinds = known.kinds
    if used == len(begins):
        return used + 1, at
    begins[used] = at
    used += 1
    closer, opened, kept, speaks = -1, at, used, False
    while True:
        at = past_letters(text, at, end, kinds)
        point, size = point_at(text, at, end)
        kind, mark, sort = kinds[point], at, 0
        if at == end or kind == BREAK:
            return used, at
        if kind < DOT:
            closed, quoted, at = point == closer, False, at + size
            if not closed and opens(text, mark, end, begins[used - 1], kinds, closer if speaks else -1):
                closer, opened, kept, speaks = point + (kind != QUOTE), mark, used, kind != BRACKET
        else:
            at, sort = past_marks(text, at, end, kinds)
            at, closed, quoted = past_closing(text, at, end, kinds, closer)
        if closed:
            closer, speaks = -1, False
            if at - begins[kept - 1] <= 3 * longest:  # bytes, of which Han has three
                used = kept
        if sort and ends(text, begins[used - 1], mark, sort, at, end, opened if closed else -1, quoted, known):
            at = past_blanks(text, at, end, kinds, False)
            if kind_at(text, at, end, kinds) != BREAK:
                if used == len(begins):
                    return used + 1, at
                begins[used] = at
                used += 1


@njit(cache=True, inline="always")
def _appended(begins: Starts, used: int, at: int) -> tuple[Starts, int]:
    if used == len(begins):
        grown = np.empty(2 * used, np.int64)
        grown[:used] = begins
        begins = grown
    begins[used] = at
    return begins, used + 1


@njit(cache=True)
def _cut(text: Bytes, begins: Starts, counts: Starts, kinds: Bytes, longest: int) -> tuple[Starts, Starts]:
    """The same, with each sentence of more than `longest` characters cut behind its last blank or comma that fits."""
    cut, used, number = np.empty(len(begins) + 16, np.int64), 0, 0
    counts = counts.copy()
    for document in range(len(counts)):
        for _ in range(counts[document]):
            at, end = begins[number], begins[number + 1]
            number += 1
            cut, used = _appended(cut, used, at)
            while end - at > longest:
                at = _cut_at(text, at, end, kinds, longest)
                if at == end:
                    break
                cut, used = _appended(cut, used, at)
                counts[document] += 1
    cut, used = _appended(cut, used, begins[-1])
    return cut[:used].copy(), counts


@njit(cache=True)
def _cut_at(text: Bytes, at: int, end: int, kinds: Bytes, longest: int) -> int:
    """Where the next piece begins, of what begins at `at`; `end` where all of it fits."""
    count, rest, rests = 0, -1, False
    while at < end:
        point, size = point_at(text, at, end)
        blank = kinds[point] in (BLANK, BREAK)
        if rests and not blank:
            rest = at
        if count >= longest and not blank:
            return rest if rest >= 0 else at
        rests = blank or (kinds[point] == COMMA and point >= 0x3000)
        count, at = count + 1, at + size
    return end
