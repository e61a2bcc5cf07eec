"""The raw verbs that a backend offers: objects under keys, and one create-only write that everything rests on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """An object as the store shows it."""

    key: str
    size: int
    modified: float
    """Seconds since the epoch, by the store's clock."""
    handle: str = ""
    """What names it beside its key: an upload's, while it is unfinished."""


class Backend(Protocol):
    """Keys are relative to the store's root and use `/`. Failures raise StoreError; a missing key is None."""

    cheap: int
    """Bytes up to which an object is as soon written again as asked for."""

    def get(self, key: str) -> bytes | None:
        """A small object's bytes."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, over whatever is there."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object where none is. False: there was one. Of racing writers exactly one sees True."""

    def look(self, key: str) -> Stored | None:
        """An object's size and date."""

    def age(self, key: str) -> float | None:
        """Seconds since an object was last written, by the store's own clock, to the second."""

    def now(self) -> float:
        """The store's clock, as dates in a listing are told by it: found out once, then gone on with by ours."""

    def refresh(self, key: str) -> bool:
        """Write an object's own bytes again, so that it is young. False: it isn't there."""

    def upload(self, key: str, source: Path) -> None:
        """Store a file of any size under a key whose last part is its sha256."""

    def download(self, key: str, sha256: str, size: int, what: str) -> Path:
        """A local, read-only file with the object's bytes, checked against `sha256`; `what` names it in errors."""

    def release(self, key: str) -> None:
        """Give up this process' copy of the object: it goes from the machine, unless another process holds it."""

    def digest(self, key: str) -> str | None:
        """The sha256 of the bytes that the store has now, whatever copies there are."""

    def refuses_damage(self) -> bool:
        """Whether an upload fails whose bytes aren't those that its checksum is of: tried out, on a key of its own."""

    def versioning(self) -> str:
        """Whether older versions of objects are kept: `enabled`, `suspended`, `off`, or `unknown`."""

    def list(self, prefix: str, *, removed: bool = False) -> Iterator[Stored]:
        """Objects whose key starts with `prefix`, in the order of their keys.

        `removed`: also keys of which only older versions are left, where the store keeps those.
        """

    def delete(self, key: str) -> None:
        """Remove an object; one that isn't there is no error."""

    def erase(self, key: str) -> None:
        """Remove an object with all versions of it that the store keeps."""

    def unfinished(self, prefix: str = "") -> Iterator[Stored]:
        """Uploads, of keys that start with `prefix`, that were begun and neither ended nor given up.

        `size` is 0 where it isn't known.
        """

    def discard(self, upload: Stored) -> None:
        """Give up an unfinished upload."""
