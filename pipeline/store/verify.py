"""Is everything there, and is it what it says? By sizes; deep, by the sha256 of the bytes that the store has now.

Costs a look at each blob, once however many versions share it; deep, a read of each.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.store.artifact import FileEntry, Version, parsed_reference
from pipeline.store.keys import blob_key
from pipeline.store.parallel import SMALL_REQUESTS, in_parallel

if TYPE_CHECKING:
    from pipeline.store.store import Store

CONTENT = re.compile("/[0-9a-f]{64}$")
"""How a key ends that is named by its object's content."""
READERS = 4
"""Blobs read side by side; each of them in parts, which are read side by side too."""
Users = dict[str, list[tuple[str, FileEntry]]]
"""Of each blob's key: the references that have it, and as which file."""


@dataclass(frozen=True)
class Problem:
    """Something that isn't as it should be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


def verify_version(store: "Store", version: Version, *, deep: bool = False) -> list[Problem]:
    """What is wrong with a version: its manifest, its parents', its files."""
    problems, users = _read(store, [version])
    return [*problems, *_blob_problems(store, users, deep=deep)]


def verify_store(store: "Store", *, deep: bool = False) -> list[Problem]:
    """What is wrong with all versions but the retracted, and with the aliases; deep, also with any other bytes."""
    problems, users = _read(store, [each for each in store.listing() if not each.is_retracted])
    problems += [*_blob_problems(store, users, deep=deep), *_alias_problems(store)]
    if deep:
        others = [each.key for each in store.backend.list("blobs/") if each.key not in users]
        others += [each.key for each in store.backend.list("work/") if CONTENT.search(each.key)]
        for key, found in zip(others, in_parallel(store.backend.digest, others, READERS), strict=True):
            if found is not None and found != key.rpartition("/")[2]:
                problems.append(Problem(key, f"has the sha256 {found[:12]}…; no artifact needs it"))
    return problems


def _read(store: "Store", versions: Iterable[Version]) -> tuple[list[Problem], Users]:
    """What is wrong with the manifests, and who has which blob."""
    problems: list[Problem] = []
    users: Users = {}
    parents: dict[str, str | None] = {}
    for version, manifest in store.manifests(versions):
        if manifest is None:
            problems.append(
                Problem(version.reference, "has a manifest that can't be read; a run makes another version")
            )
            continue
        for entry in manifest.files:
            users.setdefault(blob_key(entry.sha256), []).append((version.reference, entry))
        for parent in manifest.parents:
            if parent.reference not in parents:
                parents[parent.reference] = _manifest_sha256(store, parent.reference)
            found = parents[parent.reference]
            if found is None:
                what = f"was made from {parent.reference}, whose manifest is missing or can't be read"
                problems.append(Problem(version.reference, what))
            elif found != parent.manifest_sha256:
                what = f"was made from another {parent.reference} than the store has"
                problems.append(Problem(version.reference, what))
    return problems, users


def _manifest_sha256(store: "Store", reference: str) -> str | None:
    read = store.read_manifest(*parsed_reference(reference))
    return read[1].manifest_sha256 if read is not None else None


def _blob_problems(store: "Store", users: Users, *, deep: bool) -> Iterator[Problem]:
    def problem_of(key: str) -> str | None:
        entry, seen = users[key][0][1], store.backend.look(key)
        if seen is None:
            return "is missing"
        if seen.size != entry.size:
            return f"has {seen.size:,} bytes, not {entry.size:,}"
        found = store.backend.digest(key) if deep else entry.sha256
        return None if found == entry.sha256 else f"is corrupt: its sha256 is {(found or 'gone')[:12]}…"

    for key, problem in zip(
        users, in_parallel(problem_of, list(users), READERS if deep else SMALL_REQUESTS), strict=True
    ):
        if problem is not None:
            yield from (Problem(f"{entry.path} of {reference}", problem) for reference, entry in users[key])


def _alias_problems(store: "Store") -> Iterator[Problem]:
    """Each move of a history can be read, and the last one leads to a version."""
    there = {each.reference for each in store.listing()}
    parts = [each.key.split("/") for each in store.backend.list("aliases/")]
    for kind, name, alias in sorted({(part[1], part[2], part[3]) for part in parts if len(part) == 5}):
        reference = f"{kind}/{name}@{alias}"
        history = store.aliases.history(kind, name, alias)
        for number in store.aliases.lost(kind, name, alias):
            yield Problem(reference, f"has lost move {number} of its history: it is missing or can't be read")
        if history and f"{kind}/{name}@{history[-1].version}" not in there:
            yield Problem(reference, f"points at {history[-1].version}, which the store doesn't have")
