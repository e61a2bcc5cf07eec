"""Garbage collection: mark what is needed, sweep the rest that is older than the grace period.

Needed are the blobs of each version (of a retracted one not; of a swept one while its tombstone is young), of each
snapshot of work in flight, and of each part that is young. Whoever is about to use a blob or a part again writes it
anew where it is older than half the grace period (`Store.keep_young`), and does so for all blobs once more right before
the manifest. So what is old when it is looked at once more, right before it is removed, is used by nobody. That holds
while a collection takes less than a quarter of the grace period; one that takes longer stops, and is run again.

The files that work in flight has of its own stay or go with it as a whole: which of them it needs, its owner knows
(work.py). It goes when it is published for a grace period, or when nobody has gone on with it for `abandoned_days`.

`keep` sweeps versions first: those older than the grace period that are neither among the last `keep` that any alias
was at, nor made use of by one that is left. `purge` erases: no grace, all versions of objects, and nothing stays but
what work in flight and versions that weren't retracted have. A publish that it takes the ground from fails, whole, and
is run again.

Costs a listing of the store, and a small read of each manifest, part and snapshot; a sweep, two requests an object.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store.artifact import Manifest, Version
from pipeline.store.backend import Stored
from pipeline.store.keys import blob_key
from pipeline.store.lease import Holder, Lease
from pipeline.store.parallel import in_parallel
from pipeline.store.retraction import RETRACTED, SWEPT, Tombstone, retract, tombstone_of
from pipeline.store.work import WorkFile, entries_of, is_record

if TYPE_CHECKING:
    from pipeline.store.store import Store

ROOT = "work/gc/"
ABANDONED_DAYS = 30.0


@dataclass
class Collected:
    """What was removed, or would be."""

    versions: list[str] = field(default_factory=list)
    """References that were swept."""
    parts: list[Stored] = field(default_factory=list)
    work: list[Stored] = field(default_factory=list)
    """Snapshots, their files and leases of work that is published or abandoned."""
    marks: list[Stored] = field(default_factory=list)
    """Lineage marks of children that never came to be."""
    blobs: list[Stored] = field(default_factory=list)
    uploads: list[Stored] = field(default_factory=list)
    """Unfinished ones."""
    kept_bytes: int = 0
    shared: list[str] = field(default_factory=list)
    """References that keep bytes of a retracted version from being purged: they have them too."""
    broken: list[str] = field(default_factory=list)
    """Versions that were published meanwhile and lost a blob: to be made again."""

    @property
    def freed_bytes(self) -> int:
        return sum(each.size for each in (*self.parts, *self.work, *self.blobs, *self.uploads))


def collect(
    store: "Store",
    *,
    keep: int | None = None,
    purge: bool = False,
    delete: bool = False,
    abandoned_days: float = ABANDONED_DAYS,
    waiting: Callable[[Holder], None] | None = None,
) -> Collected:
    """Find what isn't needed; with `delete`, remove it. One collection at a time removes: another waits for it.

    Raises CorruptArtifact, and removes nothing, where a manifest can't be read: what it needs isn't known.
    """
    if not delete:
        return _Collection(store, keep, purge, abandoned_days).plan()
    store.check_before_commit()
    with Lease(store, ROOT, "garbage collection", waiting) as lease:
        collection = _Collection(store, keep, purge, abandoned_days)
        collected = collection.plan()
        collection.sweep(collected, lease)
        return collected


class _Collection:
    def __init__(self, store: "Store", keep: int | None, purge: bool, abandoned_days: float) -> None:
        self.store, self.backend = store, store.backend
        self.keep, self.purge, self.abandoned_s = keep, purge, abandoned_days * 86_400
        self.grace_s = store.grace_s
        self.now, self.began = self.backend.now(), time.monotonic()
        self.listed = store.listing()

    # Mark

    def plan(self) -> Collected:
        """What is to go."""
        found = Collected()
        versions = self._manifests()
        tombstones = self._tombstones(versions)
        live = {version: manifest for version, manifest in versions.items() if version not in tombstones}
        found.versions = [version.reference for version in self._swept(live)]
        young = {version for version, stone in tombstones.items() if self._is_in_use(version, stone)}
        needing = [manifest for version, manifest in versions.items() if version in live or version in young]
        needed = {entry.sha256 for manifest in needing for entry in manifest.files}
        erased = [versions[version] for version, stone in tombstones.items() if self.purge and stone.what == RETRACTED]
        found.work = self._removed_files()
        doomed, in_flight = self._work({manifest.fingerprint for manifest in live.values()}, erased)
        found.work += doomed
        found.kept_bytes = sum(each.size for each in in_flight)
        records = [each for each in in_flight if is_record(each)]
        needed |= {sha256 for files in in_parallel(self._blobs_of, records) for sha256 in files}
        found.parts, remembered = self._parts(needed)
        found.marks = self._stray_marks()
        found.uploads = [each for each in self.backend.unfinished() if self._is_old(each)]
        for each in self.backend.list("blobs/", removed=self.purge):
            if each.key.rpartition("/")[2] in needed or each.key.rpartition("/")[2] in remembered:
                found.kept_bytes += each.size
            elif self.purge or self._is_old(each):
                found.blobs.append(each)
        gone = {entry.sha256 for manifest in erased for entry in manifest.files}
        found.shared = [_reference(each) for each in needing if any(entry.sha256 in gone for entry in each.files)]
        return found

    def _manifests(self) -> dict[Version, Manifest]:
        found: dict[Version, Manifest] = {}
        for version, manifest in self.store.manifests(self.listed):
            if manifest is not None:
                found[version] = manifest
            elif not version.is_retracted:
                raise CorruptArtifact(
                    f"The manifest of {version.reference} can't be read, so what it needs isn't known, and nothing was "
                    f"collected. Mend it, or give the version up: `bertmill retract {version.reference} --reason …`."
                )
        return found

    def _tombstones(self, versions: Iterable[Version]) -> dict[Version, Tombstone]:
        retracted = [version for version in versions if version.is_retracted]
        found = in_parallel(lambda version: tombstone_of(self.store, version), retracted)
        return dict(zip(retracted, found, strict=True))

    def _is_in_use(self, version: Version, tombstone: Tombstone) -> bool:
        """Whether a run may still be at work on a version that was swept since it began."""
        age_s = self.now - (version.retracted_at or 0)
        return tombstone.what == SWEPT and not self.purge and age_s < self.grace_s

    def _swept(self, live: dict[Version, Manifest]) -> list[Version]:
        """Versions that no alias was at lately and that none which is left was made from.

        A snapshot stays as long as what it led to, and for a while where that never came to be.
        """
        if self.keep is None:
            return []
        by_reference = {version.reference: version for version in live}
        waiting = [version.reference for version in live if self.now - version.at < self.grace_s]
        waiting += [
            version.reference
            for version in live
            if _whole(version) not in by_reference and self.now - version.at < self.abandoned_s
        ]
        waiting += self._aliased(live, self.keep)
        left: set[Version] = set()
        while waiting:
            version = by_reference.get(waiting.pop())
            if version is not None and version not in left:
                left.add(version)
                waiting += [parent.reference for parent in live[version].parents]
        return [version for version in live if version not in left and by_reference.get(_whole(version)) not in left]

    def _aliased(self, live: Iterable[Version], keep: int) -> Iterator[str]:
        """The last `keep` versions that each alias was at."""
        for kind, name in sorted({(version.kind, version.name) for version in live}):
            for alias in self.store.aliases.names(kind, name):
                moves = reversed(self.store.aliases.history(kind, name, alias))
                for version in list(dict.fromkeys(move.version for move in moves))[:keep]:
                    yield f"{kind}/{name}@{version}"

    def _work(self, published: set[str], erased: list[Manifest]) -> tuple[list[Stored], list[Stored]]:
        """What is to go of the work in flight, and the rest of it."""
        recipes: dict[str, list[Stored]] = {}
        for each in self.backend.list("work/"):
            if not each.key.startswith(ROOT):
                recipes.setdefault("/".join(each.key.split("/")[:3]), []).append(each)
        doomed: list[Stored] = []
        kept: list[Stored] = []
        for root, objects in recipes.items():
            fingerprint, age_s = root.rpartition("/")[2], self.now - max(each.modified for each in objects)
            is_over = fingerprint in published or root.startswith("work/self-test/")
            is_erased = fingerprint in {manifest.fingerprint for manifest in erased}
            goes = is_erased or age_s > (self.grace_s if is_over else self.abandoned_s)
            (doomed if goes else kept).extend(objects)
        return doomed, kept

    def _removed_files(self) -> list[Stored]:
        """To erase: files that works have removed themselves, and of which the store keeps older versions."""
        if not self.purge:
            return []
        files = [each for each in self.backend.list("work/", removed=True) if each.key.count("/") == 5]
        there = {each.key for each in self.backend.list("work/")}  # looked at later: what is added meanwhile is there
        return [each for each in files if each.key not in there]

    def _parts(self, needed: set[str]) -> tuple[list[Stored], set[str]]:
        """Parts to forget, and the blobs that the rest need. One whose blobs are needed anyway costs nothing."""
        parts = list(self.backend.list("parts/"))
        doomed: list[Stored] = []
        kept: set[str] = set()
        for each, files in zip(parts, in_parallel(self._blobs_of, parts), strict=True):
            if (self.purge or self._is_old(each)) and not (files and set(files) <= needed):
                doomed.append(each)
            else:
                kept |= set(files)
        return doomed, kept

    def _blobs_of(self, stored: Stored) -> list[str]:
        """The blobs that a part or a snapshot names; none where it can't be read, as nobody can use it then."""
        try:
            body = json.loads(self.backend.get(stored.key) or b"")
            return [entry.sha256 for entry in entries_of(body) if not isinstance(entry, WorkFile)]
        except (ValueError, KeyError, TypeError):
            return []

    def _stray_marks(self) -> list[Stored]:
        there = {(version.kind, version.name, version.version) for version in self.listed}
        marks = self.backend.list("lineage/")
        return [each for each in marks if self._is_old(each) and tuple(each.key.split("/")[4:7]) not in there]

    def _is_old(self, stored: Stored) -> bool:
        return self.now - stored.modified > self.grace_s

    # Sweep

    def sweep(self, found: Collected, lease: Lease) -> None:
        """Remove what was found, but what was written or used meanwhile. Leaves in `found` what was removed."""
        by_reference = {version.reference: version for version in self.listed}
        for reference in found.versions:
            self._go_on(lease)
            retract(self.store, by_reference[reference], f"not among the last {self.keep} of any alias", SWEPT)
        records = [each for each in found.work if is_record(each)]
        found.work = [each for each in found.work if not is_record(each)]
        records = list(self._removed(records, lease))  # first: no snapshot is ever there whose files are gone
        for name in ("parts", "work", "marks", "blobs"):
            setattr(found, name, list(self._removed(getattr(found, name), lease)))
        found.work += records
        for each in found.uploads:
            self._go_on(lease)
            self.backend.discard(each)
        found.broken = self._broken({each.key for each in found.blobs})

    def _removed(self, objects: list[Stored], lease: Lease) -> Iterator[Stored]:
        def remove(stored: Stored) -> bool:
            self._go_on(lease)
            if self.purge:
                self.backend.erase(stored.key)
                return True
            seen = self.backend.look(stored.key)
            if seen is None or seen.modified > stored.modified:
                return False
            self.backend.delete(stored.key)
            return True

        for stored, removed in zip(objects, in_parallel(remove, objects), strict=True):
            if removed:
                yield stored

    def _go_on(self, lease: Lease) -> None:
        lease.check()
        if not self.purge and time.monotonic() - self.began > self.grace_s / 4:
            raise StoreError(
                "The collection has taken more than a quarter of BERTMILL_STORE_GRACE_DAYS and stops: what it knows is "
                "too old to remove more by. Run it again, or allow more days."
            )

    def _broken(self, removed: set[str]) -> list[str]:
        """Versions that came to be since we looked, and lack what we removed."""
        known = set(self.listed)
        new = [version for version in self.store.listing() if version not in known and not version.is_retracted]
        return [
            version.reference
            for version, manifest in self.store.manifests(new)
            if manifest is not None and any(blob_key(entry.sha256) in removed for entry in manifest.files)
        ]


def _whole(version: Version) -> str:
    """The reference of the version that a snapshot was made on the way to; any other's own."""
    return version.reference.partition(":")[0]


def _reference(manifest: Manifest) -> str:
    return f"{manifest.kind}/{manifest.name}@{manifest.version}"
