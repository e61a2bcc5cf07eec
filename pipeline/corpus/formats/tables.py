"""Parquet and Arrow IPC files, read a batch at a time, only the columns that make a document.

Memory holds a Parquet page of each column, or an Arrow record batch. pyarrow trusts an IPC file's offsets and
characters: both are checked here before they are used, so that a damaged file ends with a sentence and not with the
process.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.corpus.formats import rows
from pipeline.corpus.formats.compression import Named, seekable, unsound
from pipeline.corpus.formats.places import BLOCK, File
from pipeline.corpus.formats.rows import NOT_UTF8, TOO_LONG, BadRow, Members, Row, Text
from pipeline.errors import InputError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 256
"""Rows that stand in memory as Python's values."""
FILE_MARK = b"ARROW1"
STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def read_parquet(
    file: File,
    *,
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
) -> Iterator[Row | BadRow]:
    """A Parquet file. The keywords name its columns; only `text` must be there.

    Raises InputError for a column that the keywords name and the file hasn't, or that holds no text.
    """
    return _table(file, "Parquet", _parquet_batches, Members(text, id, group, lang, date))


def read_arrow(
    file: File,
    *,
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
) -> Iterator[Row | BadRow]:
    """The same of an Arrow IPC file (Feather 2) or stream."""
    return _table(file, "Arrow IPC", _arrow_batches, Members(text, id, group, lang, date))


def checked_columns(file: Named, there: Sequence[str], members: Members) -> list[str]:
    """Those of the members that the file has. InputError where one is missing that must be there, or stands twice."""
    for name in members.named:
        if name not in there:
            raise InputError(
                f"{file.name} has no column {name!r}. Its columns: {', '.join(there)}. {_hint(name, there)}"
            )
    wanted = list(dict.fromkeys(name for name in (*members.texts, *members.others) if name in there))
    if twice := [name for name in wanted if there.count(name) > 1]:
        raise InputError(f"{file.name} has the column {twice[0]!r} more than once. Rename all but one.")
    return wanted


def _table(
    file: File,
    what: str,
    batches_of: Callable[[File, BinaryIO, Members], Iterator[dict[str, "pa.Array"]]],
    members: Members,
) -> Iterator[Row | BadRow]:
    with seekable(file) as opened:
        yield from table_rows(file, what, batches_of(file, opened, members), members)


def table_rows(
    file: Named, what: str, batches: Iterator[dict[str, "pa.Array"]], members: Members
) -> Iterator[Row | BadRow]:
    """The rows of batches of columns. InputError where pyarrow finds that the file is damaged."""
    import pyarrow as pa

    done = 0
    try:
        for columns in batches:
            for values in _python_rows(columns):
                done += 1
                yield _row(done, values, members)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{file.name} can't be read: {error.strerror}.") from None
        raise unsound(file, what, error, f"{done:,} rows") from None


def _parquet_batches(file: File, opened: BinaryIO, members: Members) -> Iterator[dict[str, "pa.Array"]]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(opened, buffer_size=BLOCK, pre_buffer=False)  # which would hold a whole row group
    names = text_columns(file, table.schema_arrow, members)
    for batch in table.iter_batches(BATCH, columns=names):
        yield sound_columns(batch, names)


def _arrow_batches(file: File, opened: BinaryIO, members: Members) -> Iterator[dict[str, "pa.Array"]]:
    import pyarrow as pa

    is_stream = opened.read(len(FILE_MARK)) != FILE_MARK
    if is_stream:
        opened.seek(-min(len(STREAM_END), opened.seek(0, io.SEEK_END)), io.SEEK_END)
        if opened.read() != STREAM_END:
            raise InputError(f"{file.name} is cut off: an Arrow stream's last mark is missing. Fetch or make it again.")
    opened.seek(0)
    start = pa.ipc.open_stream if is_stream else pa.ipc.open_file
    schema = start(opened).schema
    names = text_columns(file, schema, members)
    fields = sorted({_top(schema, name) for name in names})
    opened.seek(0)
    reader = start(opened, options=pa.ipc.IpcReadOptions(included_fields=fields))
    batches = reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))
    for batch in batches:
        yield sound_columns(batch, names)


def text_columns(file: Named, schema: "pa.Schema", members: Members) -> list[str]:
    """The columns to read, once their types are known to do."""
    import pyarrow as pa

    types = dict(_leaves("", schema))
    names = checked_columns(file, [*schema.names, *(name for name in types if name not in schema.names)], members)
    for name in names:
        kind = types[name].value_type if pa.types.is_dictionary(types[name]) else types[name]
        is_text = _is_text(kind) or pa.types.is_null(kind)
        if not is_text and (name in members.texts or not _is_plain(kind)):
            raise InputError(
                f"The column {name!r} of {file.name} holds {types[name]}, not text. Name another, or turn it into text."
            )
    return names


def _leaves(above: str, fields: Iterable["pa.Field"]) -> Iterator[tuple[str, "pa.DataType"]]:
    """(name, type) of each column, and of what structures hold."""
    import pyarrow as pa

    for field in fields:
        yield above + field.name, field.type
        if pa.types.is_struct(field.type):
            yield from _leaves(f"{above}{field.name}.", field.type)


def _top(schema: "pa.Schema", name: str) -> int:
    return int(schema.names.index(name if name in schema.names else name.partition(".")[0]))


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as t

    return any(
        each(kind)
        for each in (
            t.is_string, t.is_large_string, t.is_string_view, t.is_binary, t.is_large_binary, t.is_binary_view,
        )
    )  # fmt: skip


def _is_plain(kind: "pa.DataType") -> bool:
    import pyarrow.types as t

    return any(each(kind) for each in (t.is_integer, t.is_floating, t.is_boolean, t.is_date, t.is_timestamp))


def sound_columns(batch: "pa.RecordBatch", names: Sequence[str]) -> dict[str, "pa.Array"]:
    """Columns of a batch as `table_rows` takes them."""
    return {name: _sound(batch, name) for name in names}


def _sound(batch: "pa.RecordBatch", name: str) -> "pa.Array":
    """A column, its text as bytes, checked against the bounds of its memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in batch.schema.names:
        array = batch.column(name)
        array.validate()
    else:
        top, *below = name.split(".")
        array = batch.column(top)
        array.validate()
        array = pc.struct_field(array, below)
    if pa.types.is_dictionary(array.type):
        array = _bytes(array.dictionary).take(array.indices)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.date32(), safe=False)
    return _bytes(array)


def _bytes(array: "pa.Array") -> "pa.Array":
    """Text as bytes, so that a value that isn't UTF-8 is one bad row, and not the end of the file."""
    import pyarrow as pa

    plain = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    array = array.view(plain[array.type]) if array.type in plain else array
    array.validate(full=True)
    return array


def _python_rows(columns: dict[str, "pa.Array"]) -> Iterator[dict[str, Any]]:
    size = len(next(iter(columns.values())))
    for start in range(0, size, BATCH):
        values = [array.slice(start, BATCH).to_pylist() for array in columns.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))


def _row(number: int, values: dict[str, Any], members: Members) -> Row | BadRow:
    for name, value in values.items():
        if isinstance(value, bytes):
            if len(value) > rows.LONGEST:
                return BadRow(number, TOO_LONG)
            try:
                values[name] = value.decode("utf-8")
            except UnicodeDecodeError:
                return BadRow(number, NOT_UTF8)
    return members.row(number, values)


def _hint(name: str, there: Sequence[str]) -> str:
    hint = nearest(name, there)
    return hint if hint.startswith("Did") else "Name one of them."
