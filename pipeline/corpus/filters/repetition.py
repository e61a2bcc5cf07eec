"""Gopher's rules against repetition: lines, paragraphs and word n-grams that come again (Rae et al. 2021, table A1).

Equal things are told by 64-bit hashes in compiled sets: one pass over the words for each n that is counted.
"""

from functools import lru_cache
from typing import Annotated

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from pipeline.corpus.document import Document, Rejected, Verdict
from pipeline.corpus.filters.characters import SPACE, classes
from pipeline.corpus.filters.measures import Measures, measured
from pipeline.corpus.filters.profiles import thresholds
from pipeline.corpus.filters.word_hashes import BASE, add, hash_span, table_for

Limits = tuple[tuple[Annotated[int, Field(ge=1, le=64)], Annotated[float, Field(ge=0)]], ...]


def gopher_repetition(
    document: Document,
    *,
    max_duplicate_paragraphs: float | None = None,
    max_duplicate_paragraph_characters: float | None = None,
    max_duplicate_lines: float | None = None,
    max_duplicate_line_characters: float | None = None,
    top_n_grams: Limits | None = None,
    duplicate_n_grams: Limits | None = None,
) -> Verdict:
    """Reject a text of which too much is said again. A value left out is the language's, of `profiles`.

    `top_n_grams`: n, and the share of the text's characters that its most frequent n-gram may make;
    `duplicate_n_grams`: n, and the share that may lie in n-grams which stood before.
    """
    rules = thresholds(
        "gopher_repetition",
        document.lang,
        max_duplicate_paragraphs=max_duplicate_paragraphs,
        max_duplicate_paragraph_characters=max_duplicate_paragraph_characters,
        max_duplicate_lines=max_duplicate_lines,
        max_duplicate_line_characters=max_duplicate_line_characters,
        top_n_grams=top_n_grams,
        duplicate_n_grams=duplicate_n_grams,
    )
    measures = measured(document.text)
    size = len(document.text)
    if not size:
        return Rejected("gopher: empty")
    for what, newlines in (("paragraph", 2), ("line", 1)):
        number, duplicates, characters = _duplicates(measures.points, classes(), newlines)
        if duplicates / number > rules[f"max_duplicate_{what}s"]:
            return Rejected(f"gopher: repeated {what}s")
        if characters / size > rules[f"max_duplicate_{what}_characters"]:
            return Rejected(f"gopher: repeated {what}s, by characters")
    return _n_grams(measures, rules["top_n_grams"], rules["duplicate_n_grams"])


def _n_grams(measures: Measures, top: Limits, repeated: Limits) -> Verdict:
    allowed = (_by_n(top), _by_n(repeated))
    if n := _too_frequent(*measures.words, *measures.hashes, len(measures.text), allowed[0]):
        return Rejected(f"gopher: one {n}-gram too often")
    if n := _too_repeated(*measures.words, *measures.hashes, len(measures.text), allowed[1]):
        return Rejected(f"gopher: repeated {n}-grams")
    return None


@lru_cache(maxsize=64)
def _by_n(limits: Limits) -> NDArray[np.float64]:
    """The share allowed for each n; infinity where there is no limit."""
    shares = np.full(max((n for n, _ in limits), default=0) + 1, np.inf)
    for n, share in limits:
        shares[n] = share
    return shares


@njit(cache=True)
def _duplicates(points, classes, newlines):  # type: ignore[no-untyped-def]
    """Of the pieces between so many newlines or more: how many, how many stood before, the characters of these."""
    first, last = 0, len(points)
    while newlines > 1 and first < last and classes[points[first]] & SPACE:
        first += 1
    while newlines > 1 and first < last and classes[points[last - 1]] & SPACE:
        last -= 1
    table = table_for(np.sum(points == 10) + 1)
    number = duplicates = characters = 0
    start = at = first
    while at <= last:
        end = at
        while at < last and points[at] == 10:
            at += 1
        if end == last or at - end >= newlines:
            number += 1
            if add(table, hash_span(points, start, end)):
                duplicates += 1
                characters += end - start
            start = at
        at = max(at, end + 1)
    return number, duplicates, characters


@njit(cache=True)
def _lengths_before(starts, ends):  # type: ignore[no-untyped-def]
    before = np.zeros(len(starts) + 1, np.int64)
    for word in range(len(starts)):
        before[word + 1] = before[word] + ends[word] - starts[word]
    return before


@njit(cache=True)
def _too_frequent(starts, ends, hashes, powers, size, allowed):  # type: ignore[no-untyped-def]
    """The first n whose most frequent n-gram, blanks between its words counted, makes too much of the text; or 0.

    No n-gram is more frequent than the (n-1)-grams in it, so that mostly the first count decides for all.
    """
    words, most = len(starts), len(starts)
    before = _lengths_before(starts, ends)
    grams, width = np.zeros(words, np.uint64), np.ones(words, np.uint64)
    for n in range(1, min(len(allowed), words + 1)):
        longest = 0
        for at in range(words - n + 1):
            value, power = hashes[at + n - 1], powers[at + n - 1]
            grams[at] += width[at] * (value + power * np.uint64(0x21))
            width[at] *= power * BASE
            longest = max(longest, before[at + n] - before[at] + n - 1)
        if most * longest / size > allowed[n]:
            most, characters = _most_frequent(grams[: words - n + 1], before, n)
            if characters / size > allowed[n]:
                return n
    return 0


@njit(cache=True)
def _too_repeated(starts, ends, hashes, powers, size, allowed):  # type: ignore[no-untyped-def]
    """The first n of which n-grams that stood before make too much of the text; or 0.

    N-grams are told by their letters alone, wherever their words part, and taken greedily.
    """
    words = len(starts)
    before = _lengths_before(starts, ends)
    grams, width = np.zeros(words, np.uint64), np.ones(words, np.uint64)
    for n in range(1, min(len(allowed), words + 1)):
        for at in range(words - n + 1):
            grams[at] += width[at] * hashes[at + n - 1]
            width[at] *= powers[at + n - 1]
        if allowed[n] < np.inf and _repeated(grams[: words - n + 1], before, n) / size > allowed[n]:
            return n
    return 0


@njit(cache=True)
def _most_frequent(grams, before, n):  # type: ignore[no-untyped-def]
    """How often the most frequent n-gram stands, of equally frequent ones the first, and its characters in all."""
    keys = table_for(len(grams))
    counts, places = np.zeros(len(keys), np.int32), np.empty(len(grams), np.int32)
    mask = np.uint64(len(keys) - 1)
    for gram in range(len(grams)):
        key = grams[gram] if grams[gram] else np.uint64(1)
        at = ((key * np.uint64(0xFF51AFD7ED558CCD)) >> np.uint64(33)) & mask
        while keys[at] and keys[at] != key:
            at = (at + np.uint64(1)) & mask
        keys[at] = key
        counts[at] += 1
        places[gram] = at
    most = best = 0
    for gram in range(len(grams)):
        if counts[places[gram]] > most:
            most, best = counts[places[gram]], gram
    return most, most * (before[best + n] - before[best] + n - 1)


@njit(cache=True)
def _repeated(grams, before, n):  # type: ignore[no-untyped-def]
    """Characters of n-grams that stood before; after one such, the next begins behind it."""
    table = table_for(len(grams))
    characters = at = 0
    while at < len(grams):
        if add(table, grams[at]):
            characters += before[at + n] - before[at]
            at += n
        else:
            at += 1
    return characters
