"""Attention over sequences packed end to end, each seeing only itself. Two paths, one result.

On a GPU, torch's `varlen_attn` reads the packed sequences as they are. On a CPU there is no such kernel: sequences are
grouped with others of near-equal length, padded to the longest of their group, and multiplied as explicit batches: that
beats `scaled_dot_product_attention` there, at these lengths. Which sequences go together is worked out once a batch,
on the host, and serves all layers. Neither path has dropout on the attention weights.

Legend: T tokens, S sequences, H heads, D head size, P places of the padded groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BUCKET = 16
"""Lengths are rounded up to this when sequences are grouped: little padding, few groups."""


@dataclass(frozen=True)
class Group:
    """Sequences that are multiplied together."""

    sequences: int
    length: int
    """Of the longest."""
    mask: Tensor | None
    """[sequences, 1, 1, length] float32, -inf on padding; None where there is none."""


@dataclass(frozen=True)
class Layout:
    """Where a batch's sequences lie."""

    gather: Tensor
    """[P] int64: the packed token for each padded place; padding repeats the sequence's last token."""
    scatter: Tensor
    """[T] int64: the padded place of each packed token."""
    groups: tuple[Group, ...]
    ends: Tensor
    """[S + 1] int32: where sequences start and end, for `varlen_attn`."""
    longest: int


def layout_of(lengths: Sequence[int], device: torch.device) -> Layout:
    """Group sequences by length; costs about 10 µs a sequence, on the host."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    buckets: dict[int, list[int]] = {}
    for sequence, length in enumerate(lengths):
        buckets.setdefault(-(-length // BUCKET), []).append(sequence)
    gather, groups = list[Tensor](), list[Group]()
    scatter = torch.empty(starts[-1], dtype=torch.int64)
    places = 0
    for _, sequences in sorted(buckets.items()):
        longest = max(lengths[sequence] for sequence in sequences)
        sizes = torch.tensor([lengths[sequence] for sequence in sequences])
        offsets = torch.tensor([starts[sequence] for sequence in sequences])
        steps = torch.arange(longest)
        gather.append((offsets[:, None] + torch.minimum(steps[None], sizes[:, None] - 1)).reshape(-1))
        real = steps[None] < sizes[:, None]
        grid = places + torch.arange(len(sequences) * longest).reshape(len(sequences), longest)
        scatter[(offsets[:, None] + steps[None])[real]] = grid[real]
        mask = None
        if not bool(real.all()):
            mask = torch.zeros(real.shape).masked_fill(~real, float("-inf"))[:, None, None].to(device)
        groups.append(Group(len(sequences), longest, mask))
        places += len(sequences) * longest
    empty = torch.empty(0, dtype=torch.int64)
    return Layout(
        torch.cat([empty, *gather]).to(device),
        scatter.to(device),
        tuple(groups),
        torch.tensor(starts, dtype=torch.int32, device=device),
        max(lengths, default=0),
    )


def packed_attention(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Queries, keys and values [T, 3·H·D] of packed sequences to the attended values [T, H·D]."""
    if qkv.is_cuda:
        return _varlen(qkv, heads, layout)
    size = qkv.shape[-1] // (3 * heads)
    if not layout.groups:
        return qkv[:, : heads * size]  # an empty micro-batch, which still takes part in the backward pass
    padded = qkv.index_select(0, layout.gather)
    attended, at = list[Tensor](), 0
    for group in layout.groups:
        places = group.sequences * group.length
        block = padded[at : at + places].view(group.sequences, group.length, 3, heads, size)
        query, key, value = (each.transpose(1, 2) for each in block.unbind(2))
        scores = torch.matmul(query * size**-0.5, key.transpose(-1, -2))
        if group.mask is not None:
            scores = scores + group.mask.to(scores.dtype)
        attended.append(torch.matmul(scores.softmax(-1), value).transpose(1, 2).reshape(places, heads * size))
        at += places
    return torch.cat(attended).index_select(0, layout.scatter)


def _varlen(qkv: Tensor, heads: int, layout: Layout) -> Tensor:
    """Torch's kernel for packed sequences (torch ≥ 2.10, GPU)."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.view(len(qkv), 3, heads, -1).unbind(1)
    out = varlen_attn(query, key, value, layout.ends, layout.ends, layout.longest, layout.longest)
    assert isinstance(out, Tensor), "the log-sum-exp isn't asked for"
    return out.reshape(len(qkv), -1)
