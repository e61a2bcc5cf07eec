"""Is a store sound? Each promise that artifacts rest on is tried on the store itself, and told in a line.

Writes under `work/self-test/` only, and removes what it wrote. Costs some thirty small requests and a transfer of
`PROBE_BYTES` either way.
"""

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BertmillError
from pipeline.store.selftest import check_create_only

if TYPE_CHECKING:
    from pipeline.store.store import Store

OK, NOTE, BAD = "ok", "note", "BAD"
PROBE_BYTES = 64 << 20
LARGEST_SKEW_S = 60.0
FORGOTTEN_S = 86_400.0
"""An upload that was begun so long ago will hardly be ended."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one trial."""

    state: str
    """`ok`, `note` (it works; know this) or `BAD`."""
    what: str
    told: str


def examine_store(store: "Store") -> Iterator[Finding]:
    """One finding after the other; none after one without which the others mean nothing."""
    for trial in (_reachable, _writable, _create_only, _checksums, _clock, _versioning, _unfinished, _throughput):
        what = trial.__name__.strip("_").replace("_", "-")
        try:
            state, told = trial(store)
        except BertmillError as error:
            state, told = BAD, str(error)
        yield Finding(state, what, told)
        if state == BAD and trial in (_reachable, _writable):
            return


def _reachable(store: "Store") -> tuple[str, str]:
    started = time.monotonic()
    names = {(each.kind, each.name) for each in store.listing()}
    has = f"{len(names):,} {'name' if len(names) == 1 else 'names'}"
    return OK, f"{store.url} has {has}, listed in {(time.monotonic() - started) * 1000:,.0f} ms"


def _writable(store: "Store") -> tuple[str, str]:
    store.check_writable()
    return OK, "an object can be written, read back and removed"


def _create_only(store: "Store") -> tuple[str, str]:
    try:
        check_create_only(store.backend, store.url)
    except BertmillError as error:
        if store.settings.store_single_writer:
            return NOTE, f"{error} It is declared."
        raise
    return OK, "of racing writers of one key one wins: runs can't overwrite each other's artifacts"


def _checksums(store: "Store") -> tuple[str, str]:
    if store.backend.refuses_damage():
        return OK, "bytes that were damaged on their way in are refused; all are checked when they are read"
    return NOTE, "bytes that are damaged on their way in are stored all the same; reading finds that out, by the sha256"


def _clock(store: "Store") -> tuple[str, str]:
    skew_s = store.backend.now() - time.time()
    told = f"the store's clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if abs(skew_s) > LARGEST_SKEW_S:
        return NOTE, f"{told}; services refuse signatures that are some minutes off: set this machine's clock"
    return OK, told


def _versioning(store: "Store") -> tuple[str, str]:
    status = store.backend.versioning()
    if status == "off":
        return OK, "the store keeps no older versions of objects"
    if status == "unknown":
        return NOTE, "these credentials may not ask whether the bucket keeps older versions (s3:GetBucketVersioning)"
    return NOTE, (
        f"the bucket's versioning is {status}: what gc removes stays as an older version, until a lifecycle rule "
        f"removes those, or `bertmill gc --purge --delete` all of them"
    )


def _unfinished(store: "Store") -> tuple[str, str]:
    old = [each for each in store.backend.unfinished() if store.backend.now() - each.modified > FORGOTTEN_S]
    if not old:
        return OK, "no upload that was begun was forgotten"
    return NOTE, f"uploads begun more than a day ago and never ended: {len(old):,}; `bertmill gc --delete` removes them"


def _throughput(store: "Store") -> tuple[str, str]:
    """Up and down by the ways that blobs go, hashing included."""
    with tempfile.TemporaryDirectory(prefix="bertmill-") as folder:
        probe = Path(folder) / "probe"
        probe.write_bytes(block := secrets.token_bytes(1 << 20))
        with probe.open("ab") as file:
            for _ in range(PROBE_BYTES // len(block) - 1):
                file.write(os.urandom(len(block)))
        sha256 = hashlib.sha256(probe.read_bytes()).hexdigest()
        key = f"work/self-test/{sha256}"
        try:
            began = time.monotonic()
            store.backend.upload(key, probe)
            sent = time.monotonic()
            found = store.backend.digest(key)
            ended = time.monotonic()
        finally:
            store.backend.delete(key)
    up, down = PROBE_BYTES / (sent - began) / 1e6, PROBE_BYTES / (ended - sent) / 1e6
    if found != sha256:
        return BAD, f"{PROBE_BYTES:,} bytes came back as others: nothing on this store can be trusted"
    return OK, f"{up:,.0f} MB/s up, {down:,.0f} MB/s down"
