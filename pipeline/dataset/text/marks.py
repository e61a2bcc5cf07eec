"""What a character and a word are to the end of a sentence: the tables that `sentences` looks into.

Marks that end one in any script are Unicode's Sentence_Terminal (PropList.txt), letters and blanks those of Python's
`str`; the lists of words are our own. Costs a twentieth of a second once (`pipeline.tables`), and 2 MB.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.corpus.filters.characters import BREAK as LINE_BREAK
from pipeline.corpus.filters.characters import DIGIT as ASCII_DIGIT
from pipeline.corpus.filters.characters import LOWER, SPACE, TERMINAL, UPPER, classes
from pipeline.tables import kept

OTHER, SMALL, CAPITAL, DIGIT, HAN, SAYS, SAID, BLANK, COMMA, DASH = range(10)
"""HAN is Han and kana, SAYS its verbs of speaking, SAID what may follow them; COMMA is what begins no sentence."""
BREAK, SPEECH, BRACKET, TITLE, QUOTE, CLOSE = range(10, 16)
"""The first kinds that a scan stops at: ends of lines, what opens and what closes; QUOTE is the ASCII mark of both."""
DOT, MARK, DOTS, STOP = range(16, 20)
"""Marks: DOT, MARK and DOTS where a blank follows, STOP everywhere."""

_POINTS = 1 << 21
"""As many as four bytes of UTF-8 can spell, so that no look-up leaves the table."""
_HAN = [
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF)),
    *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x3FFFF)),
]
_CHARACTERS = {
    SAYS: "说說道问問答喊叫嚷骂罵吼曰",
    SAID: "着著",
    DIGIT: "０１２３４５６７８９",
    COMMA: ",;:，、：；､",
    DASH: "-–—―─",
    SPEECH: "「『“‘﹁﹃〝",
    BRACKET: "（(〔【",
    TITLE: "《〈",
    QUOTE: '"',
    CLOSE: "'’”»›」』）》〉】〕〞﹂﹄)]",
    DOT: ".．",
    MARK: "!?‼‽⁇⁈⁉⸮⸼⹓⹔",
    DOTS: "…‥⋯",
}

NEVER, RARELY, NUMBERED, STARTS = 1, 2, 4, 8
"""A full stop after the word ends a sentence never; before a word that STARTS one; but before a number."""
_WORDS = {
    NEVER: """
        mr mrs ms messrs mme mlle dr prof rev hon gen col maj capt lt lieut sgt cpl pvt adm cmdr brig gov
        sen rep pres supt
        e.g i.e eg ie cf vs v viz fig figs eq eqs sec ch chap vol vols pp ed eds trans approx ca ibid op cit
    """,
    RARELY: """
        st mt ft jr sr esq al etc inc ltd co corp bros llc plc dept est assn univ
        jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri
        a.m p.m u.s u.k u.n d.c ph.d m.d b.a m.a b.sc m.sc ave blvd rd min max hr hrs lb lbs oz yd yds
    """,
    NUMBERED: "no nos art arts p b c d n l nr app cl par pt bk tab ext",
    STARTS: """
        the a an this that these those he she it we they i you his her its our their my your there here what who why
        how but and so yet if when while where after before however although though because since as in on
        at for from by with then thus also both each some most many all no not one hers mine nobody
    """,
}
ABBREVIATIONS = frozenset(f"{_WORDS[NEVER]} {_WORDS[RARELY]}".split())


class Tables(NamedTuple):
    """Legend: W words, of at most eight ASCII letters, which are the bytes of one number."""

    kinds: npt.NDArray[np.uint8]
    """[2^21], of each code point."""
    words: npt.NDArray[np.uint64]
    """[W], sorted."""
    roles: npt.NDArray[np.uint8]
    """[W], NEVER, RARELY, NUMBERED and STARTS."""


@cache
def tables() -> Tables:
    """The tables as the kernels take them."""
    roles: dict[int, int] = {}
    for role, words in _WORDS.items():
        for word in words.split():
            key = int.from_bytes(word.encode(), "big")
            roles[key] = roles.get(key, 0) | role
    keys = sorted(roles)
    modules = (__name__, "pipeline.corpus.filters.characters")
    kinds = kept("marks", lambda: {"kinds": _kinds()}, modules, unicodedata.unidata_version)["kinds"]
    return Tables(kinds, np.array(keys, np.uint64), np.array([roles[key] for key in keys], np.uint8))


def _kinds() -> npt.NDArray[np.uint8]:
    bits = classes()
    kinds = np.zeros(_POINTS, np.uint8)
    known = kinds[: len(bits)]
    known[(bits & (LOWER | UPPER)) == LOWER] = SMALL
    known[(bits & (LOWER | UPPER)) == UPPER] = CAPITAL
    for bit, kind in ((ASCII_DIGIT, DIGIT), (SPACE, BLANK), (LINE_BREAK, BREAK), (TERMINAL, STOP)):
        known[(bits & bit) != 0] = kind
    for first, last in _HAN:
        kinds[first : last + 1] = np.where(kinds[first : last + 1] == STOP, STOP, HAN)
    for kind, characters in _CHARACTERS.items():
        kinds[[ord(character) for character in characters]] = kind
    return kinds
