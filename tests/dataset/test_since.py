"""A dataset since another: new documents, and so much of the old ones as was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.ingest import ingest_corpus
from pipeline.dataset.since import selected
from pipeline.errors import InputError, UnknownReference
from pipeline.store import Artifact, Store
from tests.dataset.byhand import HELDOUT_SHARE, Parents, config, parents
from tests.small import small_rows
from tests.texts import corpus, lines, source, write

OLD, ALL = 200, 300


@pytest.fixture
def grown(store: Store, tmp_path: Path) -> tuple[Parents, Artifact]:
    """A corpus of 300 documents, and the dataset of its first 200, which had the same vocabulary."""
    before = parents(store, tmp_path, small_rows(OLD))
    dataset = before.build()
    (tmp_path / "more").mkdir()
    path = write(tmp_path / "more" / "a.jsonl", lines(small_rows(ALL)))
    table = corpus(source(path), heldout_share=HELDOUT_SHARE, documents_per_shard=25)
    return Parents(store, ingest_corpus(table, store=store), before.vocabulary), dataset


def own_texts(given: Parents, made: Artifact) -> set[str]:
    """The samples' first segments, as the ids are spelled."""
    rows = given.table(made, "train").to_pylist()
    return {" ".join(map(str, row["input_ids"][1 : row["segment_boundary"] - 1])) for row in rows}


def test_without_replay_every_sample_is_of_a_new_document(grown: tuple[Parents, Artifact]) -> None:
    given, dataset = grown
    made = given.build(since=str(dataset), replay_share=0)
    old = Parents(given.store, given.store.parent(dataset, "corpus"), given.vocabulary)
    held = [" ".join(map(str, shard.tokens)) for shard in old.tokens("train")]
    assert own_texts(given, made)
    assert not any(f" {text} " in f" {shard} " for text in own_texts(given, made) for shard in held if len(text) > 30)
    assert given.table(made, "heldout").equals(given.table(given.build(), "heldout")), "held-out stays whole"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_old_documents_make_the_share_of_the_tokens_that_was_asked_for(
    grown: tuple[Parents, Artifact], share: float
) -> None:
    given, dataset = grown
    sizes = {}
    for of in (0, share):
        made = given.build(since=str(dataset), replay_share=of)
        sizes[of] = given.store.manifest(made).metrics["train"]["chosen_tokens"]
    assert 1 - sizes[0] / sizes[share] == pytest.approx(share, abs=0.1), "chosen by the document"


def test_a_shard_that_both_hold_is_old_without_being_looked_at(grown: tuple[Parents, Artifact]) -> None:
    given, dataset = grown
    old = {e.sha256 for e in given.store.manifest(given.store.parent(dataset, "corpus")).matching("train/")}
    assert old & {e.sha256 for e in given.store.manifest(given.corpus).matching("train/")}
    by_corpus = given.build(since=str(given.store.parent(dataset, "corpus")), replay_share=0)
    assert by_corpus == given.build(since=str(dataset), replay_share=0), "the dataset leads to its corpus"


def test_nothing_new_is_refused(store: Store, tmp_path: Path) -> None:
    given = parents(store, tmp_path, small_rows())
    dataset = given.build()
    with pytest.raises(InputError) as error:
        given.build(since=str(dataset))
    assert str(error.value) == (
        f"Every document to train on stands in {given.corpus} already, so nothing is new. Add documents to the corpus, "
        f"or leave dataset.since out."
    )


def test_since_names_a_dataset_or_a_corpus(store: Store, tmp_path: Path) -> None:
    given = parents(store, tmp_path, small_rows())
    with pytest.raises(UnknownReference, match="a vocabulary, where a dataset is wanted"):
        given.build(since=str(given.vocabulary))
    with pytest.raises(UnknownReference):
        given.build(since="dataset/none@latest")


def test_an_alias_means_the_same_all_along_though_it_moves_meanwhile(grown: tuple[Parents, Artifact]) -> None:
    given, dataset = grown

    def moving(fn: Any, items: Any, /) -> list[Any]:
        given.store.aliases.tag(given.build(seed=len(moves)), "base", reason="moved")
        moves.append(fn)
        return list(map(fn, items))

    moves: list[Any] = []
    given.store.aliases.tag(dataset, "base", reason="first")
    assert given.build(since="dataset/small@base", map=moving) == given.build(since=str(dataset))
    assert moves


def test_the_path_to_the_earlier_one_makes_no_other_dataset(grown: tuple[Parents, Artifact]) -> None:
    given, dataset = grown
    settings: dict[str, Any] = {"replay_share": 0.2}
    by_version = given.build(since=f"dataset/small@{dataset.version}", **settings)
    assert given.build(since=f"dataset/small@{dataset.version[:8]}", **settings) == by_version
    assert config(since="dataset/a@1").identity() == config().identity()


def test_all_documents_are_selected_without_since(store: Store) -> None:
    assert selected(0, [], None, 4, store).tolist() == [0, 1, 2, 3]
    assert selected(0, [], None, 0, store).dtype == np.int64
