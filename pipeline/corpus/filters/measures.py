"""What the filters measure of a text, once a text: its code points, its words, their hashes.

Filters that follow one another see the same text as long as none edits it; the last two texts' measures are kept.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numba import njit

from pipeline.corpus.filters.characters import ALPHA, CONTROL, SPACE, SUSPECT, SYMBOL, Points, classes, points_of
from pipeline.corpus.filters.word_hashes import Hashes, hash_words
from pipeline.corpus.filters.words import Spans, word_spans


@dataclass(frozen=True)
class Scan:
    """What tells whether a text must be repaired or normalised at all."""

    untidy: bool
    """Control characters, blanks other than single ones inside a line, more than two newlines, or edges not trimmed."""
    garbled: bool
    """Pairs of characters as UTF-8 has them when it was read as Windows-1252 or Latin-1, or C1 controls."""
    lost: int
    """Replacement characters, U+FFFD."""
    highest: int
    """The last code point in Unicode's order."""


@dataclass(frozen=True)
class WordCounts:
    """How many words, of which kinds."""

    words: int
    """All of them, punctuation too."""
    named: int
    """Those that have a character other than a symbol."""
    named_characters: int
    """The length of these together."""
    alphabetic: int
    """Those that have a letter."""


class Measures:
    """A text, and what is asked of it, when it is asked."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def points(self) -> Points:
        return points_of(self.text)

    @cached_property
    def scan(self) -> Scan:
        return Scan(*_scan(self.points, classes()))

    @cached_property
    def words(self) -> tuple[Spans, Spans]:
        """Where words begin and end."""
        return word_spans(self.points)

    @cached_property
    def counts(self) -> WordCounts:
        return WordCounts(len(self.words[0]), *_count_words(self.points, classes(), *self.words))

    @cached_property
    def hashes(self) -> tuple[Hashes, Hashes]:
        """Of each word its hash, and what joins it to the next one's."""
        first, second = hash_words(self.points, *self.words)
        return first, second


@lru_cache(maxsize=2)
def measured(text: str) -> Measures:
    """The measures of `text`; the same object for the filters of one document."""
    return Measures(text)


@njit(cache=True)
def _scan(points, classes):  # type: ignore[no-untyped-def]
    size = len(points)
    untidy = garbled = False
    lost, highest, newlines = 0, np.uint32(0), 0
    before = np.uint32(10)
    for at in range(size):
        point = points[at]
        bits = classes[point]
        highest = max(highest, point)
        if bits & (SPACE | CONTROL):
            newlines = newlines + 1 if point == 10 else 0
            blank_after_blank = (before == 32 or before == 10) and not (point == 10 and before == 10)
            untidy = untidy or (point != 32 and point != 10) or blank_after_blank or newlines > 2
        else:
            newlines = 0
        if bits & SUSPECT:
            garbled = garbled or 0x80 <= point < 0xA0 or _follows(points, classes, at)
        elif point == 0xFFFD:
            lost += 1
        before = point
    if (size and classes[points[0]] & SPACE) or (size and classes[points[size - 1]] & SPACE):
        untidy = True
    return untidy, garbled, lost, highest


@njit(cache=True)
def _follows(points, classes, at):  # type: ignore[no-untyped-def]
    """Whether the character at `at` ends what UTF-8 would be, read in a wrong encoding."""
    for length in range(1, min(4, at + 1)):
        point = points[at - length]
        if 0xC2 <= point < 0xF5:
            return length == 1 + (point >= 0xE0) + (point >= 0xF0)
        if not classes[point] & SUSPECT:
            return False
    return False


@njit(cache=True)
def tidy(points, classes):  # type: ignore[no-untyped-def]
    """The points without control characters, each run of blanks one blank, or one or two newlines; edges trimmed."""
    made = np.empty(2 * len(points) + 2, np.uint32)  # U+2029 makes two
    size = blanks = newlines = 0
    before = np.uint32(0)
    for at in range(len(points)):
        point = points[at]
        bits = classes[point]
        if not bits & (SPACE | CONTROL):
            if size and newlines:
                made[size] = 10
                made[size + 1] = 10  # overwritten where there is one
                size += min(newlines, 2)
            elif size and blanks:
                made[size] = 32
                size += 1
            made[size] = point
            size += 1
            blanks = newlines = 0
        elif point == 10 or point == 13 or point == 0x2028:
            newlines += not (point == 10 and before == 13)
        elif point == 0x2029:
            newlines += 2
        elif not bits & CONTROL:
            blanks += 1
        before = point
    return made[:size]


@njit(cache=True)
def _count_words(points, classes, starts, ends):  # type: ignore[no-untyped-def]
    named = characters = alphabetic = 0
    for word in range(len(starts)):
        seen, symbols = np.uint16(0), np.uint16(SYMBOL)
        for at in range(starts[word], ends[word]):
            bits = classes[points[at]]
            seen |= bits
            symbols &= bits
        if not symbols:
            named += 1
            characters += ends[word] - starts[word]
        if seen & ALPHA:
            alphabetic += 1
    return named, characters, alphabetic
