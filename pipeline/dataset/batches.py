"""Micro-batches without padding: samples end to end, with their lengths, positions that start anew, and their masks.

All of a rank's samples of a step are laid out at once, a kernel call for each file that is touched, and its
micro-batches are views into that. A fixed buffer, for GPUs, has a tail of no weight (`filled`). Costs 15 to 25 ns a
token with masks drawn.

Legend: T tokens, S samples, M predictions of a micro-batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.masking import Masks
from pipeline.dataset.randomness import Purpose, stream_key, stream_keys, uniform_of
from pipeline.dataset.rows import Bits, Rows
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Capacity, Chosen, Steps, dealt

Ids = npt.NDArray[np.int64]
IGNORED = -100
"""The label of what has no weight (torch's `ignore_index`)."""


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


def training_batches(
    samples: Samples, step: int, *, train_batch_size: int, micro_batch_size: int, seed: int, rank: int, world: int
) -> list[Batch]:
    """The micro-batches of optimizer step `step` (from 0) over one dataset for one rank."""
    steps = Steps([(samples, 1.0)], train_batch_size=train_batch_size, seed=seed)
    return step_batches(steps, step, micro_batch_size=micro_batch_size, rank=rank, world=world)


def step_batches(
    steps: Steps, step: int, *, micro_batch_size: int, rank: int, world: int, capacity: Capacity | None = None
) -> list[Batch]:
    """One rank's micro-batches of a step: as many on every rank, some perhaps empty; filled up to a `capacity`."""
    chosen = steps.step(step)
    hands = dealt(chosen, micro_batch_size=micro_batch_size, world=world, capacity=capacity)[rank::world]
    batches = packed(steps.samples, chosen.at(np.concatenate(hands)), [len(hand) for hand in hands])
    return [filled(batch, capacity) for batch in batches] if capacity else batches


def heldout_batches(samples: Samples, *, limit: int, micro_batch_size: int) -> Iterator[Batch]:
    """The first `limit` samples in order, always under the masks of epoch 0."""
    count = min(limit, len(samples))
    for start in range(0, count, micro_batch_size):
        rows = np.arange(start, min(start + micro_batch_size, count))
        zeros = np.zeros_like(rows)
        lengths = samples.lengths[rows].astype(np.int64)
        yield packed([samples], Chosen(zeros, zeros, rows, lengths, zeros), [len(rows)])[0]


def packed(sources: Sequence[Samples], chosen: Chosen, sizes: Sequence[int]) -> list[Batch]:
    """The chosen samples of the datasets, laid end to end into micro-batches of `sizes` samples."""
    starts = np.concatenate(([0], np.cumsum(chosen.lengths))).astype(np.int64)
    ids, types, positions = (np.empty(starts[-1], np.int64) for _ in range(3))
    begins = np.empty(starts[-1], np.uint8)
    labels = np.zeros(len(chosen.rows), np.int64)
    masks = list[Masks]()
    for number, samples in enumerate(sources):
        of = np.flatnonzero(chosen.datasets == number)
        stored = _Stored()
        cuts = stream_keys(stream_key(samples.config.seed, Purpose.CUTS), chosen.epochs[of], chosen.rows[of])
        for rows, which, places in samples.by_file(chosen.rows[of]):
            froms = np.empty((len(which), 4), np.int64)
            _lay(
                rows.input_ids,
                rows.word_starts,
                rows.starts,
                rows.segment_boundary,
                places,
                cuts[which],
                starts,
                of[which],
                froms,
                ids,
                types,
                positions,
                begins,
            )
            labels[of[which]] = rows.next_sentence_label[places]
            stored.add(rows, which, places, froms, starts[of[which]])
        if samples.config.masks == "stored":
            masks.append(stored.masks())
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


def _drawn(samples: Samples, ids: Ids, begins: Bits, starts: Ids, chosen: Chosen, of: Ids) -> Masks:
    """Masks of the samples `of` one dataset, drawn for their epochs."""
    if len(of) == len(chosen.rows):
        return samples.masking.draw(ids, begins, starts, chosen.epochs, chosen.rows)
    tokens = np.concatenate([np.arange(starts[at], starts[at + 1]) for at in of]) if len(of) else np.empty(0, np.int64)
    own = np.concatenate(([0], np.cumsum(chosen.lengths[of]))).astype(np.int64)
    masks = samples.masking.draw(ids[tokens], begins[tokens], own, chosen.epochs[of], chosen.rows[of])
    return replace(masks, positions=tokens[masks.positions])


def _in_order(masks: Sequence[Masks]) -> tuple[Ids, Ids]:
    """Positions, ascending, and what is seen there, of all datasets."""
    positions = np.concatenate([np.empty(0, np.int64), *(each.positions for each in masks)])
    inputs = np.concatenate([np.empty(0, np.int64), *(each.inputs for each in masks)])
    if (np.diff(positions) > 0).all():
        return positions, inputs
    order = np.argsort(positions, kind="stable")
    return positions[order], inputs[order]


class _Stored:
    """Masks that are stored with samples, gathered file by file."""

    def __init__(self) -> None:
        self._positions, self._inputs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]

    def add(self, rows: Rows, places: Ids, froms: Ids, starts: Ids) -> None:
        """Those of the rows at `places`, whose tokens came to stand at `starts`, from `froms` [n, 4] of the sample."""
        if rows.masks is None:
            return
        for place, (a, a_end, b, b_end), start in zip(places.tolist(), froms.tolist(), starts.tolist(), strict=True):
            masks = rows.masks.cut(place, place + 1)
            positions = masks.positions.astype(np.int64)
            in_a, in_b = (positions >= a) & (positions < a_end), (positions >= b) & (positions < b_end)
            moved = np.where(in_a, positions - a, positions - b + a_end - a + 1) + 1 + start
            self._positions.append(moved[in_a | in_b])
            self._inputs.append(masks.inputs[in_a | in_b].astype(np.int64))

    def masks(self) -> Masks:
        """All that were added; `starts` is left empty."""
        positions = np.concatenate(self._positions)
        order = np.argsort(positions, kind="stable")
        return Masks(np.empty(0, np.int64), positions[order], np.concatenate(self._inputs)[order])


@njit(cache=True, nogil=True)
def _lay(
    tokens: npt.NDArray[np.unsignedinteger],  # type: ignore[type-arg]
    word_starts: Bits,
    row_starts: npt.NDArray[np.int32],
    boundaries: npt.NDArray[np.uint16],
    places: Ids,
    keys: npt.NDArray[np.uint64],
    starts: Ids,
    to: Ids,
    froms: Ids,
    ids: Ids,
    types: Ids,
    positions: Ids,
    begins: Bits,
) -> None:
    """Lay the rows at `places` of a file as the samples `to` of the batch, whose `starts` say how long each may be.

    A row that is longer keeps the end of A and the start of B, the longer one cut first; one without B a stretch that
    its key draws. `froms` [n, 4] is told from where to where of the row A and B are kept.
    """
    for at in range(len(places)):
        first, length = row_starts[places[at]], row_starts[places[at] + 1] - row_starts[places[at]]
        begin, size = starts[to[at]], starts[to[at] + 1] - starts[to[at]]
        boundary = np.int64(boundaries[places[at]])
        a, a_end, b, b_end = 1, boundary - 1, boundary, length - 1
        if boundary == length:
            b_end = b = length
            over = length - size
            a += int(uniform_of(keys[at], 1) * (over + 1))
            a_end = a + size - 2
        elif size < length:
            room = size - 3
            b_size = min(b_end - b, max(room // 2, room - (a_end - a)))
            a, b_end = a_end - (room - b_size), b + b_size
        froms[at] = (a, a_end, b, b_end)
        place = begin
        for segment in range(2 if b < b_end else 1):
            if segment == 0:
                ids[place], begins[place], types[place] = tokens[first], 0, 0
                place += 1
            for source in range(first + (b if segment else a), first + (b_end if segment else a_end)):
                ids[place] = tokens[source]
                begins[place] = (word_starts[source >> 3] >> (source & 7)) & 1
                types[place] = segment
                place += 1
            ids[place], begins[place], types[place] = tokens[first + length - 1], 0, segment
            place += 1
        for offset in range(size):
            positions[begin + offset] = offset


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
