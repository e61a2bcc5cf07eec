"""Parquet and Arrow read alike, and as the same rows of JSON lines would; only the columns that are asked for."""

import io
import random
import tracemalloc
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.formats import tables
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.errors import InputError
from tests.texts import SUFFIXES, read, write


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue()


def ipc(table: pa.Table, new: Callable[..., Any] = pa.ipc.new_file) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def stream(table: pa.Table) -> bytes:
    return ipc(table, pa.ipc.new_stream)


WRITERS = {"parquet": parquet, "arrow": ipc, "arrow stream": stream}
TABLE = pa.table(
    {
        "id": [7, 8, 9],
        "text": ["The mill.\nIt grinds.", "河", None],
        "blob": [b"\xff" * 1_000] * 3,
        "group": pa.array([1.0, None, 3.0]),
        "date": [date(1790, 1, 8), None, None],
    }
)
ROWS = [
    Row(1, "The mill.\nIt grinds.", "7", "1", None, "1790-01-08"),
    Row(2, "河", "8"),
    BadRow(3, "no member 'text' that is text"),
]


def found(tmp_path: Path, kind: str, table: pa.Table, suffix: str = "", **keywords: Any) -> list[Row | BadRow]:
    path = write(tmp_path / f"table{suffix}", WRITERS[kind](table))
    return list(read(kind.split()[0], path, **keywords))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_reads_the_same_in_every_format_and_compression(tmp_path: Path, kind: str, suffix: str) -> None:
    assert found(tmp_path, kind, TABLE, suffix) == ROWS


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "type", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()], ids=str
)
def test_every_kind_of_text_is_text(tmp_path: Path, kind: str, type: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["one", None, "河 three"], type)})
    assert found(tmp_path, kind, table)[::2] == [Row(1, "one"), Row(3, "河 three")]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_dictionary_of_texts_is_text(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": pa.array(["a", "b", "a"]), "group": pa.array(["x", None, "x"]).dictionary_encode()})
    assert found(tmp_path, kind, table) == [Row(1, "a", group="x"), Row(2, "b"), Row(3, "a", group="x")]


@pytest.mark.parametrize("kind", WRITERS)
def test_columns_inside_structures_are_named_with_dots(tmp_path: Path, kind: str) -> None:
    table = pa.table({"body": ["a", "b"], "of": [{"by": {"name": "x"}, "size": 3}, None], "a.b": ["dot", None]})
    rows = [Row(1, "a", "dot", "x"), Row(2, "b")]
    assert found(tmp_path, kind, table, text="body", id="a.b", group="of.by.name") == rows


@pytest.mark.parametrize("kind", WRITERS)
def test_a_time_is_told_as_its_day(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": ["a"], "date": pa.array([datetime(1790, 1, 8, 23, 59)], pa.timestamp("ns"))})
    assert found(tmp_path, kind, table) == [Row(1, "a", date="1790-01-08")]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_table_has_no_rows_and_is_no_error(tmp_path: Path, kind: str) -> None:
    assert found(tmp_path, kind, TABLE.slice(0, 0)) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_value_that_is_not_utf8_is_one_bad_row_and_its_neighbours_stay(tmp_path: Path, kind: str) -> None:
    texts = pa.array([b"a", b"\xff\xfe", b"c"], pa.binary()).view(pa.string())
    assert found(tmp_path, kind, pa.table({"text": texts})) == [Row(1, "a"), BadRow(2, "not UTF-8"), Row(3, "c")]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_column_is_told_with_those_that_are_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"has no column 'text'. Its columns: body, site. Name one of them."):
        found(tmp_path, kind, pa.table({"body": ["a"], "site": ["b"]}))
    with pytest.raises(InputError, match=r"has no column 'sites'. Its columns: text, site. Did you mean 'site'\?"):
        found(tmp_path, kind, pa.table({"text": ["a"], "site": ["b"]}), group="sites")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_column_of_the_wrong_type_is_told_with_its_type(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"The column 'text' of .* holds int64, not text. Name another"):
        found(tmp_path, kind, pa.table({"text": [1]}))
    with pytest.raises(InputError, match=r"The column 'group' of .* holds list<.*>, not text"):
        found(tmp_path, kind, pa.table({"text": ["a"], "group": [["b"]]}))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_a_table_that_is_cut_off_is_told_in_a_sentence(tmp_path: Path, kind: str, keep: float) -> None:
    data = WRITERS[kind](TABLE)
    path = write(tmp_path / "table", data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"(is not a sound .* file: |is cut off: ).*Fetch or make it again"):
        list(read(kind.split()[0], path))


def test_a_stream_that_ends_between_two_batches_is_told_to_be_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "table", stream(TABLE)[:-8])  # sound to pyarrow
    with pytest.raises(InputError, match="is cut off: an Arrow stream's last mark is missing"):
        list(read("arrow", path))


def test_rows_before_the_damage_are_given_first(tmp_path: Path) -> None:
    table = pa.table({"text": [f"The mill {number}." for number in range(1_000)]})
    data = stream(table)
    path = write(tmp_path / "table", data[:-24] + data[-8:])
    given = list[Row | BadRow]()
    with pytest.raises(InputError, match="is not a sound Arrow IPC file: .*, after 998 rows"):
        given.extend(read("arrow", path))
    assert [row[1] for row in given] == table["text"].to_pylist()[:998]


@pytest.mark.parametrize("kind", ["arrow", "arrow stream"])
def test_offsets_that_lead_out_of_the_file_are_told_and_not_followed(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": ["a" * 1000, "b", "c"]})
    data = WRITERS[kind](table)
    offset = (1000).to_bytes(4, "little")
    assert offset in data
    path = write(tmp_path / "table", data.replace(offset, (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(InputError, match="is not a sound Arrow IPC file"):
        list(read("arrow", path))


def test_memory_holds_pages_and_not_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK", 1 << 16)
    texts = [random.Random(number).randbytes(500).hex() for number in range(40_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "table", row_group_size=len(texts))
    size, before = sum(map(len, texts)), pa.total_allocated_bytes()
    del texts
    tracemalloc.start()
    try:
        most = max(pa.total_allocated_bytes() - before for _ in read("parquet", tmp_path / "table"))
        assert most + tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()
