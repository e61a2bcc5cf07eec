"""Faults of google-research/bert's script that are asked for: each is there, and alone."""

import pytest

from pipeline.config import DatasetConfig
from tests.dataset.numbered import Text, numbered, own_tokens, random_lengths, segments

NEVER, ALWAYS = 1e-9, 1 - 1e-9
"""As near to 0 and 1 as makes no difference; the config allows neither."""


def config(**more: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"name": "small", "max_seq_length": 32} | more)


@pytest.fixture(scope="module")
def text() -> Text:
    """Sixty documents over several shards; some sentences are longer than half a sample."""
    return numbered(random_lengths(60, 1, 40), documents_per_shard=7)


def test_a_lone_sentence_is_random_where_that_fault_is_kept() -> None:
    text = numbered([[14]] * 30)
    samples = [sample for _, sample in text.all_samples(config(faults=["lone_sentence_is_random"], short_seq_prob=0))]
    assert [sample.is_random_next for sample in samples] == [True] * 30
    assert [segments(sample)[0] for sample in samples] == [text.own(number) for number in range(30)]


def test_one_target_serves_a_whole_document_where_that_fault_is_kept() -> None:
    text = numbered([[1] * 2_000] * 40)
    of = config(faults=["one_target_a_document"], short_seq_prob=1, random_next_share=NEVER)
    targets = set()
    for number in range(len(text)):
        lengths = {len(sample.input_ids) for sample in text.samples(number, of)[:-2]}
        assert len(lengths) == 1
        targets |= lengths
    assert len(targets) > 10


def test_truncation_fills_samples_and_throws_text_away_where_that_fault_is_kept(text: Text) -> None:
    of = config(faults=["truncation"], short_seq_prob=0)
    samples = list(text.all_samples(of))
    assert all(len(sample.input_ids) <= 32 for _, sample in samples)
    full = sum(len(sample.input_ids) == 32 for _, sample in samples)
    assert full > 0.7 * len(samples), "all but a document's last, and those whose donor ends"
    held = sum(len(own_tokens(sample)) for _, sample in samples)
    assert held < 0.9 * sum(map(sum, text.lengths))


def test_the_own_document_is_another_where_that_fault_is_kept_and_there_is_no_other() -> None:
    text = numbered([[5] * 40])
    samples = text.samples(0, config(faults=["own_document_as_another"], random_next_share=ALWAYS))
    assert len(samples) > 5
    assert all(sample.is_random_next for sample in samples)
