"""A checkpoint's fragments in safetensors files: written by a rank, read in slices by any number of ranks.

A rank writes a file of its weights and one of each moment, all with the same keys: `name@start`, a run of that
parameter's numbers. So the files' own headers say what lies where, and a reader maps the files that it needs and reads
no more of them than its slices. Costs each reader the headers of all files of weights.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.pretraining.checkpoints.fragments import WEIGHT, Fragment, parted


def file_name(kind: str, rank: int) -> str:
    """The file of a rank's weights, or of one of its moments."""
    return f"rank-{rank:05d}.{kind}.safetensors"


def write_fragments(path: Path, fragments: Sequence[Fragment], numbers: Tensor) -> None:
    """Write fragments whose numbers lie end to end in `numbers`. StoreError where there is no room, or no writing."""
    try:
        save_file({f"{each.name}@{each.start}": part for each, part in parted(numbers, fragments)}, path)
    except SafetensorError as error:
        raise StoreError(f"{path} can't be written: {error}. Free some room there, or set TMPDIR elsewhere.") from None


@dataclass(frozen=True)
class StoredFragments:
    """All ranks' files of one checkpoint. CorruptArtifact where they don't make up every parameter exactly."""

    path: Callable[[str, int], Path]
    """Of a kind's file of a rank; asked for when it is needed first."""
    world: int
    """The ranks that wrote it."""
    shapes: Mapping[str, Sequence[int]]
    _starts: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """Of each parameter: start, count and rank of its fragments, in order."""
    _open: dict[tuple[str, int], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rank in range(self.world):
            file = self._file(WEIGHT, rank)
            for key in file.keys():  # noqa: SIM118  (it is no dict)
                name, _, start = key.rpartition("@")
                (count,) = file.get_slice(key).get_shape()
                self._starts.setdefault(name, []).append((int(start), count, rank))
        for fragments in self._starts.values():
            fragments.sort()
        for name in self._starts.keys() | self.shapes.keys():
            self._check(name)

    def read(self, kind: str, wanted: Fragment) -> Tensor:
        """A run of a parameter's weights or moments, from however many files hold it."""
        numbers = torch.empty(wanted.count)
        end = wanted.start + wanted.count
        fragments = self._starts[wanted.name]
        first = bisect_right(fragments, wanted.start, key=lambda each: each[0]) - 1
        for start, count, rank in fragments[first:]:
            if start >= end:
                break
            left, right = max(start, wanted.start), min(start + count, end)
            part = self._file(kind, rank).get_slice(f"{wanted.name}@{start}")[left - start : right - start]
            numbers[left - wanted.start : right - wanted.start] = part
        return numbers

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter's name and its weights, whole."""
        for name, shape in self.shapes.items():
            yield name, self.read(WEIGHT, Fragment(name, 0, math.prod(shape))).view(*shape)

    def _check(self, name: str) -> None:
        reached = 0
        for start, count, _ in self._starts.get(name, ()):
            if start != reached:
                break
            reached += count
        else:
            if reached == math.prod(self.shapes.get(name, (0,))):
                return
        raise CorruptArtifact(f"The checkpoint's files don't hold every number of {name} once.")

    def _file(self, kind: str, rank: int) -> Any:
        if (kind, rank) not in self._open:
            path = self.path(kind, rank)
            try:
                self._open[kind, rank] = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise CorruptArtifact(f"{file_name(kind, rank)} of the checkpoint can't be read: {error}.") from None
        return self._open[kind, rank]
