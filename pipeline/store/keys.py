"""Where everything lies in a store: the one place for its keys.

blobs/sha256/ab/<64 hex>                           immutable bytes, named by their content
artifacts/<kind>/<name>/<version>/manifest.json    create-only: the commit
artifacts/<kind>/<name>/<version>/tombstone.json   retracted or swept: never found again
aliases/<kind>/<name>/<alias>/<seq>.json           create-only log; the highest is current
lineage/<parent>/<child>                           empty; a manifest of the child names the parent
parts/<stage>/<fingerprint>.json                   one shard's result
work/<kind>/<fingerprint>/<epoch>/<snapshot>/…     checkpoints in flight: snapshot.json, and each file as <64 hex>
work/<kind>/<fingerprint>/<epoch>/lease.json       who works on it; heartbeat.json beside it

A kind, a name and a version are checked before they come here, and can hold no `/`.
"""

from pathlib import PurePosixPath

from pipeline.errors import UnknownReference


def blob_key(sha256: str) -> str:
    """Where the bytes of that sha256 lie."""
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def manifest_key(kind: str, name: str, version: str) -> str:
    """Where a version's manifest lies."""
    return f"artifacts/{kind}/{name}/{version}/manifest.json"


def tombstone_key(kind: str, name: str, version: str) -> str:
    """Where a version's tombstone lies, once it has one."""
    return f"artifacts/{kind}/{name}/{version}/tombstone.json"


def alias_key(kind: str, name: str, alias: str, seq: int) -> str:
    """Where an alias' move of that number lies."""
    return f"aliases/{kind}/{name}/{alias}/{seq:010d}.json"


def lineage_key(parent: tuple[str, str, str], child: tuple[str, str, str]) -> str:
    """Where the mark lies that `child` was made from `parent`; each is kind, name, version."""
    return "/".join(["lineage", *parent, *child])


def checked_path(path: str) -> str:
    """`path`, or UnknownReference where it isn't a plain relative path inside the artifact."""
    parts = PurePosixPath(path).parts
    if (
        not parts
        or path.startswith("/")
        or "\\" in path
        or "\0" in path
        or ".." in parts
        or str(PurePosixPath(path)) != path
    ):
        raise UnknownReference(f"The file path {path!r} must be relative, with '/' and without '..'.")
    return path
