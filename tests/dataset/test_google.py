"""The parity mode: the artifact's rows are, one by one, the samples of the reference, masks and order included."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import DatasetConfig
from pipeline.dataset import google
from pipeline.dataset.reference import reference_samples
from pipeline.errors import ConfigError
from pipeline.store import Store
from pipeline.vocabulary.tokenizer import load_tokenizer
from tests.dataset.byhand import Parents, config, parents
from tests.small import small_rows

GOOGLE = {"rules": "google", "masks": "stored"}


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    return parents(store, tmp_path, small_rows(60))


def spelled(given: Parents, row: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """A row as the reference gives a sample."""
    tokens = [words[each] for each in row["input_ids"]]
    labels = [tokens[place] for place in row["masked_lm_positions"]]
    for place, each in zip(row["masked_lm_positions"], row["masked_lm_inputs"], strict=True):
        tokens[place] = words[each]
    boundary = row["segment_boundary"]
    return {
        "tokens": tokens,
        "segment_ids": [0] * boundary + [1] * (len(tokens) - boundary),
        "masked_lm_positions": row["masked_lm_positions"],
        "masked_lm_labels": labels,
        "is_random_next": bool(row["next_sentence_label"]),
    }


@pytest.mark.parametrize("masker", ["token", "whole_word"])
@pytest.mark.parametrize(("length", "dupe_factor", "rows"), [(48, 1, 65_536), (128, 3, 37)])
def test_rows_are_the_references_samples_one_by_one(
    given: Parents, masker: str, length: int, dupe_factor: int, rows: int
) -> None:
    made = given.build(
        **GOOGLE, masker={"name": masker}, max_seq_length=length, dupe_factor=dupe_factor, rows_per_shard=rows, seed=7
    )
    ids = load_tokenizer(given.store, given.vocabulary).get_vocab()
    words = sorted(ids, key=ids.__getitem__)
    documents = []
    for shard in given.tokens("train"):
        tokens = [words[each] for each in shard.tokens.tolist()]
        sentences = [tokens[first:last] for first, last in pairwise(shard.sentences.tolist())]
        documents += [sentences[first:last] for first, last in pairwise(shard.documents.tolist())]
    expected = reference_samples(
        documents,
        words,
        max_seq_length=length,
        max_predictions_per_seq=config(max_seq_length=length).predictions_per_seq,
        dupe_factor=dupe_factor,
        do_whole_word_mask=masker == "whole_word",
        seed=7,
    )
    found = [spelled(given, row, words) for row in given.table(made, "train").to_pylist()]
    assert found == [vars(each) for each in expected]
    assert given.store.manifest(made).metrics["train"]["samples"] == len(expected)


def test_more_text_than_fits_into_memory_is_refused(given: Parents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "MOST_TOKENS", 100)
    with pytest.raises(
        ConfigError, match=r'rules = "google" keeps all text in memory, which is for 100 tokens at most'
    ):
        given.build(**GOOGLE)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"masks": "each_epoch"}, "stores masks"),
        ({"pairs": "sop"}, "knows no pairs but the default"),
        ({"masker": {"name": "span"}}, 'masks by "token" or "whole_word"'),
        ({"masker": {"name": "token", "share": 1}}, "without keywords"),
        ({"random_next_share": 0.4}, "knows no random_next_share"),
        ({"faults": ["truncation"]}, "knows no faults"),
    ],
)
def test_what_the_original_knows_no_setting_for_is_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DatasetConfig.model_validate({"name": "x", **GOOGLE, **more})
