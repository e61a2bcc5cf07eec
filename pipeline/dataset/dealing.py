"""How a step's samples are dealt to ranks and micro-batches: by tokens, for any number.

Samples go longest first to the micro-batch that holds the fewest tokens; every rank has as many micro-batches, of which
short ones may be empty. For GPUs, which want static shapes, a micro-batch has a fixed capacity.

Legend: B samples of a step.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.steps import Chosen, Steps

MULTIPLE = 8
"""A fixed buffer's size is one of this, as tensor cores like it."""
LOOKED_AT = 64
"""Groups of steps by which a buffer is measured."""
SPARE = 1.01
"""So much more than was seen there it holds: without, one step in ten needs a round of nearly empty buffers."""
Numbers = npt.NDArray[np.int64]


class Capacity(NamedTuple):
    """A fixed micro-batch, for kernels that want static shapes."""

    tokens: int
    sequences: int
    predictions: int
    longest: int
    """Of a sequence."""

    @classmethod
    def of(cls, steps: Steps, *, micro_batch_size: int, world: int) -> "Capacity":
        """Room for the fullest micro-batch of some steps of the first epoch: a function of the lengths alone.

        Steps are alike (`Steps`), so that the mean micro-batch fills all but 1 to 2 % of it; the rare one that doesn't
        fit takes another round (`dealt`).
        """
        tokens, sequences, predictions = steps.longest, 1, steps.most_predictions  # any one sample fits
        groups = range(0, steps.groups, max(1, steps.groups // LOOKED_AT))
        for step in (group * steps.together + seat for group in groups for seat in {0, steps.together - 1}):
            chosen = steps.looked_at(step)
            for hand in dealt(chosen, micro_batch_size=micro_batch_size, world=world):
                tokens = max(tokens, int(chosen.lengths[hand].sum()))
                predictions = max(predictions, int(chosen.predictions[hand].sum()))
                sequences = max(sequences, len(hand))
        tokens, sequences, predictions = (math.ceil(most * SPARE) for most in (tokens, sequences, predictions))
        tokens = -(-tokens // MULTIPLE) * MULTIPLE
        filling = -(-tokens // steps.longest)  # an empty one is filled up by so many
        return cls(tokens, sequences + filling, predictions, steps.longest)

    def holds(self, chosen: Chosen) -> bool:
        """Whether the samples fit, with what fills the rest up."""
        left = self.tokens - int(chosen.lengths.sum())
        sequences = len(chosen.lengths) + -(-max(0, left) // self.longest)
        return left >= 0 and sequences <= self.sequences and int(chosen.predictions.sum()) <= self.predictions


def dealt(
    chosen: Chosen, *, micro_batch_size: int, world: int, capacity: Capacity | None = None
) -> list[npt.NDArray[np.int64]]:
    """Deal samples, longest first, into the fewest hands that go round the ranks with `micro_batch_size` on average.

    Hand h is rank h % world's. With a capacity, another round is taken until each hand fits.
    """
    turns = max(1, -(-len(chosen.lengths) // (micro_batch_size * world)))
    while True:
        of = _dealt(chosen.lengths, turns * world)
        hands = [np.flatnonzero(of == number) for number in range(turns * world)]
        if capacity is None or all(capacity.holds(chosen.at(hand)) for hand in hands):
            return hands
        turns += 1


@njit(cache=True, nogil=True)
def _dealt(lengths: Numbers, hands: int) -> Numbers:
    """The hand of each sample; of hands that hold equally much the first is given to."""
    of, held = np.empty(len(lengths), np.int64), np.zeros(hands, np.int64)
    for at in range(len(lengths)):
        least = 0
        for hand in range(1, hands):
            if held[hand] < held[least]:
                least = hand
        of[at] = least
        held[least] += lengths[at]
    return of
