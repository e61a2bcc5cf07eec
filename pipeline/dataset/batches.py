"""Samples to batches: a function of the step, for any number of ranks, with no padding.

A step's samples are fixed by (seed, epoch, index). They are sorted by length and dealt like cards, back and forth, to
the micro-batches of all ranks, so that each holds about as many tokens, and every rank as many micro-batches; short
ones may be empty. Within a micro-batch sequences stand end to end, each with its own positions. Rows are memory-mapped.

Legend: T tokens, S samples, M predictions of a micro-batch.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.masking import Masking, Masks
from pipeline.dataset.randomness import shuffled
from pipeline.store import Artifact, Store

Ids = npt.NDArray[np.int64]


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
    """[M]"""
    next_sentence_label: Ids
    """[S], 1 where B is random."""
    indices: Ids
    """[S], the rows of the split."""


class Samples:
    """One split of a dataset, memory-mapped."""

    def __init__(self, store: Store, dataset: Artifact, split: str = "train") -> None:
        import pyarrow as pa

        manifest = store.manifest(dataset)
        self.config = DatasetConfig.model_validate(manifest.config)
        totals = manifest.totals
        undrawable = tuple(totals["undrawable_ids"])
        self._masking = Masking(
            self.config, mask_id=totals["mask_id"], undrawable=undrawable, size=totals["vocabulary_size"]
        )
        paths = [store.file(dataset, entry.path) for entry in manifest.matching(f"{split}/")]
        batches = [pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks() for path in paths]
        self._shards = [_columns(table) for table in batches]
        self._ends = list(accumulate(len(table) for table in batches))
        self.lengths: npt.NDArray[np.int32] = np.concatenate(
            [np.diff(shard["input_ids"][0]).astype(np.int32) for shard in self._shards]
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, index: int, epoch: int) -> tuple[Ids, int, int, Masks]:
        """(input_ids [L], segment boundary, is_random_next, masks in `epoch`) of one sample."""
        number = bisect_right(self._ends, index)
        shard, place = self._shards[number], index - (self._ends[number - 1] if number else 0)
        input_ids = _item(shard["input_ids"], place)
        boundary = int(shard["segment_boundary"][place])
        if self.config.masks == "stored":
            masks = Masks(_item(shard["masked_lm_positions"], place), _item(shard["masked_lm_inputs"], place))
        else:
            starts = _item(shard["word_starts"], place)
            masks = self._masking.draw(input_ids, starts, boundary, epoch=epoch, index=index)
        return input_ids, boundary, int(shard["is_random_next"][place]), masks


def _columns(table: Any) -> dict[str, Any]:
    """Each column as numpy: lists as (offsets, values), without a copy."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].chunk(0)
        if hasattr(column, "offsets"):
            columns[name] = (column.offsets.to_numpy(), column.values.to_numpy())
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


def _item(column: tuple[Ids, Ids], place: int) -> Ids:
    offsets, values = column
    return values[offsets[place] : offsets[place + 1]].astype(np.int64)


def training_batches(
    samples: Samples, step: int, *, train_batch_size: int, micro_batch_size: int, seed: int, rank: int, world: int
) -> list[Batch]:
    """The micro-batches of optimizer step `step` (from 0) for one rank; as many on every rank, some perhaps empty."""
    chosen = step_samples(len(samples), step, train_batch_size, seed)
    by_length = sorted(chosen, key=lambda each: (-samples.lengths[each[1]], each))
    return [packed(samples, hand) for hand in dealt(by_length, micro_batch_size, world)[rank::world]]


def step_samples(size: int, step: int, train_batch_size: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of each sample of a step: the same for any number of ranks."""
    places = range(step * train_batch_size, (step + 1) * train_batch_size)
    return [(place // size, _order(size, seed, place // size)(place % size)) for place in places]


@lru_cache(maxsize=4)
def _order(size: int, seed: int, epoch: int) -> Any:
    return shuffled(size, seed, epoch)


def dealt(cards: Sequence[Any], micro_batch_size: int, world: int) -> list[list[Any]]:
    """Deal `cards` back and forth into the fewest hands that hold `micro_batch_size` each and go round the ranks."""
    turns = -(-len(cards) // (micro_batch_size * world))
    hands: list[list[Any]] = [[] for _ in range(turns * world)]
    for place, card in enumerate(cards):
        lap, seat = divmod(place, len(hands))
        hands[seat if lap % 2 == 0 else len(hands) - 1 - seat].append(card)
    return hands


def heldout_batches(samples: Samples, *, limit: int, micro_batch_size: int) -> Iterator[Batch]:
    """The first `limit` samples in order, always under the masks of epoch 0."""
    count = min(limit, len(samples))
    for start in range(0, count, micro_batch_size):
        yield packed(samples, [(0, index) for index in range(start, min(start + micro_batch_size, count))])


def packed(samples: Samples, chosen: Sequence[tuple[int, int]]) -> Batch:
    """The samples (epoch, index) end to end."""
    rows = [samples.row(index, epoch) for epoch, index in chosen]
    lengths = np.array([len(row[0]) for row in rows], np.int32)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64) if rows else np.empty(0, np.int64)
    input_ids = _concatenated([row[0] for row in rows])
    masked_positions = _concatenated([row[3].positions + start for row, start in zip(rows, starts, strict=True)])
    labels = input_ids[masked_positions]
    input_ids[masked_positions] = _concatenated([row[3].inputs for row in rows])
    position_ids = _concatenated([np.arange(length) for length in lengths])
    boundaries = np.repeat(np.array([row[1] for row in rows], np.int64), lengths)
    return Batch(
        input_ids=input_ids,
        token_type_ids=(position_ids >= boundaries).astype(np.int64),
        position_ids=position_ids,
        lengths=lengths,
        masked_positions=masked_positions,
        masked_lm_labels=labels,
        next_sentence_label=np.array([row[2] for row in rows], np.int64),
        indices=np.array([index for _, index in chosen], np.int64),
    )


def _concatenated(arrays: Sequence[npt.NDArray[Any]]) -> Ids:
    return np.concatenate([np.empty(0, np.int64), *arrays]).astype(np.int64)
