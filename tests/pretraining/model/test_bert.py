"""Our encoder is transformers' BERT: the same weights give the same logits, loss and gradients, packed or padded."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.weights.export import from_hugging_face, load_pretrained, save_pretrained, to_hugging_face

VOCABULARY = 101  # no multiple of 64: the padding must not show
CONFIG = PretrainingConfig(
    name="t",
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=64,
    hidden_dropout_prob=0.0,
    initializer_range=0.2,  # so that logits are far from flat
)
LENGTHS = [5, 64, 17, 33, 32, 31, 9, 16]


def batch_of(lengths: list[int]) -> Batch:
    random = np.random.default_rng(1)
    total = sum(lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)))[:-1]
    masked = np.sort(
        np.concatenate([s + random.choice(n, max(1, n // 6), replace=False) for s, n in zip(starts, lengths)])
    )
    return Batch(
        input_ids=random.integers(1, VOCABULARY, total),  # theirs gives id 0, [PAD], no gradient
        token_type_ids=random.integers(0, 2, total),
        position_ids=np.concatenate([np.arange(n) for n in lengths]),
        lengths=np.array(lengths, np.int32),
        masked_positions=masked,
        masked_lm_labels=random.integers(0, VOCABULARY, len(masked)),
        next_sentence_label=random.integers(0, 2, len(lengths)),
        indices=np.arange(len(lengths)),
        datasets=np.zeros(len(lengths), np.int64),
    )


def padded(batch: Batch, values: np.ndarray, fill: int) -> torch.Tensor:
    ends = np.cumsum(batch.lengths)
    out = torch.full((len(batch.lengths), max(batch.lengths)), fill, dtype=torch.int64)
    for row, (end, length) in enumerate(zip(ends, batch.lengths)):
        out[row, :length] = torch.from_numpy(values[end - length : end])
    return out


def theirs_for(model: BertForPreTraining) -> transformers.BertForPreTraining:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = transformers.BertForPreTraining(config).eval()
    missing, unexpected = theirs.load_state_dict(to_hugging_face(model.state_dict(), CONFIG, VOCABULARY), strict=False)
    assert not unexpected
    assert set(missing) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}, "these are tied"
    theirs.tie_weights()
    return theirs


def test_logits_loss_and_gradients_equal_transformers_within_1e_5() -> None:
    ours = BertForPreTraining(CONFIG, VOCABULARY)
    theirs = theirs_for(ours)
    batch = batch_of(LENGTHS)
    tensors = TensorBatch.of(batch, torch.device("cpu"))

    labels = np.full(sum(LENGTHS), -100)
    labels[batch.masked_positions] = batch.masked_lm_labels
    out = theirs(
        input_ids=padded(batch, batch.input_ids, 0),
        attention_mask=padded(batch, np.ones(sum(LENGTHS), np.int64), 0),
        token_type_ids=padded(batch, batch.token_type_ids, 0),
        labels=padded(batch, labels, -100),
        next_sentence_label=torch.from_numpy(batch.next_sentence_label),
    )
    out.loss.backward()

    hidden = ours.encode(tensors)
    real = padded(batch, np.ones(sum(LENGTHS), np.int64), 0).bool()
    logits = ours.masked_lm_logits(hidden)[:, :VOCABULARY]
    torch.testing.assert_close(logits, out.prediction_logits[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        ours.next_sentence_logits(hidden, tensors.layout), out.seq_relationship_logits, atol=1e-5, rtol=1e-5
    )

    losses = ours(tensors)
    loss = losses.masked_lm / len(batch.masked_positions) + losses.next_sentence / len(LENGTHS)
    torch.testing.assert_close(loss, out.loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    gradients = to_hugging_face({name: p.grad for name, p in ours.named_parameters()}, CONFIG, VOCABULARY)
    expected = dict(theirs.named_parameters())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name].grad, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_padding_rows_of_the_vocabulary_get_no_gradient() -> None:
    model = BertForPreTraining(CONFIG, VOCABULARY)
    model(TensorBatch.of(batch_of(LENGTHS), torch.device("cpu"))).masked_lm.backward()
    assert model.word_embeddings.weight.grad[VOCABULARY:].abs().max() == 0
    assert model.decoder_bias.grad[VOCABULARY:].abs().max() == 0


def test_the_loss_of_a_batch_is_the_sum_over_any_split_of_it() -> None:
    model = BertForPreTraining(CONFIG, VOCABULARY)
    whole = model(TensorBatch.of(batch_of([9, 9]), torch.device("cpu")))
    batch = batch_of([9, 9])
    first = batch.masked_positions < 9
    half = Batch(
        batch.input_ids[:9], batch.token_type_ids[:9], batch.position_ids[:9], batch.lengths[:1],
        batch.masked_positions[first], batch.masked_lm_labels[first], batch.next_sentence_label[:1], batch.indices[:1],
        batch.datasets[:1],
    )  # fmt: skip
    other = Batch(
        batch.input_ids[9:], batch.token_type_ids[9:], batch.position_ids[9:], batch.lengths[1:],
        batch.masked_positions[~first] - 9, batch.masked_lm_labels[~first],
        batch.next_sentence_label[1:], batch.indices[1:], batch.datasets[1:],
    )  # fmt: skip
    halves = [model(TensorBatch.of(each, torch.device("cpu"))) for each in (half, other)]
    torch.testing.assert_close(whole.masked_lm, sum(each.masked_lm for each in halves))
    torch.testing.assert_close(whole.next_sentence, sum(each.next_sentence for each in halves))


def test_keeping_no_activations_changes_no_loss_and_no_gradient() -> None:
    kept, recomputed = (
        BertForPreTraining(CONFIG.model_copy(update={"activation_checkpointing": each}), VOCABULARY)
        for each in (False, True)
    )
    batch = TensorBatch.of(batch_of(LENGTHS), torch.device("cpu"))
    for model in (kept, recomputed):
        losses = model(batch)
        (losses.masked_lm + losses.next_sentence).backward()
    for (name, one), (_, other) in zip(kept.named_parameters(), recomputed.named_parameters()):
        assert torch.equal(one.grad, other.grad), name


def test_losses_of_each_prediction_and_sample_add_up_to_the_sums() -> None:
    model, batch = BertForPreTraining(CONFIG, VOCABULARY), TensorBatch.of(batch_of(LENGTHS), torch.device("cpu"))
    with torch.no_grad():
        for sum_, each in zip(model(batch), model(batch, reduction="none")):
            torch.testing.assert_close(each.double().sum(), sum_.double(), rtol=1e-5, atol=1e-5)


def test_an_export_loads_in_transformers_and_comes_back_the_same(tmp_path: Path) -> None:
    model = BertForPreTraining(CONFIG, VOCABULARY)
    save_pretrained(model.state_dict(), CONFIG, VOCABULARY, tmp_path)
    theirs, report = transformers.BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.arange(7)[None]
    again = load_pretrained(tmp_path, CONFIG)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=0, rtol=0)
    assert theirs.eval()(input_ids=ids).prediction_logits.shape == (1, 7, VOCABULARY)
    state = theirs.state_dict()
    assert from_hugging_face(state, CONFIG, VOCABULARY).keys() == model.state_dict().keys()


@pytest.mark.parametrize("lengths", [[1], [16, 16], [15, 17, 1], [64] * 3])
def test_any_lengths_can_be_packed(lengths: list[int]) -> None:
    model = BertForPreTraining(CONFIG, VOCABULARY)
    together = model.encode(TensorBatch.of(batch := batch_of(lengths), torch.device("cpu")))
    start = 0
    for length in lengths:
        alone = Batch(
            batch.input_ids[start : start + length], batch.token_type_ids[start : start + length],
            batch.position_ids[start : start + length], np.array([length], np.int32), *[np.empty(0, np.int64)] * 5,
        )  # fmt: skip
        one = model.encode(TensorBatch.of(alone, torch.device("cpu")))
        torch.testing.assert_close(together[start : start + length], one, atol=1e-5, rtol=1e-5)
        start += length
