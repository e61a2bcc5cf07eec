"""A small corpus made by rule, its vocabulary and its samples: enough to train and score on within seconds."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import CorpusConfig, DatasetConfig, Source, VocabularyConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.dataset.build import build_dataset
from pipeline.settings import Settings
from pipeline.store import Artifact, Store, open_store
from pipeline.vocabulary.build import build_vocabulary

COMMON = "the a river ran past and where all winter sang to her brother under stone roof with bread".split()
OLD = "mill flour horse candle plough oxen parchment lantern".split()
NEW = "engine wire radio rocket screen signal turbine voltage".split()
DOCUMENTS_OF_A_GROUP = 3


@dataclass(frozen=True)
class Small:
    """What the stages before training leave, and the store it lies in."""

    store: Store
    corpus: Artifact
    vocabulary: Artifact
    dataset: Artifact


def small_rows(documents: int = 150) -> list[dict[str, str]]:
    """Documents of three a group, one year later each; those before 1860 have other words than those after."""
    rows = []
    for number in range(documents):
        draw = random.Random(number)
        year = 1785 + number
        own = OLD if year < 1860 else NEW
        sentences = [
            " ".join(draw.choice(own if draw.random() < 0.4 else COMMON) for _ in range(draw.randint(5, 11))) + "."
            for _ in range(draw.randint(4, 8))
        ]
        rows.append(
            {
                "id": f"d{number}",
                "text": "\n".join(sentences),
                "group": f"g{number // DOCUMENTS_OF_A_GROUP}",
                "lang": "en",
                "date": f"{year}-01-08",
            }
        )
    return rows


def small_home(home: Path, rows: list[dict[str, str]] | None = None, names: Sequence[str] = ("small",)) -> Small:
    """Make corpus, vocabulary and dataset in the store of that home; sources of those names have a share of it each."""
    home.mkdir(parents=True, exist_ok=True)
    rows, sources = rows or small_rows(), list[Source]()
    for number, name in enumerate(names):
        own = rows[number * len(rows) // len(names) : (number + 1) * len(rows) // len(names)]
        (path := home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
        sources.append(Source(path=str(path), format="jsonl", name=name, licence="CC0-1.0"))
    store = store_of(home)
    corpus = ingest_corpus(CorpusConfig(name="small", sources=tuple(sources), heldout_share=0.3), store=store)
    vocabulary = build_vocabulary(VocabularyConfig(name="small", size=150), corpus, store=store)
    dataset = build_dataset(DatasetConfig(name="small", max_seq_length=48), corpus, vocabulary, store=store)
    return Small(store, corpus, vocabulary, dataset)


def store_of(home: Path, **variables: str) -> Store:
    """The store under that home; `variables` are further settings."""
    return open_store(Settings.from_environment({"BERTMILL_HOME": str(home)} | variables))


def untrained_copy(small: Small, home: Path) -> Store:
    """A home of the same corpus, vocabulary and dataset, and no trainings."""
    nothing_trained = shutil.ignore_patterns("pretraining", "work", "logs")
    return store_of(Path(shutil.copytree(small.store.settings.home, home, ignore=nothing_trained)))
