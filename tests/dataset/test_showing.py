"""Samples as they are read: with what their masks hide, and not of a restricted corpus, whose card is counts."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.entries import Entries
from pipeline.dataset.showing import sample_text, sample_texts
from pipeline.dataset.summary import card_rows
from pipeline.errors import ConfigError
from pipeline.store import Store
from pipeline.vocabulary.layout import SPECIALS
from tests.dataset.byhand import HELDOUT_SHARE, Parents, parents
from tests.small import small_rows
from tests.texts import corpus, lines, source, write


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    return parents(store, tmp_path, small_rows())


def test_a_sample_shows_what_is_seen_and_what_it_hides_worked_by_hand() -> None:
    entries = Entries({token: number for number, token in enumerate([*SPECIALS, "the", "mill", "##s", "ran"])})
    text = sample_text("sample 3", np.array([2, 5, 6, 7, 3, 8, 5, 3]), 5, [2, 5, 6], [4, 6, 5], entries)
    assert text == "sample 3\n  A  [CLS] the [MASK]←mill ##s [SEP]\n  B  mill←ran the←the [SEP]"
    assert sample_text("one", np.array([2, 5, 3]), 3, [], [], entries) == "one\n  A  [CLS] the [SEP]"


@pytest.mark.parametrize("masks", ["each_epoch", "stored"])
@pytest.mark.parametrize("pairs", ["nsp", "sop", "none"])
def test_samples_are_spread_over_the_train_part_with_their_masks(given: Parents, masks: str, pairs: str) -> None:
    made = given.build(masks=masks, pairs=pairs, rows_per_shard=60)
    rows = given.table(made, "train").to_pylist()
    texts = list(sample_texts(made, 7, given.store))
    assert len(texts) == 7
    words = {number: token for token, number in Entries.load(given.store, given.vocabulary).ids.items()}
    for number, text in enumerate(texts):
        index = number * len(rows) // 7
        title, *segments = text.split("\n")
        assert title.startswith(f"sample {index:,}: {len(rows[index]['input_ids'])} tokens, ")
        assert len(segments) == (1 if pairs == "none" else 2)
        shown = [each for segment in segments for each in segment[5:].split(" ")]
        assert [each.rpartition("←")[2] for each in shown] == [words[each] for each in rows[index]["input_ids"]]
        hidden = [place for place, each in enumerate(shown) if "←" in each]
        assert hidden, "something is to be predicted"
        if masks == "stored":
            assert hidden == rows[index]["masked_lm_positions"]


def test_more_samples_than_there_are_show_all(given: Parents) -> None:
    made = given.build()
    assert len(list(sample_texts(made, 10**6, given.store))) == given.store.manifest(made).metrics["train"]["samples"]


def test_text_of_a_restricted_corpus_is_not_shown_but_its_card_is(store: Store, tmp_path: Path) -> None:
    from pipeline.corpus.ingest import ingest_corpus

    open_ = parents(store, tmp_path, small_rows())
    table = corpus(source(tmp_path / "a.jsonl"), heldout_share=HELDOUT_SHARE, restricted=True, name="closed")
    write(tmp_path / "a.jsonl", lines(small_rows()))
    given = Parents(store, ingest_corpus(table, store=store), open_.vocabulary)
    made = given.build(name="closed")
    with pytest.raises(ConfigError, match="restricted: no text of it leaves the store"):
        list(sample_texts(made, 1, store))
    assert card_rows(store.manifest(made).metrics)
