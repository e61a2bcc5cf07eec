"""How fast sources are read, on one core: MB of text a second for each format and compression, one table.

    python benchmarks/reading.py [FILE.jsonl] [--mb N] [--rounds N]

FILE has members `text` and `id`; without it words are drawn. The ratio is to a loop of `json.loads` over the lines of
the plain file, which makes no documents: the median of rounds in which both take turns. The peak is a reader's own
process', less what its imports take. `one line` is a line of 500 MB between two documents.
"""

import argparse
import bz2
import csv
import gzip
import json
import lzma
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson  # noqa: F401 (as the other modules: so that a peak is without it)
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.corpus.formats.places import LocalFile
from pipeline.corpus.sources import SOURCES

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=1),
    ".zst": zstandard.compress,
}


def drawn_rows(mb: int) -> list[dict[str, str]]:
    """Documents of words, `mb` million characters in all."""
    draw, rows, size = random.Random(1), list[dict[str, str]](), 0
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(20_000)]
    while size < mb * 1_000_000:
        rows.append({"id": f"d{len(rows)}", "text": " ".join(draw.choices(words, k=draw.randint(50, 400)))})
        size += len(rows[-1]["text"])
    return rows


def write_all(rows: list[dict[str, str]], folder: Path) -> list[tuple[str, str, Path]]:
    """(what, format, path) for each way in which the rows can lie there."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    plain = {"jsonl": lines, "text": "\n\n".join(row["text"] for row in rows).encode()}
    for name, data in plain.items():
        (folder / name).write_bytes(data)
    for suffix, compressor in COMPRESSORS.items():
        (folder / f"jsonl{suffix}").write_bytes(compressor(lines))
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["id", "text"])
            writer.writerows([row["id"], row["text"]] for row in rows)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "parquet", row_group_size=len(rows))
    with pa.OSFile(str(folder / "arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=1_000)
    with (folder / "one line").open("wb") as sink:
        sink.write(b'{"text": "a"}\n')
        sink.writelines(b"x" * 1_000_000 for _ in range(500))
        sink.write(b'\n{"text": "b"}\n')
    names = [*SOURCES.keys() - {"huggingface"}, *(f"jsonl{suffix}" for suffix in COMPRESSORS)]
    ways = [(name, name.partition(".")[0], folder / name) for name in sorted(names) if (folder / name).exists()]
    return [*ways, ("one line", "jsonl", folder / "one line")]


def seconds(fn: Callable[[], Any]) -> float:
    started = time.perf_counter()
    fn()
    return time.perf_counter() - started


def read(format: str, path: Path) -> None:
    for _ in SOURCES[format](LocalFile(path)):
        pass


def load_lines(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def peak_mb(format: str, path: Path) -> float:
    """What reading takes at once, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mb, format, path).result()


def _peak_mb(format: str, path: Path) -> float:
    before = high_water_mb()
    read(format, path)
    return high_water_mb() - before


def high_water_mb() -> float:
    """The most that this process has held; getrusage would tell its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--mb", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rows = drawn_rows(asked.mb)
    if asked.file:
        rows = [json.loads(line) for line in asked.file.open(encoding="utf-8")]
        rows = [{"id": str(row.get("id", number)), "text": row["text"]} for number, row in enumerate(rows)]
    megabytes = sum(len(row["text"].encode()) for row in rows) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        ways = write_all(rows, Path(folder))
        print(f"{len(rows):,} documents, {megabytes:.0f} MB\n\n| what | MB/s | ratio | peak MB |\n|---|---|---|---|")
        for what, kind, path in ways:
            size = path.stat().st_size / 1e6 if what == "one line" else megabytes
            pairs = [
                (seconds(lambda: read(kind, path)), seconds(lambda: load_lines(Path(folder) / "jsonl")))  # noqa: B023
                for _ in range(asked.rounds)
            ]
            own = statistics.median(pair[0] for pair in pairs)
            ratio = statistics.median(other / mine for mine, other in pairs) * (size / megabytes)
            print(f"| {what} | {size / own:.0f} | {ratio:.2f} | {peak_mb(kind, path):.0f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
