"""Held-out loss while training, always at 15 % masking, so that runs of any masking rate can be compared.

The first samples of each dataset's held-out split, under the masks of epoch 0: the same each time. Told for all, by
length, and by dataset where several are mixed. Ranks share the samples; each makes as many passes as the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from pipeline.dataset.batches import IGNORED, Batch, filled, rows_batch
from pipeline.dataset.dealing import Capacity
from pipeline.dataset.samples import Samples
from pipeline.pretraining.checkpoints.checkpoint import Place
from pipeline.pretraining.model import TensorBatch

MASKED_LM_PROB = 0.15
LENGTHS = (32, 64, 128, 256, 512)
"""Samples are told apart by these, each up to and with it."""


class Validation:
    """Scores an engine on held-out samples."""

    def __init__(self, datasets: Mapping[str, Samples], *, limit: int, micro_batch_size: int, place: Place) -> None:
        """`datasets` are held-out splits by name, of which `limit` samples are taken in all."""
        self._names = list(datasets)
        self._place = place
        share = -(-limit // max(1, len(datasets)))
        self._samples = sum(min(share, len(samples)) for samples in datasets.values())
        self._batches = [
            (number, batch)
            for number, samples in enumerate(datasets.values())
            for batch in _batches(samples, min(share, len(samples)), micro_batch_size, place)
        ]

    def __bool__(self) -> bool:
        """Whether there is anything to score, on any rank."""
        return self._samples > 0

    @torch.no_grad()
    def scores(self, engine: Any) -> dict[str, Any]:
        """Losses and accuracies, the same on all ranks. All call."""
        engine.eval()
        sums = np.zeros((len(self._names), len(LENGTHS), 6))
        capacity = _capacity([batch for _, batch in self._batches]) if engine.device.type == "cuda" else None
        for number, batch in self._batches:
            whole = filled(batch, capacity) if capacity else batch
            found = engine(TensorBatch.of(whole, engine.device), reduction="none")
            masked_lm, next_sentence, correct, pair_correct = (each.double().cpu().numpy() for each in found)
            kinds = np.searchsorted(LENGTHS, whole.lengths)
            ends = np.cumsum(whole.lengths)
            of = kinds[np.searchsorted(ends, whole.masked_positions, side="right")]
            is_real, is_pair = whole.masked_lm_labels != IGNORED, whole.datasets >= 0
            _add(sums[number, :, :3], of[is_real], masked_lm[is_real], correct[is_real])
            _add(sums[number, :, 3:], kinds[is_pair], next_sentence[is_pair], pair_correct[is_pair])
        engine.train()
        everywhere = torch.from_numpy(sums).to(engine.device)
        if self._place.world > 1:
            dist.all_reduce(everywhere)
        return _told(everywhere.cpu().numpy(), self._names)


def _batches(samples: Samples, count: int, micro_batch_size: int, place: Place) -> Iterator[Batch]:
    """The rank's share of the first `count` samples, in as many batches as any other's."""
    step = micro_batch_size * place.world
    for first in range(0, count, step):
        start = first + micro_batch_size * place.rank
        yield rows_batch(samples, np.arange(min(start, count), min(start + micro_batch_size, count)))


def _capacity(batches: Sequence[Batch]) -> Capacity:
    """A buffer that holds each of them, so that compiled code sees one shape."""
    tokens = -(-max(len(batch.input_ids) for batch in batches) // 8) * 8
    longest = max(int(batch.lengths.max(initial=1)) for batch in batches)
    sequences = max(len(batch.lengths) for batch in batches) + -(-tokens // longest)
    return Capacity(tokens, sequences, max(len(batch.masked_positions) for batch in batches), longest)


def _add(into: npt.NDArray[np.float64], of: npt.NDArray[np.intp], *values: npt.NDArray[np.float64]) -> None:
    """Counts and sums [kinds, 3] of what is of each kind."""
    into[:, 0] += np.bincount(of, minlength=len(into))
    for column, each in enumerate(values, 1):
        into[:, column] += np.bincount(of, weights=each, minlength=len(into))


def _told(sums: npt.NDArray[np.float64], names: Sequence[str]) -> dict[str, Any]:
    """Means of sums [datasets, lengths, (predictions, loss, correct, samples, loss, correct)]."""
    count, loss, correct, pairs, pair_loss, pair_correct = sums.sum((0, 1)).tolist()
    of_length, of_dataset = sums[..., :2].sum(0), sums[..., :2].sum(1)
    told: dict[str, Any] = {
        "samples": int(pairs),
        "masked_lm_loss": loss / max(1, count),
        "masked_lm_accuracy": correct / max(1, count),
        "next_sentence_loss": pair_loss / max(1, pairs),
        "next_sentence_accuracy": pair_correct / max(1, pairs),
        "masked_lm_loss_by_length": {
            str(length): float(total / number)
            for length, (number, total) in zip(LENGTHS, of_length, strict=True)
            if number
        },
    }
    if len(names) > 1:
        told["masked_lm_loss_by_dataset"] = {
            name: float(total / number) for name, (number, total) in zip(names, of_dataset, strict=True) if number
        }
    return told
