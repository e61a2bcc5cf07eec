"""What an artifact is: its recipe, fingerprint, manifest and reference.

A fingerprint is known before anything runs: it is the sha256 of the stage's kind and schema number, its own table of
the preset without values equal to the default, its parents' digests, and the inventory of what comes from outside.
Names and paths are addresses and stay out of it, so a renamed parent or a moved file recomputes nothing.
"""

import getpass
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config import Table
from pipeline.errors import ConfigError, UnknownReference

KINDS = ("corpus", "vocabulary", "dataset", "pretraining", "evaluation")
VERSION_DIGITS = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_REFERENCE = re.compile(r"(?P<kind>[a-z]+)/(?P<name>[^@/:]+)(?:@(?P<version>[^@/:]+))?(?P<step>:step=[0-9]+)?")


def canonical_json(value: Any) -> bytes:
    """The one spelling of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(value: Any) -> str:
    """sha256 of `value`'s canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def checked_name(name: str) -> str:
    """`name`, or ConfigError where it can't stand in a key of the store."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"The artifact name {name!r} must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and start with a "
            f"letter or a digit."
        )
    return name


@dataclass(frozen=True)
class Artifact:
    """A reference to a committed version: all that goes between stages. A few hundred bytes."""

    kind: str
    name: str
    version: str
    digest: str
    """Of the tree of files (64 hex digits): equal bytes, equal digest, whatever the name."""
    manifest_sha256: str

    @property
    def reference(self) -> str:
        return f"{self.kind}/{self.name}@{self.version}"

    @property
    def is_snapshot(self) -> bool:
        """Whether it was made on the way to the version that its own starts with."""
        return ":" in self.version

    def __str__(self) -> str:
        return self.reference


@dataclass(frozen=True)
class Version:
    """A version as the store's listing shows it, unread."""

    kind: str
    name: str
    version: str
    at: float
    """When its manifest was written, by the store's clock: seconds since the epoch."""
    retracted_at: float | None
    """When its tombstone was written: it was retracted or swept."""

    @property
    def is_retracted(self) -> bool:
        return self.retracted_at is not None

    @property
    def is_snapshot(self) -> bool:
        """Whether it was made on the way to the version that its own starts with."""
        return ":" in self.version

    @property
    def reference(self) -> str:
        return f"{self.kind}/{self.name}@{self.version}"


@dataclass(frozen=True)
class Input:
    """One file from outside: what of it counts is its name within the source, its size and its bytes."""

    name: str
    size: int
    """In bytes; 0 where it isn't known before it is read."""
    sha256: str | None = None
    version: str | None = None
    """What its place tells its bytes by (an ETag, a commit), where they aren't read to be told."""

    @property
    def identity(self) -> list[str | int | None]:
        """What of it counts."""
        return [self.name, self.size, self.sha256 or self.version]

    @property
    def record(self) -> dict[str, str | int]:
        """As the manifest keeps it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Recipe:
    """All that decides an artifact's bytes, known before it is made."""

    kind: str
    config: Table
    """The stage's table; its `name` is the artifact's."""
    schema: int
    """Raised by hand when the stage's bytes change for the same config and parents."""
    parents: tuple[Artifact, ...] = ()
    inputs: tuple[Input, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    """Anything else that decides the bytes (a segmenter's version): sorted pairs."""
    step: int | None = None
    """Of a snapshot on the way, the steps that are done."""

    @property
    def name(self) -> str:
        return checked_name(self.config.name)  # type: ignore[attr-defined]

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            {
                "kind": self.kind,
                "schema": self.schema,
                "config": self.config.identity(),
                "parents": [parent.digest for parent in self.parents],
                "inputs": [each.identity for each in self.inputs],
                "extra": sorted(self.extra),
            }
            | ({} if self.step is None else {"step": self.step})
        )

    @property
    def version(self) -> str:
        """What it is committed under: the start of the fingerprint; a snapshot, of the whole's, and its step."""
        if self.step is None:
            return self.fingerprint[:VERSION_DIGITS]
        return f"{replace(self, step=None).version}:step={self.step}"


class FileEntry(BaseModel):
    """A file of an artifact; its bytes are the blob of that sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """It makes a key of the store, so that nothing else may stand here."""
    rows: int | None = None


class Parent(BaseModel):
    """What an artifact was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    digest: str
    manifest_sha256: str


class Manifest(BaseModel):
    """An artifact exists when this does. Written last, once, as canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layout: int = 1
    """Of this record."""
    kind: str
    name: str
    version: str
    schema_number: int
    fingerprint: str
    digest: str
    """sha256 over (path, size, sha256) of all files in the order of their paths."""
    created_at: str
    """UTC, ISO 8601."""
    nonce: str
    """Random; read back after the commit to tell our own write from another's."""
    producer: dict[str, Any]
    """Where it was made, by an allow-list: host's device, world size, library versions, user, seconds."""
    config: dict[str, Any]
    parents: tuple[Parent, ...]
    inputs: tuple[dict[str, Any], ...]
    files: tuple[FileEntry, ...]
    totals: dict[str, Any]
    metrics: dict[str, Any]

    def file(self, path: str) -> FileEntry:
        """The entry of `path`; UnknownReference where the artifact has no such file."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise UnknownReference(f"{self.kind}/{self.name}@{self.version} has no file {path!r}.")

    def matching(self, prefix: str) -> list[FileEntry]:
        """Entries whose path starts with `prefix`, in the order of their paths."""
        return sorted((entry for entry in self.files if entry.path.startswith(prefix)), key=lambda entry: entry.path)

    def parent(self, kind: str) -> Parent | None:
        """The parent of that kind, if it has one."""
        return next((parent for parent in self.parents if parent.reference.startswith(f"{kind}/")), None)


def tree_digest(files: Iterable[FileEntry]) -> str:
    """The digest of an artifact's files."""
    return fingerprint([[entry.path, entry.size, entry.sha256] for entry in sorted(files, key=lambda f: f.path)])


def user_name() -> str:
    """Who this process runs as, for the record."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def parsed_reference(text: str) -> tuple[str, str, str]:
    """(kind, name, version or alias) of `kind/name@version`; without @, the alias `latest`.

    A snapshot's `:step=20000` stays with the version. Raises UnknownReference with the form that is wanted.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or match["kind"] not in KINDS or not _NAME.fullmatch(match["name"]):
        raise UnknownReference(
            f"{text!r} is not a reference. It reads kind/name@version, such as "
            f"pretraining/tiny@latest; kinds: {', '.join(KINDS)}."
        )
    version = match["version"] or "latest"
    if not _NAME.fullmatch(version):
        raise UnknownReference(f"{text!r}: {version!r} is neither a version nor an alias.")
    return match["kind"], match["name"], version + (match["step"] or "")


def parted_version(version: str) -> tuple[str, str]:
    """A version, or an alias, and its snapshot's `:step=…`, which is empty where it is none."""
    whole, colon, step = version.partition(":")
    return whole, colon + step
