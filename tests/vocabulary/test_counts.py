"""Counts read back from their files as they were written, and a file's bytes are its words' alone."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.vocabulary import counts as module
from pipeline.vocabulary.counts import CountsWriter, WordCounts, joined, read_batches, read_counts

COUNTS = st.dictionaries(st.text("ab é河\U0001f600", min_size=1, max_size=4), st.integers(1, 1 << 62), max_size=20)


def write(path: Path, pieces: list[WordCounts], groups: int = 0) -> Path:
    with CountsWriter(path, groups) as writer:
        for piece in pieces:
            writer.write(piece)
    assert writer.rows == sum(map(len, pieces))
    return path


@settings(max_examples=50, deadline=None)
@given(COUNTS)
def test_a_file_reads_back_sorted_by_utf8(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    path = write(tmp_path_factory.mktemp("counts") / "counts.arrow", [WordCounts.of(counts)])
    found = read_counts(path)
    assert list(found) == sorted(counts.items(), key=lambda each: each[0].encode())
    assert found.total == sum(counts.values())


def test_groups_read_back_where_they_are_kept(tmp_path: Path) -> None:
    groups = {"mill": [7, 1 << 63], "河": [9, 10, 11], "a": []}
    counts = WordCounts.of({"mill": 3, "河": 1, "a": 2}, groups, 2)
    assert counts.groups.tolist() == [[0, 0], [7, 1 << 63], [9, 10]]
    (batch,) = read_batches(write(tmp_path / "counts.arrow", [counts], 2))
    assert list(batch) == [("a", 2), ("mill", 3), ("河", 1)]
    assert batch.groups.tolist() == counts.groups.tolist()
    assert read_counts(tmp_path / "counts.arrow").groups.shape == (3, 0)


@pytest.mark.parametrize("groups", [0, 2])
def test_a_file_has_the_same_bytes_however_its_words_are_handed_over(
    tmp_path: Path, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 10)
    words = [f"{number:03}" for number in range(47)]
    counts = WordCounts.of(dict.fromkeys(words, 3), {word: [int(word) + 1] for word in words}, groups)
    expected = write(tmp_path / "whole", [counts], groups).read_bytes()
    rng = np.random.default_rng(1)
    for name in range(20):
        bounds = [0, *sorted(rng.integers(0, 48, 6).tolist()), 47]
        pieces = [counts.rows(low, high) for low, high in pairwise(bounds)]
        assert write(tmp_path / str(name), pieces, groups).read_bytes() == expected
    assert [len(batch) for batch in read_batches(tmp_path / "whole")] == [10, 10, 10, 10, 7]


def test_a_file_of_no_words_reads_back(tmp_path: Path) -> None:
    path = write(tmp_path / "counts.arrow", [])
    assert len(read_counts(path)) == 0
    assert list(read_batches(path)) == []
    assert pa.ipc.open_file(path).schema.names == ["word", "count"]


def test_words_are_found_by_their_place() -> None:
    counts = WordCounts.of({"b": 1, "é": 2, "河": 3})
    assert [counts.place(word.encode()) for word in ("a", "b", "ba", "é", "河", "龍")] == [0, 0, 1, 1, 2, 3]
    assert [counts.has(word.encode()) for word in ("a", "b", "ba", "é", "河", "龍")] == [0, 1, 0, 1, 1, 0]


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.data())
def test_rows_are_the_same_words_whether_taken_in_place_kept_or_put_in_order(
    counts: dict[str, int], data: st.DataObject
) -> None:
    whole = WordCounts.of(counts)
    low = data.draw(st.integers(0, len(whole)))
    high = data.draw(st.integers(low, len(whole)))
    some = whole.rows(low, high)
    assert list(some) == list(whole)[low:high]
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(some), max_size=len(some))), np.bool_)
    assert list(some.kept(kept)) == [each for each, stays in zip(some, kept) if stays]
    turned = joined([whole.rows(low, len(whole)), whole.rows(0, low)])
    assert list(turned) == list(whole)[low:] + list(whole)[:low]
    assert list(turned.in_order()) == list(whole)
