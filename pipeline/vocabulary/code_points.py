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
    """The table for that form of BERT's normalisation; takes 0.3 s, once a process."""
    from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer

    points = [*range(PLANES), *range(TAGS, TAGS_END)]
    normalised = _normalised(points, bert_normalizer(lowercase, strip_accents))
    breaks, alone = _marked(sorted(set("".join(normalised))), bert_pre_tokenizer())
    decomposes = lowercase if strip_accents is None else strip_accents
    kinds = np.empty(len(points), np.uint8)
    replacements = list[bytes]()
    for index, (point, text) in enumerate(zip(points, normalised, strict=True)):
        kind, word = _kind(point, text, breaks, alone, decomposes)
        kinds[index] = kind
        replacements.append(word.encode() if kind in (LETTER, ALONE) else b"")
    starts = np.zeros(len(points) + 1, np.int32)
    np.cumsum([len(each) for each in replacements], out=starts[1:])
    return CodePoints(kinds, np.frombuffer(b"".join(replacements), np.uint8), starts)


def _normalised(points: list[int], normalizer: "Normalizer") -> list[str]:
    """What each becomes, from one call: they stand between bars, which end what may be composed or put in order."""
    whole = [point for point in points if not 0xD800 <= point < 0xE000 and chr(point) != "|"]
    texts = dict(zip(whole, normalizer.normalize_str("|".join(map(chr, whole))).split("|"), strict=True))
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
    if 0xD800 <= point < 0xE000 or len(text.strip()) > len(chr(point).encode()):
        return ORACLE, ""  # no more characters than bytes: so a text's tokens are never more than its bytes
    if not text:
        return DROP, ""
    if breaks.issuperset(text):
        return BREAK, ""
    if decomposes and any(map(_may_move, text)):
        return ORACLE, ""
    if not any(character in breaks or character in alone for character in text):
        return LETTER, text
    inside = text[1:-1] if text[0] in breaks and text[-1] in breaks else text
    if len(inside) == 1 and (inside in alone or inside != text) and inside not in breaks:
        return ALONE, inside
    return ORACLE, ""


def _may_move(character: str) -> bool:
    """Whether the canonical order of marks may put it elsewhere, or this Python is too old to know."""
    return unicodedata.combining(character) != 0 or unicodedata.category(character) == "Cn"
