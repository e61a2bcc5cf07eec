"""What BERT's normalisation and pre-tokenisation make of each code point, asked of `tokenizers` itself.

Both look at one code point at a time (google-research/bert, tokenization.py): it goes, ends a word, is a word of its
own, or adds characters to the word it stands in. So a table holds all there is to know, and compiled code follows it at
the speed of memory. The exception is the canonical order of marks, which looks at neighbours: code points that may
take part in it, and those outside the table, are left to `tokenizers`, as is what it treats in any way not named here.

Costs a tenth of a second a form, once (`pipeline.tables`): code points are asked in blocks, long enough to be few and
short enough for the processor's cache, and the answers are looked at as arrays.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.tables import Arrays, kept

PLANES = 0x34000
"""The table covers the code points below: of the first four planes all that Unicode 17 assigns, ..."""
TAGS, TAGS_END = 0xE0000, 0xE1000
"""... and these, of which flags are made; they stand behind the planes in it."""
AT_ONCE = 0x1000
LETTER, BREAK, ALONE, DROP, ORACLE = range(5)
"""It adds its characters to the word; ends a word; is a word of its own; vanishes; must be asked of `tokenizers`."""
_UNICODE = 0x110000
_POINTS = np.concatenate((np.arange(PLANES, dtype=np.uint32), np.arange(TAGS, TAGS_END, dtype=np.uint32)))
Points = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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
def code_points(lowercase: bool, strip_accents: bool | None, /) -> CodePoints:
    """The table for that form of BERT's normalisation; given by place, so that a form is remembered once."""
    import tokenizers

    versions = tokenizers.__version__, unicodedata.unidata_version
    make = partial(_made, lowercase, strip_accents)
    arrays = kept("code-points", make, (__name__, "pipeline.vocabulary.tokenizer"), lowercase, strip_accents, versions)
    return CodePoints(**arrays)


def _made(lowercase: bool, strip_accents: bool | None) -> Arrays:
    characters, starts = _normalised(lowercase, strip_accents)
    parts = parted()[characters]
    decomposes = lowercase if strip_accents is None else strip_accents
    moves = _may_move()[characters] if decomposes else np.zeros(len(characters), bool)
    kinds = _kinds(starts, parts == BREAK, parts == ALONE, moves)
    adds = np.repeat((kinds == LETTER) | (kinds == ALONE), np.diff(starts)) & (parts != BREAK)
    sizes = _summed(_width(characters) * adds)
    text = characters[adds].tobytes().decode("utf-32-le").encode()
    return {"kinds": kinds, "text": np.frombuffer(text, np.uint8), "starts": sizes[starts].astype(np.int32)}


def _normalised(lowercase: bool, strip_accents: bool | None) -> tuple[Points, Numbers]:
    """The characters that each code point becomes, one's after the other; and where each one's begin, [P + 1].

    Bars stand between them, which end what may be put in order.
    """
    from pipeline.vocabulary.tokenizer import bert_normalizer

    normalizer = bert_normalizer(lowercase, strip_accents)
    answers, lengths = [], []
    for block in _blocks():
        bar = "|" if "|" not in block else "\uff5c"
        answer = np.frombuffer(normalizer.normalize_str(bar.join(block) + bar).encode("utf-32-le"), np.uint32)
        is_bar = answer == ord(bar)
        answers.append(answer[~is_bar])
        lengths.append(np.diff(np.flatnonzero(is_bar), prepend=-1) - 1)
    return np.concatenate(answers), _summed(np.concatenate(lengths))


def _kinds(starts: Numbers, breaks: Flags, alone: Flags, moves: Flags) -> npt.NDArray[np.uint8]:
    """The kind of each code point, [P], from what its characters do, [N] each."""
    lengths = np.diff(starts)
    broken, apart, moved = (np.diff(_summed(flags)[starts]) for flags in (breaks, alone, moves))
    ends = np.append(breaks, False)
    is_framed = (lengths > 2) & ends[starts[:-1]] & ends[starts[1:] - 1]  # Chinese characters are set apart by blanks
    kinds = np.full(len(lengths), ORACLE, np.uint8)
    is_plain = (broken == 2 * is_framed) & (moved == 0)
    is_one = is_plain & (lengths - broken == 1)
    kinds[is_one] = np.where(is_framed | (apart > 0), ALONE, LETTER)[is_one]
    fits = lengths <= _width(_POINTS)
    kinds[is_plain & (lengths > 1) & (broken + apart == 0) & fits] = LETTER  # a text has no more tokens than bytes
    kinds[broken == lengths] = BREAK
    kinds[lengths == 0] = DROP
    return kinds


@cache
def parted() -> npt.NDArray[np.uint8]:
    """BREAK or ALONE for each code point at which the pre-tokeniser parts words, else LETTER: [_UNICODE].

    Letters stand between them: a piece ends where one is that parts, and begins where one is alone.
    """
    from tokenizers import PreTokenizedString

    from pipeline.vocabulary.tokenizer import bert_pre_tokenizer

    pre_tokenizer, found = bert_pre_tokenizer(), []
    for block in _blocks():
        text = PreTokenizedString(f"x{'x'.join(block)}x")
        pre_tokenizer.pre_tokenize(text)
        pieces = np.array([span for _, span, _ in text.get_splits("original", "byte")])
        widths = _width(np.frombuffer(block.encode("utf-32-le"), np.uint32))
        at = np.cumsum(widths + 1) - widths
        parts = np.where(np.isin(at, pieces[:, 1]), BREAK, LETTER)
        found.append(np.where(np.isin(at, pieces[:, 0]), ALONE, parts))
    return _by_point(np.concatenate(found).astype(np.uint8))


@cache
def _may_move() -> Flags:
    """Whether the canonical order of marks may put a character elsewhere, or this Python is too old to know."""
    characters = "".join(_blocks())
    classes = np.fromiter(map(unicodedata.combining, characters), np.uint8, len(characters))
    categories = np.frombuffer("".join(map(unicodedata.category, characters)).encode(), "S2")
    return _by_point((classes != 0) | (categories == b"Cn"))


@cache
def _blocks() -> list[str]:
    """The table's code points as texts; half surrogate pairs, which no text has, as the NUL that vanishes too."""
    points = np.where((_POINTS >= 0xD800) & (_POINTS < 0xE000), 0, _POINTS)
    return [points[at : at + AT_ONCE].tobytes().decode("utf-32-le") for at in range(0, len(points), AT_ONCE)]


def _by_point(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[_UNICODE], the table's values, [P], each at its code point; else 0."""
    found = np.zeros(_UNICODE, values.dtype)
    found[_POINTS] = values
    return found


def _summed(values: npt.NDArray[Any]) -> Numbers:
    """The sums of those before each, and of all: [N + 1]."""
    return np.concatenate(([0], np.cumsum(values)))


def _width(points: npt.NDArray[np.integer[Any]]) -> Numbers:
    """How many bytes of UTF-8 each takes."""
    return 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
