"""What a text's copies are recognised by: its characters without case, its words without punctuation.

One table says of each code point what `str.casefold` makes of it and whether it parts words, makes words, or is a word
of its own: Chinese, Japanese, Thai and the like put no blanks between words, so there each character stands for one.
Characters that make no word (punctuation, symbols) are passed over, and don't part words: "don't" is "dont".
The table is made once a process, in a tenth of a second; it takes half a megabyte.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]

LIMIT = 0x20000
"""Code points from here on have no case; up to `LAST_WORD` they are Chinese characters, and then no words at all."""
LAST_WORD = 0x3FFFF
BLANK, WORD, ALONE, LONGER = 1 << 31, 1 << 30, 1 << 29, 1 << 28
"""An entry's flags: parts words; makes words; is a word of its own; casefolds to several characters."""
LOW = (1 << 21) - 1
"""An entry's other bits: the casefolded code point, or the row of `longer` that holds several."""
_WITHOUT_BLANKS = (  # Unicode's blocks of scripts that are written without blanks between words
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x312F),  # Chinese radicals, kana, Bopomofo
    (0x31A0, 0x4DBF),  # Bopomofo, kana, Chinese characters
    (0x4E00, 0x9FFF),  # Chinese characters
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Chinese characters
    (0xFF66, 0xFF9F),  # kana of half width
    (0x16FE0, 0x1B2FF),  # Tangut, Khitan, kana, Nushu
)


@lru_cache(maxsize=1)
def folding() -> tuple[Codes, Codes]:
    """The table [LIMIT], and the rows [M, 3] of characters that casefold to several; zeros fill a row up."""
    table, longer = np.arange(LIMIT, dtype=np.uint32), list[list[int]]()
    for code in range(LIMIT):
        character = chr(code)
        folded = character.casefold()
        entry = ord(folded) if len(folded) == 1 else LONGER | len(longer)
        if len(folded) > 1:
            longer.append([*map(ord, folded), 0][:3])
        if character.isspace():
            entry |= BLANK
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            entry |= WORD
        table[code] = entry
    for first, last in _WITHOUT_BLANKS:
        block = table[first : last + 1]
        block[block & WORD != 0] |= ALONE
    return table, np.array(longer, np.uint32)


@lru_cache(maxsize=1)
def verbatim() -> tuple[Codes, Codes]:
    """The same where every character, blanks too, stands for itself."""
    return np.arange(LIMIT, dtype=np.uint32), np.zeros((1, 3), np.uint32)


def codes_of(texts: Sequence[str]) -> tuple[Codes, Offsets]:
    """The texts' code points, a newline after each, and where each text starts; one more start ends the last."""
    joined = "\n".join([*texts, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in texts], out=starts[1:])
    return codes, starts
