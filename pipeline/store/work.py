"""Work in flight of one recipe: snapshots that a killed run goes on from.

A snapshot is a set of blobs and a record, and exists when its record does. Any rank may add blobs; one commits: a torn
set is never seen. The folder's `epoch` is where leases will tell owners apart; correctness doesn't rest on them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import CorruptArtifact
from pipeline.store.artifact import FileEntry, Recipe, canonical_json

if TYPE_CHECKING:
    from pipeline.store.store import Store

EPOCH = 1


class Work:
    """Snapshots under `work/<kind>/<fingerprint>/<epoch>/`."""

    def __init__(self, store: "Store", recipe: Recipe) -> None:
        self._store = store
        self._root = f"work/{recipe.kind}/{recipe.fingerprint}/{EPOCH}/"

    def add(self, source: Path, path: str) -> FileEntry:
        """Store a file's bytes; it counts when a snapshot names it."""
        return self._store.add_blob(source, path, None)

    def commit(self, name: str, files: Sequence[FileEntry], record: dict[str, Any]) -> None:
        """Make the snapshot exist. One of the same name that is there already stays, unless it can't be read."""
        body = {"files": [entry.model_dump(mode="json") for entry in files], "record": record}
        self._store.check_before_commit()
        if not self._store.backend.create(self._key(name), canonical_json(body)):
            try:
                self.load(name)
            except CorruptArtifact:
                self._store.backend.put(self._key(name), canonical_json(body))

    def names(self) -> list[str]:
        """Committed snapshots, the highest name first."""
        suffix = "/snapshot.json"
        keys = [each.key for each in self._store.backend.list(self._root)]
        return sorted((key[len(self._root) : -len(suffix)] for key in keys if key.endswith(suffix)), reverse=True)

    def load(self, name: str) -> tuple[list[FileEntry], dict[str, Any]]:
        """A snapshot's files and record; CorruptArtifact where it is unreadable or a blob is missing."""
        data = self._store.backend.get(self._key(name))
        try:
            body = json.loads(data or b"")
            files = [FileEntry.model_validate(entry) for entry in body["files"]]
            record = body["record"]
        except (ValueError, KeyError, TypeError, ValidationError):
            raise CorruptArtifact(f"The snapshot {self._key(name)} can't be read.") from None
        for entry in files:
            if not self._store.has_blob(entry):
                raise CorruptArtifact(f"The snapshot {self._key(name)} lacks the bytes of {entry.path}.")
        return files, record

    def remove(self, name: str) -> None:
        """Forget a snapshot. Its blobs stay until they are collected."""
        self._store.backend.delete(self._key(name))

    def clear(self) -> None:
        """Forget all of them."""
        for name in self.names():
            self.remove(name)

    def _key(self, name: str) -> str:
        return f"{self._root}{name}/snapshot.json"
