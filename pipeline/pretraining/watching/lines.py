"""Lines of progress: rank 0 appends them to a file under the home, and the process that launched it reads them.

They are there to be looked at, and nothing rests on them. So a disk that is full ends nothing: what it doesn't take is
dropped, and said once; a line that it cut short is passed over by the reader, and the next begins on a line of its own.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

log = logging.getLogger("bertmill")


class Lines:
    """A context in which lines are appended to a file, which runs before this one may have written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_stuck = False

    def __enter__(self) -> Self:
        self._is_whole = _ends_whole(self._path)
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: dict[str, Any]) -> None:
        """Write a line, or drop it where the disk doesn't take it."""
        data = (b"" if self._is_whole else b"\n") + json.dumps(record).encode() + b"\n"
        trouble: object = None
        try:
            self._is_whole = self._file.write(data) == len(data)
            trouble = None if self._is_whole else "the disk took a part of one"
        except OSError as error:  # nothing of it was written
            trouble = error
        if trouble is not None and not self._is_stuck:
            log.warning("lines of progress are dropped until they can be written: %s", trouble)
        self._is_stuck = trouble is not None


class NewLines:
    """Reads on in such a file, as it grows."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._rest = ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The whole lines that have come since the last time, but for those that can't be read."""
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        for line in whole:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            yield record


def _ends_whole(path: Path) -> bool:
    """Whether what is there, if anything is, ends with a line's end."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except OSError:  # it is empty, or isn't there
        return True
