"""The raw verbs that a backend offers: objects under keys, and one create-only write that everything rests on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """An object as a listing shows it."""

    key: str
    size: int
    modified: float
    """Seconds since the epoch, by the backend's clock."""


class Backend(Protocol):
    """Keys are relative to the store's root and use `/`. Failures raise StoreError; a missing key is None."""

    def get(self, key: str) -> bytes | None:
        """A small object's bytes."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, over whatever is there."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a small object where none is. False: there was one. Of racing writers exactly one sees True."""

    def size(self, key: str) -> int | None:
        """An object's size in bytes."""

    def age(self, key: str) -> float | None:
        """Seconds since an object was last written, by the store's own clock."""

    def has(self, key: str, size: int) -> bool:
        """Whether the object is there with that size; False also where it costs no more to upload it."""

    def upload(self, key: str, source: Path) -> None:
        """Store a file of any size under its blob's key, whose last part is its sha256."""

    def download(self, key: str, sha256: str, size: int, what: str) -> Path:
        """A local, read-only file with the object's bytes, checked against `sha256`; `what` names it in errors."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Objects whose key starts with `prefix`, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Remove an object; one that isn't there is no error."""
