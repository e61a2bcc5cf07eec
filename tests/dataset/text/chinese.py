"""Texts that ask for all that a segmenter of Chinese does, and the words that one makes of them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from pipeline.dataset.text.segmentation import Cut
from pipeline.vocabulary.pieces import flat

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
COMMON = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可"
PARTS = (
    *("清华大学", "杭研大厦", "小明", "王小二", "T恤", "卡拉OK", "AA制"),
    *("3.14%", "5%", "C++", "a.b", "x-y", "1.x", "..", "%"),
    *("\r\n", "\n", "\r", " ", "\u3000", "，", "。", "“", "é", "\u0301", "\U0001f600", "\U00020000", "㐀", "丽"),
)
_PIECES = st.sampled_from(PARTS) | st.text(HAN, max_size=3) | st.sampled_from(COMMON)
CHINESE = st.lists(_PIECES, max_size=30).map("".join)


def words_of(cut: Cut, texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, by where they begin."""
    text, starts = flat(texts)
    begins, lost = cut(text, starts)
    assert (begins.dtype, begins.shape, lost) == (np.bool_, text.shape, 0)
    places = [[*(first + np.flatnonzero(begins[first:last])), last] for first, last in pairwise(starts)]
    return [[text[first:last].tobytes().decode() for first, last in pairwise(each)] for each in places]
