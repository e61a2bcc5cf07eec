"""Where a sentence ends: the rules, compiled, for one place in a text at a time.

A rule looks at a few characters around its place, but for marks and blanks, which it passes over; so a text costs what
its length is. What a scan carries along, `sentences` keeps; its compiled code is cached by its own file, so touch that
after a change here.
"""

from typing import Any

import numpy as np

from pipeline.compiled import reading
from pipeline.dataset.text.characters import Bytes, is_han, kind_at, past_blanks, place_before, point_at
from pipeline.dataset.text.marks import (
    BLANK,
    BRACKET,
    BREAK,
    CAPITAL,
    CLOSE,
    COMMA,
    DASH,
    DIGIT,
    DOT,
    DOTS,
    MARK,
    NEVER,
    NUMBERED,
    OTHER,
    QUOTE,
    RARELY,
    SAID,
    SAYS,
    SMALL,
    SPEECH,
    STARTS,
    STOP,
    TITLE,
    Tables,
)

_LONGEST_TAG = 14
"""Characters from a quotation to its verb of speaking."""


@reading
def opens(text: Bytes, at: int, end: int, begin: int, kinds: Bytes, closer: int) -> bool:
    """Whether a quotation in Han or kana opens here; inside speech that ends with `closer` only such speech anew."""
    point, size = point_at(text, at, end)
    kind = kinds[point]
    if kind == CLOSE or (closer >= 0 and point + 1 != closer):
        return False
    if point >= 0x3000:
        return True
    following = kind_at(text, at + size, end, kinds)
    if is_han(following) or following in (TITLE, DOTS):
        return True
    return at > begin and text[place_before(text, at, begin)] >= 0xE3  # what stands before it is Chinese


@reading
def past_marks(text: Bytes, at: int, end: int, kinds: Bytes) -> tuple[int, int]:
    """Where a run of marks ends, and what it is as a whole."""
    sort, first = 0, at
    while True:
        point, size = point_at(text, at, end)
        kind = kinds[point]
        if kind < DOT:
            return at, sort
        sort = max(int(sort), int(kind), DOTS if kind == DOT and at > first else DOT)
        at += size


@reading
def past_closing(text: Bytes, at: int, end: int, kinds: Bytes, closer: int) -> tuple[int, bool, bool]:
    """Where what closes ends; whether the quotation is closed; and whether it is more than brackets."""
    closed = quoted = False
    while at < end:
        point, size = point_at(text, at, end)
        kind = kinds[point]
        if kind == BLANK and _stands_alone(text, at + size, end, kinds):
            at += size
            continue
        if kind not in (CLOSE, QUOTE):
            break
        if kind == QUOTE and point != closer and is_han(kind_at(text, at + size, end, kinds)):
            break  # it opens
        closed, quoted, at = closed or point == closer, quoted or (point != 0x29 and point != 0x5D), at + size
    return at, closed, quoted


@reading
def _stands_alone(text: Bytes, at: int, end: int, kinds: Bytes) -> bool:
    """Whether a quotation mark is here that a blank follows, as in French or in tokenised text: it closes."""
    point, size = point_at(text, at, end)
    return (kinds[point] == QUOTE or point == 0xBB) and kind_at(text, at + size, end, kinds) in (BLANK, BREAK)


@reading
def ends(
    text: Bytes,
    begin: int,
    mark: int,
    sort: int,
    at: int,
    end: int,
    opened: int,
    quoted: bool,
    known: Tables,
) -> Any:  # bool
    """Whether a sentence ends at `at`, after the marks at `mark` and what closes there.

    `opened` is where the quotation that it closes was opened, or -1.
    """
    kinds = known.kinds
    following = kind_at(text, at, end, kinds)
    if following == BREAK:
        return True
    after_han = mark > begin and is_han(kind_at(text, place_before(text, mark, begin), end, kinds))
    if opened >= 0:
        return (sort >= DOTS or after_han) and _quotation_ends(text, begin, opened, at, end, kinds)
    han_follows = is_han(following) or (SPEECH <= following <= TITLE)
    if sort == STOP or (han_follows and (after_han or sort == MARK)):
        if following in (COMMA, DASH):
            return False
        return sort != DOTS or _breaks_off(text, begin, mark, at, end, kinds)
    if following != BLANK or mark == begin:
        return False
    return _western(text, begin, mark, sort, at, end, quoted, known)


@reading
def _breaks_off(text: Bytes, begin: int, mark: int, at: int, end: int, kinds: Bytes) -> Any:  # bool
    """Whether an ellipsis amid Han ends a sentence: one of six dots does, but where somebody stutters."""
    stutters = point_at(text, place_before(text, mark, begin), end)[0] == point_at(text, at, end)[0]
    return past_marks(text, mark, end, kinds)[0] - mark >= 6 and mark > begin and not stutters


@reading
def _quotation_ends(text: Bytes, begin: int, opened: int, at: int, end: int, kinds: Bytes) -> bool:
    """Whether the sentence ends with the quotation: no title, no part of a clause, and not followed by who said so."""
    kind, following = kind_at(text, opened, end, kinds), kind_at(text, at, end, kinds)
    if kind == TITLE or following in (COMMA, DASH):
        return False
    if kind == BRACKET:
        return opened == begin
    if opened > begin:
        before = kind_at(text, place_before(text, opened, begin), end, kinds)
        if before not in (COMMA, DASH, BLANK, SAYS) and before < CLOSE:
            return False
    return not _says(text, at, end, kinds)


@reading
def _says(text: Bytes, at: int, end: int, kinds: Bytes) -> bool:
    """Whether the clause at `at` says who spoke: it ends with a verb of speaking, or has one with its particle."""
    first = point_at(text, at, end)[0]
    if first in (0x3068, 0x3063, 0x7684):  # Japanese to and tte, Chinese de: what was said is part of a clause
        return True
    before, last, kind = 0, first, OTHER
    for _ in range(_LONGEST_TAG):
        point, size = point_at(text, at, end)
        following = kinds[point]
        if kind == SAYS and (following == SAID or not is_han(following)):
            knows = last == 0x9053 and before in (0x77E5, 0x5473)  # in "know" and "taste" it is no verb
            return not knows and point not in (0x3A, 0xFF1A)  # a colon: who says what comes next
        if not is_han(following):
            return False
        before, last, kind, at = last, point, following, at + size
    return False


@reading
def _western(
    text: Bytes, begin: int, mark: int, sort: int, at: int, end: int, quoted: bool, known: Tables
) -> Any:  # bool
    """Whether a mark ends a sentence before the blank at `at`."""
    kinds = known.kinds
    at = past_blanks(text, at, end, kinds, False)
    kind = kind_at(text, at, end, kinds)
    while kind == DASH:  # what follows it decides
        at = past_blanks(text, at + point_at(text, at, end)[1], end, kinds, False)
        kind = kind_at(text, at, end, kinds)
    if kind == BREAK:
        return True
    if kind == SMALL:
        return kind_at(text, at + 1, end, kinds) == CAPITAL  # as in iPhone
    if kind == COMMA or (kind == CLOSE and text[at] != 0x27):
        return False
    if kind == DOT and kind_at(text, at + 1, end, kinds) in (BLANK, BREAK):
        return False  # an ellipsis of spaced dots
    return sort != DOT or quoted or not _abbreviates(text, begin, mark, at, end, known)


@reading
def _abbreviates(text: Bytes, begin: int, dot: int, at: int, end: int, known: Tables) -> bool:
    """Whether the full stop at `dot` belongs to the word before it, as far as the word at `at` tells."""
    kinds = known.kinds
    first, initials, acronym, digits, width = dot, True, True, True, 0
    while first > begin:
        place = place_before(text, first, begin)
        kind = kind_at(text, place, end, kinds)
        if kind not in (SMALL, CAPITAL, DIGIT, DOT) and (kind != OTHER or text[place] < 0x80):
            break
        width = 0 if kind == DOT else width + 1
        initials &= kind == DOT or (kind == CAPITAL and width == 1)
        acronym, digits, first = acronym and kind == CAPITAL, digits and kind == DIGIT, place
        if dot - first > 8:
            return False
    if first == dot:
        return False
    if digits or (dot - first == 1 and first == begin):
        return first == begin and dot - first < 4  # the number of a list's item
    at = _past_opening(text, at, end, kinds)
    starts, number = _role(text, at, end, known) & STARTS, kind_at(text, at, end, kinds) == DIGIT
    if initials:
        return first == begin or not starts
    if acronym and not number and kind_at(text, at + 1, end, kinds) != CAPITAL:
        return False  # an abbreviation is in capitals only amid capitals
    role = _role(text, first, dot, known)
    return bool(role & NEVER) or bool(role & RARELY and not starts) or bool(role & NUMBERED and number)


@reading
def _past_opening(text: Bytes, at: int, end: int, kinds: Bytes) -> int:
    while at < end:
        point, size = point_at(text, at, end)
        if not (SPEECH <= kinds[point] <= QUOTE or point == 0x27 or point == 0x5B):
            break
        at += size
    return at


@reading
def _role(text: Bytes, at: int, end: int, known: Tables) -> Any:  # int
    """What the word at `at` is in the lists, in any case; 0 for another."""
    key, size = np.uint64(0), 0
    while at < end and size < 9:
        byte = text[at]
        small = byte | 0x20
        if not (0x61 <= small <= 0x7A or (byte == 0x2E and at + 1 < end)):
            break
        key, size, at = (key << np.uint64(8)) | np.uint64(small if byte != 0x2E else byte), size + 1, at + 1
    place = np.searchsorted(known.words, key)
    if size > 8 or place == len(known.words) or known.words[place] != key:
        return 0
    return np.int64(known.roles[place])
