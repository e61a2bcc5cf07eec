"""Attention over sequences packed end to end, each seeing only itself. Several paths, one result.

On a GPU, in half precision, kernels read the packed sequences as they are: our own (attention_kernels.py), or torch's
`varlen_attn` for heads of an uncommon size. Elsewhere (CPUs, fp32, cards that neither fits) sequences are
grouped with others of near-equal length, padded to it, and multiplied as explicit batches (attention_blocks.py), which
on a CPU beats `scaled_dot_product_attention` at these lengths. Which sequences go together is worked out once a batch,
on the host, and serves all layers. No path has dropout on the attention weights.

Legend: T tokens, S sequences, H heads, D head size.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.pretraining.attention_blocks import BlockAttention

BUCKET = 16
"""Lengths are rounded up to this when sequences are grouped: little padding, few groups, few shapes of products."""
PAIRS = 2**18
"""The most pairs of tokens in a group: with BERT-base's 12 heads in bf16 their scores take 6 MB, and stay in cache."""
AMPERE = (8, 0)
"""The first GPUs for which `varlen_attn` is."""
ROUNDED = 128
"""The longest length is rounded up to this: it decides the grid of a GPU's kernel, and no work."""


@dataclass(frozen=True)
class Group:
    """Sequences that are multiplied together."""

    spans: tuple[tuple[int, int], ...]
    """Where each starts and ends among the packed tokens."""
    length: int
    """What they are padded to."""
    mask: Tensor | None
    """[sequences, 1, 1, length] float32, -inf on padding; None where there is none."""


@dataclass(frozen=True)
class Layout:
    """Where a batch's sequences lie."""

    lengths: npt.NDArray[np.int32]
    ends: Tensor
    """[S + 1] int32: where sequences start and end."""
    longest: int
    """At least the longest one's length: rounded up, so that compiled code sees one value."""

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int32], device: torch.device) -> "Layout":
        """Sequences of these lengths, end to end."""
        ends = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
        longest = -(-int(lengths.max(initial=1)) // ROUNDED) * ROUNDED
        return cls(lengths, ends.to(device, non_blocking=True), longest)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """By length; sequences of no length are in none. Costs a few µs each."""
        lengths = self.lengths.astype(np.int64)
        ends, buckets = np.cumsum(lengths), -(-lengths // BUCKET)
        groups = list[Group]()
        for bucket in np.unique(buckets[lengths > 0]).tolist():
            of = np.flatnonzero(buckets == bucket)
            of = of[np.argsort(lengths[of], kind="stable")]
            length = min(bucket * BUCKET, int(lengths.max()))
            size = max(1, PAIRS // length**2)
            for some in (of[at : at + size] for at in range(0, len(of), size)):
                spans = zip((ends - lengths)[some].tolist(), ends[some].tolist(), strict=True)
                groups.append(Group(tuple(spans), length, _mask(lengths[some], length)))
        return tuple(groups)


def _mask(lengths: npt.NDArray[np.int64], length: int) -> Tensor | None:
    is_padding = np.arange(length) >= lengths[:, None]
    if not is_padding.any():
        return None
    return torch.from_numpy(np.where(is_padding, -np.inf, 0).astype(np.float32))[:, None, None]


def packed_attention(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Queries, keys and values [T, 3·H·D] of packed sequences to the attended values [T, H·D]."""
    size = qkv.shape[-1] // (3 * heads)
    path = gpu_path(size, qkv.dtype) if qkv.is_cuda else "blocks"
    if path == "blocks":
        return BlockAttention.apply(qkv, heads, layout)  # type: ignore[no-any-return,no-untyped-call]
    if path == "ours":
        from pipeline.pretraining.attention_kernels import attended

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
    if dtype not in (torch.bfloat16, torch.float16):
        return "blocks"
    from pipeline.pretraining.attention_kernels import fits

    if fits(size, dtype):
        return "ours"
    return "varlen" if torch.cuda.get_device_capability() >= AMPERE else "blocks"
