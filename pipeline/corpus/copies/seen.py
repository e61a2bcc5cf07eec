"""Which keys of a range were seen before, and by how many documents: a table, compiled."""

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.corpus.copies.hashing import Keys
from pipeline.corpus.copies.keys import Rows


class Seen:
    """The keys of a range that were seen, with how many documents had each, the first and the last of them.

    An open-addressing table in the keys' order: sorted keys walk through it from end to end.
    """

    def __init__(self, distinct: int, skipped_bits: int) -> None:
        bits = max(4, (3 * distinct // 2).bit_length())
        self._shifts = np.array([skipped_bits, 64 - bits], np.uint64)
        self._keys, self._first, self._last = np.zeros((3, 1 << bits), np.uint64)
        self._counts = np.zeros(1 << bits, np.uint32)

    def mark(self, part: int, keys: Keys, rows: Rows, lines: Rows, copies: int) -> tuple[Rows, Rows, Keys]:
        """See the keys of documents of a part; (row, line, first document) of those that were seen often enough."""
        documents = rows.astype(np.uint64) | np.uint64(part << 32)
        marked, firsts = _mark(keys, documents, copies, self._shifts, self._keys, self._counts, self._first, self._last)
        return rows[marked], lines[marked], firsts[marked]

    def sizes(self, classes: dict[str, int]) -> dict[str, int]:
        """How many keys so many documents have; `classes` by the least of each, rising."""
        counted = np.histogram(self._counts, [*classes.values(), 2**32])[0].tolist()
        return {size: count for size, count in zip(classes, counted, strict=True) if count}


@njit(cache=True)
def _mark(
    keys: Keys,
    documents: Keys,
    copies: int,
    shifts: Keys,
    seen: Keys,
    counts: Rows,
    first: Keys,
    last: Keys,
) -> tuple[npt.NDArray[np.bool_], Keys]:
    """Which of the keys more than `copies` documents have, this one counted; and the first document of each key."""
    marked, firsts = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.uint64)
    for at in range(len(keys)):
        key, document = keys[at], documents[at]
        slot = np.int64((key << shifts[0]) >> shifts[1])
        while counts[slot] and seen[slot] != key:
            slot = (slot + 1) & (len(seen) - 1)
        if counts[slot] == 0:
            seen[slot], first[slot] = key, document
        if counts[slot] == 0 or last[slot] != document:
            last[slot] = document
            counts[slot] += 1
        marked[at] = counts[slot] > copies
        firsts[at] = first[slot]
    return marked, firsts
