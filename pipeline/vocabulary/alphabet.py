"""The characters that a vocabulary has: which are frequent enough, and which also continue words.

No script is cut off: a rule by share of the text or by number would take rare Chinese characters for noise. So the only
measure is how often a character stands, and a vocabulary too small for that is told so.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.layout import CONTINUES

CODE_POINTS = 0x110000


def alphabet_of(counts: WordCounts, min_frequency: int) -> list[str]:
    """The single-character pieces, each character that is frequent enough and, where it joins others, both its forms.

    Characters that always stand alone (Chinese, punctuation: pre-tokenisation parts them) get no `##` twin; nor do
    signs that only ever begin a word, such as £, whereas a letter or digit that begins one will continue another.
    """
    return _alphabet(*character_counts(counts), min_frequency)


def _alphabet(sums: npt.NDArray[np.int64], joins: npt.NDArray[np.bool_], min_frequency: int) -> list[str]:
    kept = [chr(point) for point in np.flatnonzero(sums >= min_frequency)]
    return kept + [CONTINUES + character for character in kept if joins[ord(character)]]


def character_counts(counts: WordCounts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of each code point how often it stands, and whether it has a continuing form: [0x110000]."""
    sums = np.zeros(CODE_POINTS, np.int64)
    begins, continues = np.zeros(CODE_POINTS, np.bool_), np.zeros(CODE_POINTS, np.bool_)
    _count_characters(counts.text, counts.starts, counts.counts, sums, begins, continues)
    for point in np.flatnonzero(begins & ~continues):
        continues[point] = chr(point).isalnum()
    return sums, continues


def too_small(counts: WordCounts, size: int, min_frequency: int, reserved: list[str]) -> str:
    """Says the smallest possible size, and the least frequency of characters with which this one would do."""
    sums, joins = character_counts(counts)

    def entries(least: int) -> int:
        return len({*reserved, *_alphabet(sums, joins, least)})

    text = (
        f"vocabulary.size is {size:,}, but specials, free slots and tokens ({len(reserved):,}) and the characters that "
        f"stand at least {min_frequency:,} times are {entries(min_frequency):,} entries: that is the smallest possible "
        f"size. Raise it"
    )
    fitting = [least for least in np.unique(sums[sums > 0] + 1).tolist() if entries(least) <= size]
    if not fitting or len(reserved) >= size:
        return text + "."
    return text + (
        f", or min_character_frequency: with {fitting[0]:,} there would be {entries(fitting[0]):,}, and other "
        f"characters would be [UNK]."
    )


@njit(cache=True)
def _count_characters(text, starts, counts, sums, begins, continues):  # type: ignore[no-untyped-def]
    """Add up how often each code point stands: int64 [0x110000]; note which begin and continue words of several."""
    for word in range(len(counts)):
        first, last = starts[word], starts[word + 1]
        point, at = decoded(text, first)
        sums[point] += counts[word]
        begins[point] |= at < last
        while at < last:
            point, at = decoded(text, at)
            sums[point] += counts[word]
            continues[point] = True


@njit(cache=True)
def decoded(text, at):  # type: ignore[no-untyped-def]
    """The code point whose UTF-8 begins at `at`, and where the next begins."""
    lead = np.int64(text[at])
    if lead < 0x80:
        return lead, at + 1
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    point = lead & (0xFF >> (size + 1))
    for more in range(1, size):
        point = point << 6 | np.int64(text[at + more] & 0x3F)
    return point, at + size
