"""What a word is, for all rules: one compiled scan of the code points, which gives spaCy's words where English matters.

Blanks part a text; from each piece opening and closing punctuation, units after digits and the endings n't, 's, 'll, …
are taken off, and it is parted inside at hyphens, slashes and dots between letters; addresses and known abbreviations
stay whole. A Han character, a kana, a letter of Thai, Lao, Burmese or Khmer is a word of its own: their languages part
no words, and a dictionary would decide what a rule counts. About 100 MB of English a second.
Follows spaCy 3's tokenizer for English without its several hundred exceptions (cannot -> can not, dont -> do nt, …).
"""

from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.corpus.filters.characters import (
    AFFIX,
    ALONE,
    ALPHA,
    DIGIT,
    HYPHEN,
    LOWER,
    MARK,
    PREFIX,
    SPACE,
    UPPER,
    Points,
    classes,
    points_of,
)
from pipeline.corpus.filters.word_hashes import BASE, Hashes, hash_of

Spans = NDArray[np.int32]
ALNUM = ALPHA | DIGIT
PLAIN = ALPHA | LOWER | UPPER | DIGIT | MARK
QUOTE, DOT, COMMA, PLUS, CURLY = ord("'"), ord("."), ord(","), ord("+"), ord("’")
_ABBREVIATIONS = (
    "Mr. Mrs. Ms. Dr. Prof. Rev. Gen. Gov. Sen. Rep. Adm. Capt. Col. Lt. Sgt. St. Mt. Jr. Sr. Esq. Messrs. Bros. Co. "
    "Corp. Inc. Ltd. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. Ala. Ariz. Ark. Calif. Colo. Conn. "
    "Del. Fla. Ga. Ill. Ind. Kan. Kans. Ky. La. Mass. Md. Mich. Minn. Miss. Mo. Mont. Neb. Nebr. Nev. Okla. Ore. Pa. "
    "Tenn. Va. Wash. Wis. N.C. N.D. N.H. N.J. N.M. N.Y. S.C. D.C. a.m. p.m. A.M. P.M. Adm. e.g. E.g. E.G. i.e. I.e. "
    "I.E. vs. v.s. Ph.D. "
) + " ".join(f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü")
_UNITS = "km m dm cm mm ha nm yd in ft kg g mg t lb oz kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K"


def words_of(text: str) -> list[str]:
    """The words of `text`, in order."""
    starts, ends = word_spans(points_of(text))
    return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def word_spans(points: Points) -> tuple[Spans, Spans]:
    """Where words begin and end."""
    abbreviations, units = _known()
    starts, ends = _split(points, classes(), abbreviations, units)
    return starts, ends


@cache
def _known() -> tuple[Hashes, Hashes]:
    """Hashes, in order, of the abbreviations that keep their dot, and of the units that part from their number."""
    first, second = (np.array(sorted(map(hash_of, {*words.split()})), np.uint64) for words in (_ABBREVIATIONS, _UNITS))
    return first, second


@njit(cache=True)
def _is_known(points, first, last, known):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for at in range(last - 1, first - 1, -1):
        value = value * BASE + np.uint64(points[at] + 1)
    place = np.searchsorted(known, value)
    return place < len(known) and known[place] == value


@njit(cache=True)
def _split(points, classes, abbreviations, units):  # type: ignore[no-untyped-def]
    """Starts and ends of words: blanks part, and then `_cut` each piece that isn't plain letters and digits."""
    size = len(points)
    cuts = np.zeros(size + 1, np.uint8)
    starts, ends = np.empty(size, np.int32), np.empty(size, np.int32)
    count = first = 0
    while first < size:
        if classes[points[first]] & SPACE:
            first += 1
            continue
        last = first + 1
        while last < size and not classes[points[last]] & SPACE:
            last += 1
        starts[count] = first
        if not _is_plain(points, classes, first, last):
            _cut(points, classes, first, last, cuts, abbreviations, units)
            for at in range(first + 1, last):
                if cuts[at]:
                    ends[count] = at
                    count += 1
                    starts[count] = at
        ends[count] = last
        count += 1
        first = last
    return starts[:count], ends[:count]


@njit(cache=True)
def _cut(points, classes, first, last, cuts, abbreviations, units):  # type: ignore[no-untyped-def]
    """Mark where the words within a piece without blanks begin."""
    if last - first > 1 and _is_plain(points, classes, first, last - 1):  # most pieces: one mark behind a word
        point, before = points[last - 1], classes[points[last - 2]]
        dotted = point == DOT and before & (LOWER | DIGIT) and not _is_known(points, first, last, abbreviations)
        if dotted or classes[point] & AFFIX:
            cuts[last - 1] = 1
            return
    for at in range(first, last):
        if classes[points[at]] & ALONE:
            cuts[at] = 1
            after = at + 1
            while after < last and classes[points[after]] & MARK:
                after += 1
            cuts[after] = 1
    peeled = True
    while peeled and first < last:
        if points[last - 1] == DOT and _is_known(points, first, last, abbreviations):
            return
        opening = _opening(points, classes, first, last)
        first += opening
        cuts[first] = 1
        if opening and first < last and points[last - 1] == DOT and _is_known(points, first, last, abbreviations):
            return
        closing = _closing(points, classes, first, last, units) if first < last else 0
        cuts[last] = 1
        last -= closing
        cuts[last] = 1
        peeled = opening + closing > 0
        if _is_plain(points, classes, first, last):
            return
    if not _is_address(points, classes, first, last):
        _cut_inside(points, classes, first, last, cuts)


@njit(cache=True)
def _is_plain(points, classes, first, last):  # type: ignore[no-untyped-def]
    """Whether nothing can be cut off or inside: letters alone, or digits alone."""
    seen = np.uint16(0)
    for at in range(first, last):
        seen |= classes[points[at]] if classes[points[at]] else np.uint16(SPACE)
    return not seen & ~np.uint16(PLAIN) and not (seen & DIGIT and seen & ALPHA)


@njit(cache=True)
def _dots(points, at, step, stop):  # type: ignore[no-untyped-def]
    """How many dots stand in a row from `at`."""
    count = 0
    while at != stop and points[at] == DOT:
        count += 1
        at += step
    return count


@njit(cache=True)
def _opening(points, classes, first, last):  # type: ignore[no-untyped-def]
    """How many characters open the piece and are a word of their own."""
    point = points[first]
    if point == DOT:
        dots = _dots(points, first, 1, last)
        return dots if dots > 1 else 0
    if classes[point] & (AFFIX | PREFIX | ALONE):
        after = first + 1
        while classes[point] & ALONE and after < last and classes[points[after]] & MARK:
            after += 1
        return after - first
    if point == PLUS and not (first + 1 < last and classes[points[first + 1]] & DIGIT):
        return 1
    return 0


@njit(cache=True)
def _closing(points, classes, first, last, units):  # type: ignore[no-untyped-def]
    """How many characters close the piece and are a word of their own."""
    point, bits = points[last - 1], classes[points[last - 1]]
    if bits & (AFFIX | ALONE):
        return 1
    if last - first < 2:
        return 0
    before, before_bits = points[last - 2], classes[points[last - 2]]
    if point == DOT:
        dots = _dots(points, last - 1, -1, first - 1)
        if dots > 1:
            return dots
        if before_bits & (LOWER | DIGIT | AFFIX) or before in (0x25, 0xB2, 0x2D, PLUS):
            return 1
        return 1 if before_bits & UPPER and last - first > 2 and classes[points[last - 3]] & UPPER else 0
    if before_bits & DIGIT and (point == PLUS or bits & PREFIX):
        return 1
    if not bits & ALPHA:
        return 0
    if before in (QUOTE, CURLY):
        if point == 0x74 and last - first > 3 and points[last - 3] == 0x6E:
            return 3  # n't
        return 2 if point in (0x73, 0x53) or (last - first > 2 and point in (0x64, 0x6D)) else 0  # 's 'S, 'd 'm
    if last - first > 3 and points[last - 3] in (QUOTE, CURLY):
        return 3 if (before, point) in ((0x6C, 0x6C), (0x72, 0x65), (0x76, 0x65)) else 0  # 'll 're 've
    start = last - 1
    while start > first and last - start < 5 and classes[points[start - 1]] & ALPHA:
        start -= 1
    if start > first and classes[points[start - 1]] & DIGIT and _is_known(points, start, last, units):
        return last - start
    return 0


@njit(cache=True)
def _is_address(points, classes, first, last):  # type: ignore[no-untyped-def]
    """Whether the piece is [scheme://][user@]host.tld[:port][/path]: such a piece isn't parted inside."""
    start = first
    for at in range(first + 2, last - 2):
        if points[at] == 0x3A and points[at + 1] == 0x2F and points[at + 2] == 0x2F:
            start = at + 3
            break
    for at in range(start, last):
        if points[at] == 0x40:
            start = at + 1
            break
    dot, at = -1, start
    while at < last and points[at] not in (0x2F, 0x3F, 0x23, 0x3A):
        if points[at] == DOT:
            if dot == at - 1:
                return False
            dot = at
        elif not (classes[points[at]] & ALNUM or points[at] in (0x2D, 0x5F) or points[at] > 0xA0):
            return False
        at += 1
    if dot <= start or at - dot < 3:
        return False
    lower = np.uint16(LOWER)
    for place in range(dot + 1, at):
        lower &= classes[points[place]]
    return lower > 0


@njit(cache=True)
def _cut_inside(points, classes, first, last, cuts):  # type: ignore[no-untyped-def]
    """Mark words at hyphens, slashes, commas, dots and runs of dots between letters or digits."""
    at = first + 1
    while at < last - 1:
        point, length = points[at], 1
        before, after = classes[points[at - 1]], classes[points[at + 1]]
        if point == DOT:
            length = max(_dots(points, at, 1, last), 1)
            quotes = points[at - 1] in (QUOTE, CURLY, 0x22), points[at + 1] in (QUOTE, CURLY, 0x22)
            found = length > 1 or ((before & LOWER or quotes[0]) and (after & UPPER or quotes[1]))
        elif point == 0x2026:
            found = True
        elif point == COMMA:
            found = before & ALPHA and after & ALPHA
        elif classes[point] & HYPHEN:
            while length < 3 and at + length < last and points[at + length] == point:
                length += 1
            after = classes[points[at + length]] if at + length < last else np.uint16(0)
            found = before & ALNUM and after & ALPHA
            if length == 1 and point == 0x2D and before & DIGIT and after & DIGIT:
                found = True
        elif point in (0x3A, 0x3C, 0x3E, 0x3D, 0x2F):
            found = before & ALNUM and after & ALPHA
        elif point in (PLUS, 0x2A, 0x5E):
            found = before & DIGIT and (after & DIGIT or points[at + 1] == 0x2D)
        else:
            found = False
        if found:
            cuts[at] = cuts[at + length] = 1
        at += length
