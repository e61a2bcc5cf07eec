"""What a dataset is built from, really stored: corpora with their vocabulary, and single shards of given words."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import DatasetConfig, VocabularyConfig
from pipeline.corpus.document import Document
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.shards import batch_of, shard_sink
from pipeline.dataset.build import build_dataset
from pipeline.dataset.tokens import Shard, load_shard, tokenise_shard
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Recipe, Store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES, Form, write_tokenizer_files
from tests.texts import corpus, lines, source, write

HELDOUT_SHARE = 0.3
SPLITS = ("train", "heldout")
WIDE_GATES = {"max_unknown_share": 1, "max_duplicate_share": 1}
"""Let pass what no one would train on."""


def config(**more: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"name": "small", "max_seq_length": 48} | more)


@dataclass(frozen=True)
class Parents:
    """A store with a corpus of several shards and its vocabulary."""

    store: Store
    corpus: Artifact
    vocabulary: Artifact

    def build(self, map: Any = map, force: bool = False, **more: object) -> Artifact:
        return build_dataset(config(**more), self.corpus, self.vocabulary, store=self.store, map=map, force=force)

    def shards(self, split: str) -> int:
        return len(self.store.manifest(self.corpus).matching(f"{split}/"))

    def tokens(self, split: str) -> list[Shard]:
        entries = self.store.manifest(self.corpus).matching(f"{split}/")
        tokenise = partial(tokenise_shard, vocabulary=self.vocabulary, segmenter=None, store=self.store)
        return [load_shard(tokenise(entry), self.store) for entry in entries]

    def table(self, made: Artifact, split: str) -> pa.Table:
        entries = self.store.manifest(made).matching(f"{split}/")
        return pa.concat_tables(pa.ipc.open_file(self.store.blob(entry)).read_all() for entry in entries)


def parents(
    store: Store, folder: Path, rows: list[dict[str, str]], documents_per_shard: int = 25, **more: Any
) -> Parents:
    path = write(folder / "a.jsonl", lines(rows))
    table = corpus(source(path), heldout_share=HELDOUT_SHARE, documents_per_shard=documents_per_shard, **more)
    of = ingest_corpus(table, store=store)
    return Parents(store, of, build_vocabulary(VocabularyConfig(name="small", size=150), of, store=store))


class Watched(Store):
    """A store that tells which parts were really made."""

    def part(self, stage: str, identity: Any, make: Callable[[PartDraft], dict[str, Any]]) -> Part:
        def noted(draft: PartDraft) -> dict[str, Any]:
            made.append((stage, *identity.get("unit", ())))
            return make(draft)

        made = self.__dict__.setdefault("made", [])
        return super().part(stage, identity, noted)

    def made_since(self) -> list[tuple[Any, ...]]:
        """The parts made since the last call."""
        return sorted(self.__dict__.pop("made", []))


def vocabulary_of(store: Store, tokens: list[str]) -> Artifact:
    """Commit a vocabulary of those tokens."""
    with store.draft(Recipe("vocabulary", VocabularyConfig(name="mine", size=max(16, len(tokens))), 1)) as draft:
        write_tokenizer_files(draft.folder, tokens, Form())
        for name in TOKENIZER_FILES:
            draft.add(name)
        return draft.commit(totals={})


def shard_of(store: Store, texts: list[str]) -> FileEntry:
    """Store a corpus shard of those texts, a document each, a hundred in a record batch."""
    with PartDraft(store) as draft:
        with shard_sink(draft.folder / "train/00000.arrow") as sink:
            documents = [Document(f"d{n}", text, "mine", "en", f"g{n}", "") for n, text in enumerate(texts)]
            for first in range(0, max(1, len(documents)), 100):
                sink.write_batch(batch_of(documents[first : first + 100]))
        return draft.add("train/00000.arrow", rows=len(texts))
