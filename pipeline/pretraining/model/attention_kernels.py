"""Attention of packed sequences on a GPU, for an encoder's lengths: scores are recomputed, gradients written in place.

Each program takes a block of one sequence's rows in one head, and meets the other rows block by block
(FlashAttention-2, Dao 2023). The three gradients go at once to where the fused query, key and value lay, and no sums
are atomic, so that a step is the same each time it is run. A sequence of up to 128 tokens is one block: a single kernel
makes its gradients and keeps nothing but the input. Products are of the input's type with sums in float32; the softmax
is float32.

Torch's `varlen_attn` pays at these lengths for what they don't need: at 128, forward and backward took it 0.99 ms a
layer of BERT-base over 58,000 tokens and these 0.52, at 512 1.75 and 1.13 (one H200, torch 2.11).

Legend: T tokens, S sequences, H heads, D head size.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

BLOCK = 128
"""A sequence of no more tokens is one block."""


class Shape(NamedTuple):
    """How a kernel is run; chosen by measurement on an H200, heads of 64."""

    block: int
    """Rows of a program."""
    inner: int
    """Rows that it meets at a time."""
    num_warps: int
    num_stages: int


SHORT_FORWARD = Shape(64, 32, 4, 3)
SHORT_BACKWARD = (Shape(128, 128, 8, 2), Shape(128, 64, 8, 2))
"""The second where a card lacks the shared memory for the first: GeForce, L4, A10 and the like, an A100 for 128."""
FORWARD = Shape(64, 64, 4, 3)
BACKWARD_QUERIES = Shape(64, 32, 4, 3)
BACKWARD_KEYS = Shape(64, 128, 4, 2)
HEAD_SIZES = (16, 32, 64, 128)
_short_backward: dict[int, Shape] = {}
"""Of a head size, which of them fits; found by `fits`."""
LOG2_E = tl.constexpr(1.4426950408889634)


@triton_op("bertmill::packed_attention", mutates_args={})
def attended(qkv: Tensor, ends: Tensor, heads: int, longest: int) -> tuple[Tensor, Tensor]:
    """Queries, keys and values [T, 3·H·D] to the attended values [T, H·D], and the scores' log-sum-exp [H, T] float32.

    That one is in base 2, and empty where no sequence is longer than a block. `ends` [S + 1] int32 says where sequences
    of at most `longest` tokens start and end.
    """
    size = qkv.shape[1] // (3 * heads)
    out = torch.empty_like(qkv[:, : heads * size])
    is_short = longest <= BLOCK
    sums = torch.empty((0 if is_short else heads, len(qkv)), dtype=torch.float32, device=qkv.device)
    block, inner, warps, stages = SHORT_FORWARD if is_short else FORWARD
    wrap_triton(_forward)[heads, triton.cdiv(longest, block), len(ends) - 1](
        qkv, ends, out, sums, len(qkv), size**-0.5, heads, size, block, inner, not is_short,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out, sums


@triton_op("bertmill::packed_attention_backward", mutates_args={})
def gradients(
    gradient: Tensor, qkv: Tensor, ends: Tensor, out: Tensor, sums: Tensor, heads: int, longest: int
) -> Tensor:
    """The gradient of the attended values [T, H·D] to that of queries, keys and values [T, 3·H·D]."""
    size = qkv.shape[1] // (3 * heads)
    into = torch.empty_like(qkv)
    count, of = len(ends) - 1, (size**-0.5, heads, size)
    if longest <= BLOCK:
        block, inner, warps, stages = _short_backward.get(size, SHORT_BACKWARD[0])
        wrap_triton(_backward)[heads, count](
            qkv, ends, gradient, into, *of, block, inner, num_warps=warps, num_stages=stages
        )
        return into
    deltas = torch.empty_like(sums)
    given = (qkv, ends, gradient, into, sums, deltas)
    block, inner, warps, stages = BACKWARD_QUERIES
    wrap_triton(_backward_queries)[heads, triton.cdiv(longest, block), count](
        *given, out, len(qkv), *of, block, inner, num_warps=warps, num_stages=stages
    )
    block, inner, warps, stages = BACKWARD_KEYS
    wrap_triton(_backward_keys)[heads, triton.cdiv(longest, block), count](
        *given, len(qkv), *of, block, inner, num_warps=warps, num_stages=stages
    )
    return into


def fits(size: int, dtype: torch.dtype) -> bool:
    """Whether this card can run them for heads of that size; tries each, and remembers how it is run."""
    if size not in HEAD_SIZES:
        return False
    ends = torch.tensor([0, 1], dtype=torch.int32, device="cuda")
    for shape in SHORT_BACKWARD:
        _short_backward[size] = shape
        try:
            with torch.enable_grad():
                for longest in (BLOCK, 2 * BLOCK):
                    qkv = torch.zeros(1, 3 * size, dtype=dtype, device="cuda", requires_grad=True)
                    attended(qkv, ends, 1, longest)[0].sum().backward()
        except (OutOfResources, PTXASError, CompilationError):  # the last two of cards that this triton doesn't know
            continue
        return True
    return False


def _keep(ctx, inputs, output) -> None:  # torch names these arguments
    qkv, ends, ctx.heads, ctx.longest = inputs
    out, sums = output
    ctx.save_for_backward(qkv, ends, qkv.new_empty(0) if ctx.longest <= BLOCK else out, sums)
    ctx.mark_non_differentiable(sums)


def _gradients(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
    return gradients(gradient.contiguous(), *ctx.saved_tensors, ctx.heads, ctx.longest), None, None, None


attended.register_autograd(_gradients, setup_context=_keep)


@triton.jit
def _places(start, rows, columns, stride: tl.constexpr):
    return (start + rows).to(tl.int64)[:, None] * stride + columns[None, :]


@triton.jit
def _forward(
    qkv, ends, out, sums, tokens,
    scale: tl.constexpr, heads: tl.constexpr, size: tl.constexpr, block: tl.constexpr, inner: tl.constexpr,
    has_sums: tl.constexpr,
):  # fmt: skip
    head, sequence = tl.program_id(0), tl.program_id(2)
    start = tl.load(ends + sequence)
    length = tl.load(ends + sequence + 1) - start
    first = tl.program_id(1) * block
    if first < length:
        width: tl.constexpr = heads * size
        rows, columns = first + tl.arange(0, block), head * size + tl.arange(0, size)
        is_row = (rows < length)[:, None]
        query = tl.load(qkv + _places(start, rows, columns, 3 * width), mask=is_row, other=0.0)
        most = tl.full((block,), float("-inf"), tl.float32)
        total = tl.zeros((block,), tl.float32)
        summed = tl.zeros((block, size), tl.float32)
        for other in range(0, length, inner):
            others = other + tl.arange(0, inner)
            is_other = others < length
            at = _places(start, others, columns, 3 * width)
            key = tl.load(qkv + at + width, mask=is_other[:, None], other=0.0)
            value = tl.load(qkv + at + 2 * width, mask=is_other[:, None], other=0.0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scale * LOG2_E)
            scores = tl.where(is_other[None, :], scores, float("-inf"))
            raised = tl.maximum(most, tl.max(scores, 1))
            weights = tl.exp2(scores - raised[:, None])
            shrunk = tl.exp2(most - raised)
            total = total * shrunk + tl.sum(weights, 1)
            summed = summed * shrunk[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            most = raised
        to = out + _places(start, rows, columns, width)
        tl.store(to, (summed / total[:, None]).to(query.dtype), mask=is_row)
        if has_sums:
            tl.store(sums + head * tokens + start + rows, most + tl.log2(total), mask=rows < length)


@triton.jit
def _backward(
    qkv, ends, gradient, into,
    scale: tl.constexpr, heads: tl.constexpr, size: tl.constexpr, block: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """All three gradients of a sequence that is one block."""
    head, sequence = tl.program_id(0), tl.program_id(1)
    start = tl.load(ends + sequence)
    length = tl.load(ends + sequence + 1) - start
    if length > 0:
        width: tl.constexpr = heads * size
        rows, columns = tl.arange(0, block), head * size + tl.arange(0, size)
        is_row = rows < length
        at = _places(start, rows, columns, 3 * width)
        key = tl.load(qkv + at + width, mask=is_row[:, None], other=0.0)
        value = tl.load(qkv + at + 2 * width, mask=is_row[:, None], other=0.0)
        to_key, to_value = tl.zeros((block, size), tl.float32), tl.zeros((block, size), tl.float32)
        for other in range(0, length, inner):
            others = other + tl.arange(0, inner)
            is_other = (others < length)[:, None]
            of = _places(start, others, columns, 3 * width)
            query = tl.load(qkv + of, mask=is_other, other=0.0)
            above = tl.load(gradient + _places(start, others, columns, width), mask=is_other, other=0.0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scale * LOG2_E)
            scores = tl.where(is_row[None, :], scores, float("-inf"))
            weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
            weights = weights / tl.sum(weights, 1)[:, None]
            to_value += tl.dot(tl.trans(weights.to(value.dtype)), above, input_precision="ieee")
            by_weight = tl.dot(above, tl.trans(value), input_precision="ieee")
            by_score = weights * (by_weight - tl.sum(weights * by_weight, 1)[:, None])
            low = by_score.to(value.dtype)
            tl.store(into + of, (tl.dot(low, key, input_precision="ieee") * scale).to(value.dtype), mask=is_other)
            to_key += tl.dot(tl.trans(low), query, input_precision="ieee")
        tl.store(into + at + width, (to_key * scale).to(value.dtype), mask=is_row[:, None])
        tl.store(into + at + 2 * width, to_value.to(value.dtype), mask=is_row[:, None])


@triton.jit
def _backward_queries(
    qkv, ends, gradient, into, sums, deltas, out, tokens,
    scale: tl.constexpr, heads: tl.constexpr, size: tl.constexpr, block: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """The queries' gradient of a block, and what the keys' need: each row's mean gradient."""
    head, sequence = tl.program_id(0), tl.program_id(2)
    start = tl.load(ends + sequence)
    length = tl.load(ends + sequence + 1) - start
    first = tl.program_id(1) * block
    if first < length:
        width: tl.constexpr = heads * size
        rows, columns = first + tl.arange(0, block), head * size + tl.arange(0, size)
        is_row = (rows < length)[:, None]
        at, of = _places(start, rows, columns, 3 * width), _places(start, rows, columns, width)
        query = tl.load(qkv + at, mask=is_row, other=0.0)
        above = tl.load(gradient + of, mask=is_row, other=0.0)
        delta = tl.sum(above.to(tl.float32) * tl.load(out + of, mask=is_row, other=0.0).to(tl.float32), 1)
        tl.store(deltas + head * tokens + start + rows, delta, mask=rows < length)
        logs = tl.load(sums + head * tokens + start + rows, mask=rows < length, other=0.0)
        to_query = tl.zeros((block, size), tl.float32)
        for other in range(0, length, inner):
            others = other + tl.arange(0, inner)
            is_other = others < length
            from_ = _places(start, others, columns, 3 * width)
            key = tl.load(qkv + from_ + width, mask=is_other[:, None], other=0.0)
            value = tl.load(qkv + from_ + 2 * width, mask=is_other[:, None], other=0.0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scale * LOG2_E)
            weights = tl.where(is_other[None, :], tl.exp2(scores - logs[:, None]), 0.0)
            by_weight = tl.dot(above, tl.trans(value), input_precision="ieee")
            by_score = weights * (by_weight - delta[:, None])
            to_query += tl.dot(by_score.to(key.dtype), key, input_precision="ieee")
        tl.store(into + at, (to_query * scale).to(query.dtype), mask=is_row)


@triton.jit
def _backward_keys(
    qkv, ends, gradient, into, sums, deltas, tokens,
    scale: tl.constexpr, heads: tl.constexpr, size: tl.constexpr, block: tl.constexpr, inner: tl.constexpr,
):  # fmt: skip
    """The gradients of a block's keys and values."""
    head, sequence = tl.program_id(0), tl.program_id(2)
    start = tl.load(ends + sequence)
    length = tl.load(ends + sequence + 1) - start
    first = tl.program_id(1) * block
    if first < length:
        width: tl.constexpr = heads * size
        rows, columns = first + tl.arange(0, block), head * size + tl.arange(0, size)
        is_row = (rows < length)[:, None]
        at = _places(start, rows, columns, 3 * width)
        key = tl.load(qkv + at + width, mask=is_row, other=0.0)
        value = tl.load(qkv + at + 2 * width, mask=is_row, other=0.0)
        to_key, to_value = tl.zeros((block, size), tl.float32), tl.zeros((block, size), tl.float32)
        for other in range(0, length, inner):
            others = other + tl.arange(0, inner)
            is_other = others < length
            query = tl.load(qkv + _places(start, others, columns, 3 * width), mask=is_other[:, None], other=0.0)
            above = tl.load(gradient + _places(start, others, columns, width), mask=is_other[:, None], other=0.0)
            logs = tl.load(sums + head * tokens + start + others, mask=is_other, other=0.0)
            delta = tl.load(deltas + head * tokens + start + others, mask=is_other, other=0.0)
            scores = tl.dot(key, tl.trans(query), input_precision="ieee") * (scale * LOG2_E)
            weights = tl.where(is_other[None, :], tl.exp2(scores - logs[None, :]), 0.0)
            to_value += tl.dot(weights.to(value.dtype), above, input_precision="ieee")
            by_weight = tl.dot(value, tl.trans(above), input_precision="ieee")
            by_score = weights * (by_weight - delta[None, :])
            to_key += tl.dot(by_score.to(key.dtype), query, input_precision="ieee")
        tl.store(into + at + width, (to_key * scale).to(key.dtype), mask=is_row)
        tl.store(into + at + 2 * width, to_value.to(value.dtype), mask=is_row)
