"""The quality rules of three published corpora: Gopher's (Rae et al. 2021), C4's (Raffel et al. 2020), FineWeb's
(Penedo et al. 2024), as datatrove 0.10 words them, with thresholds by language (`profiles`).

Each measures a text in compiled scans and shares with the others what they have in common (`measures`); together with
`repetition` they take about 25 ns a character.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.corpus.characters import ALONE, ALPHA, BREAK, PUNCTUATION, SPACE, TERMINAL, Points, classes, points_of
from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.measures import add, hash_span, hashed, measured, table_for
from pipeline.corpus.profiles import thresholds
from pipeline.corpus.words import word_spans

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
"""What C4 takes a line for a notice by."""
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")


def gopher_quality(
    document: Document,
    *,
    min_words: int | None = None,
    max_words: int | float | None = None,
    min_mean_word_length: float | None = None,
    max_mean_word_length: float | None = None,
    max_symbol_ratio: float | None = None,
    max_bullet_lines: float | None = None,
    max_ellipsis_lines: float | None = None,
    min_alphabetic_words: float | None = None,
    min_stop_words: int | None = None,
    stop_words: tuple[str, ...] | None = None,
) -> Verdict:
    """Reject a text that doesn't look like prose. A value left out is the language's, of `profiles`."""
    rules = thresholds(
        "gopher_quality",
        document.lang,
        min_words=min_words,
        max_words=max_words,
        min_mean_word_length=min_mean_word_length,
        max_mean_word_length=max_mean_word_length,
        max_symbol_ratio=max_symbol_ratio,
        max_bullet_lines=max_bullet_lines,
        max_ellipsis_lines=max_ellipsis_lines,
        min_alphabetic_words=min_alphabetic_words,
        min_stop_words=min_stop_words,
        stop_words=stop_words,
    )
    measures, text = measured(document.text), document.text
    counts = measures.counts
    mean = counts.named_characters / max(counts.named, 1)
    words = max(counts.words, 1)
    lines, bullets, ellipses = _line_edges(measures.points, classes())
    if counts.named < rules["min_words"]:
        return Rejected("gopher: too few words")
    if counts.named > rules["max_words"]:
        return Rejected("gopher: too many words")
    if mean < rules["min_mean_word_length"]:
        return Rejected("gopher: words too short")
    if mean > rules["max_mean_word_length"]:
        return Rejected("gopher: words too long")
    if text.count("#") / words > rules["max_symbol_ratio"]:
        return Rejected("gopher: too many hashes")
    if (text.count("...") + text.count("…")) / words > rules["max_symbol_ratio"]:
        return Rejected("gopher: too many ellipses")
    if bullets / max(lines, 1) > rules["max_bullet_lines"]:
        return Rejected("gopher: too many bullet lines")
    if ellipses / max(lines, 1) > rules["max_ellipsis_lines"]:
        return Rejected("gopher: too many lines end in an ellipsis")
    if counts.alphabetic / words < rules["min_alphabetic_words"]:
        return Rejected("gopher: too few words with a letter")
    if rules["min_stop_words"]:
        found = _how_many(measures.hashes[0], hashed(rules["stop_words"]))
        return Rejected("gopher: too few stop words") if found < rules["min_stop_words"] else None
    return None


def fineweb(
    document: Document,
    *,
    min_terminal_lines: float | None = None,
    short_line_length: int | None = None,
    max_short_lines: float | None = None,
    max_duplicate_characters: float | None = None,
    max_newlines_per_word: float | None = None,
) -> Verdict:
    """Reject a text that is a list, or whose lines are cut or come again. A value left out is the language's."""
    rules = thresholds(
        "fineweb",
        document.lang,
        min_terminal_lines=min_terminal_lines,
        short_line_length=short_line_length,
        max_short_lines=max_short_lines,
        max_duplicate_characters=max_duplicate_characters,
        max_newlines_per_word=max_newlines_per_word,
    )
    measures = measured(document.text)
    lines, terminal, short, repeated, newlines = _line_facts(measures.points, classes(), rules["short_line_length"])
    if not lines:
        return Rejected("fineweb: empty")
    if terminal / lines < rules["min_terminal_lines"]:
        return Rejected("fineweb: too few lines end a sentence")
    if short / lines > rules["max_short_lines"]:
        return Rejected("fineweb: too many short lines")
    if repeated / (len(document.text) - newlines) > rules["max_duplicate_characters"]:
        return Rejected("fineweb: repeated lines")
    if newlines / len(measures.words[0]) > rules["max_newlines_per_word"]:
        return Rejected("fineweb: too many newlines")
    return None


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
    checked = rules["terminal_punctuation"]
    keep, sentences = _judge(points, classes(), first, last, *words, _closing(rules["ends"]), checked)
    keep &= (pieces >= rules["min_words_per_line"]) & (longest <= rules["max_word_length"])
    lines = list(zip(first.tolist(), last.tolist(), strict=True))
    if reason := _drop_by_phrase(text, lines, keep, rules):
        return Rejected(reason)
    if sentences[keep].sum() < rules["min_sentences"]:
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


@njit(cache=True)
def _how_many(hashes, wanted):  # type: ignore[no-untyped-def]
    """How many of the `wanted` hashes, which are in order, are among `hashes`."""
    found = np.zeros(len(wanted), np.bool_)
    for value in hashes:
        place = np.searchsorted(wanted, value)
        if place < len(wanted) and wanted[place] == value:
            found[place] = True
    return found.sum()


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
                alone = bits & ALONE and bits & ALPHA
                pieces[line] += alone or not word
                word = 0 if alone else word + 1
                longest[line] = max(longest[line], word)
            at += 1
        first[line], last[line] = (begin if begin >= 0 else end), end
        line += 1
        at += 2 if at + 1 < len(points) and points[at] == 13 and points[at + 1] == 10 else 1
    return first[:line], last[:line], pieces[:line], longest[:line]


@njit(cache=True)
def _judge(points, classes, first, last, starts, ends, closing, checked):  # type: ignore[no-untyped-def]
    """Whether each line closes as a sentence does (an ellipsis of dots doesn't), and how many sentences it has."""
    keep, sentences = np.ones(len(first), np.bool_), np.zeros(len(first), np.int32)
    word = 0
    for line in range(len(first)):
        end = last[line]
        if checked:
            place = np.searchsorted(closing, points[end - 1]) if end > first[line] else len(closing)
            keep[line] = place < len(closing) and closing[place] == points[end - 1]
            if end - first[line] > 2 and points[end - 1] == points[end - 2] == points[end - 3] == 46:
                keep[line] = False
        while word < len(starts) and starts[word] < first[line]:
            word += 1
        ended = False
        while word < len(starts) and starts[word] < end:
            punctuation = np.uint16(PUNCTUATION)
            for at in range(starts[word], ends[word]):
                punctuation &= classes[points[at]]
            ends_it = ends[word] - starts[word] == 1 and classes[points[starts[word]]] & TERMINAL
            if sentences[line] == 0 or (ended and not punctuation and not ends_it):
                sentences[line] += 1
                ended = False
            if ends_it:
                ended = True
            word += 1
    return keep, sentences


@njit(cache=True)
def _line_edges(points, classes):  # type: ignore[no-untyped-def]
    """Lines of str.splitlines; how many open with a bullet; how many close with an ellipsis."""
    lines = bullets = ellipses = at = 0
    while at < len(points):
        first, last = -1, at - 1
        begin = at
        while at < len(points) and not classes[points[at]] & BREAK:
            if not classes[points[at]] & SPACE:
                first, last = (at if first < 0 else first), at
            at += 1
        lines += 1
        if first >= 0:
            bullets += points[first] == 0x2022 or points[first] == 0x2D
            dots = last - begin >= 2 and points[last] == points[last - 1] == points[last - 2] == 46
            ellipses += dots or points[last] == 0x2026
        at += 2 if at + 1 < len(points) and points[at] == 13 and points[at + 1] == 10 else 1
    return lines, bullets, ellipses


@njit(cache=True)
def _line_facts(points, classes, short_length):  # type: ignore[no-untyped-def]
    """Lines that aren't blank; how many end a sentence, are short; characters of those that stood before; newlines."""
    newlines = np.sum(points == 10)
    table = table_for(newlines + 1)
    lines = terminal = short = repeated = first = 0
    blank = True
    for at in range(len(points) + 1):
        if at < len(points) and points[at] != 10:
            blank = blank and classes[points[at]] & SPACE > 0
            continue
        if not blank:
            lines += 1
            terminal += classes[points[at - 1]] & TERMINAL > 0
            short += at - first <= short_length
            if add(table, hash_span(points, first, at)):
                repeated += at - first
        first, blank = at + 1, True
    return lines, terminal, short, repeated, newlines
