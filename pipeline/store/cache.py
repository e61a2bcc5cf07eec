"""Verified copies of remote blobs on this machine, named by their sha256, shared by its processes, bounded in bytes.

A copy is filled under a lock: a second process that wants it waits, and a download that was killed is gone on with. A
copy in use is held by a shared lock, which goes with the process; what is over the bound goes least recently used
first, and never while it is held. Each process checks a copy's bytes once. Costs one hash of the file for each process
that reads it.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pipeline.errors import StoreError
from pipeline.store.local import sha256_of

HELD = 64
"""Copies that a process holds: those it asked for last, which it may be about to open."""
SLACK = 0.05
"""Share of the bound that may be filled between two looks at the whole."""
ABANDONED_S = 86_400
Fill = Callable[[IO[bytes], Any, int], None]
"""`fill(file, digest, offset)` writes a blob's bytes from `offset` on, and gives them to the digest."""


class Cache:
    """Copies under `root`, of `limit` bytes together at most."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit
        self._locks = root / "locks"
        self._verified: dict[tuple[str, int, int, int], bool] = {}
        self._held: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._unseen = limit  # bytes filled since the last look: the first fill looks

    def copy(self, sha256: str, fill: Fill) -> tuple[Path, str]:
        """A read-only copy of the blob, filled where there is none; and the sha256 that came.

        Another sha256 than the one asked for: the bytes were not the blob's, and there is no copy.
        """
        kept = self.root / "blobs" / sha256[:2] / sha256
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            self._locks.mkdir(exist_ok=True)
            while not self._hold(kept, sha256):
                if (found := self._filled(kept, sha256, fill)) not in (None, sha256):
                    return kept, str(found)
            self._look()
        except OSError as error:
            raise StoreError(
                f"The cache can't use {kept.parent}: {error.strerror}. Set BERTMILL_CACHE to a folder that can be "
                f"written and has room."
            ) from None
        return kept, sha256

    def forget(self, sha256: str) -> None:
        """Remove the copy, whoever uses it: its bytes are to be nowhere."""
        kept = self.root / "blobs" / sha256[:2] / sha256
        for path in (kept, kept.with_name(f"{kept.name}.part")):
            path.unlink(missing_ok=True)

    def release(self, sha256: str) -> None:
        """Remove the copy, unless another process holds it: of those that release one, the last removes it."""
        with self._lock:
            self._close(self._held.pop(sha256, None))
        _removed(self.root / "blobs" / sha256[:2] / sha256)

    def _hold(self, kept: Path, sha256: str) -> bool:
        """Lock the copy against removal and check its bytes. A copy that has rotted is removed."""
        try:
            descriptor = os.open(kept, os.O_RDONLY)
        except FileNotFoundError:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        seen = os.fstat(descriptor)
        identity = (sha256, seen.st_ino, seen.st_size, seen.st_mtime_ns)
        if seen.st_nlink and not self._verified.get(identity):
            self._verified[identity] = sha256_of(kept) == sha256
        if not seen.st_nlink or not self._verified[identity]:
            os.close(descriptor)
            if seen.st_nlink:
                kept.unlink(missing_ok=True)
            return False
        os.utime(kept, ns=(time.time_ns(), seen.st_mtime_ns))  # the last use
        with self._lock:
            self._close(self._held.pop(sha256, None))
            self._held[sha256] = descriptor
            if len(self._held) > HELD:
                self._close(self._held.popitem(last=False)[1])
        return True

    def _close(self, descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)

    def _filled(self, kept: Path, sha256: str, fill: Fill) -> str | None:
        """Fill the copy, from where another left it. The sha256 that came; None: another process was at it."""
        partial = kept.with_name(f"{kept.name}.part")
        with (self._locks / sha256[:2]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return None if kept.exists() else self._fill(partial, kept, sha256, fill)

    def _fill(self, partial: Path, kept: Path, sha256: str, fill: Fill) -> str:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
        os.utime(partial)  # no longer abandoned
        with os.fdopen(descriptor, "r+b") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            offset = file.tell()
            fill(file, digest, offset)
            if digest.hexdigest() != sha256 and offset:  # what was there may have been wrong: all of it again
                file.seek(0)
                file.truncate()
                fill(file, digest := hashlib.sha256(), 0)
            if (found := digest.hexdigest()) != sha256:
                partial.unlink()
                return found
            file.flush()
            os.fchmod(descriptor, 0o444)
            partial.rename(kept)
            seen = os.fstat(descriptor)
            self._verified[sha256, seen.st_ino, seen.st_size, seen.st_mtime_ns] = True
            self._unseen += seen.st_size
        return sha256

    def _look(self) -> None:
        """Remove what is over the bound, least recently used first, unless it is held."""
        if self._unseen < SLACK * self.limit:
            return
        self._unseen = 0
        with (self._locks / "removing").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copies = [(path, seen) for path in self.root.glob("blobs/*/*") if (seen := _stat(path)) is not None]
            total = sum(seen.st_size for _, seen in copies)
            for path, seen in sorted(copies, key=lambda copy: copy[1].st_atime_ns):
                abandoned = path.suffix == ".part" and time.time() - seen.st_mtime > ABANDONED_S
                if (abandoned or (total > (1 - SLACK) * self.limit and path.suffix != ".part")) and _removed(path):
                    total -= seen.st_size


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _removed(path: Path) -> bool:
    """Remove a copy that nobody holds."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False
