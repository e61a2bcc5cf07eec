"""What a stage takes from outside: each file by its name within the source, its size and its sha256.

The path or glob doesn't count, so a moved corpus recomputes nothing, and new bytes under an old name are noticed.
Digests are remembered by path, size and time of change: an unchanged file costs one look.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from pipeline.config import Settings, Source
from pipeline.corpus.sources import sample_path
from pipeline.errors import InputError
from pipeline.store.artifact import Input
from pipeline.store.local import sha256_of


@dataclass(frozen=True)
class InputFile:
    """A source's file: where it lies on this machine, and what of it counts."""

    path: Path
    source: Source
    input: Input


def inventory(sources: tuple[Source, ...], settings: Settings) -> list[InputFile]:
    """The sources' files, in the order of the sources and then of their names.

    Raises InputError: no source, no file at a path, nothing that fits a glob, an empty file.
    """
    if not sources:
        raise InputError(
            "The preset's [corpus] has no sources. Add one, such as: "
            'sources = [{ format = "text", path = "texts/*.txt", name = "mine", licence = "own" }].'
        )
    return [
        InputFile(path, source, Input(f"{source.name}/{name}", path.stat().st_size, _digest(path, settings)))
        for source in sources
        for name, path in _files(source)
    ]


def _files(source: Source) -> Iterator[tuple[str, Path]]:
    scheme, colon, rest = source.path.partition(":")
    if colon and scheme == "sample":
        yield rest, sample_path(rest)
        return
    if colon and "/" not in scheme and rest.startswith("//"):
        raise InputError(f"The source {source.path} has the scheme {scheme!r}; give a local path or sample:NAME.")
    pattern = os.path.expanduser(source.path)  # noqa: PTH111 (a pattern is no path)
    found = sorted(Path(path) for path in (glob(pattern, recursive=True) if has_magic(pattern) else [pattern]))
    files = [path for path in found if path.is_file()]
    if not files:
        what = (
            "No file fits"
            if has_magic(pattern)
            else "There is no file"
            if not found[0].is_dir()
            else "A folder stands at"
        )
        raise InputError(
            f"{what} {source.path} (the source {source.name!r}). Correct its path; a glob takes in several files."
        )
    root = _fixed_part(pattern)
    for path in files:
        if path.stat().st_size == 0:
            raise InputError(f"{path} (the source {source.name!r}) is empty. Remove it, or fetch it again.")
        yield path.relative_to(root).as_posix(), path


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    path = Path(pattern)
    while has_magic(str(path)):
        path = path.parent
    return path.parent if path == Path(pattern) else path


def _digest(path: Path, settings: Settings) -> str:
    seen = path.stat()
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
    memo = settings.home / "digests" / f"{name}.json"
    key = [seen.st_size, seen.st_mtime_ns, seen.st_ino]
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(memo.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return str(kept["sha256"])
    sha256 = sha256_of(path)
    with suppress(OSError):  # the memo only saves time
        memo.parent.mkdir(parents=True, exist_ok=True)
        new = memo.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"key": key, "sha256": sha256}), encoding="utf-8")
        new.replace(memo)
    return sha256
