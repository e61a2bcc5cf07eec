"""Readers of what people have: each a generator of rows and of rows that can't be used, in the file's order.

A bad row is told with its line and reason and never ends the file; a truncated or corrupt archive does, for what
follows is lost. Files are streamed: memory holds a line, or one document of a text.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import InputError, nearest

SAMPLES = Path(__file__).parent / "samples"
CHUNK = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one; no encoding of Unicode can


@dataclass(frozen=True)
class Row:
    """A document as its source has it; None where the source doesn't say."""

    line: int
    text: str
    id: str | None = None
    group: str | None = None
    lang: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used, and why."""

    line: int
    reason: str


def read_text(path: Path, *, documents: Literal["file", "blank_line"] = "blank_line") -> Iterator[Row | BadRow]:
    """Plain text: a document a file, or documents parted by blank lines."""
    first, lines, bad = 1, list[str](), False
    for number, data in _lines(path):
        if documents == "blank_line" and not data.strip():
            yield from _document(first, lines, bad)
            first, lines, bad = number + 1, [], False
            continue
        try:
            lines.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            bad = True
    yield from _document(first, lines, bad)


def _document(first: int, lines: list[str], bad: bool) -> Iterator[Row | BadRow]:
    if bad:
        yield BadRow(first, "not UTF-8")
    elif any(line.strip() for line in lines):
        yield Row(first, "\n".join(lines))


def read_jsonl(
    path: Path,
    *,
    text: str = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
) -> Iterator[Row | BadRow]:
    """JSON lines: an object a line. The keywords name its members; only `text` must be there."""
    for number, data in _lines(path):
        if not data.strip():
            continue
        try:
            row = json.loads(data.decode("utf-8"))
        except UnicodeDecodeError:
            yield BadRow(number, "not UTF-8")
            continue
        except (ValueError, RecursionError):
            yield BadRow(number, "not JSON")
            continue
        if not isinstance(row, dict) or not isinstance(row.get(text), str):
            yield BadRow(number, f"no member {text!r} that is text")
            continue
        values = [row[text], *(_plain(row.get(name)) for name in (id, group, lang, date))]
        if any(_SURROGATE.search(value) for value in values if value is not None):
            yield BadRow(number, "half a surrogate pair")
            continue
        yield Row(number, *values)


def _plain(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes without the line's end) for each line of a file, compressed or not."""
    number, rest = 0, b""
    for chunk in _chunks(path):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield number, (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).rstrip(b"\r")
    if rest:
        number += 1
        yield number, rest.removeprefix(BYTE_ORDER_MARK) if number == 1 else rest


def _chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes, decompressed by its suffix. InputError where it is cut off, corrupt or can't be read."""
    done = 0
    try:
        for chunk in DECOMPRESSORS.get(path.suffix, _plain_chunks)(path):
            done += len(chunk)
            yield chunk
    except EOFError:
        raise InputError(
            f"{path} is cut off: its compressed data ends early, after {done:,} bytes of text. Fetch or make it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise InputError(
            f"{path} is not a sound {path.suffix} file: {error}, after {done:,} bytes of text. Fetch or make it again."
        ) from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None


def _plain_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _gzip_chunks(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    """Frame by frame, since zstandard's own reader takes a truncated file for a short one."""
    import zstandard

    frame = None
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            while data:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise ValueError(str(error)) from None
                data = frame.unused_data
                if frame.eof:
                    frame = None
    if frame is not None:
        raise EOFError


DECOMPRESSORS: dict[str, Callable[[Path], Iterator[bytes]]] = {".gz": _gzip_chunks, ".zst": _zstd_chunks}
SOURCES: dict[str, Callable[..., Iterator[Row | BadRow]]] = {"text": read_text, "jsonl": read_jsonl}


def sample_path(name: str) -> Path:
    """The file of a corpus that comes with the package."""
    path = SAMPLES / name
    if not path.is_file():
        known = [each.name for each in SAMPLES.glob("*.zst")]
        raise InputError(f"There is no sample corpus {name!r}. {nearest(name, known)}")
    return path
