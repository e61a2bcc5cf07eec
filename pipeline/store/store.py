"""Versioned artifacts on a folder or on object storage, shared by many runs, with no database.

The manifest decides: an artifact exists when it does (keys.py has the layout). Finding one costs a listing of its
version, one manifest, and a look at each blob.
"""

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from pipeline.errors import ConfigError, CorruptArtifact, UnknownReference, nearest
from pipeline.settings import Settings
from pipeline.store.aliases import LATEST, Aliases
from pipeline.store.artifact import (
    KINDS,
    VERSION_DIGITS,
    Artifact,
    FileEntry,
    Manifest,
    Recipe,
    Version,
    parsed_reference,
    parted_version,
    tree_digest,
)
from pipeline.store.backend import Backend
from pipeline.store.draft import Draft, Part, PartDraft, remembered_part
from pipeline.store.keys import blob_key, checked_path, manifest_key, tombstone_key
from pipeline.store.lease import Holder, Lease
from pipeline.store.local import LocalBackend, entry_of
from pipeline.store.parallel import in_parallel
from pipeline.store.retraction import tombstone_of
from pipeline.store.selftest import check_create_only
from pipeline.store.work import Work, work_root

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
            single_writer=settings.store_single_writer,
        )
    raise ConfigError(f"BERTMILL_STORE is {settings.store!r}; it reads file:///folder or s3://bucket/prefix.")


class Store:
    """Finds, makes and reads artifacts. Pickles as its settings, so that it can go to other processes."""

    def __init__(self, settings: Settings, *, moves_latest: bool = True) -> None:
        self.settings = settings
        self.moves_latest = moves_latest
        self.url = settings.store
        self.backend = open_backend(settings)
        self.aliases = Aliases(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.settings, self.moves_latest)

    # Finding

    def find(self, recipe: Recipe) -> Artifact | None:
        """The newest sound version of that recipe: manifest there, no tombstone, each blob there with its size."""
        wanted = recipe.fingerprint
        listed = self.listing(recipe.kind, recipe.name, parted_version(recipe.version)[0])
        found = [
            (manifest, artifact)
            for each in listed
            if not each.is_retracted and (read := self.read_manifest(each.kind, each.name, each.version)) is not None
            for manifest, artifact in [read]
            if manifest.fingerprint == wanted and self._has_blobs(manifest.files)
        ]
        if not found:
            for each in listed:
                if each.is_retracted:
                    log.warning("%s %s", each.reference, tombstone_of(self, each))
            return None
        manifest, artifact = max(found, key=lambda pair: pair[0].created_at)
        self.move_latest(manifest, artifact, "found")
        return artifact

    def is_sound(self, manifest: Manifest) -> bool:
        """Whether nothing is known to be wrong with it: no tombstone, every blob there with its size."""
        tombstone = tombstone_key(manifest.kind, manifest.name, manifest.version)
        return self.backend.look(tombstone) is None and self._has_blobs(manifest.files)

    def resolve(self, reference: str, *, retracted: bool = False) -> Artifact:
        """The artifact that `kind/name@version` names: a version, the start of one, or an alias (`latest`).

        One that was retracted is an UnknownReference that says so, unless `retracted` ones are asked for too.
        """
        version = self.version(reference)
        if version.is_retracted and not retracted:
            raise UnknownReference(
                f"{version.reference} {tombstone_of(self, version)}. `bertmill ls {version.kind}/{version.name}` shows "
                f"what there is beside it."
            )
        read = self.read_manifest(version.kind, version.name, version.version)
        if read is None:
            raise CorruptArtifact(f"The manifest of {version.reference} can't be read. {_rebuild(version.kind)}")
        return read[1]

    def version(self, reference: str) -> Version:
        """The version that a reference names, unread; UnknownReference where it names none, or several."""
        kind, name, wanted = parsed_reference(reference)
        versions = self.listing(kind, name)
        if not versions:
            known = sorted({f"{each.kind}/{each.name}" for each in self.listing()})
            raise UnknownReference(
                f"The store {self.url} has no {kind}/{name}. "
                + (nearest(f"{kind}/{name}", known) if known else "It is empty: `bertmill run tiny` fills it.")
            )
        wanted, step = parted_version(wanted)
        if (move := self.aliases.current(kind, name, wanted)) is not None:
            wanted = move.version
        fitting = [each for each in versions if each.version == wanted + step] or [
            each for each in versions if each.version.startswith(wanted) and parted_version(each.version)[1] == step
        ]
        if len(fitting) > 1:  # one that is left stands before those that went
            fitting = [each for each in fitting if not each.is_retracted] or fitting
        if len(fitting) > 1:
            names = ", ".join(each.version for each in fitting)
            raise UnknownReference(f"{reference} fits {len(fitting)} versions: {names}. Write more of it.")
        if not fitting:
            there = [*self.aliases.names(kind, name), *(each.version for each in versions if not each.is_retracted)]
            why = " A run with --set and without --name leaves latest alone." if wanted == LATEST else ""
            raise UnknownReference(
                f"{kind}/{name} has no version or alias {wanted + step!r}. It has: {', '.join(there)}.{why}"
            )
        return fitting[0]

    def listing(self, kind: str = "", name: str = "", start: str = "") -> list[Version]:
        """Committed versions, unread: of a kind, a name, or with that start, where they are given."""
        found: dict[tuple[str, str, str], dict[str, float]] = {}
        prefixes = ["".join([f"artifacts/{each}/", name and f"{name}/", start]) for each in ([kind] if kind else KINDS)]
        for listed in in_parallel(lambda prefix: list(self.backend.list(prefix)), prefixes):
            for each in listed:
                parts = each.key.split("/")
                if len(parts) == 5:
                    found.setdefault((parts[1], parts[2], parts[3]), {})[parts[4]] = each.modified
        return [
            Version(kind, name, version, names["manifest.json"], names.get("tombstone.json"))
            for (kind, name, version), names in sorted(found.items())
            if "manifest.json" in names
        ]

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

    def versions(self, kind: str = "", name: str = "") -> list[Manifest]:
        """The manifests of all versions that weren't retracted, oldest first."""
        listed = [each for each in self.listing(kind, name) if not each.is_retracted]
        found = [manifest for _, manifest in self.manifests(listed) if manifest is not None]
        return sorted(found, key=lambda manifest: manifest.created_at)

    def manifests(self, versions: Iterable[Version]) -> Iterator[tuple[Version, Manifest | None]]:
        """Each with its manifest, read many at a time; None for one that can't be read as such."""

        def read(version: Version) -> tuple[Version, Manifest | None]:
            found = self.read_manifest(version.kind, version.name, version.version)
            return version, found[0] if found is not None else None

        return in_parallel(read, versions)

    def read_manifest(self, kind: str, name: str, version: str) -> tuple[Manifest, Artifact] | None:
        """A version's manifest and reference; None where it isn't there or can't be read as one."""
        for _ in range(2):  # once more: it may have been damaged on its way
            if (data := self.backend.get(manifest_key(kind, name, version))) is None:
                return None
            try:
                manifest = Manifest.model_validate_json(data)
                for entry in manifest.files:
                    checked_path(entry.path)
            except (ValidationError, UnknownReference):
                continue
            there = (manifest.kind, manifest.name, manifest.version)
            if there == (kind, name, version) and manifest.digest == tree_digest(manifest.files):
                return manifest, Artifact(kind, name, version, manifest.digest, hashlib.sha256(data).hexdigest())
        return None

    # Reading

    def file(self, artifact: Artifact, path: str) -> Path:
        """A local, read-only file with the bytes of one of the artifact's files, checked against the manifest."""
        entry = self.manifest(artifact).file(path)
        try:
            return self.backend.download(blob_key(entry.sha256), entry.sha256, entry.size, f"{path} of {artifact}")
        except CorruptArtifact as error:
            raise CorruptArtifact(f"{error} {_rebuild(artifact.kind)}") from None

    def blob(self, entry: FileEntry) -> Path:
        """The same for a file of a part; a snapshot's are read by `Work.file`."""
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
        return Work(self, work_root(recipe), epoch)

    def lease(self, recipe: Recipe, waiting: Callable[[Holder], None] | None = None) -> Lease:
        """A context in which no other run works on that recipe; `waiting` is told at each poll whose turn it is."""
        what = f"{recipe.kind}/{recipe.name} ({recipe.fingerprint[:VERSION_DIGITS]})"
        return Lease(self, work_root(recipe), what, waiting)

    def add_blob(self, source: Path, path: str, rows: int | None, *, overwrite: bool = False) -> FileEntry:
        """Store a file's bytes, unless they are there and not to be written over; returns its entry under `path`."""
        entry = entry_of(source, path, rows)
        if overwrite or entry.size <= self.backend.cheap or not self._keep(entry):
            self.backend.upload(blob_key(entry.sha256), source)
        return entry

    def has_blob(self, entry: FileEntry) -> bool:
        """Whether its bytes are there, by their size."""
        seen = self.backend.look(blob_key(entry.sha256))
        return seen is not None and seen.size == entry.size

    def keep_blobs(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """Make sure that garbage collection leaves these for a while; returns those whose bytes are not there."""
        entries = list(entries)
        return [entry for entry, kept in zip(entries, in_parallel(self._keep, entries), strict=True) if not kept]

    def keep_young(self, key: str, modified: float) -> bool:
        """Write the object's own bytes again where it is older than half the grace period. False: it is gone.

        So what is about to be used can't have come of age when the garbage collector looks at it next.
        """
        return self.backend.now() - modified < self.grace_s / 2 or self.backend.refresh(key)

    @property
    def grace_s(self) -> float:
        """For how long nothing is collected that was written."""
        return self.settings.store_grace_days * 86_400

    def _keep(self, entry: FileEntry) -> bool:
        seen = self.backend.look(key := blob_key(entry.sha256))
        return seen is not None and seen.size == entry.size and self.keep_young(key, seen.modified)

    def _has_blobs(self, entries: Iterable[FileEntry]) -> bool:
        return all(in_parallel(self.has_blob, entries))

    def read_part(self, key: str) -> Part | None:
        """A remembered part whose blobs are all there, kept from garbage collection for a while."""
        try:
            body = json.loads(self.backend.get(key) or b"")
            part = Part(tuple(FileEntry.model_validate(entry) for entry in body["files"]), body["record"])
        except (ValueError, KeyError, TypeError):
            return None
        seen = self.backend.look(key)
        kept = seen is not None and self.keep_young(key, seen.modified) and not self.keep_blobs(part.files)
        return part if kept else None

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

    def move_latest(self, manifest: Manifest, artifact: Artifact, reason: str) -> None:
        """Point `latest` at the artifact, unless this run is to leave it alone or it is at a newer one.

        Snapshots of a training are no latest: what they lead to is.
        """
        if self.moves_latest and not artifact.is_snapshot:
            self.aliases.move_latest(artifact, manifest.created_at, reason)


@lru_cache(maxsize=8)
def _reopened(settings: Settings, moves_latest: bool) -> Store:
    """One for all that a process is sent: it knows which blobs it has verified, and tasks read them over and over."""
    return Store(settings, moves_latest=moves_latest)


def _rebuild(kind: str) -> str:
    return f"`bertmill {kind} PRESET --force` makes it again."
