"""What goes wrong with stored bytes, done by hand."""

import json

from pipeline.store import Artifact, FileEntry, Store
from pipeline.store.keys import blob_key, manifest_key


def entry_of(store: Store, artifact: Artifact, path: str = "vocab.txt") -> FileEntry:
    return store.manifest(artifact).file(path)


def damage_blob(store: Store, entry: FileEntry, damage: str) -> None:
    """What `damage_object` does, to its bytes."""
    damage_object(store, blob_key(entry.sha256), damage)


def damage_object(store: Store, key: str, damage: str) -> None:
    """Remove it (`missing`), cut it off (`truncated`) or change a byte of it (`corrupt`)."""
    data = store.backend.get(key)
    assert data is not None
    if damage == "missing":
        store.backend.delete(key)
    else:
        store.backend.put(key, data[:-1] if damage == "truncated" else data[:-2] + b"x\n")


def change_manifest(store: Store, artifact: Artifact, **changes: object) -> None:
    """Write other values into it, past the rule that it is written once."""
    key = manifest_key(artifact.kind, artifact.name, artifact.version)
    body = json.loads(store.backend.get(key) or b"") | changes
    store.backend.put(key, json.dumps(body).encode())
