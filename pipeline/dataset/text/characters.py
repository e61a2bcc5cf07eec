"""Steps over the characters of UTF-8, compiled, by what the table of `marks` says of each.

Places are in bytes; `kinds` is that table. Nothing reads beyond `end`, and malformed bytes are other characters.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compiled import reading
from pipeline.dataset.text.marks import BLANK, BREAK, HAN, SAID

Bytes = npt.NDArray[np.uint8]


@reading
def point_at(text: Bytes, at: int, end: int) -> tuple[Any, int]:
    """The character at `at`, and how many bytes it has; at the end a newline of none, for half a character 0."""
    if at >= end:
        return 0x0A, 0
    byte = np.int64(text[at])
    if byte < 0x80:
        return byte, 1
    size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if size > end - at:
        return 0, end - at
    point = byte & (0x7F >> size)
    for place in range(at + 1, at + size):
        if text[place] & 0xC0 != 0x80:
            return 0, place - at  # it isn't spelled to its end
        point = (point << 6) | (np.int64(text[place]) & 0x3F)
    if point < (0x80 if size == 2 else 0x800 if size == 3 else 0x10000):
        return 0, size  # no character is spelled longer than it need be
    return point, size


@reading
def past_letters(text: Bytes, at: int, end: int, kinds: Bytes) -> int:
    """Where the next character is that opens, closes or ends something: nearly all of the time goes here."""
    while at < end:
        byte = text[at]
        if byte < 0x80:
            if kinds[byte] >= BREAK:
                break
            at += 1
        elif 0xE4 <= byte <= 0xE9:  # nothing but Han
            at += 3
        else:
            point, size = point_at(text, at, end)
            if kinds[point] >= BREAK:
                break
            at += size
    return min(at, end)


@reading
def kind_at(text: Bytes, at: int, end: int, kinds: Bytes) -> Any:  # int
    return np.int64(kinds[point_at(text, at, end)[0]])


@reading
def place_before(text: Bytes, at: int, begin: int) -> int:
    """Where the character before `at` is; `at` where it is the first."""
    if at == begin:
        return at
    at -= 1
    while at > begin and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


@reading
def past_blanks(text: Bytes, at: int, end: int, kinds: Bytes, lines: bool) -> int:
    """Where the next character that isn't blank is; with `lines` also past ends of lines."""
    while at < end:
        point, size = point_at(text, at, end)
        if kinds[point] != BLANK and not (lines and kinds[point] == BREAK):
            break
        at += size
    return at


@reading
def is_han(kind: int) -> bool:
    return HAN <= kind <= SAID
