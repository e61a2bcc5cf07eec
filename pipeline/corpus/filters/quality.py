"""The quality rules of Gopher (Rae et al. 2021) and FineWeb (Penedo et al. 2024), as datatrove 0.10 words them, with
thresholds by language (`profiles`).

Each measures a text in compiled scans and shares with the others what they have in common (`measures`).
"""

import numpy as np
from numba import njit

from pipeline.corpus.document import Document, Rejected, Verdict
from pipeline.corpus.filters.characters import BREAK, SPACE, TERMINAL, classes
from pipeline.corpus.filters.measures import measured
from pipeline.corpus.filters.profiles import thresholds
from pipeline.corpus.filters.word_hashes import add, hash_span, hashed, table_for


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
