"""Words of Chinese text, so that masks of whole words and n-grams are one code path for all languages.

A segmenter says where words begin; a text is then parted there, where a word holds Han and BERT's tokenizer parts too
(around Han, punctuation and blanks), so that what stands between has, one by one, the ids that it has in the whole. A
word that the tokenizer doesn't part from its neighbour joins it ("XXL" and "T恤"), and text without Han stays as it is:
there words are what `##` says. Whole words of Chinese are Cui et al. 2019, https://arxiv.org/abs/1906.08101.

Costs 2 ns and a byte of memory a byte, besides the segmenter: `jieba` is compiled, while one that is a Python function
takes many times as long as all the rest of the stage.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.config import Segmenter
from pipeline.dataset.text.characters import Bytes, point_at
from pipeline.dataset.text.jieba_dictionary import read_dictionary
from pipeline.dataset.text.jieba_words import load_jieba
from pipeline.dataset.text.sentences import Starts
from pipeline.errors import ConfigError, nearest
from pipeline.vocabulary.code_points import ALONE, BREAK, LETTER, PLANES, code_points, parted

Flags = npt.NDArray[np.bool_]
Segment = Callable[[str], Iterable[str]]
"""A text's words in order, nothing left out."""
Cut = Callable[[Bytes, Starts], tuple[Flags, int]]
"""Of texts, UTF-8 one after the other, where words begin, bool [B]; and in how many the words aren't the text."""

PARTS, HAN = 1, 2
"""Of a character: BERT's tokenizer parts it from both its neighbours, or loses it as a blank; it is an ideograph."""
_POINTS = 1 << 21


class Plug(NamedTuple):
    """A segmenter, which has the name of the package whose version counts."""

    load: Callable[[Path | None], Cut]
    """Takes a dictionary of the user's own."""
    check: Callable[[Path], object]
    """Raises InputError for a dictionary that isn't in its form."""


class WordSpans(NamedTuple):
    """Sentences parted at words. Legend: S sentences, N spans."""

    begins: Starts
    """int64 [N + 1], in bytes."""
    firsts: Starts
    """int64 [S + 1], which span each sentence begins with; a sentence of no bytes has none."""
    is_word: Flags
    """[N], it holds Han: all its tokens are one word. In other spans words are what `##` says."""
    lost: int
    """Sentences of which the segmenter's words don't make up the text: there each character is a word."""


def one_by_one(segment: Segment) -> Cut:
    """A segmenter that is a Python function, asked for one sentence at a time."""

    def cut(text: Bytes, sentences: Starts) -> tuple[Flags, int]:
        begins, lost = np.zeros(len(text), np.bool_), 0
        for first, last in pairwise(sentences.tolist()):
            data = text[first:last].tobytes()
            sentence = data.decode("utf-8", "surrogatepass")
            words = list(segment(sentence))
            if "".join(words) != sentence:
                words, lost = list(sentence), lost + 1
            sizes = (len(word.encode("utf-8", "surrogatepass")) for word in words if word)
            begins[list(accumulate(sizes, initial=first))[:-1]] = True
        return begins, lost

    return cut


SEGMENTERS: Mapping[str, Plug] = {"jieba": Plug(load_jieba, read_dictionary)}


def load_segmenter(config: Segmenter) -> Cut:
    """The segmenter with its dictionary; takes seconds, the first time. Raises ConfigError, InputError."""
    return _loaded(config, segmenter_identity(config))


@lru_cache(1)
def _loaded(config: Segmenter, _: tuple[tuple[str, str], ...]) -> Cut:
    return _plug(config).load(Path(config.dictionary) if config.dictionary else None)


def segmenter_identity(config: Segmenter) -> tuple[tuple[str, str], ...]:
    """What of it counts: its version, and what stands in the dictionary. Raises ConfigError, InputError."""
    plug = _plug(config)
    known = [("segmenter", f"{config.name} {version(config.name)}")]
    if config.dictionary:
        path = Path(config.dictionary)
        plug.check(path)
        known.append(("dictionary", hashlib.sha256(path.read_bytes()).hexdigest()))
    return tuple(sorted(known))


def _plug(config: Segmenter) -> Plug:
    if config.name not in SEGMENTERS:
        raise ConfigError(f"No segmenter is called {config.name!r}. {nearest(config.name, SEGMENTERS)}")
    return SEGMENTERS[config.name]


def word_spans(text: Bytes, sentences: Starts, cut: Cut, whole: Iterable[str] = ()) -> WordSpans:
    """The sentences text[sentences[s]:sentences[s + 1]], parted at the words that hold Han.

    `whole` are strings that the tokenizer finds before it parts anything: nothing is parted inside one.
    """
    text = text.view()
    text.flags.writeable = False  # as Arrow's memory is: one type, compiled once
    words, lost = cut(text, sentences)
    for each in whole:
        _join(text, each.encode(), words)
    begins, firsts, is_word = _spans(text, sentences, words, _marks())
    return WordSpans(begins, firsts, is_word, lost)


def _join(text: Bytes, whole: bytes, words: Flags) -> None:
    """Let no word begin inside an occurrence of `whole`."""
    data = text.tobytes()
    at = data.find(whole)
    while at >= 0:
        words[at + 1 : at + len(whole)] = False
        at = data.find(whole, at + 1)


@cache
def _marks() -> Bytes:
    """PARTS and HAN of each code point, uint8 [2^21]; HAN is what `tokenizers` itself sets apart by blanks."""
    marks = np.zeros(_POINTS, np.uint8)
    kinds = code_points(False, False).kinds[:PLANES]
    marks[:PLANES][(kinds == ALONE) | (kinds == BREAK)] = PARTS
    marks[:PLANES][(kinds == ALONE) & (parted()[:PLANES] == LETTER)] = PARTS | HAN
    return marks


@njit(cache=True, nogil=True)
def _spans(text: Bytes, sentences: Starts, words: Flags, marks: Bytes) -> tuple[Starts, Starts, Flags]:
    """The fields of WordSpans.

    A unit ends where a word does and the tokenizer parts; one with Han is a span, and so is what stands between two.
    """
    begins = np.empty((sentences[-1] - sentences[0]) // 2 + len(sentences) + 1, np.int64)  # of 1 byte and 3 in turn
    is_word = np.empty(len(begins), np.bool_)
    firsts = np.empty(len(sentences), np.int64)
    used = 0
    for sentence in range(len(sentences) - 1):
        at, end = sentences[sentence], sentences[sentence + 1]
        firsts[sentence] = used
        span = unit = at
        has_han, before = False, 0
        while at <= end:
            mark, size = 0, 1
            if at < end:
                point, size = point_at(text, at, end)
                mark = marks[point]
            if at == end or (at > unit and words[at] and (mark | before) & PARTS != 0):
                if has_han and span < unit:
                    begins[used], is_word[used] = span, False
                    used, span = used + 1, unit
                if span < at and (has_han or at == end):
                    begins[used], is_word[used] = span, has_han
                    used, span = used + 1, at
                unit, has_han = at, False
            has_han = has_han or mark & HAN != 0
            before, at = mark, at + size
    firsts[-1] = used
    begins[used] = sentences[-1]
    return begins[: used + 1].copy(), firsts, is_word[:used].copy()
