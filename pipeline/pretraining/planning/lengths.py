"""How long a training's samples are: counted where the dataset is there, assumed where it isn't yet.

Attention costs as the square of a sample's length, everything else as its length: so a mix of lengths, and not its
mean, says what a step costs.

Legend: L longest length.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig, PhaseConfig
from pipeline.store import Artifact, Store

SHORTEST = 5
"""[CLS] a [SEP] b [SEP]."""
FULL = 0.85
"""How full a sample built to its whole length is at least, where its sentences are not known."""


@dataclass(frozen=True)
class Lengths:
    """A mix of lengths."""

    shares: npt.NDArray[np.float64]
    """[L + 1], of the samples that have 0, 1, … L tokens; they add up to 1."""

    @classmethod
    def of(cls, lengths: npt.NDArray[np.integer]) -> "Lengths":
        """As they are counted."""
        counts = np.bincount(lengths)
        return cls(counts / counts.sum())

    @property
    def mean(self) -> float:
        """Tokens of a sample."""
        return float(self.shares @ np.arange(len(self.shares)))

    @property
    def mean_square(self) -> float:
        """Of a sample's tokens."""
        return float(self.shares @ np.arange(len(self.shares)) ** 2)

    @property
    def longest(self) -> int:
        return int(np.flatnonzero(self.shares)[-1])

    def cut(self, longest: int | None) -> "Lengths":
        """Where longer samples are cut."""
        if longest is None or longest >= len(self.shares) - 1:
            return self
        shares = self.shares[: longest + 1].copy()
        shares[longest] += self.shares[longest + 1 :].sum()
        return Lengths(shares)

    def evenly(self, count: int) -> npt.NDArray[np.int64]:
        """[count] lengths that stand for the mix: its evenly spaced quantiles."""
        places = (np.arange(count) + 0.5) / count
        lengths: npt.NDArray[np.int64] = np.searchsorted(np.cumsum(self.shares), places * self.shares.sum())
        return lengths


def counted_lengths(dataset: Artifact, store: Store) -> Lengths:
    """Of a dataset's train part; reads 2 bytes a sample."""
    path = store.file(dataset, "train.lengths.npy")
    return Lengths.of(np.load(path, mmap_mode="r", allow_pickle=False))


def mixed_lengths(phase: PhaseConfig, own: Lengths, store: Store) -> Lengths:
    """Of a phase's samples: its datasets by their weights, the training's own among them, cut as it says."""
    total, weights = np.zeros(1), sum(each.weight for each in phase.mixture)
    for each in phase.mixture:
        lengths = own if each.dataset is None else counted_lengths(store.resolve(each.dataset), store)
        shares = lengths.cut(phase.max_seq_length).shares * (each.weight / weights)
        size = max(len(total), len(shares))
        total = np.pad(total, (0, size - len(total))) + np.pad(shares, (0, size - len(shares)))
    return Lengths(total)


def assumed_lengths(config: DatasetConfig) -> Lengths:
    """Of a dataset that isn't made yet: `short_seq_prob` of the samples of any length, the others nearly full."""
    longest = config.max_seq_length
    shares = np.zeros(longest + 1)
    shares[SHORTEST:] = config.short_seq_prob / (longest + 1 - SHORTEST)
    first = min(longest, int(FULL * longest))
    shares[first:] += (1 - config.short_seq_prob) / (longest + 1 - first)
    return Lengths(shares)
