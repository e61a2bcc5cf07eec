"""The samples of an optimizer step: a function of (datasets, seed, train_batch_size, step).

So that each step has about as many tokens as the next, neighbouring steps are dealt together: their samples are sorted
by length and dealt back and forth.

Several datasets are mixed by weight: a fixed pattern, evenly interleaved, says which of them each position is of, so
that each is read in its own order, with no gap, and nothing needs to be counted.

Legend: B samples of a step, D datasets.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.dataset.order import Order
from pipeline.dataset.samples import Samples
from pipeline.errors import ConfigError

TOGETHER = 1 << 15
"""Samples of the steps that are dealt together, in datasets that have many."""
GROUPS_AN_EPOCH = 8
"""At least so many, so that few steps see a sample twice."""
PATTERN = 4_096
LONGEST = 512
Numbers = npt.NDArray[np.int64]


class Chosen(NamedTuple):
    """Samples by their names."""

    datasets: Numbers
    """[B], which of the mixed datasets."""
    epochs: Numbers
    """[B]"""
    rows: Numbers
    """[B], of the dataset's split."""
    lengths: Numbers
    """[B], tokens."""
    predictions: Numbers
    """[B], of how many at most."""

    def at(self, places: npt.NDArray[np.integer]) -> "Chosen":
        return Chosen(*(each[places] for each in self))


class Steps:
    """The steps over one dataset, or several mixed by weight.

    Raises ConfigError where datasets have different vocabularies, or a weight isn't positive.
    """

    def __init__(
        self,
        mixed: Sequence[tuple[Samples, float]],
        *,
        train_batch_size: int,
        seed: int,
        longest: int | None = None,
        first_epoch: int = 0,
    ) -> None:
        check_mixed(mixed)
        self.samples = [samples for samples, _ in mixed]
        self.train_batch_size = train_batch_size
        self.longest = min(longest or LONGEST, max(samples.config.max_seq_length for samples in self.samples))
        self._orders = [Order(samples.sizes, seed) for samples in self.samples]
        self._first_epoch = first_epoch
        self._pattern = pattern_of([weight for _, weight in mixed])
        size = sum(map(len, self.samples))
        self.together = max(1, min(TOGETHER, size // GROUPS_AN_EPOCH) // train_batch_size)
        """Steps that are dealt together."""
        self._group = lru_cache(2)(self._dealt_together)
        self._ahead = lru_cache(2)(self._fetched_after)

    def step(self, step: int) -> Chosen:
        """The samples of a step, longest first: the same for any number of ranks. The files after it are fetched."""
        self._ahead(step // self.together)
        return self.looked_at(step)

    def looked_at(self, step: int) -> Chosen:
        """The same, where they aren't about to be read: nothing is fetched."""
        group, seat = divmod(step, self.together)
        chosen = self._group(group)
        laps = np.arange(self.train_batch_size)
        places = laps * self.together + np.where(laps % 2 == 0, seat, self.together - 1 - seat)
        return chosen.at(places)

    def _dealt_together(self, group: int) -> Chosen:
        """The samples of neighbouring steps, longest first, equal ones in the order of their positions."""
        datasets, own = self._positions(group)
        epochs, rows, lengths, predictions = (np.empty(len(own), np.int64) for _ in range(4))
        for number, (samples, order) in enumerate(zip(self.samples, self._orders, strict=True)):
            of = np.flatnonzero(datasets == number)
            epochs[of], rows[of] = order.rows(own[of])
            whole = samples.lengths[rows[of]].astype(np.int64)
            lengths[of] = np.minimum(whole, self.longest)
            predictions[of] = samples.most_predictions(whole, lengths[of])
        return Chosen(datasets, epochs, rows, lengths, predictions).at(np.argsort(-lengths, kind="stable"))

    def _fetched_after(self, group: int) -> None:
        datasets, own = self._positions(group)
        for number, (samples, order) in enumerate(zip(self.samples, self._orders, strict=True)):
            if len(of := own[datasets == number]):
                samples.fetch_ahead(order.files_after(int(of[-1])))

    def _positions(self, group: int) -> tuple[Numbers, Numbers]:
        """(dataset, position in it) of the samples of neighbouring steps."""
        count = self.together * self.train_batch_size
        datasets, own = mixed_positions(self._pattern, group * count + np.arange(count))
        return datasets, own + self._first_epoch * np.array([order.size for order in self._orders])[datasets]

    @property
    def most_predictions(self) -> int:
        """Of a sample."""
        longest = [np.array([samples.config.max_seq_length]) for samples in self.samples]
        each = (
            samples.most_predictions(whole, np.minimum(whole, self.longest))
            for samples, whole in zip(self.samples, longest, strict=True)
        )
        return max(int(most[0]) for most in each)

    @property
    def groups(self) -> int:
        """Of the first epoch."""
        return max(1, sum(map(len, self.samples)) // (self.together * self.train_batch_size))


def check_mixed(mixed: Sequence[tuple[Samples, float]]) -> None:
    """ConfigError for datasets that can't be mixed."""
    for samples, weight in mixed:
        if not 0 < weight < math.inf:
            raise ConfigError(
                f"{samples.dataset} is mixed in with the weight {weight}; give a number above 0, or leave it out."
            )
        first = mixed[0][0]
        if samples.vocabulary != first.vocabulary:
            raise ConfigError(
                f"{samples.dataset} was made with another vocabulary than {first.dataset}: their ids don't mean the "
                f"same. Make one of them again, with the other's vocabulary (--vocabulary REF)."
            )
        if samples.config.pairs != first.config.pairs:
            raise ConfigError(
                f"{samples.dataset} has pairs = {samples.config.pairs!r}, {first.dataset} {first.config.pairs!r}: one "
                f"objective can't be trained on both. Make one of them again."
            )


def pattern_of(weights: Sequence[float]) -> Numbers:
    """Which dataset each of `PATTERN` positions is of, in proportion to the weights, evenly interleaved.

    Shares are rounded to whole slots by the largest remainder; a dataset of any weight has one at least.
    """
    shares = np.array(weights, np.float64) / sum(weights) * PATTERN
    slots = np.maximum(1, np.floor(shares).astype(np.int64))
    for _ in range(PATTERN - int(slots.sum())):
        slots[np.argmax(shares - slots)] += 1
    for _ in range(int(slots.sum()) - PATTERN):
        slots[np.argmax(slots)] -= 1
    due = np.concatenate([(np.arange(count) + 0.5) / count for count in slots])
    of = np.repeat(np.arange(len(slots)), slots)
    return of[np.argsort(due, kind="stable")].astype(np.int64)


def mixed_positions(pattern: Numbers, positions: Numbers) -> tuple[Numbers, Numbers]:
    """(dataset, position in it) of each position."""
    laps, places = np.divmod(positions, len(pattern))
    datasets = pattern[places]
    before = np.zeros((int(pattern.max()) + 1, len(pattern)), np.int64)
    for number in range(len(before)):
        is_of = pattern == number
        before[number] = np.cumsum(is_of) - is_of
    counts = np.bincount(pattern)
    return datasets, laps * counts[datasets] + before[datasets, places]
