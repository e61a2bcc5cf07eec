"""Work in flight of one recipe: snapshots that a killed run goes on from.

A snapshot is a set of blobs and a record, and exists when its record does. Any rank may add blobs; one commits: a torn
set is never seen. Each owner of the recipe's lease has an epoch of its own to write in (lease.py), and reads those of
all. It removes nothing of a higher epoch: an owner that has lost the lease and hasn't noticed yet harms nobody.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import CorruptArtifact
from pipeline.store.artifact import FileEntry, Recipe, canonical_json

if TYPE_CHECKING:
    from pipeline.store.store import Store

RECORD = "snapshot.json"


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


class Work:
    """Snapshots under `work/<kind>/<fingerprint>/<epoch>/`; written under `epoch` (None: no lease, the first)."""

    def __init__(self, store: "Store", root: str, epoch: int | None = None) -> None:
        self._store = store
        self._root = root
        self._epoch = epoch

    def add(self, source: Path, path: str) -> FileEntry:
        """Store a file's bytes; it counts when a snapshot names it."""
        return self._store.add_blob(source, path, None)

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

        CorruptArtifact where there is none: each is unreadable or lacks a blob, or it was never committed.
        """
        keys = [key for _, each, key in sorted(self._committed(), reverse=True) if each == name]
        first: CorruptArtifact | None = None
        for key in keys:
            try:
                return self._read(key)
            except CorruptArtifact as error:
                first = first or error
        raise first or CorruptArtifact(f"The snapshot {name} can't be read: {self._root} has none of that name.")

    def remove(self, *names: str) -> None:
        """Forget snapshots, in our epoch and those before. Their blobs stay until they are collected."""
        self._remove(set(names))

    def clear(self) -> None:
        """Forget all of them, in our epoch and those before."""
        self._remove(set(self.names()))

    def _remove(self, names: set[str]) -> None:
        for epoch, name, key in self._committed():
            if name in names and (self._epoch is None or epoch <= self._epoch):
                self._store.backend.delete(key)

    def _committed(self) -> Iterator[tuple[int, str, str]]:
        """Epoch, name and key of each snapshot."""
        for key in [each.key for each in self._store.backend.list(self._root)]:
            epoch, parts = epoch_of(self._root, key), key[len(self._root) :].split("/")
            if epoch is not None and len(parts) == 3 and parts[2] == RECORD:
                yield epoch, parts[1], key

    def _read(self, key: str) -> tuple[list[FileEntry], dict[str, Any]]:
        data = self._store.backend.get(key)
        try:
            body = json.loads(data or b"")
            files = [FileEntry.model_validate(entry) for entry in body["files"]]
            record = body["record"]
        except (ValueError, KeyError, TypeError, ValidationError):
            raise CorruptArtifact(f"The snapshot {key} can't be read.") from None
        for entry in files:
            if not self._store.has_blob(entry):
                raise CorruptArtifact(f"The snapshot {key} lacks the bytes of {entry.path}.")
        return files, record
