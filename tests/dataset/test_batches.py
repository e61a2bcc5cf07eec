"""A step's samples are the same for any number of ranks, dealt evenly, each once an epoch, and packed without loss."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DatasetConfig
from pipeline.dataset.batches import RUNS, Batch, heldout_batches, heldout_rows, packed
from pipeline.dataset.build import build_dataset
from pipeline.dataset.dealing import dealt
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Chosen, Steps
from tests.dataset.reading import training_batches
from tests.small import Small

WORLDS = (1, 2, 3, 4, 8)
SEED = 12_345


@pytest.fixture(scope="module")
def samples(small: Small) -> Samples:
    return Samples(small.store, small.dataset)


@pytest.fixture(scope="module")
def rows(small: Small) -> list[dict[str, Any]]:
    """The training samples as they are stored."""
    entries = small.store.manifest(small.dataset).matching("train/")
    tables = [pa.ipc.open_file(small.store.blob(entry)).read_all() for entry in entries]
    return pa.concat_tables(tables).to_pylist()


def batches_of_a_step(
    samples: Samples, step: int, world: int, train_batch_size: int = 30, micro_batch_size: int = 4
) -> list[list[Batch]]:
    """The micro-batches of each rank."""
    return [
        training_batches(
            samples,
            step,
            train_batch_size=train_batch_size,
            micro_batch_size=micro_batch_size,
            seed=SEED,
            rank=rank,
            world=world,
        )
        for rank in range(world)
    ]


@dataclass(frozen=True, order=True)
class Seen:
    """One sample of a batch: what the model sees of it, and what it has to say."""

    index: int
    input_ids: list[int]
    token_type_ids: list[int]
    position_ids: list[int]
    masked_positions: list[int]
    """Within the sample."""
    labels: list[int]
    is_random_next: bool

    def unmasked(self) -> list[int]:
        """The ids with the labels put back."""
        ids = list(self.input_ids)
        for position, label in zip(self.masked_positions, self.labels):
            ids[position] = label
        return ids


def seen(batch: Batch) -> list[Seen]:
    """The samples of a batch, in order."""
    found = []
    ends = np.cumsum(batch.lengths)
    for number, (start, end) in enumerate(zip(ends - batch.lengths, ends)):
        masked = (batch.masked_positions >= start) & (batch.masked_positions < end)
        found.append(
            Seen(
                int(batch.indices[number]),
                batch.input_ids[start:end].tolist(),
                batch.token_type_ids[start:end].tolist(),
                batch.position_ids[start:end].tolist(),
                (batch.masked_positions[masked] - start).tolist(),
                batch.masked_lm_labels[masked].tolist(),
                bool(batch.next_sentence_label[number]),
            )
        )
    return found


def step_packed(samples: Samples, step: int, train_batch_size: int) -> Batch:
    """A whole step in one batch."""
    chosen = steps_of(samples, train_batch_size).step(step)
    return packed([samples], chosen, [len(chosen.rows)])[0]


# The same for any number of ranks


@pytest.mark.parametrize("micro_batch_size", [1, 4, 7, 64])
@pytest.mark.parametrize("world", WORLDS)
def test_all_ranks_together_see_the_same_samples_under_the_same_masks(
    samples: Samples, world: int, micro_batch_size: int
) -> None:
    for step in (0, len(samples) // 30):  # the first, and the one that crosses into the second epoch
        batches = [batch for rank in batches_of_a_step(samples, step, world, 30, micro_batch_size) for batch in rank]
        expected = step_packed(samples, step, 30)
        assert sorted(each for batch in batches for each in seen(batch)) == sorted(seen(expected))


@pytest.mark.parametrize("train_batch_size", [1, 5, 30, 33])
@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_has_equally_many_micro_batches(samples: Samples, world: int, train_batch_size: int) -> None:
    ranks = batches_of_a_step(samples, 3, world, train_batch_size, 4)
    assert {len(rank) for rank in ranks} == {-(-train_batch_size // (4 * world))}
    sizes = [len(batch.lengths) for rank in ranks for batch in rank]
    assert sum(sizes) == train_batch_size


def chosen_of(lengths: list[int]) -> Chosen:
    """Samples of those lengths."""
    numbers = np.arange(len(lengths))
    return Chosen(numbers * 0, numbers * 0, numbers, np.array(lengths, np.int64), numbers * 0)


def lengths_of(lengths: list[int], micro_batch_size: int, world: int) -> list[list[int]]:
    """The lengths in each hand."""
    hands = dealt(chosen_of(lengths), micro_batch_size=micro_batch_size, world=world)
    return [[lengths[each] for each in hand] for hand in hands]


def test_samples_are_dealt_by_tokens_worked_by_hand() -> None:
    assert lengths_of([8, 7, 6, 5, 4, 3, 2, 1], micro_batch_size=4, world=2) == [[8, 5, 4, 1], [7, 6, 3, 2]]
    assert lengths_of([9, 4, 3, 2], micro_batch_size=2, world=2) == [[9], [4, 3, 2]]
    assert lengths_of([8, 7, 6, 5, 4], micro_batch_size=2, world=2) == [[8], [7], [6], [5, 4]]
    assert lengths_of([8], micro_batch_size=2, world=3) == [[8], [], []]


@pytest.mark.parametrize("world", WORLDS)
def test_the_micro_batches_of_a_step_differ_by_less_than_a_samples_length(samples: Samples, world: int) -> None:
    for step in range(7):
        batches = list(chain.from_iterable(batches_of_a_step(samples, step, world, train_batch_size=32)))
        lengths = np.concatenate([batch.lengths for batch in batches])
        tokens = [len(batch.input_ids) for batch in batches]
        assert max(tokens) - min(tokens) <= max(lengths)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(5, 512), min_size=1, max_size=70), st.integers(1, 9), st.sampled_from(WORLDS))
def test_micro_batches_hold_about_as_many_tokens(lengths: list[int], micro_batch_size: int, world: int) -> None:
    cards = sorted(lengths, reverse=True)
    hands = lengths_of(cards, micro_batch_size, world)
    assert sorted(chain.from_iterable(hands), reverse=True) == cards
    assert len(hands) == world * -(-len(cards) // (micro_batch_size * world))
    tokens = list(map(sum, hands))
    assert max(tokens) - min(tokens) <= cards[0], "one sample's length"


# Each sample once an epoch


@pytest.mark.parametrize("train_batch_size", [1, 7, 30])
def test_each_epoch_sees_every_sample_exactly_once(samples: Samples, train_batch_size: int) -> None:
    size, epochs = len(samples), 3
    steps = steps_of(samples, train_batch_size)
    groups = -(-size * epochs // (train_batch_size * steps.together))
    chosen = [steps.step(step) for step in range(groups * steps.together)]
    pairs = list(zip(*(np.concatenate(each).tolist() for each in zip(*((c.epochs, c.rows) for c in chosen)))))
    whole = [pair for pair in pairs if pair[0] < epochs]
    assert sorted(whole) == [(epoch, index) for epoch in range(epochs) for index in range(size)]
    assert len(set(pairs)) == len(pairs)


def test_each_epoch_and_each_seed_has_an_order_of_its_own(samples: Samples) -> None:
    orders = []
    for seed in (SEED, SEED + 1):
        steps = Steps([(samples, 1.0)], train_batch_size=1, seed=seed)
        rows = [steps.step(step).rows[0] for step in range(3 * len(samples))]
        orders += [rows[at : at + 200] for at in range(0, len(rows) - 200, len(samples))]
    assert all(orders.count(order) == 1 for order in orders)


def steps_of(samples: Samples, train_batch_size: int) -> Steps:
    return Steps([(samples, 1.0)], train_batch_size=train_batch_size, seed=SEED)


def packed_rows(samples: Samples, epochs_and_rows: list[tuple[int, int]]) -> Batch:
    """One batch of the samples."""
    epochs, rows = np.array(epochs_and_rows, np.int64).T
    lengths = samples.lengths[rows].astype(np.int64)
    return packed([samples], Chosen(rows * 0, epochs, rows, lengths, rows * 0), [len(rows)])[0]


def test_another_epoch_masks_the_same_sample_otherwise(samples: Samples) -> None:
    first, second = seen(packed_rows(samples, [(0, 5), (1, 5)]))
    assert first.masked_positions != second.masked_positions
    assert first.unmasked() == second.unmasked()


# Packed


def test_unmasking_a_batch_gives_the_stored_rows(samples: Samples, rows: list[dict[str, Any]]) -> None:
    batch = packed_rows(samples, [(2, index) for index in range(len(samples))])
    masked = 0
    for row, each in zip(rows, seen(batch), strict=True):
        length, boundary = len(row["input_ids"]), row["segment_boundary"]
        assert each.unmasked() == row["input_ids"]
        assert each.token_type_ids == [0] * boundary + [1] * (length - boundary)
        assert each.position_ids == list(range(length))
        assert each.labels == [row["input_ids"][position] for position in each.masked_positions]
        assert each.is_random_next is bool(row["next_sentence_label"])
        masked += each.input_ids != row["input_ids"]
    assert masked > 0.9 * len(rows)
    assert batch.indices.tolist() == list(range(len(rows)))
    assert batch.lengths.tolist() == samples.lengths.tolist() == [len(row["input_ids"]) for row in rows]
    assert batch.lengths.sum() == len(batch.input_ids) == len(batch.token_type_ids) == len(batch.position_ids)


def test_what_is_not_masked_is_as_it_was(samples: Samples, rows: list[dict[str, Any]]) -> None:
    batch = packed_rows(samples, [(0, 3), (0, 3), (7, 4)])
    expected = np.array([*rows[3]["input_ids"], *rows[3]["input_ids"], *rows[4]["input_ids"]])
    kept = np.ones(len(expected), bool)
    kept[batch.masked_positions] = False
    assert batch.input_ids[kept].tolist() == expected[kept].tolist()
    assert batch.masked_lm_labels.tolist() == expected[batch.masked_positions].tolist()


def test_an_empty_micro_batch_is_a_batch_of_nothing(samples: Samples) -> None:
    ranks = batches_of_a_step(samples, 0, world=8, train_batch_size=3)
    assert [len(rank) for rank in ranks] == [1] * 8
    for name, kind in Batch.__annotations__.items():
        values = [getattr(rank[0], name) for rank in ranks]
        assert [len(each) for each in values[3:]] == [0] * 5, name
        assert len({each.dtype for each in values}) == 1, (name, kind)


def test_rows_are_found_in_any_number_of_files(small: Small, samples: Samples) -> None:
    config = samples.config.model_copy(update={"rows_per_shard": 32, "name": "many"})
    many = Samples(small.store, build_dataset(config, small.corpus, small.vocabulary, store=small.store))
    assert len(many) == len(samples)
    chosen = [(1, index) for index in range(len(samples))]
    assert seen(packed_rows(many, chosen)) == seen(packed_rows(samples, chosen))


# Held-out samples, stored masks


@pytest.mark.parametrize(
    ("samples", "limit"), [(0, 9), (1, 9), (9, 9), (200, 70), (200, 199), (10_000, 640), (997, 130)]
)
def test_heldout_rows_are_so_many_from_all_over_in_few_runs(samples: int, limit: int) -> None:
    rows = heldout_rows(samples, limit)
    assert len(set(rows.tolist())) == len(rows) == min(samples, limit)
    assert (np.diff(rows) > 0).all()
    assert ((rows >= 0) & (rows < samples)).all()
    assert (np.diff(rows) > 1).sum() <= 2 * RUNS
    assert limit >= samples or rows[-1] > 0.9 * samples * (1 - 1 / min(limit, RUNS))


def test_heldout_batches_are_those_rows_in_order_under_the_masks_of_epoch_0(small: Small) -> None:
    samples = Samples(small.store, small.dataset, "heldout")
    for limit in (50, 10**9):
        batches = list(heldout_batches(samples, limit=limit, micro_batch_size=16))
        rows = heldout_rows(len(samples), limit).tolist()
        assert [index for batch in batches for index in batch.indices.tolist()] == rows
        assert {len(batch.lengths) for batch in batches[:-1]} == {16}
        for batch in batches:
            assert seen(batch) == seen(packed_rows(samples, [(0, index) for index in batch.indices.tolist()]))


@pytest.mark.parametrize("masker", ["token", "whole_word"])
def test_stored_masks_are_those_drawn_in_epoch_0_and_stay_in_every_epoch(small: Small, masker: str) -> None:
    drawn, stored = (
        Samples(
            small.store,
            build_dataset(
                DatasetConfig.model_validate(
                    {"name": masks, "max_seq_length": 48, "masker": {"name": masker}, "masks": masks}
                ),
                small.corpus,
                small.vocabulary,
                store=small.store,
            ),
        )
        for masks in ("each_epoch", "stored")
    )
    everything = range(len(drawn))
    expected = seen(packed_rows(drawn, [(0, index) for index in everything]))
    for epoch in (0, 1):
        assert seen(packed_rows(stored, [(epoch, index) for index in everything])) == expected
