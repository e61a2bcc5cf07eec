"""The same corpus gives the same bytes: over any shards, in any order of its sources, under any map, in any process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpus.ingest import ingest_corpus
from pipeline.store import Store
from pipeline.vocabulary import counting
from pipeline.vocabulary.build import build_vocabulary
from tests.maps import MAPS, map_named
from tests.texts import corpus, lines, rows, source, write
from tests.vocabulary.made import SHARE, config, made_corpus

PARTS = ((0, 16), (16, 44))
"""Of two sources the first document's number, and how many there are."""


def test_1_2_and_7_shards_and_two_orders_of_the_sources_make_the_same_bytes(store: Store, tmp_path: Path) -> None:
    parts = [source(write(tmp_path / f"{first}.jsonl", lines(rows(count, first)))) for first, count in PARTS]
    whole = source(write(tmp_path / "whole.jsonl", lines(rows(60))))
    shards, digests = [], set()
    for sources in ((whole,), parts, parts[::-1]):
        for size in (1000, 6):
            of = ingest_corpus(corpus(*sources, heldout_share=SHARE, documents_per_shard=size), store=store)
            shards.append(len(store.manifest(of).matching("train/")))
            digests.add(build_vocabulary(config(), of, store=store).digest)
    assert shards == [1, 7, 2, 7, 2, 7]
    assert len(digests) == 1


MAKE = """
import sys
from pipeline.config import VocabularyConfig
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.vocabulary.build import build_vocabulary
if __name__ == "__main__":
    store = open_store(Settings.from_environment({"BERTMILL_HOME": sys.argv[1]}))
    config = VocabularyConfig(name="small", size=90, objective=sys.argv[3])
    print(build_vocabulary(config, store.resolve(sys.argv[2]), store=store, force=True).digest)
"""


@pytest.mark.long(2, 20)
@pytest.mark.parametrize("objective", ["bpe", "wordpiece"])
def test_every_process_makes_the_same_bytes(store: Store, tmp_path: Path, rounds: int, objective: str) -> None:
    home = store.settings.home
    of = made_corpus(store, tmp_path, documents_per_shard=7)
    digests = set()
    for seed in range(rounds):
        fresh = shutil.copytree(home, tmp_path / f"home{seed}", ignore=shutil.ignore_patterns("parts"))
        command = [sys.executable, "-c", MAKE, str(fresh), str(of), objective]
        environment = os.environ | {"PYTHONHASHSEED": str(seed)}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_any_map_makes_the_same_bytes(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LIGHT", 0)  # so that processes have something to do
    digests = []
    for name in MAPS:
        there = Store(store.settings.model_copy(update={"store": (tmp_path / "stores" / name).as_uri()}))
        made = made_corpus(there, tmp_path, documents_per_shard=7)
        with map_named(name) as each:
            digests.append(build_vocabulary(config(), made, store=there, map=each).digest)
    assert len(set(digests)) == 1
