"""Caps keep a source's first documents, weights their proportions; both after deduplication."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Source
from pipeline.corpus import reading
from pipeline.corpus.document import Document
from pipeline.corpus.ingest import ingest_corpus
from pipeline.store import Artifact, Store
from tests.corpus.test_ingest import documents
from tests.texts import corpus, lines, rows, source, write


def made(store: Store, *sources: Source, **more: Any) -> tuple[Artifact, list[Document]]:
    artifact = ingest_corpus(corpus(*sources, **more), store=store)
    return artifact, sorted(documents(store, artifact), key=lambda document: int(document.id.partition("/d")[2]))


def numbers(found: list[Document]) -> list[int]:
    return [int(document.id.partition("/d")[2]) for document in found]


@pytest.mark.parametrize("small", [1, 1 << 20])
def test_a_cap_on_documents_keeps_the_first_ones_over_all_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(reading, "SMALL", small)
    for number in range(4):
        write(tmp_path / f"{number}.jsonl", lines(rows(10, start=10 * number)))
    artifact, found = made(store, source(tmp_path / "*.jsonl", max_documents=25))
    assert numbers(found) == list(range(25))
    assert store.manifest(artifact).totals["dropped"] == {"over the source's cap": 15}


def test_a_cap_counts_what_deduplication_leaves(store: Store, tmp_path: Path) -> None:
    given = [*rows(10), *(row | {"id": f"d{100 + n}"} for n, row in enumerate(rows(10))), *rows(20, start=10)]
    artifact, found = made(store, source(write(tmp_path / "a.jsonl", lines(given)), max_documents=15))
    assert numbers(found) == list(range(15))
    dropped = store.manifest(artifact).totals["dropped"]
    assert dropped == {"duplicate text": 10, "over the source's cap": 15}


def test_a_cap_on_characters_is_not_passed(store: Store, tmp_path: Path) -> None:
    given = rows(40)
    sizes = [len(row["text"]) for row in given]
    path = write(tmp_path / "a.jsonl", lines(given))
    for cap in (sum(sizes[:12]), sum(sizes[:13]) - 1):
        _, found = made(store, source(path, max_characters=cap))
        assert numbers(found) == list(range(12))


def test_weights_are_proportions_of_characters_between_the_weighted_sources(store: Store, tmp_path: Path) -> None:
    sources = [
        source(write(tmp_path / f"{name}.jsonl", lines(rows(count, start=start))), name=name, **more)
        for name, count, start, more in (
            ("a", 2_000, 0, {"weight": 3.0}),
            ("b", 2_000, 10_000, {"weight": 1.0}),
            ("c", 100, 50_000, {}),
        )
    ]
    artifact, found = made(store, *sources)
    kept = Counter[str]()
    for document in found:
        kept[document.source] += len(document.text)
    assert kept["a"] / kept["b"] == pytest.approx(3, rel=0.15)
    count = Counter(document.source for document in found)
    assert count["a"] == 2_000
    assert count["c"] == 100
    assert store.manifest(artifact).totals["dropped"] == {"over the source's weight": 2_000 - count["b"]}


def test_a_weighted_source_that_grows_keeps_most_of_its_choice(store: Store, tmp_path: Path) -> None:
    choices = []
    for count in (400, 440):
        first = source(write(tmp_path / "a.jsonl", lines(rows(count))), name="a", weight=1.0)
        second = source(write(tmp_path / "b.jsonl", lines(rows(4_000, start=10_000))), name="b", weight=1.0)
        _, found = made(store, first, second)
        choices.append({document.id for document in found if document.source == "b"})
    assert len(choices[0]) < len(choices[1])
    assert choices[0] < choices[1]
