"""On a GPU the encoder is the one that a CPU has: its attention, compiled regions and fixed buffers change nothing."""

import copy

import numpy as np
import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, filled
from pipeline.dataset.dealing import Capacity
from pipeline.pretraining.model.attention import packed_attention
from pipeline.pretraining.model.bert import BertForPreTraining, Losses, TensorBatch
from pipeline.pretraining.model.layout import Layout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTHS = np.array([5, 128, 17, 33, 32, 127, 9, 64, 128, 100], np.int32)
CONFIG = PretrainingConfig(
    name="t",
    hidden_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=128,
    hidden_dropout_prob=0.0,
    initializer_range=0.05,
)
VOCABULARY = 1_001


def batch_of(lengths: np.ndarray) -> Batch:
    random = np.random.default_rng(1)
    total, starts = int(lengths.sum()), np.concatenate(([0], np.cumsum(lengths)))[:-1]
    masked = np.sort(np.concatenate([s + random.choice(n, max(1, n // 6), False) for s, n in zip(starts, lengths)]))
    return Batch(
        input_ids=random.integers(1, VOCABULARY, total),
        token_type_ids=random.integers(0, 2, total),
        position_ids=np.concatenate([np.arange(n) for n in lengths]),
        lengths=lengths,
        masked_positions=masked,
        masked_lm_labels=random.integers(0, VOCABULARY, len(masked)),
        next_sentence_label=random.integers(0, 2, len(lengths)),
        indices=np.arange(len(lengths)),
        datasets=np.zeros(len(lengths), np.int64),
    )


def step(model: BertForPreTraining, batch: Batch, device: str) -> tuple[Losses, dict[str, torch.Tensor]]:
    model = copy.deepcopy(model).to(device)
    losses = model(TensorBatch.of(batch, torch.device(device)))
    (losses.masked_lm / batch.predictions + losses.next_sentence / batch.sequences).backward()
    return losses, {name: each.grad.float().cpu() for name, each in model.named_parameters()}


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("path", ["short", "long", "varlen", "padded"])
def test_packed_attention_equals_the_cpus_within_bf16_rounding(path: str) -> None:
    from pipeline.pretraining.model.attention_kernels import HEAD_SIZES  # there is no triton where there is no GPU

    torch.manual_seed(1)
    lengths = np.concatenate(([0, 0], LENGTHS, [300] if path == "long" else [1])).astype(np.int32)
    size = 48 if path == "varlen" else 64
    assert (size in HEAD_SIZES) == (path != "varlen"), "those of another size are torch's"
    qkv = torch.randn(int(lengths.sum()), 3 * 4 * size)
    exact = qkv.double().requires_grad_()
    attended = packed_attention(exact, 4, Layout.of(lengths, torch.device("cpu")))
    weights = torch.randn_like(attended)
    (attended * weights).sum().backward()
    given = qkv.cuda() if path == "padded" else qkv.bfloat16().cuda()
    found = packed_attention(given.requires_grad_(), 4, Layout.of(lengths, torch.device("cuda")))
    (found * weights.cuda()).sum().backward()
    assert error(found.detach().double().cpu(), attended.detach()) < 6e-3
    assert error(given.grad.double().cpu(), exact.grad) < 1e-2


def test_losses_and_gradients_equal_the_cpus_within_bf16_rounding() -> None:
    model, batch = BertForPreTraining(CONFIG, VOCABULARY), batch_of(LENGTHS)
    exact, expected = step(model, batch, "cpu")
    losses, gradients = step(model.bfloat16(), batch, "cuda")
    assert float(losses.masked_lm) == pytest.approx(float(exact.masked_lm), rel=3e-3)
    assert float(losses.next_sentence) == pytest.approx(float(exact.next_sentence), rel=2e-2)
    for name, gradient in gradients.items():
        assert error(gradient, expected[name]) < 0.06, name


def test_compiled_regions_equal_eager_ones_within_bf16_rounding() -> None:
    model, batch = BertForPreTraining(CONFIG, VOCABULARY).bfloat16(), batch_of(LENGTHS)
    eager, expected = step(model, batch, "cuda")
    model = model.cuda()
    model.compile_regions(torch.bfloat16)
    losses = model(TensorBatch.of(batch, torch.device("cuda")))
    (losses.masked_lm / batch.predictions + losses.next_sentence / batch.sequences).backward()
    assert float(losses.masked_lm) == pytest.approx(float(eager.masked_lm), rel=3e-3)
    assert int(losses.masked_lm_correct) == pytest.approx(int(eager.masked_lm_correct), abs=2)
    for name, each in model.named_parameters():
        assert error(each.grad.float().cpu(), expected[name]) < 0.06, name


def test_what_fills_a_fixed_buffer_changes_no_loss_and_no_gradient() -> None:
    model, batch = BertForPreTraining(CONFIG, VOCABULARY).bfloat16(), batch_of(LENGTHS)
    plain, expected = step(model, batch, "cuda")
    full = filled(batch, Capacity(int(LENGTHS.sum()) + 205, len(LENGTHS) + 5, batch.predictions + 7, 128))
    losses, gradients = step(model, full, "cuda")
    assert float(losses.masked_lm) == pytest.approx(float(plain.masked_lm), rel=1e-3)
    assert int(losses.next_sentence_correct) == int(plain.next_sentence_correct)
    for name, gradient in gradients.items():
        assert error(gradient, expected[name]) < 0.03, name
