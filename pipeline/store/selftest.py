"""Does a store really refuse to create what is there? Many S3-compatible services silently ignore `If-None-Match`.

Each process that commits finds out first, on the actual bucket: eight threads race to create one key. Costs nine small
writes, once a process.
"""

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pipeline.errors import StoreError
from pipeline.store.backend import Backend

RACERS = 8


def check_create_only(backend: Backend, url: str) -> None:
    """Raise StoreError unless exactly one of racing creates wins, and what is stored is what the winner wrote."""
    key = f"work/self-test/{secrets.token_hex(8)}"
    bodies = [f"{racer}".encode() for racer in range(RACERS)]
    try:
        with ThreadPoolExecutor(RACERS) as pool:
            won = list(pool.map(lambda body: backend.create(key, body), bodies))
        winners = [body for body, success in zip(bodies, won, strict=True) if success]
        sound = len(winners) == 1 and backend.get(key) == winners[0]
    finally:
        with suppress(StoreError):  # what went wrong before is what to tell; the collector removes the rest
            backend.delete(key)
    if not sound:
        raise StoreError(
            f"{url} ignores create-only writes: {len(winners)} of {RACERS} racing creates of one key succeeded, so two "
            f"runs could overwrite each other's artifacts. Use a service that honours If-None-Match on this bucket "
            f"(its versioning is {backend.versioning()}; some services don't where it is enabled), or declare that one "
            f"process at a time commits: BERTMILL_STORE_SINGLE_WRITER=1."
        )
