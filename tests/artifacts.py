"""Small artifacts for the store's tests: recipes told apart by a number, and files of given texts."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import VocabularyConfig
from pipeline.store import Artifact, Recipe, Store

FILES = {"vocab.txt": "[PAD]\nmill\n", "card/card.json": "{}"}


def recipe(number: int = 0, name: str = "small", **more: Any) -> Recipe:
    """The recipe of another fingerprint for each number."""
    return Recipe("vocabulary", VocabularyConfig(name=name, size=16 + number), 1, **more)


def commit(store: Store, made: Recipe, files: Mapping[str, str] = FILES, *, force: bool = False) -> Artifact:
    """Really make it: write the files, store them, commit."""
    with store.draft(made, force=force) as draft:
        for path, text in files.items():
            target = draft.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            draft.add(path)
        return draft.commit(totals={"files": len(files)})


def keys(store: Store, prefix: str = "") -> list[str]:
    """All keys of the store below `prefix`, without its test of create-only writes."""
    return [each.key for each in store.backend.list(prefix) if not each.key.startswith("work/self-test/")]
