"""Versioned artifacts on a folder or on object storage, shared by many runs, with no database.

    blobs/sha256/ab/<64 hex>                           immutable bytes, named by their content
    artifacts/<kind>/<name>/<version>/manifest.json    create-only: the commit
    artifacts/<kind>/<name>/<version>/tombstone.json   retracted: never found again
    aliases/<kind>/<name>/<alias>/<seq>.json           create-only log; the highest is current
    parts/<stage>/<fingerprint>.json                   one shard's result
    work/<kind>/<fingerprint>/<epoch>/<snapshot>/…     checkpoints in flight
    work/<kind>/<fingerprint>/<epoch>/lease.json       who works on it; heartbeat.json beside it

Finding an artifact costs one listing of its name, one manifest, and the size of each blob.
"""

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from pipeline.config import Settings
from pipeline.errors import ConfigError, CorruptArtifact, UnknownReference, nearest
from pipeline.store.artifact import (
    VERSION_DIGITS,
    Artifact,
    FileEntry,
    Manifest,
    Recipe,
    canonical_json,
    parsed_reference,
)
from pipeline.store.backend import Backend
from pipeline.store.draft import (
    Draft,
    Part,
    PartDraft,
    blob_key,
    checked_path,
    entry_of,
    manifest_key,
    remembered_part,
)
from pipeline.store.lease import Holder, Lease
from pipeline.store.local import LocalBackend
from pipeline.store.selftest import check_create_only
from pipeline.store.work import Work

log = logging.getLogger("bertmill")
_tested: set[str] = set()


def open_store(settings: Settings | None = None, *, moves_latest: bool = True) -> "Store":
    """The store that the settings name (the environment's, where none are given)."""
    return Store(settings or Settings.from_environment(), moves_latest=moves_latest)


def open_backend(settings: Settings) -> Backend:
    """`file:///folder` or `s3://bucket/prefix`; ConfigError for anything else."""
    parts = urlsplit(settings.store)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return LocalBackend(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from pipeline.store.cache import Cache
        from pipeline.store.s3 import S3Backend

        assert settings.cache is not None, "from_environment fills it in"
        return S3Backend(
            parts.netloc,
            parts.path.strip("/"),
            Cache(settings.cache, round(settings.cache_gb * 1e9)),
            deadline_s=settings.store_deadline_s,
            kms_key=settings.store_kms_key,
        )
    raise ConfigError(f"BERTMILL_STORE is {settings.store!r}; it reads file:///folder or s3://bucket/prefix.")


class Store:
    """Finds, makes and reads artifacts. Pickles as its settings, so that it can go to other processes."""

    def __init__(self, settings: Settings, *, moves_latest: bool = True) -> None:
        self.settings = settings
        self.moves_latest = moves_latest
        self.url = settings.store
        self.backend = open_backend(settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.settings, self.moves_latest)

    # Finding

    def find(self, recipe: Recipe) -> Artifact | None:
        """The newest sound version of that recipe: manifest there, no tombstone, each blob there with its size."""
        wanted = recipe.fingerprint
        found = [
            (manifest, artifact)
            for version in self._versions(recipe.kind, recipe.name)
            if version.partition("-")[0] == wanted[:VERSION_DIGITS]
            and (read := self.read_manifest(recipe.kind, recipe.name, version)) is not None
            for manifest, artifact in [read]
            if manifest.fingerprint == wanted and self.is_sound(manifest)
        ]
        if not found:
            return None
        _, artifact = max(found, key=lambda pair: pair[0].created_at)
        self.move_latest(artifact, "found")
        return artifact

    def is_sound(self, manifest: Manifest) -> bool:
        """Whether nothing is known to be wrong with it: not retracted, every blob there with its size."""
        tombstone = manifest_key(manifest.kind, manifest.name, manifest.version).replace("manifest", "tombstone")
        return self.backend.size(tombstone) is None and all(self.has_blob(entry) for entry in manifest.files)

    def resolve(self, reference: str) -> Artifact:
        """The artifact that `kind/name@version` names: a version, the start of one, or an alias (`latest`)."""
        kind, name, wanted = parsed_reference(reference)
        versions = self._versions(kind, name)
        if not versions:
            known = sorted({f"{k}/{n}" for k, n, _ in self._all_versions()})
            raise UnknownReference(
                f"The store {self.url} has no {kind}/{name}. "
                + (nearest(f"{kind}/{name}", known) if known else "It is empty: `bertmill run tiny` fills it.")
            )
        if wanted in (aliases := self._alias_names(kind, name)):
            wanted = self._current(kind, name, wanted)["version"]
        matching = [wanted] if wanted in versions else [version for version in versions if version.startswith(wanted)]
        if len(matching) > 1:
            raise UnknownReference(
                f"{reference} fits {len(matching)} versions: {', '.join(matching)}. Write more of it."
            )
        read = self.read_manifest(kind, name, matching[0]) if matching else None
        if read is None:
            raise UnknownReference(
                f"{kind}/{name} has no version or alias {wanted!r}. It has: {', '.join([*sorted(aliases), *versions])}."
            )
        return read[1]

    def manifest(self, artifact: Artifact) -> Manifest:
        """The manifest of an artifact; CorruptArtifact where it isn't the one that the reference was made from."""
        read = self.read_manifest(artifact.kind, artifact.name, artifact.version)
        if read is None or read[1].manifest_sha256 != artifact.manifest_sha256:
            raise CorruptArtifact(f"The manifest of {artifact} is missing or changed. {_rebuild(artifact.kind)}")
        return read[0]

    def parent(self, artifact: Artifact, kind: str) -> Artifact:
        """What of that kind the artifact was made from; UnknownReference where there is none."""
        parent = self.manifest(artifact).parent(kind)
        if parent is None:
            raise UnknownReference(f"{artifact} was made from no {kind}.")
        found = self.resolve(parent.reference)
        if found.manifest_sha256 != parent.manifest_sha256:
            raise CorruptArtifact(f"{artifact} was made from another {parent.reference} than the store has now.")
        return found

    def versions(self, kind: str | None = None, name: str | None = None) -> list[Manifest]:
        """The manifests of all committed versions, oldest first."""
        found = [
            read[0]
            for k, n, version in self._all_versions()
            if kind in (None, k) and name in (None, n) and (read := self.read_manifest(k, n, version)) is not None
        ]
        return sorted(found, key=lambda manifest: manifest.created_at)

    def read_manifest(self, kind: str, name: str, version: str) -> tuple[Manifest, Artifact] | None:
        """A version's manifest and reference; None where it isn't there or can't be read as one."""
        data = self.backend.get(manifest_key(kind, name, version))
        try:
            manifest = Manifest.model_validate_json(data or b"")
            for entry in manifest.files:
                checked_path(entry.path)
        except (ValidationError, UnknownReference):
            return None
        if (manifest.kind, manifest.name, manifest.version) != (kind, name, version):
            return None
        return manifest, Artifact(kind, name, version, manifest.digest, hashlib.sha256(data or b"").hexdigest())

    # Reading

    def file(self, artifact: Artifact, path: str) -> Path:
        """A local, read-only file with the bytes of one of the artifact's files, checked against the manifest."""
        entry = self.manifest(artifact).file(path)
        try:
            return self.backend.download(blob_key(entry.sha256), entry.sha256, entry.size, f"{path} of {artifact}")
        except CorruptArtifact as error:
            raise CorruptArtifact(f"{error} {_rebuild(artifact.kind)}") from None

    def blob(self, entry: FileEntry) -> Path:
        """The same for a file of a part or a snapshot."""
        return self.backend.download(blob_key(entry.sha256), entry.sha256, entry.size, entry.path)

    def export(self, artifact: Artifact, folder: Path) -> None:
        """Copy the artifact's files into a new or empty folder; of a pretraining, its model."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} is there and not empty. Give a new folder.")
        root = "model/" if artifact.kind == "pretraining" else ""
        for entry in self.manifest(artifact).matching(root):
            source, target = self.file(artifact, entry.path), folder / checked_path(entry.path[len(root) :])
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            except OSError as error:
                raise ConfigError(f"{target} can't be written: {error.strerror}. Give another folder.") from None

    # Making

    def draft(self, recipe: Recipe, *, force: bool = False) -> Draft:
        """A context in which the artifact is made; `force` makes another beside one that is there."""
        return Draft(self, recipe, force=force)

    def part(self, stage: str, identity: Any, make: Callable[[PartDraft], dict[str, Any]]) -> Part:
        """One shard's result, found by its identity, or made by `make`, which returns a small record."""
        return remembered_part(self, stage, identity, make)

    def work(self, recipe: Recipe, epoch: int | None = None) -> Work:
        """The recipe's snapshots in flight; `epoch` is the lease's that the caller works under."""
        return Work(self, recipe, epoch)

    def lease(self, recipe: Recipe, waiting: Callable[[Holder], None] | None = None) -> Lease:
        """A context in which no other run works on that recipe; `waiting` is told at each poll whose turn it is."""
        return Lease(self, recipe, waiting)

    def add_blob(self, source: Path, path: str, rows: int | None, *, overwrite: bool = False) -> FileEntry:
        """Store a file's bytes, unless they are there and not to be written over; returns its entry under `path`."""
        entry = entry_of(source, path, rows)
        if overwrite or not self.backend.has(blob_key(entry.sha256), entry.size):
            self.backend.upload(blob_key(entry.sha256), source)
        return entry

    def has_blob(self, entry: FileEntry) -> bool:
        return self.backend.size(blob_key(entry.sha256)) == entry.size

    def read_part(self, key: str) -> Part | None:
        """A remembered part whose blobs are all there."""
        try:
            body = json.loads(self.backend.get(key) or b"")
            part = Part(tuple(FileEntry.model_validate(entry) for entry in body["files"]), body["record"])
        except (ValueError, KeyError, TypeError):
            return None
        return part if all(self.has_blob(entry) for entry in part.files) else None

    def check_before_commit(self) -> None:
        """Once a process and store: create-only writes hold, or the user has declared a single writer."""
        if not self.settings.store_single_writer and self.url not in _tested:
            check_create_only(self.backend, self.url)
            _tested.add(self.url)

    def check_writable(self) -> None:
        """StoreError unless an object can be written and removed: asked before long work starts."""
        key = f"work/self-test/{secrets.token_hex(8)}"
        self.backend.put(key, b"bertmill")
        self.backend.delete(key)

    # Aliases

    def tag(self, artifact: Artifact, alias: str, reason: str = "") -> None:
        """Point `alias` at the artifact: one more record in its log."""
        parsed_reference(f"{artifact.kind}/{artifact.name}@{alias}")
        if alias in self._versions(artifact.kind, artifact.name) or all(c in "0123456789abcdef-" for c in alias):
            raise UnknownReference(f"The alias {alias!r} looks like a version. Give it a name, such as production.")
        self.check_before_commit()
        root = f"aliases/{artifact.kind}/{artifact.name}/{alias}/"
        record = {
            "version": artifact.version,
            "reason": reason,
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "nonce": secrets.token_hex(8),
        }
        while True:
            highest = max((int(Path(each.key).stem) for each in self.backend.list(root)), default=0)
            if self.backend.create(f"{root}{highest + 1:010d}.json", canonical_json(record)):
                return

    def aliases(self, kind: str, name: str) -> dict[str, Artifact]:
        """Each alias of that name, with what it points at now."""
        return {alias: self.resolve(f"{kind}/{name}@{alias}") for alias in sorted(self._alias_names(kind, name))}

    def move_latest(self, artifact: Artifact, reason: str) -> None:
        """Point `latest` at the artifact unless it is there already, or at a newer one."""
        if not self.moves_latest:
            return
        mine = self.read_manifest(artifact.kind, artifact.name, artifact.version)
        current = None
        if "latest" in self._alias_names(artifact.kind, artifact.name):
            with suppress(CorruptArtifact):  # a record that can't be read is what a new one mends
                version = self._current(artifact.kind, artifact.name, "latest")["version"]
                current = self.read_manifest(artifact.kind, artifact.name, version)
        if mine is not None and (current is None or current[0].created_at < mine[0].created_at):
            self.tag(artifact, "latest", reason)

    def _alias_names(self, kind: str, name: str) -> set[str]:
        return {each.key.split("/")[3] for each in self.backend.list(f"aliases/{kind}/{name}/")}

    def _current(self, kind: str, name: str, alias: str) -> dict[str, str]:
        key = max(each.key for each in self.backend.list(f"aliases/{kind}/{name}/{alias}/"))
        try:
            body = json.loads(self.backend.get(key) or b"")
            return {**body, "version": str(body["version"])}
        except (ValueError, KeyError, TypeError):
            raise CorruptArtifact(
                f"The alias {alias} of {kind}/{name} can't be read: {key} is corrupt. "
                f"`bertmill tag {kind}/{name}@VERSION {alias} --reason …` sets it again."
            ) from None

    def _versions(self, kind: str, name: str) -> list[str]:
        return sorted(version for _, _, version in self._all_versions(f"artifacts/{kind}/{name}/"))

    def _all_versions(self, prefix: str = "artifacts/") -> Iterator[tuple[str, str, str]]:
        for each in self.backend.list(prefix):
            parts = each.key.split("/")
            if len(parts) == 5 and parts[4] == "manifest.json":
                yield parts[1], parts[2], parts[3]


def _reopened(settings: Settings, moves_latest: bool) -> Store:
    return Store(settings, moves_latest=moves_latest)


def _rebuild(kind: str) -> str:
    return f"`bertmill {kind} PRESET --force` makes it again."
