"""Source files for the corpus' tests: plain and compressed, and a corpus table of them."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from pipeline.config import CorpusConfig, Source
from pipeline.corpus.formats.places import LocalFile
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.corpus.sources import SOURCES

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
SUFFIXES = ("", *COMPRESSORS)


def write(path: Path, data: str | bytes) -> Path:
    """Write `data` compressed as the path's suffix says."""
    data = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compressed(data, path.suffix))
    return path


def compressed(data: bytes, suffix: str) -> bytes:
    return COMPRESSORS[suffix](data) if suffix in COMPRESSORS else data


def read(format: str, path: Path, **keywords: Any) -> Iterator[Row | BadRow]:
    """The rows of a file of this machine."""
    return SOURCES[format](LocalFile(path), **keywords)


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rows(count: int, start: int = 0, documents_of_a_group: int = 2) -> list[dict[str, str]]:
    """Documents of which no two are alike, a few a group."""
    return [
        {
            "id": f"d{number}",
            "text": f"The mill number {number} stands at the river.\nIt grinds {number} sacks.",
            "group": f"g{number // documents_of_a_group}",
        }
        for number in range(start, start + count)
    ]


def source(path: Path | str, format: str = "jsonl", name: str = "mine", **more: str) -> Source:
    return Source(path=str(path), format=format, name=name, licence="CC0-1.0", **more)


def corpus(*sources: Source, **more: Any) -> CorpusConfig:
    return CorpusConfig(**{"name": "small", "sources": sources, "heldout_share": 0.3} | more)
