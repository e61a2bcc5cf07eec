"""A store in a local folder, with object storage's guarantees.

Every write goes to a temporary file, is synced, then renamed, or linked where it must be create-only: `os.link` fails
where the name exists, on every filesystem that has hard links. The folder is synced last: a machine that crashes keeps
what was committed. Costs one fsync of the file and one of the folder for each object.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store.artifact import FileEntry
from pipeline.store.backend import Stored
from pipeline.store.keys import checked_path

CHUNK = 1 << 20
TEMPORARY = ".tmp-"


def sha256_of(path: Path) -> str:
    """The file's sha256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_of(source: Path, path: str, rows: int | None) -> FileEntry:
    """The entry that a local file makes."""
    return FileEntry(path=checked_path(path), size=source.stat().st_size, sha256=sha256_of(source), rows=rows)


class LocalBackend:
    """Objects are files under `root`."""

    cheap = 0

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ahead_s: float | None = None
        self._verified: dict[tuple[str, int, int, int], str] = {}

    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", key, error) from None

    def put(self, key: str, data: bytes) -> None:
        self._write(key, lambda path: path.write_bytes(data), Path.replace)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._write(key, lambda path: path.write_bytes(data), _link)
        except FileExistsError:
            return False
        return True

    def look(self, key: str) -> Stored | None:
        try:
            seen = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("look at", key, error) from None
        return Stored(key, seen.st_size, seen.st_mtime)

    def age(self, key: str) -> float | None:
        path = self._path(key)
        try:
            written = path.stat().st_mtime
            return max(0.0, _clock_of(path.parent) - written)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("look at", key, error) from None

    def now(self) -> float:
        if self._ahead_s is None:
            try:
                self._ahead_s = _clock_of(self.root) - time.time()
            except OSError:  # nobody may write here: nobody's dates matter to us
                self._ahead_s = 0.0
        return time.time() + self._ahead_s

    def refresh(self, key: str) -> bool:
        path = self._path(key)
        try:
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:  # another user's: a copy of it is ours
            self._write(key, lambda temporary: shutil.copyfile(path, temporary), Path.replace, mode=0o444)
        except OSError as error:
            raise self._failed("refresh", key, error) from None
        return True

    def upload(self, key: str, source: Path) -> None:
        self._write(key, lambda path: shutil.copyfile(source, path), Path.replace, mode=0o444)

    def download(self, key: str, sha256: str, size: int, what: str) -> Path:
        path = self._path(key)
        try:
            seen = path.stat()
            if seen.st_size != size:
                raise CorruptArtifact(f"{what} is corrupt: {path} has {seen.st_size:,} bytes, not {size:,}.")
            identity = (key, seen.st_ino, seen.st_size, seen.st_mtime_ns)
            found = self._verified.get(identity) or sha256_of(path)
        except FileNotFoundError:
            raise CorruptArtifact(f"{what} is missing: {path} isn't there.") from None
        except OSError as error:
            raise self._failed("read", key, error) from None
        if found != sha256:
            raise CorruptArtifact(f"{what} is corrupt: {path} has the sha256 {found[:12]}…, not {sha256[:12]}….")
        self._verified[identity] = found
        return path

    def release(self, key: str) -> None:
        pass  # what is read is the object itself

    def digest(self, key: str) -> str | None:
        try:
            return sha256_of(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("read", key, error) from None

    def refuses_damage(self) -> bool:
        return True  # there is no way in between to be damaged on

    def versioning(self) -> str:
        return "off"

    def list(self, prefix: str, *, removed: bool = False) -> Iterator[Stored]:  # noqa: ARG002  (there are no versions)
        for path in self._files_under(prefix):
            if not path.name.startswith(TEMPORARY):
                yield from self._stored(path)

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._failed("remove", key, error) from None

    def erase(self, key: str) -> None:
        self.delete(key)

    def unfinished(self, prefix: str = "") -> Iterator[Stored]:
        for path in self._files_under(prefix):
            if path.name.startswith(TEMPORARY):
                yield from self._stored(path)

    def discard(self, upload: Stored) -> None:
        self.delete(upload.key)

    def _path(self, key: str) -> Path:
        return self.root / key

    def _files_under(self, prefix: str) -> Sequence[Path]:
        """All files whose key starts with `prefix`, in the order of their keys."""
        folder = self._path(prefix.rpartition("/")[0])

        def unreadable(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # there may be none, or it was removed meanwhile
                raise self._failed("list", folder.relative_to(self.root).as_posix(), error) from None

        start = f"{self.root}/{prefix}"
        found = [f"{parent}/{name}" for parent, _, names in os.walk(folder, onerror=unreadable) for name in names]
        return [Path(path) for path in sorted(found) if path.startswith(start)]

    def _stored(self, path: Path) -> Iterator[Stored]:
        """What is at the path, unless it was removed since it was listed."""
        key = path.relative_to(self.root).as_posix()
        try:
            seen = path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed("list", key, error) from None
        yield Stored(key, seen.st_size, seen.st_mtime)

    def _write(
        self, key: str, fill: Callable[[Path], object], place: Callable[[Path, Path], object], mode: int = 0o644
    ) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        except OSError as error:
            raise self._failed("write", key, error) from None
        temporary = Path(name)
        try:
            fill(temporary)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            place(temporary, path)
            _sync_folder(path.parent)
        except FileExistsError:
            raise
        except OSError as error:
            raise self._failed("write", key, error) from None
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)

    def _failed(self, action: str, key: str, error: OSError) -> StoreError:
        if error.errno in {errno.EPERM, errno.ENOTSUP, errno.EMLINK} and action == "write":
            return StoreError(
                f"The store's filesystem at {self.root} makes no hard links ({error.strerror}), and create-only writes "
                f"need them. Put BERTMILL_STORE on another filesystem or on s3://."
            )
        return StoreError(
            f"The store can't {action} {self.root / key}: {error.strerror}. Mend that, or set BERTMILL_STORE to a "
            f"place that can be written."
        )


def _clock_of(folder: Path) -> float:
    """Now, by the clock that dates the folder's files: of a shared filesystem, the server's, not ours."""
    with tempfile.NamedTemporaryFile(prefix=TEMPORARY, dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


def _link(source: Path, target: Path) -> None:
    os.link(source, target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
