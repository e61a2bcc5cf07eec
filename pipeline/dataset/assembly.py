"""Drawn pairs laid out as samples: [CLS] A [SEP] B [SEP], or [CLS] A [SEP].

Costs a nanosecond a token. Legend: N pairs, S samples, T tokens.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.donors import DRAWS_A_ROUND, ROUNDS, Donated
from pipeline.dataset.entries import Entries
from pipeline.dataset.pairs import NONE, SOP, Drawn, Rules
from pipeline.dataset.randomness import uniform_of
from pipeline.dataset.rows import Rows
from pipeline.dataset.tokens import Bytes, Shard, Starts

Ids = npt.NDArray[np.unsignedinteger[Any]]


def assembled(shard: Shard, drawn: Drawn, donated: Donated, rules: Rules, entries: Entries) -> tuple[Rows, int]:
    """The samples, and how many tokens of them are their own documents'.

    A pair whose B is empty is left out: there was no text for it. With the fault `truncation`, pairs that are too long
    lose a token at a time at either end of the longer segment, and `drawn` is told.
    """
    if rules.truncates:
        _cut_down(drawn.first, drawn.second, drawn.key, rules.longest)
    first, second = np.diff(drawn.first)[:, 0], np.diff(drawn.second)[:, 0]
    kept = first > 0 if rules.kind == NONE else (first > 0) & (second > 0)
    lengths = (first + second + (2 if rules.kind == NONE else 3))[kept]
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    spans = np.concatenate((drawn.first, drawn.second), 1)[kept]
    label, is_donated = drawn.label[kept], drawn.is_donated[kept]
    if rules.kind == SOP:
        spans[label == 1] = spans[label == 1][:, [2, 3, 0, 1]]
    input_ids, begins = np.empty(starts[-1], shard.tokens.dtype), np.empty(starts[-1], np.uint8)
    _lay(
        shard.tokens,
        shard.word_starts,
        donated.tokens,
        donated.begins_word,
        spans,
        is_donated,
        rules.kind == NONE,
        entries.cls,
        entries.sep,
        starts,
        input_ids,
        begins,
    )
    boundary = 2 + spans[:, 1] - spans[:, 0]
    rows = Rows(
        input_ids,
        np.packbits(begins, bitorder="little"),
        starts.astype(np.int32),
        boundary.astype(np.uint16),
        label,
    )
    return rows, int(first[kept].sum() + second[kept][~is_donated].sum())


@njit(cache=True, nogil=True)
def _cut_down(first: Starts, second: Starts, keys: npt.NDArray[np.uint64], longest: int) -> None:
    """As google-research/bert cuts a pair: from the longer segment, of equal ones B, front or back by a coin."""
    for at in range(len(keys)):
        draws = ROUNDS * DRAWS_A_ROUND
        while (first[at, 1] - first[at, 0]) + (second[at, 1] - second[at, 0]) > longest:
            draws += 1
            longer = first if first[at, 1] - first[at, 0] > second[at, 1] - second[at, 0] else second
            if uniform_of(keys[at], draws) < 0.5:
                longer[at, 0] += 1
            else:
                longer[at, 1] -= 1


@njit(cache=True, nogil=True)
def _lay(
    tokens: Ids,
    word_starts: Bytes,
    donated: npt.NDArray[np.uint32],
    donated_begins: Bytes,
    spans: npt.NDArray[np.int64],
    is_donated: npt.NDArray[np.bool_],
    is_single: bool,
    cls: int,
    sep: int,
    starts: Starts,
    input_ids: Ids,
    begins: Bytes,
) -> None:
    for at in range(len(spans)):
        to = starts[at]
        input_ids[to], begins[to] = cls, 0
        to += 1
        for segment in range(1 if is_single else 2):
            first = to
            is_own = segment == 0 or not is_donated[at]
            for place in range(spans[at, 2 * segment], spans[at, 2 * segment + 1]):
                if is_own:
                    input_ids[to] = tokens[place]
                    begins[to] = (word_starts[place >> 3] >> (place & 7)) & 1
                else:
                    input_ids[to], begins[to] = donated[place], donated_begins[place]
                to += 1
            begins[first] = 1
            input_ids[to], begins[to] = sep, 0
            to += 1
