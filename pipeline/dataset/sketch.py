"""How many samples are equal, estimated in bounded memory: the smallest hashes of all, with how often each stands.

The K smallest distinct hashes are a sample of the distinct ones that doesn't depend on how the work is split, and each
is counted wherever it stands (bottom-k, Cohen and Kaplan 2007). Exact up to K distinct samples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.randomness import GOLDEN, mixed, mixed_in
from pipeline.dataset.rows import Ids, Rows

KEPT = 1 << 14


@dataclass(frozen=True)
class Sketch:
    """Legend: K hashes."""

    hashes: npt.NDArray[np.uint64]
    """[K], ascending."""
    counts: npt.NDArray[np.uint64]
    """[K], how often each stood."""

    @classmethod
    def empty(cls) -> "Sketch":
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64))

    @classmethod
    def of_array(cls, array: npt.NDArray[np.uint64]) -> "Sketch":
        """What `array` gave."""
        return cls(array[0], array[1])

    def array(self) -> npt.NDArray[np.uint64]:
        """[2, K], the hashes and their counts."""
        return np.stack((self.hashes, self.counts))

    def with_samples(self, rows: Rows, pass_: int = 0) -> "Sketch":
        """With more samples; those of different passes count as different."""
        hashes = sample_hashes(rows.input_ids, rows.starts) ^ np.uint64(mixed(pass_))
        return self.merged(Sketch(hashes, np.ones(len(hashes), np.uint64)))

    def merged(self, other: "Sketch") -> "Sketch":
        """Of the samples of both."""
        hashes, places = np.unique(np.concatenate((self.hashes, other.hashes)), return_inverse=True)
        counts = np.zeros(len(hashes), np.uint64)
        np.add.at(counts, places, np.concatenate((self.counts, other.counts)))
        return Sketch(hashes[:KEPT], counts[:KEPT])

    @property
    def duplicate_share(self) -> float:
        """Share of samples that are equal to an earlier one of their pass."""
        return 1 - len(self.hashes) / max(1, int(self.counts.sum()))


@njit(cache=True, nogil=True)
def sample_hashes(input_ids: Ids, starts: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """[S], a 64-bit hash of each sample's tokens."""
    hashes = np.empty(len(starts) - 1, np.uint64)
    for at in range(len(hashes)):
        value = mixed_in(np.uint64(starts[at + 1] - starts[at]) + np.uint64(GOLDEN))
        for place in range(starts[at], starts[at + 1]):
            value = (value ^ np.uint64(input_ids[place])) * np.uint64(GOLDEN)
            value ^= value >> np.uint64(29)
        hashes[at] = mixed_in(value)
    return hashes
