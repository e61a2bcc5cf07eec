"""Words and how often each stands, as flat arrays: what counting leaves, and what training takes.

Millions of words fit, at a dozen bytes each and their text. Sorted by UTF-8, which is the order of code points, so that
equal words of two files meet when they are merged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class WordCounts:
    """Legend: W words, B bytes."""

    text: npt.NDArray[np.uint8]
    """[B], the words' UTF-8, one after the other."""
    starts: npt.NDArray[np.int64]
    """[W + 1], where each begins in `text`; the last is the end."""
    counts: npt.NDArray[np.int64]
    """[W], how often each stands."""

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        data = self.text.tobytes()
        starts = self.starts.tolist()
        for number, count in enumerate(self.counts.tolist()):
            yield data[starts[number] : starts[number + 1]].decode(), count

    @cached_property
    def total(self) -> int:
        """Of all words, how often they stand."""
        return sum(self.counts.tolist())  # Python's integers, as 64 bits may not hold it

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Self:
        """From a dict, in the order of code points."""
        words = sorted(counts)
        encoded = [word.encode() for word in words]
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(each) for each in encoded], out=starts[1:])
        text = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(text, starts, np.array([counts[word] for word in words], np.int64))


def read_counts(path: Path) -> WordCounts:
    """A file's words: Arrow IPC of (word: string, count: uint64), sorted by word."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        batches = _batches(pa.ipc.open_file(source))
        texts, lengths, counts = [np.empty(0, np.uint8)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for batch in batches:
            text, starts = spans_of(batch["word"])
            texts.append(text[starts[0] : starts[-1]].copy())
            lengths.append(np.diff(starts))
            counts.append(batch["count"].to_numpy().astype(np.int64))
    starts = np.concatenate(([0], np.cumsum(np.concatenate(lengths)))).astype(np.int64)
    return WordCounts(np.concatenate(texts), starts, np.concatenate(counts))


def _batches(reader: Any) -> Iterator[Any]:
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def spans_of(strings: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The UTF-8 of an Arrow array of strings without nulls, as it lies in memory, and where each begins: [n + 1]."""
    import pyarrow as pa

    _, offsets, data = strings.buffers()
    kind = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    starts = np.frombuffer(offsets, kind)[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    return np.frombuffer(data or b"", np.uint8), starts
