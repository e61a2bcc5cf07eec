"""Merged files hold each word once, with the sum of its counts, whatever they are merged with and in which order."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.vocabulary import counts as counts_module
from pipeline.vocabulary.counts import CountsWriter, WordCounts, read_batches, read_counts
from pipeline.vocabulary.merged_counts import Source, merge_files, merged_batches

WORDS = st.text("ab\x00é河", min_size=1, max_size=3)
GROUPED = st.dictionaries(WORDS, st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=15)
"""Words with the group of each time that they stand."""


def file(path: Path, groups: dict[str, list[int]], size: int) -> Path:
    """A file of such words; the first `size` groups of each are kept."""
    counts = WordCounts.of(
        {word: len(each) for word, each in groups.items()},
        {word: list(dict.fromkeys(each)) for word, each in groups.items()},
        size,
    )
    with CountsWriter(path, size) as writer:
        writer.write(counts)
    return path


@settings(max_examples=100, deadline=None)
@given(st.lists(GROUPED, min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 4))
def test_a_merge_is_the_sum_of_all_words_of_enough_groups(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[str, list[int]]], rows: int, least: int
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    counts, groups = Counter[str](), dict[str, set[int]]()
    for part in parts:
        for word, each in part.items():
            counts[word] += len(each)
            groups.setdefault(word, set()).update(each)
    kept = least if least > 1 else 0
    expected = {word: count for word, count in counts.items() if len(groups[word]) >= least}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "ROWS", rows)
        files = [file(folder / str(number), part, kept) for number, part in enumerate(parts)]
        with CountsWriter(folder / "merged") as writer:
            left_out = merge_files(files, writer, least)
        halves = [folder / "first", folder / "second"]
        for half, some in zip(halves, (files[::2], files[1::2])):
            with CountsWriter(half, kept) as writer:
                assert merge_files(some, writer) == (0, 0)
        with CountsWriter(folder / "tree") as writer:
            assert merge_files(halves[::-1], writer, least) == left_out
    assert list(read_counts(folder / "merged")) == sorted(expected.items())
    assert left_out == (len(counts) - len(expected), counts.total() - sum(expected.values()))
    assert (folder / "tree").read_bytes() == (folder / "merged").read_bytes()


def test_counts_beyond_32_bits_stay_exact(tmp_path: Path) -> None:
    files = []
    for number, count in enumerate([(1 << 32) - 1, 2, 1 << 60]):
        files.append(tmp_path / str(number))
        with CountsWriter(files[-1]) as writer:
            writer.write(WordCounts.of({"the": count, f"w{number}": 1}))
    with CountsWriter(tmp_path / "merged") as writer:
        merge_files(files, writer)
    assert dict(read_counts(tmp_path / "merged"))["the"] == (1 << 60) + (1 << 32) + 1


def test_nothing_merged_is_nothing(tmp_path: Path) -> None:
    empty = file(tmp_path / "empty", {}, 0)
    with CountsWriter(tmp_path / "merged") as writer:
        assert merge_files([empty, empty], writer) == (0, 0)
    assert (tmp_path / "merged").read_bytes() == empty.read_bytes()


def test_of_each_file_no_more_than_a_record_batch_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sources, read = 8, list[Source](), Counter[int]()
    monkeypatch.setattr(counts_module, "ROWS", rows)

    def watched(number: int, path: Path) -> Iterator[WordCounts]:
        for batch in read_batches(path):
            assert not len(sources[number].counts), "the batch before it is used up"
            read[number] += len(batch)
            yield batch

    for number in range(30):
        words = {f"{each:04}": [1] for each in range(number, 1_000, number + 1)}
        sources.append(Source(watched(number, file(tmp_path / str(number), words, 0))))
    found = Counter[str]()
    for batch in merged_batches(list(sources)):
        assert len(batch) <= rows * len(sources), "no more is merged at once than is in memory"
        assert not found.keys() & set(batch.words())
        found.update(dict(batch))
    assert found == Counter(f"{each:04}" for number in range(30) for each in range(number, 1_000, number + 1))
    assert read == {number: len(range(number, 1_000, number + 1)) for number in range(30)}
