"""Micro-batches without padding: samples end to end, with their lengths, positions that start anew, and their masks.

All of a rank's samples of a step are laid out at once, in one kernel call for each dataset, and its micro-batches are
views into that. A fixed buffer, for GPUs, has a tail of no weight (`filled`). Costs 15 to 25 ns a token with masks
drawn.

Legend: T tokens, S samples, M predictions of a micro-batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dealing import Capacity, dealt
from pipeline.dataset.gathering import lay_rows, stored_masks
from pipeline.dataset.randomness import stream_keys
from pipeline.dataset.rows import Bits
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Chosen, Steps

Ids = npt.NDArray[np.int64]
IGNORED = -100
"""The label of what has no weight (torch's `ignore_index`)."""
RUNS = 64
"""Of neighbours, in which held-out samples are taken."""


@dataclass(frozen=True)
class Batch:
    """A padding-free micro-batch."""

    input_ids: Ids
    """[T], masked."""
    token_type_ids: Ids
    """[T]"""
    position_ids: Ids
    """[T], from 0 in each sample."""
    lengths: npt.NDArray[np.int32]
    """[S], adding up to T."""
    masked_positions: Ids
    """[M], into T."""
    masked_lm_labels: Ids
    """[M], what stood there; -100: no weight."""
    next_sentence_label: Ids
    """[S], 1 where B doesn't follow A; -100: no weight."""
    indices: Ids
    """[S], the rows of the split; -1: of none."""
    datasets: Ids
    """[S], which of the mixed datasets they are of; -1: of none."""

    @property
    def predictions(self) -> int:
        """Those that have weight."""
        return int(np.count_nonzero(self.masked_lm_labels != IGNORED))

    @property
    def sequences(self) -> int:
        """Those that have weight."""
        return int(np.count_nonzero(self.datasets >= 0))

    @property
    def tokens(self) -> int:
        """Those of the samples."""
        return int(self.lengths[self.datasets >= 0].sum())


def step_batches(
    steps: Steps, step: int, *, micro_batch_size: int, rank: int, world: int, capacity: Capacity | None = None
) -> list[Batch]:
    """One rank's micro-batches of a step: as many on every rank, some perhaps empty; filled up to a `capacity`."""
    chosen = steps.step(step)
    hands = dealt(chosen, micro_batch_size=micro_batch_size, world=world, capacity=capacity)[rank::world]
    batches = packed(steps.samples, chosen.at(np.concatenate(hands)), [len(hand) for hand in hands])
    return [filled(batch, capacity) for batch in batches] if capacity else batches


def heldout_rows(samples: int, limit: int) -> Ids:
    """So many rows of a split of `samples`, in order: runs of neighbours, evenly spread, so that few files are opened.

    A corpus' sources stand one after the other; so of each there is about its share.
    """
    count = min(limit, samples)
    size = max(1, count // RUNS)
    runs, most = -(-count // size), samples // size
    if runs > most:
        return np.arange(count)
    starts = np.arange(runs) * most // max(1, runs) * size
    return (starts[:, None] + np.arange(size)).reshape(-1)[:count]


def heldout_batches(samples: Samples, *, limit: int, micro_batch_size: int) -> Iterator[Batch]:
    """The samples at `heldout_rows`, always under the masks of epoch 0."""
    rows = heldout_rows(len(samples), limit)
    for start in range(0, len(rows), micro_batch_size):
        yield rows_batch(samples, rows[start : start + micro_batch_size])


def rows_batch(samples: Samples, rows: Ids, epoch: int = 0) -> Batch:
    """Those rows in one batch, under the masks of an epoch."""
    zeros, lengths = np.zeros_like(rows), samples.lengths[rows].astype(np.int64)
    (batch,) = packed([samples], Chosen(zeros, zeros + epoch, rows, lengths, zeros), [len(rows)])
    return batch


def packed(sources: Sequence[Samples], chosen: Chosen, sizes: Sequence[int]) -> list[Batch]:
    """The chosen samples of the datasets, laid end to end into micro-batches of `sizes` samples."""
    starts = np.concatenate(([0], np.cumsum(chosen.lengths))).astype(np.int64)
    ids, types, positions = (np.empty(starts[-1], np.int64) for _ in range(3))
    begins = np.empty(starts[-1], np.uint8)
    labels = np.zeros(len(chosen.rows), np.int64)
    masks = list[tuple[Ids, Ids]]()
    for number, samples in enumerate(sources):
        of = np.flatnonzero(chosen.datasets == number)
        located = samples.located(chosen.rows[of])
        where = located.addresses, located.files, located.places
        cuts = stream_keys(samples.cuts, chosen.epochs[of], chosen.rows[of])
        froms = lay_rows(*where, cuts, starts, of, ids, types, positions, begins, labels)
        if samples.config.masks == "stored":
            masks.append(stored_masks(*where, froms, starts[of]))
        else:
            masks.append(_drawn(samples, ids, begins, starts, chosen, of))
    masked, seen = _in_order(masks)
    hidden = ids[masked]
    ids[masked] = seen
    cuts_ = np.cumsum([0, *sizes])
    held = np.searchsorted(masked, starts[cuts_])
    return [
        Batch(
            input_ids=ids[starts[first] : starts[last]],
            token_type_ids=types[starts[first] : starts[last]],
            position_ids=positions[starts[first] : starts[last]],
            lengths=chosen.lengths[first:last].astype(np.int32),
            masked_positions=masked[held[number] : held[number + 1]] - starts[first],
            masked_lm_labels=hidden[held[number] : held[number + 1]],
            next_sentence_label=labels[first:last],
            indices=chosen.rows[first:last],
            datasets=chosen.datasets[first:last],
        )
        for number, (first, last) in enumerate(pairwise(cuts_.tolist()))
    ]


def _drawn(samples: Samples, ids: Ids, begins: Bits, starts: Ids, chosen: Chosen, of: Ids) -> tuple[Ids, Ids]:
    """Where samples `of` one dataset are masked in their epochs, and what is seen there."""
    if len(of) == len(chosen.rows):
        masks = samples.masking.draw(ids, begins, starts, chosen.epochs, chosen.rows)
        return masks.positions, masks.inputs
    tokens = np.concatenate([np.arange(starts[at], starts[at + 1]) for at in of]) if len(of) else np.empty(0, np.int64)
    own = np.concatenate(([0], np.cumsum(chosen.lengths[of]))).astype(np.int64)
    masks = samples.masking.draw(ids[tokens], begins[tokens], own, chosen.epochs[of], chosen.rows[of])
    return tokens[masks.positions], masks.inputs


def _in_order(masks: Sequence[tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
    """Positions, ascending, and what is seen there, of all that were drawn or stored."""
    positions = np.concatenate([np.empty(0, np.int64), *(each for each, _ in masks)])
    inputs = np.concatenate([np.empty(0, np.int64), *(each for _, each in masks)])
    if (np.diff(positions) > 0).all():
        return positions, inputs
    order = np.argsort(positions, kind="stable")
    return positions[order], inputs[order]


def filled(batch: Batch, capacity: Capacity) -> Batch:
    """The batch in a buffer of fixed size; nothing of what fills it up has weight.

    Tokens are filled up by sequences of their own, of ids 0, and sequences by empty ones before the first.
    """
    tail = capacity.tokens - len(batch.input_ids)
    longest = capacity.longest
    tails = [longest] * (tail // longest) + ([tail % longest] if tail % longest else [])
    empty = capacity.sequences - len(batch.lengths) - len(tails)
    unmasked = capacity.predictions - len(batch.masked_positions)
    zeros, before, after = np.zeros(tail, np.int64), np.zeros(empty, np.int64), np.zeros(len(tails), np.int64)
    return Batch(
        input_ids=np.concatenate((batch.input_ids, zeros)),
        token_type_ids=np.concatenate((batch.token_type_ids, zeros)),
        position_ids=np.concatenate((batch.position_ids, np.arange(tail) % longest)),
        lengths=np.concatenate((before, batch.lengths, tails)).astype(np.int32),
        masked_positions=np.concatenate((batch.masked_positions, np.zeros(unmasked, np.int64))),
        masked_lm_labels=np.concatenate((batch.masked_lm_labels, np.full(unmasked, IGNORED))),
        next_sentence_label=np.concatenate((before + IGNORED, batch.next_sentence_label, after + IGNORED)),
        indices=np.concatenate((before - 1, batch.indices, after - 1)),
        datasets=np.concatenate((before - 1, batch.datasets, after - 1)),
    )
