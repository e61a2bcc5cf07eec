"""What each character is: one table of bits over all of Unicode, which the compiled scans of a text look into.

Made once a process from `unicodedata`, in a twentieth of a second; 2 MB. The sets of characters that the rules of web
corpora name are kept as they are published: symbols from CCNet (Wenzek et al. 2020, text_normalizer), terminal
punctuation from Unicode's property Sentence_Terminal (PropList.txt), what is parted from a word from spaCy 3's rules.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.uint32]
"""A text as code points."""

SPACE, BREAK, ALPHA, LOWER, UPPER, DIGIT, AFFIX, PREFIX = (1 << bit for bit in range(8))
HYPHEN, SYMBOL, TERMINAL, PUNCTUATION, ALONE, MARK, SUSPECT, CONTROL = (1 << bit for bit in range(8, 16))

_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_AFFIXES = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧—–"
_PREFIXES = "§%=$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_HYPHENS = "-–—~"
_SYMBOLS = "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
_CONTROLS = [*range(9), 11, 12, *range(14, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0), 0xFEFF, 0xFFFE, 0xFFFF]
_SENTENCE_TERMINAL = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 "
    "17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F "
    "203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 "
    "AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 "
    "110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 "
    "115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 "
    "16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88"
)
_ALONE = "2E80-2FDF 3005-3007 3021-3029 3041-30FF 31F0-31FF 3400-4DBF 4E00-9FFF F900-FAFF FF66-FF9D 20000-3FFFF"
"""Han and kana: each is a word of its own."""
_UNPARTED = "E01-E30 E32-E33 E40-E46 E81-EB0 EB2-EB3 EC0-EC6 EDC-EDF 1000-102A 103F 1780-17B3"
"""Letters of Thai, Lao, Burmese and Khmer, which part no words either; marks stay with their letter."""
_WINDOWS = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
"""What bytes 80 to 9F are in Windows-1252: the second bytes of UTF-8 that was read as such."""
_ASSIGNED = (range(0x323B0), range(0xE0000, 0xE0200))


def points_of(text: str) -> Points:
    """The text's code points, half surrogate pairs included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@cache
def classes() -> NDArray[np.uint16]:
    """The bits of each code point."""
    table = np.zeros(0x110000, np.uint16)
    for points in _ASSIGNED:
        table[points.start : points.stop] = _bits(points)
    controls, late = "".join(map(chr, _CONTROLS)), "".join(map(chr, range(0x80, 0xC0)))
    marked = [(SYMBOL, _SYMBOLS + controls[:-3] + "\x85"), (CONTROL, controls), (SUSPECT, late + _WINDOWS)]
    marked += [(BREAK, _BREAKS), (AFFIX, _AFFIXES), (PREFIX, _PREFIXES), (HYPHEN, _HYPHENS), (DIGIT, "0123456789")]
    for bit, characters in marked:
        table[[ord(character) for character in characters]] |= bit
    for bit, spans in ((SYMBOL | TERMINAL, _SENTENCE_TERMINAL), (ALONE, _ALONE), (ALONE, _UNPARTED)):
        for first, last in _ranges(spans):
            table[first : last + 1] |= bit
    return table


def _bits(points: range) -> NDArray[np.uint16]:
    """What `unicodedata` and `str` say of each."""
    characters = list(map(chr, points))
    categories = np.frombuffer("".join(map(unicodedata.category, characters)).encode(), "S2")
    kinds = categories.view("S1")[::2]
    is_space, is_upper, is_lower = (
        np.fromiter(map(asked, characters), bool, len(points)) for asked in (str.isspace, str.isupper, str.islower)
    )
    alpha = kinds == b"L"  # as `str.isalpha` has it
    bits: NDArray[np.uint16] = np.zeros(len(points), np.uint16)
    for bit, holds in (
        *((SPACE, is_space), (ALPHA, alpha), (LOWER, alpha & ~is_upper), (UPPER, alpha & ~is_lower)),
        *((PUNCTUATION, kinds == b"P"), (MARK, kinds == b"M"), (ALONE, categories == b"So")),
    ):
        bits |= np.uint16(bit) * holds
    return bits


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for span in text.split():
        first, _, last = span.partition("-")
        yield int(first, 16), int(last or first, 16)


def terminals() -> str:
    """The characters that end a sentence, in any script."""
    return "".join(chr(p) for first, last in _ranges(_SENTENCE_TERMINAL) for p in range(first, last + 1))
