"""Which sample comes when: a function of (seed, epoch, position), with no permutation in memory.

Block shuffle: in each epoch the files of a dataset are put in a drawn order, and the rows of each window of `WINDOW`
files in that order are shuffled together, by a Feistel network over their number. So a reader has a window of files at
hand, and the next one fetched, however many there are; a dataset of fewer files is shuffled as a whole.

Legend: N positions, F files.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.randomness import Purpose, key_of, mixed_in, stream_key

WINDOW = 64
"""Files: a gigabyte of samples, in files of the size that is the default."""
ROUNDS = 4
Numbers = npt.NDArray[np.int64]


class Epoch(NamedTuple):
    """The order of the files in an epoch."""

    files: Numbers
    """[F], in their drawn order."""
    ends: Numbers
    """[F], up to where the files reach, in positions of the epoch."""


class Order:
    """The order of all samples of files that hold `sizes` rows [F]."""

    def __init__(self, sizes: Sequence[int] | Numbers, seed: int) -> None:
        self._sizes = np.array(sizes, np.int64)
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._seed = seed
        self.size = int(self._sizes.sum())
        self._epoch = lru_cache(2)(self._drawn)

    def _drawn(self, epoch: int) -> Epoch:
        key = np.uint64(stream_key(self._seed, Purpose.FILES, epoch))
        files = np.argsort(_keys(key, len(self._sizes)), kind="stable")
        return Epoch(files, np.cumsum(self._sizes[files]))

    def rows(self, positions: Numbers) -> tuple[Numbers, Numbers]:
        """(epoch, row) of each position [N]; a position counts on through the epochs."""
        epochs, within = np.divmod(positions, self.size)
        rows = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            chosen = np.flatnonzero(epochs == epoch)
            files, ends = self._epoch(epoch)
            key = np.uint64(stream_key(self._seed, Purpose.ORDER, epoch))
            rows[chosen] = _rows(within[chosen], ends, self._firsts[files], key, WINDOW)
        return epochs, rows

    def files_after(self, position: int) -> list[int]:
        """The files of the window after the one in which a position is."""
        epoch, within = divmod(position, self.size)
        files, ends = self._epoch(epoch)
        first = (int(np.searchsorted(ends, within, side="right")) // WINDOW + 1) * WINDOW
        if first >= len(files):
            files, first = self._epoch(epoch + 1).files, 0
        return [int(each) for each in files[first : first + WINDOW]]


@njit(cache=True, nogil=True)
def _keys(key: np.uint64, count: int) -> npt.NDArray[np.uint64]:
    keys = np.empty(count, np.uint64)
    for number in range(count):
        keys[number] = key_of(key, number)
    return keys


@njit(cache=True, nogil=True)
def _rows(positions: Numbers, ends: Numbers, firsts: Numbers, key: np.uint64, size: int) -> Numbers:
    """The row at each position of an epoch, whose files end at `ends`, first rows `firsts` [F], `size` a window."""
    rows = np.empty(len(positions), np.int64)
    for at in range(len(positions)):
        window = np.searchsorted(ends, positions[at], side="right") // size
        first = window * size
        last = min(first + size, len(ends))
        begin = ends[first - 1] if first else 0
        place = begin + permuted(positions[at] - begin, ends[last - 1] - begin, key_of(key, window))
        file = first
        while ends[file] <= place:
            file += 1
        rows[at] = firsts[file] + place - (ends[file - 1] if file else 0)
    return rows


@njit(cache=True, nogil=True)
def permuted(place: int, size: int, key: np.uint64) -> int:
    """Where a permutation of range(size) takes a place; `key` draws the permutation.

    A Feistel network over the next even number of bits; places that fall outside walk on along their cycle (Black and
    Rogaway 2002), fewer than four steps on average.
    """
    half = 1
    while (1 << (2 * half)) < size:
        half += 1
    mask = np.uint64((1 << half) - 1)
    value = np.uint64(place)
    while True:
        left, right = value >> np.uint64(half), value & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (mixed_in(key_of(key, turn) ^ right) & mask)
        value = (left << np.uint64(half)) | right
        if value < np.uint64(size):
            return int(value)
