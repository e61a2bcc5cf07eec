"""Held-out loss while training, always at 15 % masking, so that runs of any masking rate can be compared.

Samples from all over each dataset's held-out split, under the masks of epoch 0: the same each time. Told
for all, by length, and where there are several by dataset and by source: that of a sample's first segment, to which a
second one of another document counts. Ranks share the samples; each makes as many passes as the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from pipeline.dataset.batches import IGNORED, Batch, filled, heldout_rows, rows_batch
from pipeline.dataset.dealing import Capacity
from pipeline.dataset.plan import Plan
from pipeline.dataset.samples import Samples
from pipeline.pretraining.model.bert import TensorBatch
from pipeline.pretraining.place import Place
from pipeline.pretraining.planning.memory import dealt_size

MASKED_LM_PROB = 0.15
LENGTHS = (32, 64, 128, 256, 512)
"""Samples are told apart by these, each up to and with it."""


class Validation:
    """Scores an engine on held-out samples."""

    def __init__(self, datasets: Mapping[str, Samples], *, limit: int, micro_batch_size: int, place: Place) -> None:
        """`datasets` are held-out splits by name, of which `limit` samples are taken in all."""
        self._names = list(datasets)
        self._place = place
        self._sources, self._numbers = _numbered([samples.origins.names for samples in datasets.values()])
        share = -(-limit // max(1, len(datasets)))
        self._samples = sum(min(share, len(samples)) for samples in datasets.values())
        self._batches = [
            (number, batch, samples)
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
        sums = np.zeros((len(self._names), max(1, len(self._sources)), len(LENGTHS), 6))
        capacity = _capacity([batch for _, batch, _ in self._batches]) if engine.device.type == "cuda" else None
        for number, batch, samples in self._batches:
            whole = filled(batch, capacity) if capacity else batch
            found = engine(TensorBatch.of(whole, engine.device), reduction="none")
            masked_lm, next_sentence, correct, pair_correct = (each.double().cpu().numpy() for each in found)
            kinds = np.searchsorted(LENGTHS, whole.lengths)
            if self._sources:
                own = samples.origins.of(np.maximum(whole.indices, 0))
                kinds += len(LENGTHS) * self._numbers[number][own]
            ends = np.cumsum(whole.lengths)
            of = kinds[np.searchsorted(ends, whole.masked_positions, side="right")]
            is_real, is_pair = whole.masked_lm_labels != IGNORED, whole.datasets >= 0
            into = sums[number].reshape(-1, 6)
            _add(into[:, :3], of[is_real], masked_lm[is_real], correct[is_real])
            _add(into[:, 3:], kinds[is_pair], next_sentence[is_pair], pair_correct[is_pair])
        engine.train()
        everywhere = torch.from_numpy(sums).to(engine.device)
        if self._place.world > 1:
            dist.all_reduce(everywhere)
        return _told(everywhere.cpu().numpy(), self._names, self._sources)


def samples_at_once(plan: Plan, heldout: Iterable[Samples], world: int) -> int:
    """As many held-out samples as have no more tokens than a micro-batch of training, whose passes take more memory.

    Training may cut its samples short, or take fewer at once where it doesn't; here all are whole.
    """
    tokens = max(
        dealt_size(phase.train_batch_size, phase.micro_batch_size, world)
        * (phase.max_seq_length or max(_longest(samples) for samples, _ in phase.mixed))
        for phase in plan.phases
    )
    return max(1, tokens // max(map(_longest, heldout), default=tokens))


def _longest(samples: Samples) -> int:
    return samples.config.max_seq_length


def _numbered(named: Sequence[Sequence[str]]) -> tuple[list[str], list[npt.NDArray[np.int64]]]:
    """All sources of datasets, each once, and for each dataset which of them its own are; none where one can't say."""
    if not all(named):
        return [], []
    every = sorted({name for names in named for name in names})
    return every, [np.array([every.index(name) for name in names], np.int64) for names in named]


def _batches(samples: Samples, count: int, micro_batch_size: int, place: Place) -> Iterator[Batch]:
    """The rank's share of `count` samples, in as many batches as any other's."""
    rows = heldout_rows(len(samples), count)
    for first in range(0, count, micro_batch_size * place.world):
        start = first + micro_batch_size * place.rank
        yield rows_batch(samples, rows[start : start + micro_batch_size])


def _capacity(batches: Sequence[Batch]) -> Capacity:
    """A buffer that holds each of them, so that compiled code sees one shape."""
    tokens = max(8, -(-max(len(batch.input_ids) for batch in batches) // 8) * 8)
    longest = max(int(batch.lengths.max(initial=1)) for batch in batches)
    sequences = max(len(batch.lengths) for batch in batches) + -(-tokens // longest)
    return Capacity(tokens, sequences, max(1, *(len(batch.masked_positions) for batch in batches)), longest)


def _add(into: npt.NDArray[np.float64], of: npt.NDArray[np.intp], *values: npt.NDArray[np.float64]) -> None:
    """Counts and sums [kinds, 3] of what is of each kind."""
    into[:, 0] += np.bincount(of, minlength=len(into))
    for column, each in enumerate(values, 1):
        into[:, column] += np.bincount(of, weights=each, minlength=len(into))


def _told(sums: npt.NDArray[np.float64], names: Sequence[str], sources: Sequence[str]) -> dict[str, Any]:
    """Means of sums [datasets, sources, lengths, (predictions, loss, correct, samples, loss, correct)]."""
    count, loss, correct, pairs, pair_loss, pair_correct = sums.sum((0, 1, 2)).tolist()
    told: dict[str, Any] = {
        "samples": int(pairs),
        "masked_lm_loss": loss / max(1, count),
        "masked_lm_accuracy": correct / max(1, count),
        "next_sentence_loss": pair_loss / max(1, pairs),
        "next_sentence_accuracy": pair_correct / max(1, pairs),
        "masked_lm_loss_by_length": _losses([str(length) for length in LENGTHS], sums.sum((0, 1))),
    }
    if len(names) > 1:
        told["masked_lm_loss_by_dataset"] = _losses(names, sums.sum((1, 2)))
    if len(sources) > 1:
        told["masked_lm_loss_by_source"] = _losses(sources, sums.sum((0, 2)))
    return told


def _losses(names: Sequence[str], sums: npt.NDArray[np.float64]) -> dict[str, float]:
    """The masked-LM loss of each kind that has predictions, from sums [kinds, 6]."""
    return {name: float(each[1] / each[0]) for name, each in zip(names, sums, strict=True) if each[0]}
