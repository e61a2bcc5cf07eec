"""What BERT's normalisation and pre-tokenisation make of each code point, asked of `tokenizers` itself.

Both look at one code point at a time (google-research/bert, tokenization.py): it goes, ends a word, is a word of its
own, or adds characters to the word it stands in. So a table holds all there is to know, and compiled code follows it at
the speed of memory. The exception is the canonical order of marks, which looks at neighbours: code points that may
take part in it, and those outside the table, are left to `tokenizers`, as is what it treats in any way not named here.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

PLANES = 0x40000
"""The table covers the code points below: four planes, ..."""
TAGS, TAGS_END = 0xE0000, 0xE1000
"""... and these, of which flags are made; they stand behind the planes in it."""
AT_ONCE = 0x2000
LETTER, BREAK, ALONE, DROP, ORACLE = range(5)
"""It adds its characters to the word; ends a word; is a word of its own; vanishes; must be asked of `tokenizers`."""


@dataclass(frozen=True)
class CodePoints:
    """Legend: P code points of the table, B bytes."""

    kinds: npt.NDArray[np.uint8]
    """[P], LETTER to ORACLE."""
    text: npt.NDArray[np.uint8]
    """[B], the UTF-8 that code points are replaced by, one after the other."""
    starts: npt.NDArray[np.int32]
    """[P + 1], where each one's begins in `text`."""


@lru_cache(maxsize=8)
def code_points(lowercase: bool, strip_accents: bool | None) -> CodePoints:
    """The table for that form of BERT's normalisation; takes half a second, once a process."""
    points = [range(first, first + AT_ONCE) for first in range(0, PLANES, AT_ONCE)] + [range(TAGS, TAGS_END)]
    kinds, replacements = zip(*(_block(some, lowercase, strip_accents) for some in points), strict=True)
    texts = [text for some in replacements for text in some]
    starts = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return CodePoints(np.concatenate(kinds), np.frombuffer(b"".join(texts), np.uint8), starts)


def _block(points: range, lowercase: bool, strip_accents: bool | None) -> tuple[npt.NDArray[np.uint8], list[bytes]]:
    """Some code points' kinds and replacements."""
    from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer

    normalised = _normalised(points, bert_normalizer(lowercase, strip_accents))
    breaks, alone = _marked(sorted(set("".join(normalised))), bert_pre_tokenizer())
    decomposes = lowercase if strip_accents is None else strip_accents
    found = [_kind(point, text, breaks, alone, decomposes) for point, text in zip(points, normalised, strict=True)]
    kinds = np.array([kind for kind, _ in found], np.uint8)
    return kinds, [text.encode() if kind in (LETTER, ALONE) else b"" for kind, text in found]


def _normalised(points: range, normalizer: "Normalizer") -> list[str]:
    """What each becomes, from one call: they stand between bars, which end what may be composed or put in order."""
    whole = [point for point in points if not 0xD800 <= point < 0xE000 and chr(point) != "|"]
    joined = normalizer.normalize_str("|".join(map(chr, whole))) if whole else ""
    texts = dict(zip(whole, joined.split("|") if whole else (), strict=True))
    texts[ord("|")] = normalizer.normalize_str("|")
    return [texts.get(point, "") for point in points]


def _marked(characters: list[str], pre_tokenizer: "PreTokenizer") -> tuple[set[str], set[str]]:
    """Which of these part words and are lost, and which are words of their own.

    Letters stand between them: of what belongs to words then nothing is parted off.
    """
    text = "x" + "x".join(characters) + "x"
    covered = np.zeros(len(text), np.int64)
    for _, (start, stop) in pre_tokenizer.pre_tokenize_str(text):
        covered[start:stop] = stop - start
    lengths = covered[1::2]
    breaks = {character for character, length in zip(characters, lengths, strict=True) if length == 0}
    alone = {character for character, length in zip(characters, lengths, strict=True) if length == 1}
    return breaks, alone


def _kind(point: int, text: str, breaks: set[str], alone: set[str], decomposes: bool) -> tuple[int, str]:
    """Its kind, and the characters that it adds or is."""
    inside = text
    if len(text) > 2 and text[0] in breaks and text[-1] in breaks:
        inside = text[1:-1]  # Chinese characters are set apart by blanks
    if len(inside) == 1:
        if inside in breaks:
            return BREAK, ""
        if decomposes and _may_move(inside):
            return ORACLE, ""
        return (ALONE if inside in alone or inside != text else LETTER), inside
    if not text:
        return DROP, ""
    if breaks.issuperset(text):
        return BREAK, ""
    is_plain = breaks.isdisjoint(text) and alone.isdisjoint(text) and not (decomposes and any(map(_may_move, text)))
    if not is_plain or len(text) > len(chr(point).encode()):
        return ORACLE, ""  # so that a text's tokens are never more than its bytes
    return LETTER, text


def _may_move(character: str) -> bool:
    """Whether the canonical order of marks may put it elsewhere, or this Python is too old to know."""
    return unicodedata.combining(character) != 0 or unicodedata.category(character) == "Cn"
