"""Sorted files of word counts merged into one, in the memory of a record batch of each.

All words up to the least of the last words that are in memory have been seen, so they can be added up and written.
Sums are of integers and words come sorted: the same words and counts whatever order or tree they are merged in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numba import njit

from pipeline.vocabulary.counts import CountsWriter, WordCounts, read_batches


@dataclass
class Source:
    """A file's words that are in memory, and the rest of it."""

    batches: Iterator[WordCounts]
    counts: WordCounts = field(default_factory=lambda: WordCounts.of({}))
    more: bool = True

    def fill(self) -> bool:
        """Have words in memory, where there are any left."""
        while self.more and not len(self.counts):
            following = next(self.batches, None)
            self.more = following is not None
            self.counts = following if following is not None else self.counts
        return len(self.counts) > 0

    def take(self, bound: bytes | None) -> WordCounts:
        """The words up to `bound`, itself included; None: all."""
        low, high = (0, len(self.counts)) if bound is not None else (len(self.counts), len(self.counts))
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.counts.word(middle) <= bound else (low, middle)  # type: ignore[operator]
        taken, self.counts = self.counts.rows(0, low), self.counts.rows(low, len(self.counts))
        return taken


def merge_files(paths: Sequence[Path], writer: CountsWriter, min_groups: int = 1) -> tuple[int, int]:
    """Write the merged counts; a word of fewer groups than `min_groups` is left out.

    Returns how many words were left out, and how often they stand.
    """
    left_out = occurrences = 0
    for counts in merged_batches([Source(read_batches(path)) for path in paths]):
        if min_groups > 1:
            stays = counts.groups[:, min_groups - 1] != 0
            left_out += int(np.count_nonzero(~stays))
            occurrences += int(counts.counts[~stays].sum())
            counts = counts.kept(stays)
        writer.write(counts)
    return left_out, occurrences


def merged_batches(sources: list[Source]) -> Iterator[WordCounts]:
    """The words of all, each once, in order."""
    while sources := [source for source in sources if source.fill()]:
        lasts = [source.counts.word(len(source.counts) - 1) for source in sources if source.more]
        taken = [source.take(min(lasts, default=None)) for source in sources]
        yield merged([each for each in taken if len(each)])


def merged(some: list[WordCounts]) -> WordCounts:
    """Added up, two and two: each word is compared as often as the number of lists has digits in base two."""
    while len(some) > 1:
        pairs = [some[at : at + 2] for at in range(0, len(some), 2)]
        some = [_added(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return some[0]


def _added(one: WordCounts, other: WordCounts) -> WordCounts:
    rows = len(one) + len(other)
    size = int(one.starts[-1] - one.starts[0] + other.starts[-1] - other.starts[0])
    groups = one.groups.shape[1]
    sums = WordCounts(
        np.empty(size, np.uint8),
        np.zeros(rows + 1, np.int64),
        np.empty(rows, np.int64),
        np.zeros((rows, groups), np.uint64),
    )
    used = _merge(*_arrays(one), *_arrays(other), *_arrays(sums))
    return WordCounts(sums.text, sums.starts[: used + 1], sums.counts[:used], sums.groups[:used])


def _arrays(counts: WordCounts):  # type: ignore[no-untyped-def]
    return counts.text, counts.starts, counts.counts, counts.groups


@njit(cache=True)
def _merge(text, starts, counts, groups, texts, begins, numbers, owners, out, bounds, sums, sets):  # type: ignore[no-untyped-def]
    """Two sorted lists into one; returns how many words it has. Of groups the first stay, each once."""
    one = other = row = 0
    while one < len(counts) or other < len(numbers):
        order = 0
        if one == len(counts) or other == len(numbers):
            order = 1 if one == len(counts) else -1
        else:
            at, place = starts[one], begins[other]
            end, stop = starts[one + 1], begins[other + 1]
            while at < end and place < stop and text[at] == texts[place]:
                at += 1
                place += 1
            if at == end or place == stop:
                order = int(place == stop) - int(at == end)
            else:
                order = 1 if text[at] > texts[place] else -1
        end, total, kept = bounds[row], np.int64(0), 0
        if order <= 0:
            for at in range(starts[one], starts[one + 1]):
                out[end] = text[at]
                end += 1
            total += counts[one]
            for group in groups[one]:
                if group != 0:
                    sets[row, kept] = group
                    kept += 1
            one += 1
        if order >= 0:
            if order > 0:
                for at in range(begins[other], begins[other + 1]):
                    out[end] = texts[at]
                    end += 1
            total += numbers[other]
            for group in owners[other]:
                is_new = group != 0
                for place in range(kept):
                    if sets[row, place] == group:
                        is_new = False
                if is_new and kept < sets.shape[1]:
                    sets[row, kept] = group
                    kept += 1
            other += 1
        sums[row], bounds[row + 1] = total, end
        row += 1
    return row
