"""Readers of what people have: each a generator of rows and of rows that can't be used, in the file's order.

A bad row is told with its place and reason and never ends the file; a truncated or corrupt file does, for what follows
is lost, and so does a column that isn't there. Files are streamed: memory holds a line, a document of a text, or a
batch of a table. JSON is read by orjson (a third of json's time); what it refuses, json decides.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline.corpus.formats import rows
from pipeline.corpus.formats.compression import lines
from pipeline.corpus.formats.hub import read_huggingface
from pipeline.corpus.formats.places import File
from pipeline.corpus.formats.rows import NOT_UTF8, TOO_LONG, BadRow, Members, Row, Text, has_half_a_pair, plain
from pipeline.corpus.formats.tables import checked_columns, read_arrow, read_parquet
from pipeline.corpus.formats.wikipedia import read_wikipedia
from pipeline.errors import InputError, nearest

SAMPLES = Path(__file__).parent / "samples"


def read_text(file: File, *, documents: Literal["file", "blank_line"] = "blank_line") -> Iterator[Row | BadRow]:
    """Plain text: a document a file, or documents parted by blank lines."""
    first, held, size, bad = 1, list[str](), 0, ""
    for number, data in lines(file):
        if documents == "blank_line" and data is not None and not data.strip():
            yield from _document(first, held, bad)
            first, held, size, bad = number + 1, [], 0, ""
            continue
        size += rows.LONGEST + 1 if data is None else len(data) + 1
        if data is None or size > rows.LONGEST:
            held, bad = [], TOO_LONG
        elif not bad:
            try:
                held.append(data.decode("utf-8"))
            except UnicodeDecodeError:
                held, bad = [], NOT_UTF8
    yield from _document(first, held, bad)


def _document(first: int, held: list[str], bad: str) -> Iterator[Row | BadRow]:
    if bad:
        yield BadRow(first, bad)
    elif any(line.strip() for line in held):
        yield Row(first, "\n".join(held))


def read_jsonl(
    file: File,
    *,
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
) -> Iterator[Row | BadRow]:
    """JSON lines: an object a line. The keywords name its members, `a.b` inside others; only `text` must be there."""
    import orjson

    members = Members(text, id, group, lang, date)
    loads, row = orjson.loads, members.row
    for number, data in lines(file):
        if data is None:
            yield BadRow(number, TOO_LONG)
            continue
        try:
            values = loads(data)
        except orjson.JSONDecodeError:
            if data.strip():
                yield _as_json_reads(number, data, members)
            continue
        try:
            yield row(number, values if isinstance(values, dict) else {}, _exactly)
        except _Inexact:
            yield _as_json_reads(number, data, members)


class _Inexact(Exception):
    """A float, which orjson also makes of an integer of over 64 bits."""


def _exactly(value: Any) -> str | None:
    if isinstance(value, float):
        raise _Inexact
    return plain(value)


def _as_json_reads(number: int, data: bytes, members: Members) -> Row | BadRow:
    """A line as Python's json has it, which takes NaN, halves of surrogate pairs, and integers of any length."""
    try:
        values = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        return BadRow(number, NOT_UTF8)
    except (ValueError, RecursionError):
        return BadRow(number, "not JSON")
    row = members.row(number, values if isinstance(values, dict) else {})
    return BadRow(number, "half a surrogate pair") if isinstance(row, Row) and has_half_a_pair(row) else row


def read_csv(
    file: File,
    *,
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
    quoted: bool = True,
) -> Iterator[Row | BadRow]:
    """Comma-separated values (RFC 4180) below a row of column names. Not `quoted`: a quote is a character like others.

    Raises InputError for a column that the keywords name and the file hasn't.
    """
    return _separated(file, ",", quoted, Members(text, id, group, lang, date))


def read_tsv(
    file: File,
    *,
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
    quoted: bool = True,
) -> Iterator[Row | BadRow]:
    """The same, parted by tabs."""
    return _separated(file, "\t", quoted, Members(text, id, group, lang, date))


class _TooLong(Exception):
    """A row of over `rows.LONGEST` bytes: most likely a quote that nothing closes."""


class _CsvLines:
    """Lines for csv's reader, which asks for those of one row and no more; and what was seen of that row."""

    def __init__(self, file: File) -> None:
        self._lines = lines(file)
        self.number = 0
        self.start_row()

    def start_row(self) -> None:
        self.first, self._size, self.is_broken = self.number + 1, 0, False

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        self.number, data = next(self._lines)
        if data is None or (size := self._size + len(data) + 1) > rows.LONGEST:
            raise _TooLong
        self._size = size
        try:
            return data.decode("utf-8") + "\n"
        except UnicodeDecodeError:
            self.is_broken = True
            return data.decode("utf-8", "replace") + "\n"


def _separated(file: File, delimiter: str, quoted: bool, members: Members) -> Iterator[Row | BadRow]:
    header: list[str] | None = None
    for line, values in _csv_rows(file, delimiter, quoted):
        if header is None:
            if isinstance(values, BadRow):
                raise InputError(f"The header of {file.name} can't be used: {values.reason}. It names the columns.")
            header = values
            checked_columns(file, header, members)
        elif isinstance(values, BadRow):
            yield values
        elif len(values) != len(header):
            yield BadRow(line, "more or fewer fields than the header")
        else:
            yield members.row(line, dict(zip(header, values, strict=True)))
    if header is None:
        raise InputError(f"{file.name} has no header. Its first row must name the columns.")


def _csv_rows(file: File, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str] | BadRow]]:
    """(first line, fields) of each row that isn't blank."""
    csv.field_size_limit(rows.LONGEST + 1)  # csv's own is 128 KiB, for the whole process
    feed = _CsvLines(file)
    reader = csv.reader(feed, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    while True:
        feed.start_row()
        try:
            fields: Any = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields = BadRow(feed.first, NOT_UTF8 if feed.is_broken else "not CSV")
        except _TooLong:
            fields = BadRow(feed.first, TOO_LONG)
        if fields and feed.is_broken and not isinstance(fields, BadRow):
            fields = BadRow(feed.first, NOT_UTF8)
        if fields:
            yield feed.first, fields


SOURCES: dict[str, Callable[..., Iterator[Row | BadRow]]] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "huggingface": read_huggingface,
    "wikipedia": read_wikipedia,
}
"""`(file, *, keywords) -> rows`, by the name a preset gives as a source's `format`."""


def sample_path(name: str) -> Path:
    """The file of a corpus that comes with the package."""
    path = SAMPLES / name
    if not path.is_file():
        known = [each.name for each in SAMPLES.glob("*.zst")]
        raise InputError(f"There is no sample corpus {name!r}. {nearest(name, known)}")
    return path
