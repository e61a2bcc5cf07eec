"""An artifact or a part in the making: files are stored at once, the record that makes them count comes last."""

import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import StoreError
from pipeline.store.artifact import (
    Artifact,
    FileEntry,
    Manifest,
    Parent,
    Recipe,
    canonical_json,
    fingerprint,
    parted_version,
    tree_digest,
    user_name,
)
from pipeline.store.keys import checked_path, manifest_key
from pipeline.store.lineage import mark_lineage
from pipeline.store.parallel import in_parallel

if TYPE_CHECKING:
    from pipeline.store.store import Store

SMALL = 1 << 20
"""Bytes: of files up to this, so many as may be under way fit into memory."""


class PartDraft:
    """Files on their way into the store. A context: its scratch folder goes when it ends."""

    def __init__(self, store: "Store", *, force: bool = False) -> None:
        self._store = store
        self._force = force
        self._files: dict[str, FileEntry] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bertmill-"))
        """Scratch on this machine: write here, then `add`."""
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, path: str, source: Path | None = None, rows: int | None = None) -> FileEntry:
        """Hash a file and store its bytes now. `source` is `path` under the scratch folder where it isn't given."""
        # Forced, the bytes are stored over those that are there, which may be why it is forced: they are corrupt.
        entry = self._store.add_blob(source or self.folder / checked_path(path), path, rows, overwrite=self._force)
        self._files[entry.path] = entry
        return entry

    def add_all(self, paths: Iterable[str]) -> list[FileEntry]:
        """`add` files of the scratch folder: small ones many at a time, larger ones one after the other, in parts."""

        def add(path: str) -> FileEntry:
            return self._store.add_blob(self.folder / checked_path(path), path, None, overwrite=self._force)

        paths = list(paths)
        large = {path for path in paths if (self.folder / checked_path(path)).stat().st_size > SMALL}
        entries = list(in_parallel(add, (path for path in paths if path not in large)))
        entries += [add(path) for path in sorted(large)]
        self._files |= {entry.path: entry for entry in entries}
        return sorted(entries, key=lambda entry: entry.path)

    def include(self, entry: FileEntry, path: str | None = None) -> None:
        """Take in a blob that a part has stored already, under `path` where it is given."""
        named = entry.model_copy(update={"path": checked_path(path or entry.path)})
        self._files[named.path] = named

    @property
    def files(self) -> list[FileEntry]:
        return sorted(self._files.values(), key=lambda entry: entry.path)


@dataclass(frozen=True)
class Part:
    """One shard's result, remembered."""

    files: tuple[FileEntry, ...]
    record: dict[str, Any]


class Draft(PartDraft):
    """An artifact on its way into the store; it exists from `commit` on."""

    def __init__(self, store: "Store", recipe: Recipe, *, force: bool) -> None:
        super().__init__(store, force=force)
        self.recipe = recipe

    def commit(
        self, *, totals: dict[str, Any], metrics: dict[str, Any] | None = None, producer: dict[str, Any] | None = None
    ) -> Artifact:
        """Write the manifest, once, and move the alias `latest`.

        A version that another run committed meanwhile is returned where its bytes are the same, else it is an error.
        """
        self._store.check_before_commit()
        if missing := self._store.keep_blobs(self.files):
            paths = ", ".join(entry.path for entry in missing[:3])
            raise StoreError(f"The bytes of {paths} are gone from the store before the commit; run again.")
        draft = Manifest(
            kind=self.recipe.kind,
            name=self.recipe.name,
            version=self.recipe.version,
            schema_number=self.recipe.schema,
            fingerprint=self.recipe.fingerprint,
            digest=tree_digest(self.files),
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            nonce=secrets.token_hex(16),
            producer=self._producer() | (producer or {}),
            config=self.recipe.config.model_dump(mode="json"),
            parents=tuple(
                Parent(reference=p.reference, digest=p.digest, manifest_sha256=p.manifest_sha256)
                for p in self.recipe.parents
            ),
            inputs=tuple(each.record for each in self.recipe.inputs),
            files=tuple(self.files),
            totals=totals,
            metrics=metrics or {},
        )
        return self._create(draft)

    def _create(self, draft: Manifest) -> Artifact:
        """Commit under the fingerprint's version; under `-2`, `-3`, … where that one is unsound or `force` is given."""
        base, step = parted_version(draft.version)
        for number in range(1, 1000):
            manifest = draft.model_copy(update={"version": (base if number == 1 else f"{base}-{number}") + step})
            data = canonical_json(manifest.model_dump(mode="json"))
            key = manifest_key(manifest.kind, manifest.name, manifest.version)
            mark_lineage(self._store.backend, manifest)
            won = self._store.backend.create(key, data)
            stored = self._store.read_manifest(manifest.kind, manifest.name, manifest.version)
            if won and (stored is None or stored[0].nonce != manifest.nonce):
                raise StoreError(
                    f"{key} was overwritten while it was committed: the store doesn't hold to create-only writes. "
                    f"Nothing is lost; run again when no other run writes this version."
                )
            if stored is None:
                continue  # unreadable, yet there: the number is taken
            if won:
                self._store.move_latest(*stored, "committed")
                return stored[1]
            if not self._force and self._store.is_sound(stored[0]):
                if stored[0].digest == manifest.digest:
                    return stored[1]
                raise StoreError(
                    f"{stored[1].reference} was committed by another run with other bytes (digest "
                    f"{stored[0].digest[:12]}…, ours {manifest.digest[:12]}…) from the same recipe. Keep that one, or "
                    f"make another with --force."
                )
        raise StoreError(f"{draft.kind}/{draft.name} has a thousand versions of {base}; retract some.")

    def _producer(self) -> dict[str, Any]:
        """What made it: an allow-list, so that no environment value can slip in."""
        return {
            "bertmill": installed_version("bertmill"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "user": user_name(),
            "seconds": round(time.monotonic() - self._started, 1),
        } | ({"single_writer": True} if self._store.settings.store_single_writer else {})


def remembered_part(store: "Store", stage: str, identity: Any, make: Callable[[PartDraft], dict[str, Any]]) -> Part:
    """The part of that identity: as it was made before, or made now and remembered."""
    key = f"parts/{stage}/{fingerprint(identity)}.json"
    if (found := store.read_part(key)) is not None:
        return found
    with PartDraft(store) as draft:
        record = make(draft)
        body = {"files": [entry.model_dump(mode="json") for entry in draft.files], "record": record}
        store.check_before_commit()
        if not store.backend.create(key, canonical_json(body)):
            if (found := store.read_part(key)) is not None:
                return found  # another run was faster
            store.backend.put(key, canonical_json(body))  # what was there names blobs that are gone
        return Part(tuple(draft.files), record)
