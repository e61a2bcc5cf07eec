"""Where rows come from: each by its first segment's document, over shards, passes and what is replayed."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config import VocabularyConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.dataset.batches import heldout_batches
from pipeline.dataset.entries import Entries
from pipeline.dataset.origins import Origins
from pipeline.dataset.samples import Samples
from pipeline.dataset.showing import sample_texts
from pipeline.store import Artifact, Store
from pipeline.vocabulary.build import build_vocabulary
from tests.dataset.byhand import HELDOUT_SHARE, SPLITS, WIDE_GATES, Parents
from tests.dataset.stored import rows_of, stored
from tests.texts import corpus, lines, source, write

WORDS = {
    "wiki": "mill flour horse candle plough oxen lantern".split(),
    "news": "engine wire radio rocket screen signal voltage".split(),
}


def texts(words: list[str], count: int) -> list[dict[str, str]]:
    """Documents of a few sentences of those words alone."""
    draw = np.random.default_rng(len(words[0]))
    return [
        {"id": f"d{n}", "text": "\n".join(" ".join(draw.choice(words, 9)) + "." for _ in range(6)), "group": f"g{n}"}
        for n in range(count)
    ]


def two_sources(store: Store, folder: Path, count: int) -> Parents:
    """A corpus of two sources with words of their own, in several shards each."""
    paths = {name: write(folder / f"{name}.jsonl", lines(texts(words, count))) for name, words in WORDS.items()}
    sources = [source(path, name=name) for name, path in paths.items()]
    made = ingest_corpus(corpus(*sources, heldout_share=HELDOUT_SHARE, documents_per_shard=15), store=store)
    return Parents(store, made, build_vocabulary(VocabularyConfig(name="small", size=150), made, store=store))


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    return two_sources(store, tmp_path, 60)


def check_each_row_has_the_words_of_its_source(given: Parents, made: Artifact) -> dict[str, list[str]]:
    """Returns each split's sources, row by row."""
    tokens, found = Entries.load(given.store, given.vocabulary).tokens, dict[str, list[str]]()
    for split in SPLITS:
        rows, samples = given.table(made, split).to_pylist(), Samples(given.store, made, split)
        of = samples.origins.of(np.arange(len(samples)))
        assert len(of) == len(rows)
        found[split] = [samples.origins.names[number] for number in of]
        for row, name in zip(rows, found[split], strict=True):
            own = row["input_ids"][1 : row["segment_boundary"] - 1]
            words = " ".join(tokens[each] for each in own).replace(" ##", "").replace(".", "").split()
            assert set(words) <= set(WORDS[name])
        assert set(found[split]) == set(WORDS)
    return found


def test_rows_are_told_apart_by_runs_worked_by_hand() -> None:
    origins = Origins([("wiki", 6), ("news", 3), ("wiki", 3)])
    assert origins.names == ("news", "wiki")
    assert origins.of(np.array([0, 5, 6, 8, 9, 11])).tolist() == [1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("pairs", ["nsp", "sop", "none"])
def test_each_row_is_of_its_first_segments_source_over_all_shards_and_passes(given: Parents, pairs: str) -> None:
    assert given.shards("train") > 4
    made = given.build(pairs=pairs, dupe_factor=3, rows_per_shard=40)
    found = check_each_row_has_the_words_of_its_source(given, made)
    changes = sum(a != b for a, b in zip(found["train"], found["train"][1:], strict=False))
    assert changes == 5, "two sources in each of three passes"


def test_what_is_new_and_what_is_replayed_are_told_apart_too(given: Parents, store: Store, tmp_path: Path) -> None:
    before = given.build()
    grown = two_sources(store, tmp_path / "grown", 90)
    made = grown.build(since=str(before), replay_share=0.3)
    assert (
        store.manifest(made).metrics["train"]["chosen_tokens"] < store.manifest(made).metrics["train"]["source_tokens"]
    )
    check_each_row_has_the_words_of_its_source(grown, made)


def test_googles_script_doesnt_say_of_which_source_a_sample_is(given: Parents) -> None:
    made = given.build(rules="google", masks="stored", gates=WIDE_GATES)
    assert Samples(given.store, made, "heldout").origins.names == ()


def test_a_dataset_made_before_sources_were_kept_is_read_all_the_same(store: Store) -> None:
    samples = Samples(store, stored(store, [rows_of([20] * 5)]))
    assert samples.origins.names == ()


def test_held_out_batches_have_of_each_source_its_share(given: Parents) -> None:
    samples = Samples(given.store, given.build(), "heldout")
    (batch,) = heldout_batches(samples, limit=20, micro_batch_size=50)
    shares = [np.bincount(samples.origins.of(rows)) / len(rows) for rows in (batch.indices, np.arange(len(samples)))]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_samples_are_shown_with_their_source(given: Parents) -> None:
    shown = [text.split(":")[0] for text in sample_texts(given.build(), 10, given.store)]
    names = [title.rpartition(" of ")[2] for title in shown]
    assert names == ["wiki"] * names.count("wiki") + ["news"] * names.count("news"), "in the corpus' order"
    assert set(names) == set(WORDS)
