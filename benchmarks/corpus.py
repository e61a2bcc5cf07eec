"""The corpus stage as a whole: a corpus far larger than memory, and what exact deduplication adds.

    python benchmarks/corpus.py memory --gb 10 --limit-gb 1.5
    python benchmarks/corpus.py exact --gb 0.1 --rounds 5

The text is made by rule from the sample corpora: sentences drawn anew for each document, with planted copies and near
copies. `memory` gives every process of the stage RLIMIT_DATA (heap and private memory; files mapped read-only don't
count), so that one that wanted more would fail, and prints the peak of each process' own memory, sampled, and the
speed. `exact` runs the stage without and with exact deduplication in turn, in one process, and prints the ratio of
their CPU time.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import BoilerplateLines, CorpusConfig, Deduplication, NearDuplicates, Source
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.inventory import inventory
from pipeline.corpus.sources import SOURCES
from pipeline.mapping import process_map
from pipeline.preset import load_preset
from pipeline.settings import Settings
from pipeline.store import open_store

SEED = 20_261_125
SENTENCES = (10, 60)
COPIES, NEAR = 0.02, 0.02
GB = 10**9


def sentences(settings: Settings) -> list[str]:
    """Those of the English sample."""
    source = load_preset("tiny").corpus.sources[0]
    (file,) = inventory((source,), settings)
    rows = SOURCES[source.format](file.file)
    return [s for row in rows for s in re.findall(r"[A-Z][^.!?]{20,300}[.!?]", getattr(row, "text", ""))]


def documents(pool: list[str], draw: random.Random) -> Iterator[str]:
    """Texts without end: most of them new, some a copy of a recent one, some all but a copy."""
    recent: list[list[str]] = []
    while True:
        chance = draw.random()
        if recent and chance < COPIES:
            parts = draw.choice(recent)
        elif recent and chance < COPIES + NEAR:
            parts = [*draw.choice(recent), draw.choice(pool)]
        else:
            parts = draw.choices(pool, k=draw.randint(*SENTENCES))
            if len(recent) < 1_000:
                recent.append(parts)
            else:
                recent[draw.randrange(1_000)] = parts
        yield "\n".join(" ".join(parts[at : at + 5]) for at in range(0, len(parts), 5))


def write_input(folder: Path, gb: float, files: int, settings: Settings) -> int:
    """JSON lines in `files` files, `gb` in all; returns how many documents."""
    pool, draw, number = sentences(settings), random.Random(SEED), 0
    texts = documents(pool, draw)
    folder.mkdir(parents=True)
    for each in range(files):
        size = 0
        with (folder / f"{each:03d}.jsonl").open("w", encoding="utf-8", buffering=1 << 22) as file:
            while size < gb * GB / files:
                size += file.write(json.dumps({"id": number, "text": next(texts)}) + "\n")
                number += 1
    return number


class Watch:
    """The peak of each process' own memory, of this one and its children: sampled ten times a second."""

    def __init__(self) -> None:
        self.peaks: dict[int, int] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        threading.Thread(target=self._sample, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.1):
            for process in (me, *me.children(recursive=True)):
                self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), anonymous(process.pid))


def anonymous(pid: int) -> int:
    """Bytes of a process' memory that are no file's."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "exact"))
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-gb", type=float, default=1.5)
    parser.add_argument("--folder", type=Path, default=None, help="where input and store go; twice the input's size")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bertmill-benchmark-", dir=given.folder))
    try:
        (memory if given.what == "memory" else exact)(folder, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(folder: Path, **deduplication: Any) -> CorpusConfig:
    source = Source(path=str(folder / "input/*.jsonl"), format="jsonl", name="made", licence="public domain")
    filters = load_preset("base_en").corpus.filters
    return CorpusConfig(name="large", sources=(source,), filters=filters, deduplication=Deduplication(**deduplication))


def memory(folder: Path, given: argparse.Namespace) -> None:
    settings = Settings.from_environment({"BERTMILL_HOME": str(folder / "home")})
    count = write_input(folder / "input", given.gb, given.files, settings)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # its own sets a gigabyte of addresses aside, which would count
    limit = int(given.limit_gb * GB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    store, config = open_store(settings), table(folder, near=NearDuplicates(), lines=BoilerplateLines())
    start = time.perf_counter()
    with Watch() as watch, process_map(given.workers) as map_:
        made = ingest_corpus(config, store=store, map=map_)
    seconds = time.perf_counter() - start
    totals = store.manifest(made).totals
    print(f"{count:,} documents, {given.gb} GB; {given.workers} workers, each with RLIMIT_DATA of {given.limit_gb} GB")
    speed = given.gb * 1000 / seconds
    print(f"{seconds:,.0f} s: {speed:.1f} MB/s, {speed / given.workers:.1f} a worker")
    print("peak of own memory, MB:", *sorted((peak // 10**6 for peak in watch.peaks.values()), reverse=True))
    print("documents:", totals["documents"], "dropped:", totals["dropped"])


def exact(folder: Path, given: argparse.Namespace) -> None:
    write_input(folder / "input", given.gb, 2, Settings.from_environment({"BERTMILL_HOME": str(folder / "home")}))

    def seconds(name: str, exact: bool) -> float:
        settings = Settings.from_environment({"BERTMILL_HOME": str(folder / name)})
        start = time.process_time()
        ingest_corpus(table(folder, exact=exact), store=open_store(settings))
        taken = time.process_time() - start
        shutil.rmtree(folder / name)
        return taken

    seconds("warm-up", True)
    pairs = [(seconds("without", False), seconds("with", True)) for _ in range(given.rounds)]
    for name, times in zip(("without", "with"), zip(*pairs, strict=True), strict=True):
        print(f"{name:8} {given.gb * 1000 / statistics.median(times):6.1f} MB/s")
    print(f"exact deduplication takes {statistics.median(b / a for a, b in pairs):.3f} times as long")


if __name__ == "__main__":
    main()
