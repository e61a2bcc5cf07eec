"""Attention over sequences packed end to end, each seeing only itself. Several paths, one result.

On a GPU, in half precision, kernels read the packed sequences as they are: our own (attention_kernels.py), or torch's
`varlen_attn` for heads of an uncommon size. Elsewhere (CPUs, fp32, GPUs before Ampere) sequences are grouped with
others of near-equal length, padded to it, and multiplied as explicit batches (attention_blocks.py), which on a CPU
beats `scaled_dot_product_attention` at these lengths. No path has dropout on the attention weights.

Legend: T tokens, H heads, D head size.
"""

from functools import cache

import torch
from torch import Tensor

from pipeline.pretraining.model.attention_blocks import BlockAttention
from pipeline.pretraining.model.layout import Layout

AMPERE = (8, 0)
"""The first GPUs for which these kernels are: for older ones ours take minutes to compile, only to fit into none."""


def packed_attention(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Queries, keys and values [T, 3·H·D] of packed sequences to the attended values [T, H·D]."""
    size = qkv.shape[-1] // (3 * heads)
    path = gpu_path(size, qkv.dtype) if qkv.is_cuda else "blocks"
    if path == "blocks":
        return BlockAttention.apply(qkv, heads, layout)  # type: ignore[no-any-return,no-untyped-call]
    if path == "ours":
        from pipeline.pretraining.model.attention_kernels import attended

        out, _ = attended(qkv, layout.ends, heads, layout.longest)
        return out  # type: ignore[no-any-return]
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.view(len(qkv), 3, heads, size).unbind(1)
    found = varlen_attn(query, key, value, layout.ends, layout.ends, layout.longest, layout.longest)
    assert isinstance(found, Tensor), "the log-sum-exp isn't asked for"
    return found.reshape(len(qkv), -1)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def gpu_path(size: int, dtype: torch.dtype) -> str:
    """What this GPU attends by, in heads of that size: "ours", "varlen" or "blocks".

    To be asked before what calls it is compiled, for it tries the kernels on the card.
    """
    return _gpu_path(size, dtype)


@cache
def _gpu_path(size: int, dtype: torch.dtype) -> str:
    if dtype not in (torch.bfloat16, torch.float16) or torch.cuda.get_device_capability() < AMPERE:
        return "blocks"
    from pipeline.pretraining.model.attention_kernels import fits

    return "ours" if fits(size, dtype) else "varlen"
