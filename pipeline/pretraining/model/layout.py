"""Where a batch's packed sequences lie, and which of them a CPU multiplies together.

Worked out once a batch, on the host, and serves all layers.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BUCKET = 16
"""Lengths are rounded up to this when sequences are grouped: little padding, few groups, few shapes of products."""
PAIRS = 2**18
"""The most pairs of tokens in a group: with BERT-base's 12 heads in bf16 their scores take 6 MB, and stay in cache."""
ROUNDED = 128
"""The longest length is rounded up to this: it decides the grid of a GPU's kernel, and no work."""


def on_device(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The numbers there; to a GPU through pinned memory, else the copy begins by waiting for all it has yet to do."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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
        ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        longest = -(-int(lengths.max(initial=1)) // ROUNDED) * ROUNDED
        return cls(lengths, on_device(ends, device), longest)

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
