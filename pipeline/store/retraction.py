"""Retraction: a tombstone beside a manifest. The version is never found or used again; what it was stays on record.

    artifacts/<kind>/<name>/<version>/tombstone.json    create-only: who, when, why

Its bytes go with `gc`: of a swept version when its tombstone is older than the grace period, of a retracted one with
`--purge`, at once.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.errors import UnknownReference
from pipeline.store.aliases import LATEST
from pipeline.store.artifact import Artifact, Version, canonical_json, user_name
from pipeline.store.keys import tombstone_key

if TYPE_CHECKING:
    from pipeline.store.store import Store

RETRACTED, SWEPT = "retracted", "swept"


@dataclass(frozen=True)
class Tombstone:
    """Why a version is no longer to be used."""

    what: str
    """`retracted` by a person, or `swept` because nothing led to it any more."""
    reason: str
    at: str
    """UTC, ISO 8601."""
    by: str

    def __str__(self) -> str:
        return f"was {self.what} on {self.at[:16].replace('T', ' ')} by {self.by}: {self.reason}"


def retract(store: "Store", version: Version, reason: str, what: str = RETRACTED) -> list[str]:
    """Write the version's tombstone and lead `latest` to the newest left. Returns aliases that still point at it.

    Again, it completes what a killed one left undone. A swept version may be retracted: it was to go in any case.
    """
    if not reason.strip():
        raise UnknownReference("A retraction needs a reason: it is all that is left to tell why. Give --reason.")
    store.check_before_commit()
    key = tombstone_key(version.kind, version.name, version.version)
    body = canonical_json(asdict(Tombstone(what, reason, datetime.now(UTC).isoformat(timespec="seconds"), user_name())))
    if not store.backend.create(key, body) and what == RETRACTED and tombstone_of(store, version).what == SWEPT:
        store.backend.put(key, body)
    _lead_latest_away(store, version)
    aliases = store.aliases.names(version.kind, version.name)
    moves = {alias: store.aliases.current(version.kind, version.name, alias) for alias in aliases}
    return [alias for alias, move in moves.items() if move is not None and move.version == version.version]


def tombstone_of(store: "Store", version: Version) -> Tombstone:
    """The tombstone that a version has; one that can't be read stands for a retraction all the same."""
    try:
        body = json.loads(store.backend.get(tombstone_key(version.kind, version.name, version.version)) or b"")
        return Tombstone(**body)
    except (ValueError, TypeError):
        return Tombstone(RETRACTED, "its tombstone can't be read", "an unknown time", "unknown")


def _lead_latest_away(store: "Store", version: Version) -> None:
    current = store.aliases.current(version.kind, version.name, LATEST)
    if current is None or current.version != version.version:
        return
    listed = store.listing(version.kind, version.name)
    left = [each for each in listed if not each.is_retracted and not each.is_snapshot]
    readable = [(manifest, each) for each, manifest in store.manifests(left) if manifest is not None]
    if readable:
        manifest, each = max(readable, key=lambda pair: pair[0].created_at)
        newest = Artifact(each.kind, each.name, each.version, manifest.digest, "")
        store.aliases.tag(newest, LATEST, f"{version.version} was retracted")
