"""Attention over sequences packed end to end, each seeing only itself. Several paths, one result.

On a GPU, in half precision, kernels read the packed sequences as they are: our own (attention_kernels.py), or torch's
`varlen_attn` for heads of an uncommon size. Elsewhere there is no such kernel: sequences are grouped with others of
near-equal length, padded to the longest of their group, and multiplied as explicit batches, which on a CPU beats
`scaled_dot_product_attention` at these lengths. Which sequences go together is worked out once a batch, on the host,
and serves all layers. No path has dropout on the attention weights.

Legend: T tokens, S sequences, H heads, D head size, P places of the padded groups.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BUCKET = 16
"""Lengths are rounded up to this when sequences are grouped: little padding, few groups."""
ROUNDED = 128
"""The longest length is rounded up to this: it decides the grid of a GPU's kernel, and no work."""


@dataclass(frozen=True)
class Group:
    """Sequences that are multiplied together."""

    sequences: int
    length: int
    """Of the longest."""
    mask: Tensor | None
    """[sequences, 1, 1, length] float32, -inf on padding; None where there is none."""


@dataclass(frozen=True)
class Padded:
    """How packed sequences are padded and back, on a CPU."""

    gather: Tensor
    """[P] int64: the packed token for each padded place; padding repeats the sequence's last token."""
    scatter: Tensor
    """[T] int64: the padded place of each packed token."""
    groups: tuple[Group, ...]


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
    def padded(self) -> Padded:
        """Their groups; costs a few µs each."""
        return _padded(self.lengths.astype(np.int64), self.ends.device)


def _padded(lengths: npt.NDArray[np.int64], device: torch.device) -> Padded:
    """Sequences grouped by length, longest last; those of no length are in no group."""
    starts = np.cumsum(lengths) - lengths
    buckets = -(-lengths // BUCKET)
    gather, groups, places = list[npt.NDArray[np.int64]](), list[Group](), 0
    scatter = np.empty(int(lengths.sum()), np.int64)
    for bucket in np.unique(buckets[lengths > 0]):
        of = np.flatnonzero(buckets == bucket)
        sizes, longest = lengths[of, None], int(lengths[of].max())
        steps = np.arange(longest)
        packed = starts[of, None] + np.minimum(steps, sizes - 1)
        is_real = steps < sizes
        grid = places + np.arange(packed.size).reshape(packed.shape)
        scatter[packed[is_real]] = grid[is_real]
        gather.append(packed.reshape(-1))
        mask = None
        if not is_real.all():
            mask = torch.from_numpy(np.where(is_real, 0, -np.inf).astype(np.float32))[:, None, None].to(device)
        groups.append(Group(len(of), longest, mask))
        places += packed.size
    whole = np.concatenate([np.empty(0, np.int64), *gather])
    return Padded(torch.from_numpy(whole).to(device), torch.from_numpy(scatter).to(device), tuple(groups))


def packed_attention(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Queries, keys and values [T, 3·H·D] of packed sequences to the attended values [T, H·D]."""
    if qkv.is_cuda and qkv.dtype in (torch.bfloat16, torch.float16):
        return _unpadded(qkv, heads, layout)
    size = qkv.shape[-1] // (3 * heads)
    if not layout.padded.groups:
        return qkv[:, : heads * size]  # an empty micro-batch, which still takes part in the backward pass
    padded = qkv.index_select(0, layout.padded.gather)
    attended, at = list[Tensor](), 0
    for group in layout.padded.groups:
        places = group.sequences * group.length
        block = padded[at : at + places].view(group.sequences, group.length, 3, heads, size)
        query, key, value = (each.transpose(1, 2) for each in block.unbind(2))
        scores = torch.matmul(query * size**-0.5, key.transpose(-1, -2))
        if group.mask is not None:
            scores = scores + group.mask.to(scores.dtype)
        attended.append(torch.matmul(scores.softmax(-1), value).transpose(1, 2).reshape(places, heads * size))
        at += places
    return torch.cat(attended).index_select(0, layout.padded.scatter)


def _unpadded(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """By the kernels of a GPU."""
    from pipeline.pretraining.attention_kernels import HEAD_SIZES, attended

    if (size := qkv.shape[-1] // (3 * heads)) in HEAD_SIZES:
        out, _ = attended(qkv, layout.ends, heads, layout.longest)
        return out  # type: ignore[no-any-return]
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.view(len(qkv), 3, heads, size).unbind(1)
    any_size = varlen_attn(query, key, value, layout.ends, layout.ends, layout.longest, layout.longest)
    assert isinstance(any_size, Tensor), "the log-sum-exp isn't asked for"
    return any_size.reshape(len(qkv), -1)
