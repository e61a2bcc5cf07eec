"""Runs the attention kernels on a CPU, with TRITON_INTERPRET=1, and prints how far off a CPU's they are, as JSON.

In a process of its own: triton reads that variable while it is imported. Its interpreter knows no bfloat16.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
import torch

from pipeline.pretraining.model import attention_kernels as kernels
from pipeline.pretraining.model.attention import packed_attention
from pipeline.pretraining.model.layout import Layout

HEADS = 2
LENGTHS = {"short": [5, 70, 0, 128, 1, 33], "long": [150, 3, 0, 257]}


def errors(size: int, lengths: list[int], dtype: torch.dtype) -> Iterator[tuple[float, float]]:
    """The largest ones of values and of gradients; twice for short sequences, whose gradients have two shapes."""
    torch.manual_seed(0)
    layout = Layout.of(np.array(lengths, np.int32), torch.device("cpu"))
    qkv = torch.randn(sum(lengths), 3 * HEADS * size).to(dtype)
    exact = qkv.double().requires_grad_()
    expected = packed_attention(exact, HEADS, layout)
    gradient = torch.randn_like(expected).to(dtype)
    expected.backward(gradient.double())
    assert exact.grad is not None
    for shape in kernels.SHORT_BACKWARD if layout.longest <= kernels.BLOCK else kernels.SHORT_BACKWARD[:1]:
        kernels._short_backward[size] = shape
        given = qkv.clone().requires_grad_()
        found, _ = kernels.attended(given, layout.ends, HEADS, layout.longest)
        found.backward(gradient)
        assert given.grad is not None
        yield tuple(float((one - other).abs().max()) for one, other in ((found, expected), (given.grad, exact.grad)))


if __name__ == "__main__":
    for size in kernels.HEAD_SIZES:
        for name, lengths in LENGTHS.items():
            for dtype in (torch.float32, torch.float16):
                sys.stdout.write(f"{json.dumps([size, name, str(dtype), list(errors(size, lengths, dtype))])}\n")
