"""Work in flight of one recipe: snapshots that a killed run goes on from.

A snapshot is a set of files and a record, and exists when its record does. Any rank may add files; one commits: a torn
set is never seen. Files lie in the snapshot's own folder, named by their sha256, and go when it is removed, after its
record: a kill in between leaves files that nobody names, never a snapshot whose files are gone. What an artifact is to
have is stored as blobs instead, which stay.

Each owner of the recipe's lease has an epoch of its own to write in (lease.py), and reads those of all. It removes
nothing of a higher epoch: an owner that has lost the lease and hasn't noticed yet harms nobody. Of lower ones it also
takes away what was begun and never committed, since whoever began it is gone.

Costs a listing of the work for each look, and a request for each file that is removed.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store.artifact import FileEntry, Recipe, canonical_json
from pipeline.store.backend import Stored
from pipeline.store.keys import blob_key
from pipeline.store.local import entry_of
from pipeline.store.parallel import in_parallel

if TYPE_CHECKING:
    from pipeline.store.store import Store

RECORD = "snapshot.json"
log = logging.getLogger("bertmill")


class WorkFile(FileEntry):
    """A file that goes with its snapshot: its bytes are no blob."""

    folder: Annotated[str, Field(pattern=r"^[0-9]{10}/[A-Za-z0-9_-]+$")]
    """Where in the work they lie: an epoch, and a snapshot's name."""


def entries_of(body: Any) -> list[FileEntry]:
    """The files that a record names. Raises ValueError, KeyError or TypeError where it is none."""
    return [(WorkFile if "folder" in entry else FileEntry).model_validate(entry) for entry in body["files"]]


def work_root(recipe: Recipe) -> str:
    """Where all epochs of a recipe stand."""
    return f"work/{recipe.kind}/{recipe.fingerprint}/"


def epoch_of(root: str, key: str) -> int | None:
    """The epoch that a key under `root` belongs to; None where it isn't in one."""
    epoch, slash, _ = key[len(root) :].partition("/")
    return int(epoch) if slash and epoch.isascii() and epoch.isdigit() else None


def epoch_folder(root: str, epoch: int) -> str:
    """Where an epoch stands; they sort as their numbers do."""
    return f"{root}{epoch:010d}/"


def is_record(stored: Stored) -> bool:
    """Whether the object is a snapshot's record: with it, it is there, and without it, it isn't."""
    return stored.key.endswith(f"/{RECORD}")


class Work:
    """Snapshots under `work/<kind>/<fingerprint>/<epoch>/`; written under `epoch` (None: no lease, the first)."""

    def __init__(self, store: "Store", root: str, epoch: int | None = None) -> None:
        self._store = store
        self._root = root
        self._epoch = epoch

    def add(self, source: Path, path: str, snapshot: str) -> WorkFile:
        """Store a file's bytes with the snapshot of that name, to go when it goes; it counts when one names it."""
        folder = f"{self._epoch or 1:010d}/{snapshot}"
        entry = WorkFile(**entry_of(source, path, None).model_dump(), folder=folder)
        self._store.backend.upload(self.key(entry), source)
        return entry

    def add_blob(self, source: Path, path: str) -> FileEntry:
        """Store a file's bytes for an artifact that is to have them: they stay when the snapshot goes."""
        return self._store.add_blob(source, path, None)

    def file(self, entry: FileEntry) -> Path:
        """A local, read-only file with the bytes, checked; CorruptArtifact where they aren't what they should be."""
        return self._store.backend.download(self.key(entry), entry.sha256, entry.size, entry.path)

    def key(self, entry: FileEntry) -> str:
        """Where the bytes of a snapshot's file lie: beside its record, or among the blobs."""
        if isinstance(entry, WorkFile):
            return f"{self._root}{entry.folder}/{entry.sha256}"
        return blob_key(entry.sha256)

    def release(self, entry: FileEntry) -> None:
        """Give up this machine's copy of the file: what a resume alone reads takes no room in the cache."""
        self._store.backend.release(self.key(entry))

    def commit(self, name: str, files: Sequence[FileEntry], record: dict[str, Any]) -> None:
        """Make the snapshot exist in our epoch. One of the same name there stays, unless it can't be read."""
        body = {"files": [entry.model_dump(mode="json") for entry in files], "record": record}
        key = f"{epoch_folder(self._root, self._epoch or 1)}{name}/{RECORD}"
        self._store.check_before_commit()
        if not self._store.backend.create(key, canonical_json(body)):
            try:
                self._read(key)
            except CorruptArtifact:
                self._store.backend.put(key, canonical_json(body))

    def names(self) -> list[str]:
        """Snapshots that were committed in any epoch, the highest name first."""
        return sorted({name for _, name, _ in self._committed()}, reverse=True)

    def load(self, name: str) -> tuple[list[FileEntry], dict[str, Any]]:
        """A snapshot's files and record, of the highest epoch that has a whole one.

        CorruptArtifact where there is none: each is unreadable or lacks a file, or it was never committed.
        """
        keys = [key for _, each, key in sorted(self._committed(), reverse=True) if each == name]
        first: CorruptArtifact | None = None
        for key in keys:
            try:
                return self._read(key)
            except CorruptArtifact as error:
                first = first or error
        raise first or CorruptArtifact(f"The snapshot {name} can't be read: {self._root} has none of that name.")

    def begun(self) -> list[str]:
        """Snapshots of our epoch that have files and no record: on their way, or left by ranks that were killed."""
        stored = self._placed(self._store.backend.list(self._root))
        ours = [(name, each) for epoch, name, each in stored if epoch == (self._epoch or 1)]
        return sorted({name for name, _ in ours} - {name for name, each in ours if is_record(each)})

    def remove(self, *names: str) -> None:
        """Forget snapshots with their files, in our epoch and those before; of these also what was never committed."""
        own = self._epoch or 1
        self._remove(lambda epoch, name, is_committed: name in names or (epoch < own and not is_committed))

    def clear(self) -> None:
        """Forget all of them, and whatever was begun, in our epoch and those before."""
        self._remove(lambda *_: True)

    def _remove(self, goes: Callable[[int, str, bool], bool]) -> None:
        """Remove the folders that go, told by epoch, name and whether they have a record: the records first."""
        backend = self._store.backend
        stored = self._placed(backend.list(self._root))
        committed = {(epoch, name) for epoch, name, each in stored if is_record(each)}

        def gone(placed: list[tuple[int, str, Stored]]) -> list[Stored]:
            return [
                each
                for epoch, name, each in placed
                if (self._epoch is None or epoch <= self._epoch) and goes(epoch, name, (epoch, name) in committed)
            ]

        def remove(each: Stored) -> None:
            backend.delete(each.key)
            backend.release(each.key)

        for each in filter(is_record, gone(stored)):
            backend.delete(each.key)
        for _ in in_parallel(remove, [each for each in gone(stored) if not is_record(each)]):
            pass
        try:
            for each in gone(self._placed(backend.unfinished(self._root))):
                backend.discard(each)
        except StoreError as error:  # some services list no uploads to everybody: these are the collector's then
            log.debug("uploads of %s that were cut off are left to gc: %s", self._root, error)

    def _committed(self) -> list[tuple[int, str, str]]:
        """Epoch, name and key of each snapshot."""
        stored = self._placed(self._store.backend.list(self._root))
        return [(epoch, name, each.key) for epoch, name, each in stored if is_record(each)]

    def _placed(self, objects: Iterable[Stored]) -> list[tuple[int, str, Stored]]:
        """Those that stand in a snapshot's folder, with its epoch and name."""
        found: list[tuple[int, str, Stored]] = []
        for each in objects:
            epoch, parts = epoch_of(self._root, each.key), each.key[len(self._root) :].split("/")
            if epoch is not None and len(parts) == 3:
                found.append((epoch, parts[1], each))
        return found

    def _read(self, key: str) -> tuple[list[FileEntry], dict[str, Any]]:
        data = self._store.backend.get(key)
        try:
            body = json.loads(data or b"")
            files, record = entries_of(body), body["record"]
        except (ValueError, KeyError, TypeError, ValidationError):
            raise CorruptArtifact(f"The snapshot {key} can't be read.") from None
        for entry, is_there in zip(files, in_parallel(self._is_there, files), strict=True):
            if not is_there:
                raise CorruptArtifact(f"The snapshot {key} lacks the bytes of {entry.path}.")
        return files, record

    def _is_there(self, entry: FileEntry) -> bool:
        seen = self._store.backend.look(self.key(entry))
        return seen is not None and seen.size == entry.size
