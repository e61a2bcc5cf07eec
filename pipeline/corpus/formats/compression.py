"""Bytes and lines of a file, unpacked by its suffix: .gz, .bz2, .xz, .zst; anything else is as it lies there.

Archives joined end to end read as one. The modules' own file readers are refused: they take what follows the first
damaged member, or a truncated zstd file, for the end. Memory holds a few chunks, whatever an archive unpacks to.
"""

import bz2
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol

from pipeline.corpus.formats import rows
from pipeline.corpus.formats.places import File
from pipeline.errors import InputError

CHUNK = 1 << 20
PACKED = 1 << 16
"""Bytes that are unpacked at once; what follows an archive's end is copied, so that small ones want little."""
ZSTD_STEP, SMALL_ZSTD_STEP = 512, 16
"""Bytes given to zstandard at once: four may unpack to 128 KiB, so fewer where the last ones unpacked to much."""
XZ_MEMORY = 1 << 30
ZSTD_WINDOW = 1 << 31
"""As `zstd --long=31` writes; a file takes as much memory as its own window is."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Named(Protocol):
    """What was read, for messages."""

    @property
    def name(self) -> str: ...


class _Archive(Protocol):
    """One member, stream or frame being unpacked: as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor, with bz2's manners."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


class _Zstd:
    """zstandard's decompressor, with bz2's manners: it would give at once all that its input unpacks to."""

    def __init__(self) -> None:
        import zstandard

        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        self._error = zstandard.ZstdError
        self._held, self._at, self._step = b"", 0, ZSTD_STEP

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def needs_input(self) -> bool:
        return self._at >= len(self._held)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._frame.unused_data) + self._held[self._at :]

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._held, self._at = self._held[self._at :] + data, 0
        given, size = list[bytes](), 0
        while not (self.eof or self.needs_input or size >= max_length):
            piece = self._held[self._at : self._at + self._step]
            self._at += len(piece)
            try:
                got = self._frame.decompress(piece)
            except self._error as error:
                raise ValueError(str(error)) from None
            given.append(got)
            size += len(got)
            self._step = ZSTD_STEP if len(got) < 64 * len(piece) else SMALL_ZSTD_STEP
        return b"".join(given)


ARCHIVES: dict[str, Callable[[], _Archive]] = {
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY),
    ".zst": _Zstd,
}
"""What unpacks one archive, by the file's suffix."""


def chunks(file: File) -> Iterator[bytes]:
    """The file's bytes, unpacked, about a CHUNK at a time.

    Raises InputError where it is cut off, corrupt or can't be read, after all that came before has been given.
    """
    suffix, done = PurePosixPath(file.name).suffix, 0
    try:
        with file.open() as packed:
            for chunk in _unpacked(packed, suffix):
                done += len(chunk)
                yield chunk
    except EOFError:
        raise InputError(
            f"{file.name} is cut off: its compressed data ends early, after {done:,} bytes of text. "
            f"Fetch or make it again."
        ) from None
    except (zlib.error, lzma.LZMAError, ValueError) as error:
        raise unsound(file, suffix, error, f"{done:,} bytes of text") from None
    except OSError as error:
        if error.errno is None:  # bz2's own, for damage
            raise unsound(file, suffix, error, f"{done:,} bytes of text") from None
        raise InputError(f"{file.name} can't be read: {error.strerror}.") from None


def unsound(file: Named, what: str, error: Exception, done: str) -> InputError:
    """The sentence for a damaged file."""
    reason = str(error).partition("\n")[0].rstrip(".")
    return InputError(f"{file.name} is not a sound {what} file: {reason}, after {done}. Fetch or make it again.")


def _unpacked(packed: BinaryIO, suffix: str) -> Iterator[bytes]:
    if suffix not in ARCHIVES:
        while chunk := packed.read(CHUNK):
            yield chunk
        return
    held, size = list[bytes](), 0
    try:
        for piece in _pieces(packed, ARCHIVES[suffix]):
            held.append(piece)
            size += len(piece)
            if size >= CHUNK:
                yield b"".join(held)
                held, size = [], 0
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError):
        yield b"".join(held)  # what was sound
        raise
    yield b"".join(held)


def _pieces(packed: BinaryIO, start: Callable[[], _Archive]) -> Iterator[bytes]:
    """What archives joined end to end unpack to; zeros after one are padding. EOFError where the last isn't whole."""
    archive, is_first = None, True
    while data := packed.read(PACKED):
        while data:
            if archive is None:
                data = data if is_first else data.lstrip(b"\0")
                if not data:
                    break
                archive, is_first = start(), False
            yield archive.decompress(data, CHUNK)
            while not (archive.eof or archive.needs_input):
                yield archive.decompress(b"", CHUNK)
            data = archive.unused_data
            archive = None if archive.eof else archive
    if archive is not None:
        raise EOFError


def lines(file: File) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, bytes without the line's end) for each line; None for one of more than `rows.LONGEST` bytes."""
    number, held, size = 0, list[bytes](), 0
    for chunk in chunks(file):
        first, *whole = chunk.split(b"\n")
        size += len(first)
        held.append(first)
        if size > rows.LONGEST:
            held = []
        if not whole:
            continue
        number += 1
        yield number, None if size > rows.LONGEST else _line(number, b"".join(held))
        last = whole.pop()
        for line in whole:
            number += 1
            yield number, line.rstrip(b"\r")
        held, size = [last], len(last)
    if size:
        number += 1
        yield number, None if size > rows.LONGEST else _line(number, b"".join(held))


def _line(number: int, data: bytes) -> bytes:
    return (data.removeprefix(BYTE_ORDER_MARK) if number == 1 else data).rstrip(b"\r")


@contextmanager
def seekable(file: File) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked: in a temporary file where they are compressed, or else as they lie there."""
    if PurePosixPath(file.name).suffix not in ARCHIVES:
        try:
            opened = file.open()
        except OSError as error:
            raise InputError(f"{file.name} can't be read: {error.strerror}.") from None
        with opened:
            yield opened
        return
    with tempfile.TemporaryFile() as unpacked:
        for chunk in chunks(file):
            try:
                unpacked.write(chunk)
            except OSError as error:
                where = tempfile.gettempdir()
                raise InputError(f"{file.name} can't be unpacked into {where}: {error.strerror}.") from None
        unpacked.seek(0)
        yield unpacked
