"""Attention of packed sequences for CPUs: explicit products of a few sequences at a time, whose scores stay in cache.

A group of near-equal lengths is copied out by heads, multiplied, and written back to where it lay; backward puts the
three gradients in place likewise. Fresh memory costs a CPU more than the products do, as the system hands it out page
by page, so nothing but the softmax's weights is as large as all scores: they are kept, since to make them again takes
as long as the pages that they lie in.

One layer of BERT-base over 3,600 tokens in sequences of 512, forward and backward, took one core of an EPYC 80 ms in
bf16 where the same products through autograd took 140 to 180, and `scaled_dot_product_attention` 240.

Legend: T tokens, G sequences of a group, L its length, H heads, D head size.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.pretraining.model.layout import Group, Layout


class BlockAttention(torch.autograd.Function):
    """[T, 3·H·D] to [T, H·D]."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, layout: Layout) -> Tensor:
        ctx.heads, ctx.layout = heads, layout
        size = qkv.shape[1] // (3 * heads)
        packed = qkv.view(len(qkv), 3, heads, size)
        out = qkv.new_empty(len(qkv), 1, heads, size)
        kept = list[Tensor]()
        for group in layout.groups:
            query, key, value = _taken(packed, group)
            kept.append(_weights(query, key, group))
            _put(torch.bmm(kept[-1], value)[None], out, group)
        ctx.save_for_backward(qkv, *kept)
        return out.view(len(qkv), heads * size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        qkv, *kept = ctx.saved_tensors
        size = qkv.shape[1] // (3 * ctx.heads)
        packed = qkv.view(len(qkv), 3, ctx.heads, size)
        of_out = gradient.reshape(len(qkv), 1, ctx.heads, size)
        into = torch.empty_like(packed)
        for group, weights in zip(ctx.layout.groups, kept, strict=True):
            (of_attended,) = _taken(of_out, group)
            _put(_gradients(_taken(packed, group), weights, of_attended), into, group)
        return into.view_as(qkv), None, None


def _gradients(blocks: Tensor, weights: Tensor, of_attended: Tensor) -> Tensor:
    """Those of a group's queries, keys and values, [3, G·H, L, D] as they are."""
    query, key, value = blocks
    into = torch.empty_like(blocks)
    torch.bmm(weights.transpose(1, 2), of_attended, out=into[2])
    of_weights = torch.bmm(of_attended, value.transpose(1, 2))
    of_scores = torch.ops.aten._softmax_backward_data.out(of_weights, weights, -1, weights.dtype, grad_input=of_weights)
    scale = query.shape[-1] ** -0.5
    torch.baddbmm(into[0], of_scores, key, beta=0, alpha=scale, out=into[0])
    torch.baddbmm(into[1], of_scores.transpose(1, 2), query, beta=0, alpha=scale, out=into[1])
    return into


def _weights(query: Tensor, key: Tensor, group: Group) -> Tensor:
    """The softmax of the scores, [G·H, L, L]; none on padding."""
    scores = query.new_empty(len(query), group.length, group.length)
    torch.baddbmm(scores, query, key.transpose(1, 2), beta=0, alpha=query.shape[-1] ** -0.5, out=scores)
    if group.mask is not None:
        scores.view(len(group.spans), -1, group.length, group.length).add_(group.mask.to(scores))
    return torch.softmax(scores, -1, out=scores)


def _taken(packed: Tensor, group: Group) -> Tensor:
    """[T, n, H, D] to the group's [n, G·H, L, D], zero on padding."""
    _, count, heads, size = packed.shape
    new = packed.new_empty if group.mask is None else packed.new_zeros
    blocks = new(count, len(group.spans), heads, group.length, size)
    for place, (start, end) in enumerate(group.spans):
        blocks[:, place, :, : end - start].copy_(packed[start:end].permute(1, 2, 0, 3))
    return blocks.flatten(1, 2)


def _put(blocks: Tensor, packed: Tensor, group: Group) -> None:
    """The inverse of `_taken`."""
    by_sequence = blocks.view(len(blocks), len(group.spans), -1, *blocks.shape[2:])
    for place, (start, end) in enumerate(group.spans):
        packed[start:end].permute(1, 2, 0, 3).copy_(by_sequence[:, place, :, : end - start])
