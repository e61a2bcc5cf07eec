"""Floating-point operations that a model's mathematics takes, forward and backward, counting no padding.

A product of [m, k] and [k, n] is 2·m·k·n, and the backward pass has two of them for each of the forward pass: a factor
of 6 over the weights that a token meets. Attention goes with the square of each sequence's own length, since packed
sequences don't see each other; the masked-LM head with the predictions. What isn't a product is left out, as is usual.

Legend: h hidden size, i intermediate size, V vocabulary.
"""

import numpy as np

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.pretraining.planning.lengths import Lengths

PASSES = 3
"""The forward pass, and a backward pass of twice the products."""


def batch_flops(
    config: PretrainingConfig,
    vocabulary_size: int,
    *,
    tokens: float,
    squares: float,
    sequences: float,
    predictions: float,
) -> float:
    """Of a batch of any size; `squares` is the sum of its sequences' squared lengths."""
    h, i = config.hidden_size, config.intermediate_size
    linear = 2 * tokens * (4 * h * h + 2 * h * i)
    attention = 2 * squares * 2 * h
    masked_lm = 2 * predictions * (h * h + h * vocabulary_size)
    next_sentence = 2 * sequences * (h * h + 2 * h)
    return PASSES * (config.num_hidden_layers * (linear + attention) + masked_lm + next_sentence)


def flops_of(config: PretrainingConfig, vocabulary_size: int, batch: Batch) -> float:
    """Of a batch's samples, whatever fills it up."""
    lengths = batch.lengths[batch.datasets >= 0].astype(np.float64)
    return batch_flops(
        config,
        vocabulary_size,
        tokens=float(lengths.sum()),
        squares=float(np.square(lengths).sum()),
        sequences=len(lengths),
        predictions=batch.predictions,
    )


def flops_per_token(config: PretrainingConfig, vocabulary_size: int, lengths: Lengths, predicted_share: float) -> float:
    """Of a token of samples of that mix of lengths, of which a share is predicted."""
    per_sample = batch_flops(
        config,
        vocabulary_size,
        tokens=lengths.mean,
        squares=lengths.mean_square,
        sequences=1,
        predictions=predicted_share * lengths.mean,
    )
    return per_sample / lengths.mean
