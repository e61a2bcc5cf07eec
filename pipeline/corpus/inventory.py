"""What a stage takes from outside: each file by its name within the source, its size, and what tells its bytes.

The path or glob doesn't count, so a moved corpus recomputes nothing, and new bytes under an old name are noticed. A
local file is told by its sha256, remembered by path, size and time of change: an unchanged file costs one look. An
object of S3 is told by its ETag, a dataset of the hub by its commit: neither is downloaded.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from pipeline.config import Source
from pipeline.corpus.formats.hub import HubShard, hub_shards, saved_files
from pipeline.corpus.formats.places import File, LocalFile, s3_objects
from pipeline.corpus.sources import sample_path
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.store.artifact import Input
from pipeline.store.local import sha256_of


@dataclass(frozen=True)
class InputFile:
    """A source's file: where its bytes lie, and what of it counts. Small, and can go to another process."""

    file: File | HubShard
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
    return [InputFile(file, source, told) for source in sources for file, told in _found(source, settings)]


def _found(source: Source, settings: Settings) -> Iterator[tuple[File | HubShard, Input]]:
    scheme, colon, rest = source.path.partition(":")
    if (scheme, colon) == ("hub", ":"):
        yield from _of_hub(source, rest)
    elif (scheme, colon) == ("s3", ":"):
        yield from _of_s3(source, settings)
    elif colon and "/" not in scheme and rest.startswith("//"):
        raise InputError(
            f"The source {source.path} has the scheme {scheme!r}; give a local path, s3://BUCKET/KEY, hub:NAME or "
            f"sample:NAME."
        )
    else:
        is_sample = (scheme, colon) == ("sample", ":")
        for name, path in [(rest, sample_path(rest))] if is_sample else _local(source):
            if (size := path.stat().st_size) == 0:
                raise _empty(str(path), source)
            yield LocalFile(path), Input(f"{source.name}/{name}", size, _digest(path, settings))


def _of_s3(source: Source, settings: Settings) -> Iterator[tuple[File, Input]]:
    none = True
    for name, found in s3_objects(source.path, settings.store_deadline_s):
        none = False
        if found.size == 0:
            raise _empty(found.name, source)
        yield found, Input(f"{source.name}/{name}", found.size, version=found.etag.strip('"'))
    if none:
        raise _nothing("No object fits" if has_magic(source.path) else "There is no object", source)


def _of_hub(source: Source, path: str) -> Iterator[tuple[HubShard, Input]]:
    if source.format != "huggingface":
        raise InputError(
            f"The source {source.path} is of the Hugging Face hub and has the format {source.format!r}; "
            f'give format = "huggingface".'
        )
    for shard in hub_shards(path, **_of_dataset(source, "config", "split")):
        name = f"{source.name}/{shard.dataset}/{shard.index:05d}-of-{shard.of:05d}"
        yield shard, Input(name, 0, version=shard.commit)


def _of_dataset(source: Source, *names: str) -> dict[str, str]:
    """Those keywords of the reader that say which part of a dataset is meant."""
    return {name: source.keywords[name] for name in names if name in source.keywords}


def _local(source: Source) -> Iterator[tuple[str, Path]]:
    pattern = os.path.expanduser(source.path)  # noqa: PTH111 (a pattern is no path)
    if source.format == "huggingface" and (folder := Path(pattern)).is_dir():
        for path in saved_files(folder, **_of_dataset(source, "split")):
            if not path.is_file():
                raise InputError(f"{path} is missing from its dataset (the source {source.name!r}). Save it anew.")
            yield path.relative_to(folder).as_posix(), path
        return
    found = sorted(Path(path) for path in (glob(pattern, recursive=True) if has_magic(pattern) else [pattern]))
    files = [path for path in found if path.is_file()]
    if not files:
        if has_magic(pattern):
            raise _nothing("No file fits", source)
        raise _nothing("A folder stands at" if found[0].is_dir() else "There is no file", source)
    root = _fixed_part(pattern)
    for path in files:
        yield path.relative_to(root).as_posix(), path


def _nothing(what: str, source: Source) -> InputError:
    return InputError(
        f"{what} {source.path} (the source {source.name!r}). Correct its path; a glob takes in several files."
    )


def _empty(name: str, source: Source) -> InputError:
    return InputError(f"{name} (the source {source.name!r}) is empty. Remove it, or fetch it again.")


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
