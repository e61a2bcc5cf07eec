"""Every format reads alike however it is compressed; a bad row is told, a damaged file ends with a sentence."""

import json
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus import sources
from pipeline.corpus.formats import compression, rows
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.errors import InputError
from tests.texts import COMPRESSORS, SUFFIXES, compressed, read, write

read_text, read_jsonl, read_csv, read_tsv = (partial(read, each) for each in ("text", "jsonl", "csv", "tsv"))

TEXT = "The mill.\nIt grinds.\n\n\n  \nThe 河 river.\n"
CSV = 'id,text,group\n7,"The mill.\nIt ""grinds"", too.",g\n\n8,河,\n'
JSONL = '{"text": "The mill.", "id": 7, "group": "g", "lang": "en", "date": "1790-01-08"}\n\n{"text": "河"}\n'
FILES: dict[str, tuple[str, list[Row | BadRow]]] = {
    "text": (TEXT, [Row(1, "The mill.\nIt grinds."), Row(6, "The 河 river.")]),
    "csv": (CSV, [Row(2, 'The mill.\nIt "grinds", too.', "7", "g"), Row(5, "河", "8")]),
    "tsv": (CSV.replace(",", "\t"), [Row(2, 'The mill.\nIt "grinds"\t too.', "7", "g"), Row(5, "河", "8")]),
    "jsonl": (JSONL, [Row(1, "The mill.", "7", "g", "en", "1790-01-08"), Row(3, "河")]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", FILES)
def test_a_format_reads_the_same_plain_and_compressed(tmp_path: Path, format: str, suffix: str) -> None:
    text, expected = FILES[format]
    assert list(read(format, write(tmp_path / f"a{suffix}", text))) == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_a_read_may_end_anywhere_in_a_line_or_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, chunk: int
) -> None:
    monkeypatch.setattr(compression, "CHUNK", chunk)
    monkeypatch.setattr(compression, "PACKED", chunk)
    for name, (text, expected) in FILES.items():
        assert list(read(name, write(tmp_path / f"a{suffix}", text))) == expected


@pytest.mark.parametrize("suffix", COMPRESSORS)
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


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_an_archive_that_is_cut_off_is_told_in_a_sentence(tmp_path: Path, suffix: str, keep: float) -> None:
    path = write(tmp_path / f"a{suffix}", noise())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="is cut off: its compressed data ends early, after .* Fetch or make it again"):
        drained(read_text(path))


@pytest.mark.parametrize("suffix", COMPRESSORS)
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


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_what_is_no_archive_after_one_is_damage_and_not_the_end(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "one\n")
    path.write_bytes(path.read_bytes() + b"two\n" * 10)
    with pytest.raises(InputError, match=rf"is not a sound \{suffix} file: .*, after 4 bytes of text"):
        drained(read_text(path))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_zeros_after_an_archive_are_padding(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", "one\n\n")
    path.write_bytes(path.read_bytes() + bytes(512) + compressed(b"two", suffix) + bytes(512))
    assert list(read_text(path)) == [Row(1, "one"), Row(3, "two")]


def test_what_comes_before_the_damage_is_given_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", '{"text": "one"}\n' * 1_000)
    path.write_bytes(path.read_bytes()[:-8])
    found = list[Row | BadRow]()
    with pytest.raises(InputError, match="is cut off"):
        found.extend(read_jsonl(path))
    assert len(found) == 1_000


# Members


def test_members_inside_members_are_named_with_dots(tmp_path: Path) -> None:
    path = write(tmp_path / "a", '{"a": {"text": "The mill.", "b": {"by": 3}}, "a.id": "whole"}\n{"a": 3}\n')
    found = list(read_jsonl(path, text="a.text", id="a.id", group="a.b.by"))
    assert found == [Row(1, "The mill.", "whole", "3"), BadRow(2, "no member 'a.text' that is text")]


def test_a_text_may_be_joined_of_several_members(tmp_path: Path) -> None:
    lines = [
        '{"title": "Mill", "body": "It grinds."}',
        '{"title": null, "body": "a"}',
        '{"title": 3, "body": "a"}',
        "{}",
    ]
    none = "no member 'title' or 'body' that is text"
    found = list(read_jsonl(write(tmp_path / "a", "\n".join(lines)), text=("title", "body")))
    assert found == [Row(1, "Mill\nIt grinds."), Row(2, "a"), BadRow(3, none), BadRow(4, none)]


@pytest.mark.parametrize(
    ("value", "group"),
    [("7", "7"), ("7.0", "7"), ("7.5", "7.5"), ("null", None), ('""', None), ("NaN", None), (f"{10**30}", f"{10**30}")],
)
def test_a_number_is_told_as_its_digits(tmp_path: Path, value: str, group: str | None) -> None:
    assert list(read_jsonl(write(tmp_path / "a", f'{{"text": "a", "group": {value}}}'))) == [Row(1, "a", group=group)]


def test_a_member_that_is_no_plain_value_is_told_and_not_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a", '{"text": "a", "group": ["g"]}')
    assert list(read_jsonl(path)) == [BadRow(1, "the member 'group' is neither text nor a number")]


def test_what_only_pythons_json_takes_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a", '{"text": "a", "score": NaN, "most": 1e999}\n{"text": "b", "text": "c"}\n')
    assert list(read_jsonl(path)) == [Row(1, "a"), Row(2, "c")]


# Separated values


def test_without_quoting_a_quote_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a", 'text\tid\n"The mill\t1\n')
    assert list(read_tsv(path, quoted=False)) == [Row(2, '"The mill', "1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"b,2,3", "more or fewer fields than the header"),
        (b"b", "more or fewer fields than the header"),
        (b"b\xff,2", "not UTF-8"),
        (b'"a\n\xff\nb",2', "not UTF-8"),
        (b'"a"b,2', "not CSV"),
    ],
)
def test_a_bad_row_of_separated_values_is_told_and_ends_nothing(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "a", b"text,id\na,1\n" + line + b"\nc,3\n")
    after = 4 + line.count(b"\n")
    assert list(read_csv(path)) == [Row(2, "a", "1"), BadRow(3, reason), Row(after, "c", "3")]


def test_a_quote_that_nothing_closes_takes_so_much_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST", 100)
    path = write(tmp_path / "a", 'text,id\na,1\n"b,2\n' + "c,3\n" * 50)
    found = list(read_csv(path))
    assert found[:2] == [Row(2, "a", "1"), BadRow(3, "longer than 64 MiB")]
    assert found[-1] == Row(53, "c", "3")


def test_a_quote_that_is_open_at_the_end_is_told(tmp_path: Path) -> None:
    assert list(read_csv(write(tmp_path / "a", 'text\n"b\nc'))) == [BadRow(2, "not CSV")]


@pytest.mark.parametrize(
    ("text", "keywords", "sentence"),
    [
        ("body,id\n", {}, "has no column 'text'. Its columns: body, id. Name one of them."),
        ("texts,id\n", {}, "has no column 'text'. Its columns: texts, id. Did you mean 'texts'?"),
        ("text,site\n", {"group": "sites"}, "has no column 'sites'. Its columns: text, site. Did you mean 'site'?"),
        ("text,text\n", {}, "has the column 'text' more than once. Rename all but one."),
        ("\n\n", {}, "has no header. Its first row must name the columns."),
        ('text\x00"\r"', {}, "can't be used: not CSV. It names the columns."),
    ],
)
def test_a_header_that_does_not_do_is_told_in_a_sentence(
    tmp_path: Path, text: str, keywords: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        drained(read_csv(write(tmp_path / "a", text), **keywords))
    assert sentence in str(error.value)


# Memory


def peak(found: Iterator[Any]) -> int:
    """Bytes that Python held at once while the rows were read."""
    tracemalloc.start()
    try:
        drained(found)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", ["text", "jsonl", "csv"])
def test_a_line_without_end_is_skipped_and_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, suffix: str
) -> None:
    monkeypatch.setattr(rows, "LONGEST", 1 << 20)
    before, after = ('{"text": "a"}', '{"text": "b"}') if format == "jsonl" else ("a", "b")
    blank, header = ("\n\n", "") if format == "text" else ("\n", "text\n" if format == "csv" else "")
    path = write(tmp_path / f"a{suffix}", f"{header}{before}{blank}{'x' * 50_000_000}{blank}{after}\n")
    found = [row[:2] for row in read(format, path)]
    assert [value for _, value in found] == ["a", "longer than 64 MiB", "b"]
    assert peak(read(format, path)) < 40_000_000


def test_a_text_without_blank_lines_is_one_bad_row_and_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LONGEST", 1 << 20)
    path = write(tmp_path / "a.gz", "The mill grinds.\n" * 2_000_000)
    assert list(read_text(path)) == list(read_text(path, documents="file")) == [BadRow(1, "longer than 64 MiB")]
    assert peak(read_text(path)) < 17_000_000


@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_the_first_row_is_given_before_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(compression, "CHUNK", 64)
    path = write(tmp_path / "a.gz", '{"text": "one"}\n\n' * 1_000)
    path.write_bytes(path.read_bytes()[:-8])  # cut off: told only when it is reached
    assert isinstance(next(read(format, path)), Row)
