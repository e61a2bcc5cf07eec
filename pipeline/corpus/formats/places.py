"""Where a source's bytes lie: each file a small record that can be opened anew, here or in another process.

An object of S3 is read by ranges of 8 MiB as they are asked for, each tried again by the store's rules and bound to
the ETag that it was listed with: an object that is replaced meanwhile is an error, never a mixture. A record holds no
credentials; who opens it has them in the environment. A listing costs one request for a thousand objects.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pipeline.errors import InputError
from pipeline.store.retrying import codes_of
from pipeline.store.service import MISSING, Expected, Service

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 8 << 20
REPLACED = {"412", "PreconditionFailed"}


class File(Protocol):
    """Bytes that can be read from their start, as often as one likes."""

    @property
    def name(self) -> str:
        """As people write it; its suffix says how it is compressed."""

    def open(self) -> BinaryIO:
        """The bytes as they lie there; seekable."""


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine, or of a share that all workers see."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> BinaryIO:
        return self.path.open("rb")


@dataclass(frozen=True)
class S3Object:
    """An object as it was listed."""

    bucket: str
    key: str
    size: int
    etag: str
    """In its quotes."""
    deadline_s: float
    """For how long a request is tried again."""

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Ranges(self), BLOCK)


class _Ranges(io.RawIOBase):
    """An object's bytes, a request for each read."""

    def __init__(self, file: S3Object) -> None:
        self._file = file
        self._s3 = Service(file.bucket, "", file.deadline_s)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            raise ValueError(f"a place before the start: {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._file.size)
        if self._at >= end:
            return 0
        data = self._range(self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        asked: Any = {"Range": f"bytes={start}-{end - 1}", "IfMatch": self._file.etag}

        def read() -> bytes:
            return self._s3.client.get_object(**self._s3.where(self._file.key), **asked)["Body"].read()

        try:
            data = self._s3.call("GetObject", self._file.key, read, MISSING | REPLACED)
        except Expected as error:
            what = "was replaced" if codes_of(error.cause) & REPLACED else "is gone"
            raise InputError(
                f"{self._file.name} {what} since it was listed. Run again with what is there now."
            ) from None
        if len(data) != end - start:
            raise InputError(f"{self._file.name} gave {len(data):,} of {end - start:,} bytes. Check the service.")
        return data


def s3_objects(url: str, deadline_s: float) -> Iterator[tuple[str, S3Object]]:
    """(name from the first wildcard's folder on, object) for what `s3://bucket/key` or a glob takes in, by their keys.

    As in a local glob `*` stays within a folder and `**/` is any number of them. Folders' own markers are left out.
    """
    bucket, _, pattern = url.removeprefix("s3://").partition("/")
    if not bucket or not pattern:
        raise InputError(f"{url} names no object. Write s3://bucket/key, or s3://bucket/folder/*.jsonl.gz.")
    s3 = Service(bucket, "", deadline_s)
    fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    root = len(fixed.rpartition("/")[0]) + 1 if "/" in fixed else 0
    try:
        found = _matching(s3, pattern, fixed) if has_magic(pattern) else _head(s3, pattern)
        for each in found:
            if not each["Key"].endswith("/"):
                yield (
                    each["Key"][root:],
                    S3Object(bucket, each["Key"], each["Size"], each["ETag"], deadline_s),
                )
    except Expected as error:
        if "NoSuchBucket" in codes_of(error.cause):
            raise InputError(f"There is no bucket {bucket!r} ({url}). Correct the source's path.") from None


def _matching(s3: Service, pattern: str, fixed: str) -> Iterator[Any]:
    fits = re.compile(_regex(pattern)).fullmatch
    token = {"NextContinuationToken": "ContinuationToken"}
    for page in s3.pages("ListObjectsV2", fixed, s3.client.list_objects_v2, token, MISSING):
        yield from (each for each in page.get("Contents", []) if fits(each["Key"]))


def _head(s3: Service, key: str) -> Iterator[Any]:
    head = s3.call("HeadObject", key, lambda: s3.client.head_object(**s3.where(key)), MISSING)
    yield {"Key": key, "Size": head["ContentLength"], "ETag": head["ETag"]}


def _regex(pattern: str) -> str:
    """A glob as a regular expression."""
    spelt = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    return "".join(
        spelt.get(part) or (f"[{_set(part[1:-1])}]" if len(part) > 2 and part[0] == "[" else re.escape(part))
        for part in parts
    )


def _set(inside: str) -> str:
    escaped = inside.replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"^{escaped[1:]}" if escaped.startswith("!") else escaped
