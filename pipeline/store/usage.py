"""What fills the store: bytes by kind, name or user, a blob that versions of a group share counted once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.store.artifact import Manifest

if TYPE_CHECKING:
    from pipeline.store.store import Store

GROUPS: dict[str, Callable[[Manifest], str]] = {
    "kind": lambda manifest: manifest.kind,
    "name": lambda manifest: f"{manifest.kind}/{manifest.name}",
    "user": lambda manifest: str(manifest.producer.get("user", "unknown")),
}


@dataclass(frozen=True)
class Usage:
    """Of one group of versions."""

    group: str
    versions: int
    bytes: int
    own: int
    """Bytes that no other group has: what goes when the group goes."""


@dataclass(frozen=True)
class StoreUsage:
    """Of the whole."""

    groups: list[Usage]
    """The largest first."""
    versions: int
    bytes: int
    other: int
    """Bytes that no version has: parts remembered, work in flight, and what `gc` may remove."""


def usage_of(store: "Store", by: str) -> StoreUsage:
    """The store's bytes by a key of `GROUPS`, retracted versions left out: their bytes are `other`."""
    versions: dict[str, int] = {}
    groups: dict[str, dict[str, int]] = {}
    for manifest in store.versions():
        group = GROUPS[by](manifest)
        versions[group] = versions.get(group, 0) + 1
        groups.setdefault(group, {}).update({entry.sha256: entry.size for entry in manifest.files})
    having: dict[str, int] = {}
    for blobs in groups.values():
        for sha256 in blobs:
            having[sha256] = having.get(sha256, 0) + 1
    usages = [
        Usage(
            group,
            versions[group],
            sum(blobs.values()),
            sum(size for sha256, size in blobs.items() if having[sha256] == 1),
        )
        for group, blobs in groups.items()
    ]
    stored = {each.key.rpartition("/")[2]: each.size for each in store.backend.list("blobs/")}
    in_flight = sum(each.size for each in store.backend.list("work/"))
    return StoreUsage(
        sorted(usages, key=lambda usage: (-usage.bytes, usage.group)),
        sum(versions.values()),
        sum(size for sha256, size in stored.items() if sha256 in having),
        sum(size for sha256, size in stored.items() if sha256 not in having) + in_flight,
    )
