"""A corpus far larger than memory goes through the corpus stage, each process under a limit of the kernel's.

    python benchmarks/corpus.py --gb 10 --limit-gb 1.5

The text is made by rule from the sample corpora: sentences drawn anew for each document, with planted copies and near
copies. Every process of the stage gets RLIMIT_DATA (heap and private memory; files mapped read-only don't count), so
that one that wanted more would fail. Printed: the peak of each process' own memory, sampled, and the speed.
"""

import argparse
import json
import random
import re
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.config import BoilerplateLines, CorpusConfig, Deduplication, NearDuplicates, Settings, Source, load_preset
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.inventory import inventory
from pipeline.corpus.sources import SOURCES
from pipeline.mapping import process_map
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
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-gb", type=float, default=1.5)
    parser.add_argument("--folder", type=Path, default=None, help="where input and store go; twice the input's size")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bertmill-benchmark-", dir=given.folder))
    try:
        measure(folder, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, given: argparse.Namespace) -> None:
    settings = Settings.from_environment({"BERTMILL_HOME": str(folder / "home")})
    count = write_input(folder / "input", given.gb, given.files, settings)
    limit = int(given.limit_gb * GB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    source = Source(path=str(folder / "input/*.jsonl"), format="jsonl", name="made", licence="public domain")
    config = CorpusConfig(
        name="large",
        sources=(source,),
        filters=load_preset("base_en").corpus.filters,
        deduplication=Deduplication(near=NearDuplicates(), lines=BoilerplateLines()),
    )
    store = open_store(settings)
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


if __name__ == "__main__":
    main()
