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
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store.backend import Stored

CHUNK = 1 << 20
TEMPORARY = ".tmp-"


def sha256_of(path: Path) -> str:
    """The file's sha256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalBackend:
    """Objects are files under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
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

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("look at", key, error) from None

    def age(self, key: str) -> float | None:
        path = self._path(key)
        try:
            written = path.stat().st_mtime
            with tempfile.NamedTemporaryFile(prefix=TEMPORARY, dir=path.parent) as probe:
                return max(0.0, os.fstat(probe.fileno()).st_mtime - written)  # a shared filesystem's clock, not ours
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed("look at", key, error) from None

    def has(self, key: str, size: int) -> bool:
        return self.size(key) == size

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

    def list(self, prefix: str) -> Iterator[Stored]:
        folder = self._path(prefix.rpartition("/")[0])
        for path in sorted(self._files_under(folder), key=Path.as_posix):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and not path.name.startswith(TEMPORARY):
                try:
                    seen = path.stat()
                except FileNotFoundError:
                    continue  # removed since it was listed
                except OSError as error:
                    raise self._failed("list", key, error) from None
                yield Stored(key, seen.st_size, seen.st_mtime)

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._failed("remove", key, error) from None

    def _path(self, key: str) -> Path:
        return self.root / key

    def _files_under(self, folder: Path) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # there may be none, or it was removed meanwhile
                raise self._failed("list", folder.relative_to(self.root).as_posix(), error) from None

        for parent, _, names in os.walk(folder, onerror=unreadable):
            for name in names:
                yield Path(parent) / name

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


def _link(source: Path, target: Path) -> None:
    os.link(source, target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
