"""The unigram floor: what a model scores that knows how often each token occurs, and nothing of its context.

A training that has not passed it by `floor_step` has learned no more, and seldom will: too high a learning rate or too
low a one, labels that don't fit, a batch far too small. So it stops, instead of spending what is left of its budget.
The entropy is of the very tokens that the last steps masked: these steps are dealt again, which is exact after a
resume too and costs nothing while training. Counted over N tokens of K kinds it is too low by about (K - 1) / 2N
(Miller 1955), which is added. Costs the dealing of about a million masked tokens, once: a second.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from pipeline.dataset.batches import IGNORED, Batch
from pipeline.errors import TrainingError

LAST_STEPS = 100
"""Steps over which the loss is averaged."""
LABELS = 1 << 20
"""Masked tokens that are counted, where there were so many."""


class UnigramFloor:
    """Watches the losses until `floor_step`, and then asks whether they have passed the floor."""

    def __init__(
        self,
        floor_step: int | None,
        make: Callable[[int], Sequence[Batch]],
        *,
        vocabulary_size: int,
        device: torch.device,
        losses: Iterable[float] = (),
    ) -> None:
        """`make(step)` deals a step to this rank; `losses` are those of the steps before, where a run goes on."""
        self._floor_step, self._make = floor_step, make
        self._size, self._device = vocabulary_size, device
        self._losses = deque(losses if floor_step is not None else (), maxlen=LAST_STEPS)

    def take(self, step: int, loss: float, predictions: int) -> None:
        """The masked-LM loss in nats of a step, from 0, and the masked tokens of its whole batch. All ranks call.

        Raises TrainingError, on all of them, where the mean of the last losses is not under the floor after
        `floor_step` steps. To be called before that step's checkpoint, which would go on unasked.
        """
        if self._floor_step is None or step >= self._floor_step:
            return
        self._losses.append(loss)
        if step + 1 == self._floor_step:
            _check(self._losses, self._floor(predictions), self._floor_step)

    def _floor(self, predictions: int) -> float:
        counts = torch.from_numpy(self._counts(predictions)).to(self._device)
        dist.all_reduce(counts)
        return entropy_of(counts.cpu().numpy())

    def _counts(self, predictions: int) -> npt.NDArray[np.int64]:
        """How often each id [V] was masked in the last steps, in this rank's share of them."""
        assert self._floor_step is not None, "asked only where there is one"
        counts = np.zeros(self._size, np.int64)
        steps = math.ceil(LABELS / max(1, predictions))
        for step in range(max(0, self._floor_step - steps), self._floor_step):
            for batch in self._make(step):
                labels = batch.masked_lm_labels
                counts += np.bincount(labels[labels != IGNORED], minlength=self._size)
        return counts


def entropy_of(counts: npt.NDArray[np.int64]) -> float:
    """In nats, of the distribution that a sample's counts [V] show, corrected for their number."""
    seen = counts[counts > 0]
    share = seen / seen.sum()
    return float(-(share * np.log(share)).sum() + (len(seen) - 1) / (2 * seen.sum()))


def _check(losses: Sequence[float], floor: float, step: int) -> None:
    mean = sum(losses) / len(losses)
    if not mean < floor:
        raise TrainingError(
            f"After {step:,} steps the masked-LM loss is {mean:.3f} (the mean of the last {len(losses)}), and the "
            f"entropy of the masked tokens' frequencies {floor:.3f}: nothing but these has been learned. Try a longer "
            f"warmup (pretraining.warmup_share), another pretraining.learning_rate or a larger train_batch_size, and "
            f"see by `bertmill batch` of an earlier training whether the samples are what they should be. To go on "
            f"all the same, run the same command with a later pretraining.floor_step."
        )
