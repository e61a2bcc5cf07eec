"""Whatever bytes a file has, a reader gives rows and bad rows, or ends with InputError: nothing else comes out."""

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpus.formats import rows
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.corpus.sources import SOURCES
from pipeline.errors import InputError
from tests.texts import SUFFIXES, compressed, lines, read
from tests.wikipedia import dump, page

# FUZZ_EXAMPLES=4000 looks longer.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
TABLE = pa.table(
    {
        "text": ["The mill.\nIt grinds.", "河", None, "a" * 500],
        "id": [1, 2, 3, None],
        "group": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "by": [{"lang": "en"}, None, {"lang": None}, {"lang": "zh"}],
    }
)


def ipc(new: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    with new(sink, TABLE.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return sink.getvalue()


def parquet(**options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink, row_group_size=2, **options)
    return sink.getvalue()


VALID: dict[str, list[bytes]] = {
    "text": ["The mill.\n\nIt grinds 河.\n".encode()],
    "jsonl": [lines([{"text": "The mill.", "id": 1, "by": {"lang": "en"}}, {"text": "河", "group": None}]).encode()],
    "csv": ['text,id,by.lang\n"The\nmill ""grinds""",1,en\n河,2,\n'.encode()],
    "tsv": ['text\tid\tby.lang\n"The\nmill ""grinds"""\t1\ten\n河\t2\t\n'.encode()],
    "parquet": [parquet(), parquet(compression="none", use_dictionary=False, data_page_version="2.0")],
    "arrow": [ipc(pa.ipc.new_file), ipc(pa.ipc.new_stream), ipc(pa.ipc.new_stream, compression="zstd")],
}
VALID["huggingface"] = VALID["arrow"][1:]
KEYWORDS: dict[str, dict[str, Any]] = {each: {"lang": "by.lang"} for each in VALID} | {"text": {}}
VALID["wikipedia"] = [
    dump([page(1, "Mill", "{{convert|5|km}} of [[river]]"), page(2, "河", "-{a}- <ref>b</ref>")]).encode()
]
KEYWORDS["wikipedia"] = {"language": "zh"}
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
change = st.tuples(
    st.sampled_from(["set", "flip", "cut", "insert", "repeat"]), st.integers(0, 2**20), st.binary(max_size=9)
)


def changed(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """`data` with a few of its bytes other, more or fewer."""
    for kind, number, new in changes:
        at = number % (len(data) + 1)
        match kind:
            case "set":
                data = data[:at] + new + data[at + len(new) :]
            case "flip":
                data = data[:at] + bytes(byte ^ (1 << number % 8) for byte in data[at : at + 1]) + data[at + 1 :]
            case "cut":
                data = data[: at - 1 - len(new)] + data[at:]
            case "insert":
                data = data[:at] + new + data[at:]
            case "repeat":
                data = data[:at] + data[max(0, at - 20) :]
    return data


def check(format: str, suffix: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(data)
        try:
            found = list(read(format, path, **KEYWORDS[format]))
        except InputError:
            return
    places = [row.line for row in found]
    assert places == sorted(set(places))
    for row in found:
        assert isinstance(row, Row | BadRow)
        assert all(value is None or isinstance(value, str) for value in row[1:])
        json.dumps(row, ensure_ascii=False).encode("utf-8")


def test_every_format_is_fuzzed() -> None:
    assert set(VALID) == set(SOURCES)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", VALID)
@fuzzed
@given(data=st.binary(max_size=300), pack=st.booleans())
def test_any_bytes_give_rows_or_a_sentence(format: str, suffix: str, data: bytes, pack: bool) -> None:
    check(format, suffix, compressed(data, suffix) if pack else data)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", VALID)
@fuzzed
@given(which=st.integers(0, 9), inside=st.lists(change, max_size=4), outside=st.lists(change, max_size=2))
def test_a_damaged_file_gives_rows_or_a_sentence(
    format: str, suffix: str, which: int, inside: list[Any], outside: list[Any]
) -> None:
    data = changed(VALID[format][which % len(VALID[format])], inside)
    check(format, suffix, changed(compressed(data, suffix), outside) if suffix else data)


@pytest.mark.parametrize("format", ["text", "jsonl", "csv", "tsv"])
@fuzzed
@given(data=st.lists(st.sampled_from([b"text", b"\n", b",", b'"', b"a" * 9, b"\xff", b"{", b"}", b":", b"\r"])))
def test_however_short_the_longest_line_is_rows_stay_in_order(format: str, data: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LONGEST", 20)
        check(format, "", b'text,id\n{"text":"b"}\n' + b"".join(data))
