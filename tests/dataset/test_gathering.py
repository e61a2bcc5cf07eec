"""A row that is cut short keeps the end of A and the start of B, with its masks; ids may be of two bytes or four."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.batches import Batch, packed
from pipeline.dataset.gathering import addresses_of, lay_rows, stored_masks
from pipeline.dataset.rows import Rows, StoredMasks
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Chosen
from pipeline.store import Store
from tests.dataset.chance import fits_even
from tests.dataset.stored import CLS, MASK, SEP, rows_of, stored, with_masks

SIZES = st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(8, 90))


def pair(a: int, b: int) -> Rows:
    """One sample, whose A counts up from 100 and whose B from 200; every word has two tokens; each is masked by 9."""
    ids = [CLS, *range(100, 100 + a), SEP, *range(200, 200 + b), SEP]
    begins = [0, *[1 - n % 2 for n in range(a)], 0, *[1 - n % 2 for n in range(b)], 0]
    masks = [*range(1, a + 1), *range(a + 2, a + 2 + b)]
    return Rows(
        np.array(ids, np.uint16),
        np.packbits(np.array(begins, np.uint8), bitorder="little"),
        np.array([0, len(ids)], np.int32),
        np.array([a + 2], np.uint16),
        np.array([1], np.uint8),
        StoredMasks(np.array([0, a + b], np.int32), np.array(masks, np.uint16), np.full(a + b, 9, np.uint16)),
    )


def laid(rows: Rows, size: int) -> dict[str, list[int]]:
    """The first row, cut to `size` tokens."""
    none, starts = np.zeros(1, np.int64), np.array([0, size])
    where = np.array([addresses_of(rows)], np.int64), none, none
    ids, types, positions = (np.full(size, -1, np.int64) for _ in range(3))
    begins, labels = np.full(size, 7, np.uint8), np.full(1, -1, np.int64)
    froms = lay_rows(*where, np.ones(1, np.uint64), starts, none, ids, types, positions, begins, labels)
    masked, inputs = stored_masks(*where, froms, starts[:1])
    found = {"ids": ids, "types": types, "positions": positions, "begins": begins, "labels": labels}
    return {name: each.tolist() for name, each in (found | {"masked": masked, "inputs": inputs}).items()}


@pytest.mark.parametrize(
    ("a", "b", "size", "kept"),
    [
        (3, 4, 10, [CLS, 100, 101, 102, SEP, 200, 201, 202, 203, SEP]),  # nothing is cut
        (3, 4, 9, [CLS, 100, 101, 102, SEP, 200, 201, 202, SEP]),  # the longer one first
        (3, 4, 8, [CLS, 100, 101, 102, SEP, 200, 201, SEP]),  # a tie: B, as google-research/bert does
        (9, 2, 9, [CLS, 105, 106, 107, 108, SEP, 200, 201, SEP]),  # the end of A
        (2, 9, 9, [CLS, 100, 101, SEP, 200, 201, 202, 203, SEP]),  # the start of B
        (9, 9, 10, [CLS, 105, 106, 107, 108, SEP, 200, 201, 202, SEP]),
    ],
)
def test_a_pair_that_is_cut_keeps_the_end_of_a_and_the_start_of_b_worked_by_hand(
    a: int, b: int, size: int, kept: list[int]
) -> None:
    assert laid(pair(a, b), size)["ids"] == kept


def truncated(a: int, b: int, room: int) -> tuple[int, int]:
    """What is left of each: one token at a time from the longer one."""
    while a + b > room:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    return a, b


@settings(max_examples=200, deadline=None)
@given(SIZES)
def test_what_is_kept_of_a_pair_is_right_in_every_column(sizes: tuple[int, int, int]) -> None:
    a, b, longest = sizes
    size = min(longest, a + b + 3)
    left_a, left_b = truncated(a, b, size - 3)
    found = laid(pair(a, b), size)
    begins_a = [1 - n % 2 for n in range(a)][a - left_a :]
    begins_b = [1 - n % 2 for n in range(left_b)]
    assert found["ids"] == [CLS, *range(100 + a - left_a, 100 + a), SEP, *range(200, 200 + left_b), SEP]
    assert found["types"] == [0] * (left_a + 2) + [1] * (left_b + 1)
    assert found["begins"] == [0, *begins_a, 0, *begins_b, 0]
    assert found["positions"] == list(range(size))
    assert found["labels"] == [1]
    words = [at for at, token in enumerate(found["ids"]) if token not in (CLS, SEP)]
    assert found["masked"] == words, "each token was masked, so each that is kept is"
    assert found["inputs"] == [9] * len(words)


def cut(samples: Samples, epochs: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], size: int) -> Batch:
    """One batch of those samples, of `size` tokens each."""
    zeros = np.zeros_like(rows)
    return packed([samples], Chosen(zeros, epochs, rows, zeros + size, zeros), [len(rows)])[0]


def test_a_window_of_a_row_without_b_is_any_with_the_same_chance_and_another_each_epoch(store: Store) -> None:
    files = [rows_of([60] * 50, pairs="none", size=60_000)]
    samples = Samples(store, stored(store, files, size=60_000, pairs="none", max_seq_length=64))
    epochs, rows = (each.ravel().astype(np.int64) for each in np.indices((200, 50)))
    batch = cut(samples, epochs, rows, 20)
    ids = batch.input_ids.copy()
    ids[batch.masked_positions] = batch.masked_lm_labels
    firsts = []
    for row, window in zip(rows.tolist(), ids.reshape(-1, 20)):
        whole = files[0].input_ids[60 * row : 60 * row + 60]
        starts = [at for at in range(1, 42) if (whole[at : at + 18] == window[1:19]).all()]
        assert (window[0], window[19]) == (CLS, SEP)
        firsts += starts
    assert len(firsts) == len(rows), "each window is one stretch of its row"
    assert fits_even(np.bincount(firsts, minlength=42)[1:].tolist())
    assert not batch.token_type_ids.any()


def test_the_same_epoch_cuts_the_same_window_whatever_it_is_with(store: Store) -> None:
    samples = Samples(store, stored(store, [rows_of([60] * 9, pairs="none")], pairs="none"))
    together = cut(samples, np.full(9, 3), np.arange(9), 20)
    for row in range(9):
        alone = cut(samples, np.array([3]), np.array([row]), 20)
        assert alone.input_ids.tolist() == together.input_ids[20 * row : 20 * row + 20].tolist()


def test_drawn_masks_of_cut_samples_fit_what_is_left_of_them(store: Store) -> None:
    samples = Samples(store, stored(store, [rows_of([100] * 60)], masker={"name": "whole_word"}))
    batch = cut(samples, np.zeros(60, np.int64), np.arange(60), 40)
    of_sample = np.bincount(batch.masked_positions // 40, minlength=60)
    assert of_sample.max() <= 6, "as of a sample of 40 tokens: 15 %, not of 100"
    assert of_sample.min() >= 5
    assert not set(batch.masked_lm_labels.tolist()) & {CLS, SEP}


def test_stored_masks_of_cut_samples_are_those_in_what_is_left(store: Store) -> None:
    files = [with_masks(rows_of([100] * 20), 7), with_masks(rows_of([90] * 30), 7)]
    samples = Samples(store, stored(store, files, masks="stored"))
    for size in (90, 40):
        batch = cut(samples, np.zeros(50, np.int64), np.arange(50), size)
        assert (batch.input_ids[batch.masked_positions] == MASK).all()
        assert (np.diff(batch.masked_positions) > 0).all()
        assert len(batch.masked_positions) == np.count_nonzero(batch.input_ids == MASK)
        assert not np.isin(batch.masked_lm_labels, (CLS, SEP, MASK)).any()
        most = samples.most_predictions(samples.lengths.astype(np.int64), np.full(50, size))
        assert (np.bincount(batch.masked_positions // size, minlength=50) <= most).all()


def test_ids_of_a_vocabulary_over_65536_are_read_whole(store: Store) -> None:
    wide, narrow = rows_of([30, 9, 128] * 20, size=200_000), rows_of([50] * 10)
    assert (wide.input_ids.dtype, narrow.input_ids.dtype) == (np.uint32, np.uint16)
    samples = Samples(store, stored(store, [wide, narrow], size=200_000))
    rows = np.arange(len(samples))
    chosen = Chosen(rows * 0, rows * 0, rows, samples.lengths.astype(np.int64), rows * 0)
    batch = packed([samples], chosen, [len(rows)])[0]
    ids = batch.input_ids.copy()
    ids[batch.masked_positions] = batch.masked_lm_labels
    assert ids.tolist() == [*wide.input_ids.tolist(), *narrow.input_ids.tolist()]
    assert ids.max() > 1 << 16


def test_micro_batches_are_the_samples_in_turn(store: Store) -> None:
    samples = Samples(store, stored(store, [rows_of([20, 30, 40]), rows_of([25] * 4)]))
    rows = np.array([6, 0, 5, 2, 1])
    chosen = Chosen(rows * 0, rows * 0, rows, samples.lengths[rows].astype(np.int64), rows * 0)
    whole = packed([samples], chosen, [5])[0]
    parts = packed([samples], chosen, [2, 0, 3])
    assert [part.indices.tolist() for part in parts] == [[6, 0], [], [5, 2, 1]]
    assert np.concatenate([part.input_ids for part in parts]).tolist() == whole.input_ids.tolist()
    ends = np.cumsum([0, *(len(part.input_ids) for part in parts)])
    masked = [part.masked_positions + end for part, end in zip(parts, ends)]
    assert np.concatenate(masked).tolist() == whole.masked_positions.tolist()
    assert [len(part.input_ids) for part in parts] == [last - first for first, last in pairwise(ends.tolist())]
