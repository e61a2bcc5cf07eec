"""The metadata task: labels from what is known of held-out documents, and nothing shared between its splits."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import CorpusConfig, Plug, Source, bound
from pipeline.corpus.document import Document, read_documents
from pipeline.corpus.ingest import ingest_corpus
from pipeline.errors import ConfigError, InputError
from pipeline.evaluation.tasks import TASKS, LabelledText, metadata
from pipeline.store import Artifact, Store
from tests.evaluation.conftest import Scored
from tests.small import small_rows

BOUNDARIES = [1810, 1860, 1900]


@pytest.fixture
def varied(store: Store, tmp_path: Path) -> Artifact:
    """Two sources, two languages, some dates that are unknown or partly known."""
    rows = small_rows(240)
    for number, row in enumerate(rows):
        group = int(row["group"][1:])
        row["lang"] = "zh" if group % 3 == 0 else "en"
        row["date"] = ("", row["date"], row["date"][:4], row["date"][:7])[number % 4]
    sources = []
    for name, half in (("first", rows[::2]), ("second", rows[1::2])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in half), encoding="utf-8")
        sources.append(Source(path=str(path), format="jsonl", name=name, licence="CC0-1.0"))
    return ingest_corpus(CorpusConfig(name="varied", sources=tuple(sources), heldout_share=0.5), store=store)


def documents(corpus: Artifact, store: Store, split: str = "heldout") -> dict[str, Document]:
    entries = store.manifest(corpus).matching(f"{split}/")
    return {document.id: document for entry in entries for document in read_documents(store.blob(entry))}


def origin(example: LabelledText) -> str:
    """The id of the document that an example was taken from."""
    return example.id.rpartition("#")[0]


def test_labels_are_the_periods_between_boundaries_and_a_boundary_begins_its_period(scored: Scored) -> None:
    task = metadata(scored.corpus, scored.store, label="date", boundaries=BOUNDARIES)
    known = documents(scored.corpus, scored.store)
    seen = set()
    for example in (*task.train, *task.test):
        year = int(known[origin(example)].date[:4])
        if year < 1810:
            expected = "before 1810"
        elif year < 1860:
            expected = "from 1810 before 1860"
        elif year < 1900:
            expected = "from 1860 before 1900"
        else:
            expected = "from 1900"
        assert example.label == expected, year
        seen.add(expected)
    assert len(seen) == 4


def test_the_very_year_of_a_boundary_is_in_the_later_period(scored: Scored) -> None:
    known = documents(scored.corpus, scored.store)
    year = sorted(int(document.date[:4]) for document in known.values())[len(known) // 2]
    task = metadata(scored.corpus, scored.store, label="date", boundaries=[year])
    labels = {int(known[origin(e)].date[:4]): e.label for e in (*task.train, *task.test)}
    assert labels[year] == f"from {year}"
    assert {label for other, label in labels.items() if other < year} == {f"before {year}"}


def test_the_order_in_which_boundaries_are_given_does_not_matter(scored: Scored) -> None:
    forward, backward = (
        metadata(scored.corpus, scored.store, label="date", boundaries=each) for each in (BOUNDARIES, BOUNDARIES[::-1])
    )
    assert forward == backward


@pytest.mark.parametrize("label", ["source", "lang"])
def test_a_label_is_what_its_documents_field_says(label: Any, varied: Artifact, store: Store) -> None:
    task = metadata(varied, store, label=label)
    known = documents(varied, store)
    for example in (*task.train, *task.test):
        assert example.label == getattr(known[origin(example)], label)
    for split in (task.train, task.test):
        assert len({example.label for example in split}) == 2


def test_a_document_without_a_date_is_left_out_and_one_with_its_year_alone_is_not(
    varied: Artifact, store: Store
) -> None:
    task = metadata(varied, store, label="date", boundaries=[1900], train_examples=10_000, test_examples=10_000)
    used = {origin(example) for example in (*task.train, *task.test)}
    assert used == {name for name, document in documents(varied, store).items() if document.date}
    assert any(len(documents(varied, store)[name].date) == 4 for name in used)


def test_examples_are_passages_of_held_out_documents_only(scored: Scored) -> None:
    task = metadata(scored.corpus, scored.store, label="date", boundaries=BOUNDARIES)
    held_out = documents(scored.corpus, scored.store)
    trained_on = documents(scored.corpus, scored.store, "train")
    examples = (*task.train, *task.test)
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        assert origin(example) in held_out
        assert origin(example) not in trained_on
        assert " ".join(example.text.split()) in " ".join(held_out[origin(example)].text.split())


def test_no_document_and_no_group_is_on_both_sides_of_the_split(scored: Scored) -> None:
    task = metadata(scored.corpus, scored.store, label="date", boundaries=[1860])
    known = documents(scored.corpus, scored.store)
    groups = [{known[origin(example)].group for example in split} for split in (task.train, task.test)]
    assert not groups[0] & groups[1]
    assert all(len(each) > 2 for each in groups)
    assert any(count > 1 for count in Counter(known[name].group for name in known).values()), "groups of several"


def test_the_examples_are_the_same_each_time_and_no_more_than_asked_for(scored: Scored) -> None:
    few = [
        metadata(scored.corpus, scored.store, label="date", boundaries=[1860], train_examples=9, test_examples=6)
        for _ in range(2)
    ]
    assert few[0] == few[1]
    assert (len(few[0].train), len(few[0].test)) == (9, 6)


@pytest.mark.parametrize("keywords", [{"label": "lang"}, {"label": "source"}, {"label": "date", "boundaries": [1700]}])
def test_one_class_is_an_error_that_says_what_to_change(keywords: dict[str, Any], scored: Scored) -> None:
    with pytest.raises(InputError) as caught:
        metadata(scored.corpus, scored.store, **keywords)
    assert f"label = '{keywords['label']}'" in str(caught.value)
    assert str(scored.corpus) in str(caught.value)
    assert "it needs 2" in str(caught.value)


def test_a_label_that_documents_have_not_is_refused_before_any_reading() -> None:
    with pytest.raises(ConfigError, match=r"The task 'metadata': label is 'author'"):
        bound(Plug.model_validate({"name": "metadata", "label": "author"}), TASKS, "task")
    with pytest.raises(ConfigError, match=r"has no keyword 'boundary'. Did you mean 'boundaries'\?"):
        bound(Plug.model_validate({"name": "metadata", "label": "date", "boundary": [1]}), TASKS, "task")
    with pytest.raises(ConfigError, match=r"The task 'metadata' needs the keyword 'label'"):
        bound(Plug(name="metadata"), TASKS, "task")
