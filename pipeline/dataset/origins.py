"""Where rows come from: which source's document a sample's first segment is of.

A corpus' shard is of one source, and so are the samples made of it. So runs of rows say it all, in the manifest, and
neither a row nor the building of one costs anything.
"""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from pipeline.store import Part

Ids = npt.NDArray[np.int64]


def runs_of(tokens: Sequence[Part], samples: Sequence[Part]) -> list[tuple[str, int]]:
    """(source, how many rows of it come next) of a split, from its shards and what was made of each in each pass.

    Empty where it can't be told: google's script makes samples of several shards together.
    """
    if len(samples) % len(tokens):
        return []
    runs = list[tuple[str, int]]()
    for shard, made in zip(cycle(tokens), samples, strict=False):
        names, rows = list(shard.record["sources"]), made.record["rows"]
        if rows and len(names) != 1:
            return []
        if rows and runs and runs[-1][0] == names[0]:
            runs[-1] = (names[0], runs[-1][1] + rows)
        elif rows:
            runs.append((names[0], rows))
    return runs


class Origins:
    """The sources of a split's rows; none of a dataset that doesn't say."""

    def __init__(self, runs: Sequence[tuple[str, int]]) -> None:
        self.names = tuple(sorted({name for name, _ in runs}))
        self._ends = np.cumsum([rows for _, rows in runs])
        self._numbers = np.array([self.names.index(name) for name, _ in runs], np.int64)

    def of(self, rows: Ids) -> Ids:
        """Which of `names` each row's first segment is of; its second, too, where that follows."""
        return self._numbers[np.searchsorted(self._ends, rows, side="right")]
