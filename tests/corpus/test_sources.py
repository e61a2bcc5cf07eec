"""Every format reads alike however it is compressed; a bad row is told, a damaged file ends with a sentence."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus import sources
from pipeline.corpus.sources import SOURCES, BadRow, Row, read_jsonl, read_text
from pipeline.errors import InputError
from tests.texts import SUFFIXES, compressed, write

TEXT = "The mill.\nIt grinds.\n\n\n  \nThe 河 river.\n"
JSONL = '{"text": "The mill.", "id": 7, "group": "g", "lang": "en", "date": "1790-01-08"}\n\n{"text": "河"}\n'
FILES: dict[str, tuple[str, list[Row | BadRow]]] = {
    "text": (TEXT, [Row(1, "The mill.\nIt grinds."), Row(6, "The 河 river.")]),
    "jsonl": (JSONL, [Row(1, "The mill.", "7", "g", "en", "1790-01-08"), Row(3, "河")]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", SOURCES)
def test_a_format_reads_the_same_plain_and_compressed(tmp_path: Path, format: str, suffix: str) -> None:
    text, expected = FILES[format]
    assert list(SOURCES[format](write(tmp_path / f"a{suffix}", text))) == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_a_read_may_end_anywhere_in_a_line_or_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, chunk: int
) -> None:
    monkeypatch.setattr(sources, "CHUNK", chunk)
    for name, (text, expected) in FILES.items():
        assert list(SOURCES[name](write(tmp_path / f"a{suffix}", text))) == expected


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_archives_joined_end_to_end_read_as_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(compressed(part.encode(), suffix) for part in ("one\n\nt", "wo\n\nthr", "ee\n")))
    assert [row.text for row in read_text(path) if isinstance(row, Row)] == ["one", "two", "three"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_the_kind_of_line_end_do_not_count(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "a.txt", "\ufeff" + TEXT.replace("\n", end))
    assert list(read_text(path)) == FILES["text"][1]
    path = write(tmp_path / "a.jsonl", "\ufeff" + JSONL.replace("\n", end))
    assert list(read_jsonl(path)) == FILES["jsonl"][1]


def test_a_last_line_needs_no_end(tmp_path: Path) -> None:
    assert list(read_text(write(tmp_path / "a", TEXT.rstrip()))) == FILES["text"][1]
    assert list(read_jsonl(write(tmp_path / "b", JSONL.rstrip()))) == FILES["jsonl"][1]


def test_a_text_may_be_one_document(tmp_path: Path) -> None:
    (row,) = read_text(write(tmp_path / "a", TEXT), documents="file")
    assert row == Row(1, TEXT.removesuffix("\n"))


def test_members_of_json_lines_are_named_in_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path / "a", '{"body": "The mill.", "key": "k", "author": "a", "text": 3, "year": 1790}\n')
    (row,) = read_jsonl(path, text="body", id="key", group="author", date="year")
    assert row == Row(1, "The mill.", "k", "a", None, "1790")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "not JSON"),
        (b"plain", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"text": "a\xff"}', "not UTF-8"),
        (b'"text"', "no member 'text' that is text"),
        (b'{"body": "a"}', "no member 'text' that is text"),
        (b'{"text": 3}', "no member 'text' that is text"),
        (b'{"text": null}', "no member 'text' that is text"),
        (rb'{"text": "half a pair: \ud83d"}', "half a surrogate pair"),
        (rb'{"text": "whole", "id": "\udc00"}', "half a surrogate pair"),
    ],
)
def test_a_bad_line_is_told_with_its_reason_and_ends_nothing(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "a", b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    assert list(read_jsonl(path)) == [Row(1, "before"), BadRow(2, reason), Row(3, "after")]


def test_a_whole_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    assert list(read_jsonl(write(tmp_path / "a", rb'{"text": "\ud83d\ude00"}'))) == [Row(1, "😀")]


def test_a_document_with_a_broken_line_is_one_bad_row_and_its_neighbours_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"one\n\ntwo\n\xff\xfe\ntwo\n\nthree\n")
    assert list(read_text(path)) == [Row(1, "one"), BadRow(3, "not UTF-8"), Row(7, "three")]


def drained(rows: Iterator[Any]) -> None:
    for _ in rows:
        pass


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_an_archive_that_is_cut_off_is_told_in_a_sentence(tmp_path: Path, suffix: str, keep: float) -> None:
    path = write(tmp_path / f"a{suffix}", noise())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="is cut off: its compressed data ends early, after .* Fetch or make it again"):
        drained(read_text(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["middle", "start"])
def test_a_corrupt_archive_is_told_in_a_sentence(tmp_path: Path, suffix: str, damage: str) -> None:
    data = bytearray(write(tmp_path / f"a{suffix}", noise()).read_bytes())
    place = 0 if damage == "start" else len(data) // 2
    data[place : place + 8] = bytes(255 - byte for byte in data[place : place + 8])
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"is not a sound \{suffix} file|is cut off"):
        drained(read_text(tmp_path / f"a{suffix}"))


def noise() -> str:
    """Text that doesn't compress to nothing."""
    return "\n".join(json.dumps([number * 7919 % 10007, number * 104729 % 65537]) for number in range(20_000))


def test_a_file_that_can_not_be_read_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        drained(read_text(tmp_path))


def test_an_unknown_sample_suggests_the_nearest() -> None:
    with pytest.raises(
        InputError, match="There is no sample corpus 'sotu-en.jsonl'. Did you mean 'sotu-en.jsonl.zst'?"
    ):
        sources.sample_path("sotu-en.jsonl")


@pytest.mark.parametrize("reader", SOURCES.values())
def test_memory_holds_one_line_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], Iterator[Any]]
) -> None:
    monkeypatch.setattr(sources, "CHUNK", 64)
    path = write(tmp_path / "a.gz", '{"text": "one"}\n\n' * 1_000)
    path.write_bytes(path.read_bytes()[:-8])  # cut off: told only when it is reached
    first = next(reader(path))
    assert isinstance(first, Row)
