"""Held-out scores are those of a loop over single samples with transformers, as its documentation has it."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
import transformers

from pipeline.dataset.batches import heldout_batches
from pipeline.dataset.samples import Samples
from pipeline.evaluation.heldout import heldout_scores
from tests.evaluation.conftest import Scored

LIMIT = 100
"""More than are scored at once, fewer than there are."""


@torch.no_grad()
def one_by_one(scored: Scored, limit: int) -> dict[str, float]:
    samples = Samples(scored.store, scored.dataset, "heldout")
    model = transformers.BertForPreTraining.from_pretrained(scored.model).eval()
    losses, right, sentence_losses, sentence_right = [], [], [], []
    words: Counter[int] = Counter()
    for batch in heldout_batches(samples, limit=limit, micro_batch_size=1):
        ids = batch.input_ids.copy()
        ids[batch.masked_positions] = batch.masked_lm_labels
        boundary = int((batch.token_type_ids == 0).sum())
        is_random_next = batch.next_sentence_label[0]
        words.update(ids[1 : boundary - 1].tolist())
        words.update(ids[boundary:-1].tolist())
        seen, types = torch.tensor(batch.input_ids), torch.tensor(batch.token_type_ids)
        out = model(input_ids=seen[None], token_type_ids=types[None])
        at = torch.tensor(batch.masked_positions)
        logs = out.prediction_logits[0, at].log_softmax(-1)
        target = torch.tensor(ids)[at]
        losses += (-logs[torch.arange(len(at)), target]).tolist()
        right += (logs.argmax(-1) == target).tolist()
        sentence = out.seq_relationship_logits[0].log_softmax(-1)
        sentence_losses.append(-float(sentence[int(is_random_next)]))
        sentence_right.append(int(sentence.argmax()) == int(is_random_next))
    total = words.total()
    return {
        "masked_lm_loss": sum(losses) / len(losses),
        "masked_lm_accuracy": sum(right) / len(right),
        "unigram_entropy": -sum(n / total * math.log(n / total) for n in words.values()),
        "next_sentence_loss": sum(sentence_losses) / len(sentence_losses),
        "next_sentence_accuracy": sum(sentence_right) / len(sentence_right),
        "samples": len(sentence_losses),
        "predictions": len(losses),
    }


@pytest.mark.parametrize("limit", [LIMIT, 10_000])
def test_the_scores_are_those_of_transformers_one_sample_at_a_time(scored: Scored, limit: int) -> None:
    samples = Samples(scored.store, scored.dataset, "heldout")
    expected = one_by_one(scored, limit)
    assert heldout_scores(scored.model, samples, limit) == pytest.approx(expected, rel=1e-5)
    assert expected["samples"] == min(limit, len(samples))


def test_the_two_classes_and_several_words_are_among_what_is_scored(scored: Scored) -> None:
    """Else the comparison above would show little."""
    expected = one_by_one(scored, LIMIT)
    assert 0.1 < expected["next_sentence_accuracy"] < 0.9
    assert 0 < expected["masked_lm_accuracy"] < 0.5
    assert expected["masked_lm_loss"] > expected["unigram_entropy"], "two steps from random weights"


def test_scoring_twice_gives_the_same_numbers(scored: Scored) -> None:
    samples = Samples(scored.store, scored.dataset, "heldout")
    first: dict[str, Any] = heldout_scores(scored.model, samples, 20)
    assert heldout_scores(scored.model, samples, 20) == first
