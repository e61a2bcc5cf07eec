"""Rows come back from their files as they were, and cut and joined as lists would."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.rows import Rows, StoredMasks, joined, read_rows, write_rows
from tests.dataset.numbered import listed


def made(lengths: list[int], kind: type = np.uint16) -> Rows:
    """Samples of those lengths; every third token doesn't begin a word."""
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    ids = np.arange(starts[-1]).astype(kind)
    return Rows(
        ids,
        np.packbits(ids % 3 != 0, bitorder="little"),
        starts,
        np.array([length // 2 for length in lengths], np.uint16),
        np.array([number % 2 for number in range(len(lengths))], np.uint8),
    )


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_rows_are_read_as_they_were_written(kind: type, tmp_path: Path) -> None:
    rows = made([5, 9, 128, 8], kind)
    write_rows(tmp_path / "a.arrow", rows)
    read = read_rows(tmp_path / "a.arrow")
    assert listed(read) == listed(rows)
    assert read.input_ids.dtype == kind
    assert read.masks is None
    assert read.lengths.tolist() == [5, 9, 128, 8]


def test_stored_masks_are_read_as_they_were_written(tmp_path: Path) -> None:
    masks = StoredMasks(np.array([0, 2, 2], np.int32), np.array([1, 3], np.uint16), np.array([7, 4], np.uint16))
    write_rows(tmp_path / "a.arrow", made([6, 8]).masked(masks))
    read = read_rows(tmp_path / "a.arrow").masks
    assert read is not None
    assert [each.tolist() for each in (read.starts, read.positions, read.inputs)] == [[0, 2, 2], [1, 3], [7, 4]]


def test_any_arrow_reader_shows_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.arrow", made([4, 5]))
    assert pa.ipc.open_file(tmp_path / "a.arrow").read_all().to_pylist() == [
        {
            "input_ids": [0, 1, 2, 3],
            "segment_boundary": 2,
            "word_starts": [False, True, True, False],
            "next_sentence_label": 0,
        },
        {
            "input_ids": [4, 5, 6, 7, 8],
            "segment_boundary": 2,
            "word_starts": [True, True, False, True, True],
            "next_sentence_label": 1,
        },
    ]


@given(st.lists(st.integers(1, 40), max_size=9), st.data())
def test_rows_are_cut_and_joined_as_lists_are(lengths: list[int], data: st.DataObject) -> None:
    rows = made(lengths)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lengths)), max_size=4)))
    pieces = [rows.cut(first, last) for first, last in pairwise([0, *cuts, len(lengths)])]
    assert [sample for piece in pieces for sample in listed(piece)] == listed(rows)
    assert listed(joined(pieces)) == listed(rows)
