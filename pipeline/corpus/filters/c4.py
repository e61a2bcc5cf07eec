"""C4's rules: lines that aren't sentences are taken out, and pages of filler or code dropped.

Raffel et al. 2020, section 2.2, with what tensorflow/datasets' c4_utils adds, as datatrove 0.10 words them. Lines are
parted and judged in two compiled scans; only a text that holds one of the phrases is looked at line by line.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.filters.characters import (
    ALONE,
    ALPHA,
    BREAK,
    PUNCTUATION,
    SPACE,
    TERMINAL,
    Points,
    classes,
    points_of,
)
from pipeline.corpus.filters.measures import measured
from pipeline.corpus.filters.profiles import thresholds
from pipeline.corpus.filters.words import word_spans

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
"""What C4 takes a line for a notice by."""
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")


def c4(
    document: Document,
    *,
    ends: str | None = None,
    terminal_punctuation: bool | None = None,
    min_words_per_line: int | None = None,
    max_word_length: int | float | None = None,
    min_sentences: int | None = None,
    citations: bool | None = None,
    lorem_ipsum: bool | None = None,
    javascript: bool | None = None,
    curly_bracket: bool | None = None,
    policy: bool | None = None,
) -> Verdict:
    """Take out lines that aren't sentences and citation marks; reject filler, code, and what keeps too few sentences.

    A line stays that closes with one of `ends`, has enough words, and neither a monstrous word, "javascript", nor a
    cookie or policy notice. A value left out is the language's, of `profiles`.
    """
    rules = thresholds(
        "c4",
        document.lang,
        ends=ends,
        terminal_punctuation=terminal_punctuation,
        min_words_per_line=min_words_per_line,
        max_word_length=max_word_length,
        min_sentences=min_sentences,
        citations=citations,
        lorem_ipsum=lorem_ipsum,
        javascript=javascript,
        curly_bracket=curly_bracket,
        policy=policy,
    )
    measures = measured(document.text)
    text, points, words = document.text, measures.points, measures.words
    first, last, pieces, longest = _lines(points, classes())
    if rules["citations"] and "[" in text and (found := [match.span() for match in _CITATION.finditer(text)]):
        stays = np.ones(len(points), np.bool_)
        for start, end in found:
            stays[start:end] = False
        kept_before = np.concatenate([[0], np.cumsum(stays)]).astype(np.int32)
        first, last, points, text = kept_before[first], kept_before[last], points[stays], _CITATION.sub("", text)
        words = word_spans(points)
    keep = (pieces >= rules["min_words_per_line"]) & (longest <= rules["max_word_length"])
    if rules["terminal_punctuation"]:
        keep &= _closes(points, first, last, _closing(rules["ends"]))
    lines = list(zip(first.tolist(), last.tolist(), strict=True))
    if reason := _drop_by_phrase(text, lines, keep, rules):
        return Rejected(reason)
    if _sentence_begins(points, classes(), first[keep], last[keep], *words).sum() < rules["min_sentences"]:
        return Rejected("c4: too few sentences")
    clean = "\n".join(
        [text[start:end] for (start, end), kept in zip(lines, keep.tolist(), strict=True) if kept]
    ).strip()
    if clean == document.text:
        return None
    removed = int(np.count_nonzero((pieces > 0) & ~keep))
    return Edited(replace(document, text=clean), {"lines removed": removed} if removed else {})


def _drop_by_phrase(
    text: str, lines: list[tuple[int, int]], keep: NDArray[np.bool_], rules: Mapping[str, Any]
) -> str | None:
    """Take lines with certain phrases out of `keep`; or the reason why the whole text goes."""
    phrases = (("javascript",) if rules["javascript"] else ()) + (POLICY if rules["policy"] else ())
    lowered = text.lower()
    phrases = tuple(phrase for phrase in phrases if phrase in lowered)
    filler = rules["lorem_ipsum"] and "lorem ipsum" in lowered
    curly = rules["curly_bracket"] and "{" in text
    if not (phrases or filler or curly):
        return None
    for number in np.flatnonzero(keep).tolist():
        line = text[slice(*lines[number])]
        lowered = line.lower()
        if filler and "lorem ipsum" in lowered:
            return "c4: lorem ipsum"
        script = "javascript" in phrases and "javascript" in lowered
        if curly and "{" in line and not script:
            return "c4: curly bracket"
        if script or any(phrase in lowered for phrase in phrases):
            keep[number] = False
    return None


@lru_cache(maxsize=64)
def _closing(ends: str) -> Points:
    return np.unique(points_of(ends))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of `text`, taken as one line, begin and end."""
    points = points_of(text)
    starts, ends = word_spans(points)
    whole = np.zeros(1, np.int32), np.full(1, len(points), np.int32)
    begins = _sentence_begins(points, classes(), *whole, starts, ends)
    firsts = [0, *starts[begins].tolist()[1:]]
    return list(zip(firsts, [*firsts[1:], len(text)], strict=True))


@njit(cache=True)
def _lines(points, classes):  # type: ignore[no-untyped-def]
    """The lines of str.splitlines, blanks at their edges off: where they begin and end, their words, the longest.

    Words are what blanks part; where a script parts none, each of its characters is one.
    """
    first, last = np.empty(len(points), np.int32), np.empty(len(points), np.int32)
    pieces, longest = np.empty(len(points), np.int32), np.empty(len(points), np.int32)
    line = at = 0
    while at < len(points):
        begin, end, word = -1, at, 0
        pieces[line] = longest[line] = 0
        while at < len(points) and not classes[points[at]] & BREAK:
            bits = classes[points[at]]
            if bits & SPACE:
                word = 0
            else:
                begin, end = (at if begin < 0 else begin), at + 1
                alone = bits & ALONE > 0 and bits & ALPHA > 0
                pieces[line] += alone or not word
                word = 0 if alone else word + 1
                longest[line] = max(longest[line], word)
            at += 1
        first[line], last[line] = (begin if begin >= 0 else end), end
        line += 1
        at += 2 if at + 1 < len(points) and points[at] == 13 and points[at + 1] == 10 else 1
    return first[:line], last[:line], pieces[:line], longest[:line]


@njit(cache=True)
def _closes(points, first, last, closing):  # type: ignore[no-untyped-def]
    """Which lines close with one of the characters in order, and not with an ellipsis of dots."""
    found = np.zeros(len(first), np.bool_)
    for line in range(len(first)):
        end = last[line]
        if end > first[line]:
            place = np.searchsorted(closing, points[end - 1])
            found[line] = place < len(closing) and closing[place] == points[end - 1]
        if end - first[line] > 2 and points[end - 1] == points[end - 2] == points[end - 3] == 46:
            found[line] = False
    return found


@njit(cache=True)
def _sentence_begins(points, classes, first, last, starts, ends):  # type: ignore[no-untyped-def]
    """Which words begin a sentence: a line's first, and the first that isn't punctuation after one that ends it."""
    begins = np.zeros(len(starts), np.bool_)
    word = 0
    for line in range(len(first)):
        while word < len(starts) and starts[word] < first[line]:
            word += 1
        opening, ended = True, False
        while word < len(starts) and starts[word] < last[line]:
            punctuation = np.uint16(PUNCTUATION)
            for at in range(starts[word], ends[word]):
                punctuation &= classes[points[at]]
            ends_it = ends[word] - starts[word] == 1 and classes[points[starts[word]]] & TERMINAL
            if opening or (ended and not punctuation and not ends_it):
                begins[word] = True
                opening = ended = False
            ended = ended or ends_it > 0
            word += 1
    return begins
