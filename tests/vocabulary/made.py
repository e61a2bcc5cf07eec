"""Small corpora whose train and held-out parts are known, and what vocabularies of them have."""

import json
from pathlib import Path
from typing import Any

from pipeline.config import VocabularyConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.reading import is_heldout
from pipeline.store import Artifact, Store
from tests.texts import corpus, lines, rows, source, write

SHARE = 0.3


def made_corpus(store: Store, path: Path, given: list[dict[str, str]] | None = None, **more: Any) -> Artifact:
    data = lines(rows(60) if given is None else given)
    return ingest_corpus(corpus(source(write(path / "a.jsonl", data)), heldout_share=SHARE, **more), store=store)


def config(**more: Any) -> VocabularyConfig:
    return VocabularyConfig(**{"name": "small", "size": 90} | more)


def tokens(store: Store, made: Artifact) -> list[str]:
    return store.file(made, "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]


def card(store: Store, made: Artifact) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(store.file(made, "card.json").read_text(encoding="utf-8"))
    return read


def sided(heldout: bool, count: int) -> list[str]:
    """Names of groups that fall on that side."""
    names = (f"g{number}" for number in range(10_000))
    return [name for name, _ in zip((n for n in names if is_heldout(n, SHARE) is heldout), range(count))]


def document(group: str, text: str) -> dict[str, str]:
    return {"id": group, "group": group, "text": text}


def documents(train: list[str], heldout: list[str]) -> list[dict[str, str]]:
    """One a group, on the sides that are asked for."""
    groups = [*sided(False, len(train)), *sided(True, len(heldout))]
    return [document(group, text) for group, text in zip(groups, [*train, *heldout], strict=True)]
