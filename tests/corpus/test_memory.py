"""A corpus goes through in bounded memory, whatever its size: shown under a limit of the kernel's."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import BoilerplateLines, CorpusConfig, Deduplication, NearDuplicates
from pipeline.corpus.ingest import ingest_corpus
from pipeline.settings import Settings
from pipeline.store import open_store
from tests.texts import corpus, source

ROOM = 320 << 20
"""Bytes of private memory over what the interpreter and its libraries take; a range of keys takes a third of it."""
MB = 10**6


def texts(size: int) -> Iterator[str]:
    """JSON lines of `size` bytes, of which no two are alike but for their first lines, and every tenth is a copy."""
    number = 0
    while size > 0:
        each = number - 7 if number % 10 == 9 else number
        words = " ".join(f"mill{each * 31 + word * 7 % 1009} grinds{word}" for word in range(100))
        line = json.dumps({"id": number, "text": f"The mill on the river grinds.\n{words}.\n"}) + "\n"
        size -= len(line)
        number += 1
        yield line


def ingest_under_a_limit(folder: Path) -> None:
    """In a process of its own, since a limit can't be lifted again."""
    settings = Settings.from_environment({"BERTMILL_HOME": str(folder / "home")})
    ingest_corpus(table(folder / "warm-up.jsonl", "warm-up"), store=open_store(settings))  # loads all that will be used
    data = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
    limit = (int(data.split()[1]) << 10) + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    ingest_corpus(table(folder / "large-*.jsonl", "large"), store=open_store(settings))


def table(path: Path, name: str) -> CorpusConfig:
    deduplication = Deduplication(near=NearDuplicates(), lines=BoilerplateLines())
    return corpus(source(path), name=name, deduplication=deduplication)


@pytest.mark.long(400, 10 * ROOM // MB)
def test_a_corpus_of_many_times_the_memory_goes_through(tmp_path: Path, rounds: int) -> None:
    """`rounds` are megabytes: with --long ten times the room."""
    for name, size in (("warm-up", MB), *((f"large-{n}", rounds * MB // 4) for n in range(4))):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(texts(size))
    code = "from tests.corpus.test_memory import *; ingest_under_a_limit(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
