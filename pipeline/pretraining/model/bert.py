"""BERT as published (Devlin et al. 2019): post-LN, learned positions, exact GELU, tied decoder, pooler, both heads.

Sequences come packed end to end, so no work goes into padding, from the embeddings on; the masked-LM head runs on the
predicted positions only. Query, key and value are one matrix, and the vocabulary is padded to a multiple of 64 rows,
for the speed of both; exports know neither (export.py).

Legend: T tokens, S sequences, M predictions, h hidden size, V vocabulary.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.pretraining.model.attention import gpu_path, packed_attention
from pipeline.pretraining.model.cross_entropy import CrossEntropies
from pipeline.pretraining.model.layout import Layout, on_device
from pipeline.pretraining.model.sizes import padded_rows

VARIANTS = 64
"""Shapes for which a region is compiled: one for each phase, and those of validation. Beyond these it isn't."""
Reduction = Literal["sum", "none"]


@dataclass(frozen=True)
class TensorBatch:
    """A `Batch` on a device, with its layout."""

    input_ids: Tensor
    token_type_ids: Tensor
    position_ids: Tensor
    masked_positions: Tensor
    masked_lm_labels: Tensor
    next_sentence_label: Tensor
    layout: Layout

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> "TensorBatch":
        names = [field.name for field in fields(cls) if field.name != "layout"]
        tensors = {name: on_device(getattr(batch, name), device) for name in names}
        return cls(layout=Layout.of(batch.lengths, device), **tensors)


class Losses(NamedTuple):
    """Sums, not means: the step divides by the counts of the whole batch, whatever its split. Or each by itself."""

    masked_lm: Tensor
    """Cross-entropy over the M predictions, float32, in nats."""
    next_sentence: Tensor
    """Cross-entropy over the S samples, float32, in nats."""
    masked_lm_correct: Tensor
    next_sentence_correct: Tensor


class Layer(nn.Module):
    """Self-attention and feed-forward, each with a residual and LayerNorm after it."""

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[T, h] to [T, h]."""
        attended = packed_attention(self.qkv(hidden), self.heads, layout)
        hidden = self.attention_norm(hidden + self.dropout(self.attention_output(attended)))
        output: Tensor = self.output(F.gelu(self.intermediate(hidden)))
        return self.output_norm(hidden + self.dropout(output))  # type: ignore[no-any-return]


class BertForPreTraining(nn.Module):
    """The encoder with its masked-LM and next-sentence heads."""

    def __init__(self, config: PretrainingConfig, vocabulary_size: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.vocabulary_size = vocabulary_size
        self.head_size = width // config.num_attention_heads
        self.recomputes = config.activation_checkpointing
        rows = padded_rows(vocabulary_size)
        self.word_embeddings = nn.Embedding(rows, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.embedding_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(width, width)
        self.next_sentence = nn.Linear(width, 2)
        self.transform = nn.Linear(width, width)
        self.transform_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.decoder_bias = nn.Parameter(torch.zeros(rows))
        self._initialise(config)

    def _initialise(self, config: PretrainingConfig) -> None:
        """Normal weights, zero biases, drawn from (seed) alone."""
        generator = torch.Generator().manual_seed(config.seed)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.word_embeddings.weight[self.vocabulary_size :] = 0

    def compile_regions(self, dtype: torch.dtype) -> None:
        """Compile what repeats and what is memory-bound, each once: embeddings, the layer, the masked-LM loss.

        For GPUs: there it fuses residual, LayerNorm, GELU and cross-entropy with what stands around them. Rows are
        looked up outside, for compiled code sums their gradients in any order; and no kernel is chosen by timing it,
        which would make of two equal runs two.
        """
        import torch._dynamo
        import torch._inductor.config as inductor

        torch._dynamo.config.recompile_limit = VARIANTS
        options: dict[str, Any] = {"deterministic": True} if hasattr(inductor, "deterministic") else {}
        if gpu_path(self.head_size, dtype) != "blocks":  # which is Python
            for layer in self.layers:
                layer.compile(dynamic=False, options=options)
        for region in ("embedded", "masked_lm"):
            setattr(self, region, torch.compile(getattr(self, region), dynamic=False, options=options))

    def embed(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Three ids of each token, [T], to [T, h]."""
        words, positions = self.word_embeddings(input_ids), self.position_embeddings(position_ids)
        return self.embedded(words, positions, token_type_ids)

    def embedded(self, words: Tensor, positions: Tensor, token_type_ids: Tensor) -> Tensor:
        """The rows of words and positions, [T, h], and which segment's row each takes, [T], to [T, h]."""
        first, second = self.token_type_embeddings.weight
        types = torch.where(token_type_ids[:, None] == 0, first, second)  # two rows: summing beats adding one by one
        return self.dropout(self.embedding_norm(words + positions + types))  # type: ignore[no-any-return]

    def encode(self, batch: TensorBatch) -> Tensor:
        """The last layer's output, [T, h]."""
        hidden: Tensor = self.embed(batch.input_ids, batch.token_type_ids, batch.position_ids)
        for layer in self.layers:
            if self.recomputes and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, batch.layout, use_reentrant=False)
            else:
                hidden = layer(hidden, batch.layout)
        return hidden

    def masked_lm_logits(self, hidden: Tensor) -> Tensor:
        """[M, h] to [M, V] float32: the vocabulary's padding has no probability and no gradient."""
        return self._padded_logits(hidden)[:, : self.vocabulary_size].float()

    def _padded_logits(self, hidden: Tensor) -> Tensor:
        transformed = self.transform_norm(F.gelu(self.transform(hidden)))
        return F.linear(transformed, self.word_embeddings.weight, self.decoder_bias)

    def masked_lm(self, hidden: Tensor, labels: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
        """[M, h] and what stood there, [M], to cross-entropies and whether predictions are right."""
        if hidden.is_cuda:  # where compiled code fuses it
            return _scored(self.masked_lm_logits(hidden), labels, reduction)
        logits = self._padded_logits(hidden)
        each, is_right = CrossEntropies.apply(logits, labels, self.vocabulary_size)  # type: ignore[no-untyped-call]
        return (each.sum(), is_right.sum()) if reduction == "sum" else (each, is_right)

    def next_sentence_logits(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[T, h] to [S, 2] float32, from each sequence's [CLS]."""
        first = hidden.index_select(0, layout.ends[:-1])
        logits: Tensor = self.next_sentence(torch.tanh(self.pooler(first))).float()
        return logits

    def forward(self, batch: TensorBatch, reduction: Reduction = "sum") -> Losses:
        """The losses of a micro-batch."""
        hidden = self.encode(batch)
        masked = hidden.index_select(0, batch.masked_positions)
        masked_lm, masked_lm_correct = self.masked_lm(masked, batch.masked_lm_labels, reduction)
        sentence = self.next_sentence_logits(hidden, batch.layout)
        next_sentence, next_sentence_correct = _scored(sentence, batch.next_sentence_label, reduction)
        return Losses(masked_lm, next_sentence, masked_lm_correct, next_sentence_correct)


def _scored(logits: Tensor, labels: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """[N, classes] and [N] to cross-entropies and whether the likeliest is the label: sums, or [N] each."""
    correct = logits.detach().argmax(-1) == labels
    return F.cross_entropy(logits, labels, reduction=reduction), correct.sum() if reduction == "sum" else correct
