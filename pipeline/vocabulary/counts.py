"""Words and how often each stands, as flat arrays and as files: what counting leaves, and what training takes.

Sorted by UTF-8, which is the order of code points, so that equal words of two files meet when they are merged. Where it
is asked in how many groups (documents, authors, patients) a word stands, the first few of its groups are kept with it,
by a hash of 64 bits: as many as decide the question, so that lists merge without growing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1 << 16
"""Words in a record batch of a file; fewer where many groups are kept of each."""


@dataclass(frozen=True)
class WordCounts:
    """Legend: W words, B bytes, G groups."""

    text: npt.NDArray[np.uint8]
    """[B], the words' UTF-8, one after the other."""
    starts: npt.NDArray[np.int64]
    """[W + 1], where each begins in `text`; the last is the end."""
    counts: npt.NDArray[np.int64]
    """[W], how often each stands."""
    groups: npt.NDArray[np.uint64]
    """[W, G], the groups it stands in, as far as there is room; 0 where there are fewer."""

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self.words(), self.counts.tolist(), strict=True)

    def words(self) -> Iterator[str]:
        data, starts = self.text.tobytes(), self.starts.tolist()
        return (data[starts[number] : starts[number + 1]].decode() for number in range(len(self)))

    def word(self, number: int) -> bytes:
        """One word's UTF-8."""
        return self.text[self.starts[number] : self.starts[number + 1]].tobytes()

    def has(self, word: bytes) -> bool:
        """Whether it is one of them."""
        at = self.place(word)
        return at < len(self) and self.word(at) == word

    def place(self, word: bytes) -> int:
        """How many words come before it."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.word(middle) < word else (low, middle)
        return low

    def rows(self, first: int, last: int) -> Self:
        """Some of the words, in place."""
        return type(self)(self.text, self.starts[first : last + 1], self.counts[first:last], self.groups[first:last])

    @property
    def total(self) -> int:
        """How often all of them stand."""
        return sum(self.counts.tolist())  # Python's integers, as 64 bits may not hold it

    @classmethod
    def of(cls, counts: Mapping[str, int], groups: Mapping[str, list[int]] | None = None, size: int = 0) -> Self:
        """From dicts, sorted; `size` groups of a word are kept."""
        words = sorted(counts)
        encoded = [word.encode() for word in words]
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(each) for each in encoded], out=starts[1:])
        kept = np.zeros((len(words), size), np.uint64)
        for row, word in enumerate(words if groups and size else ()):
            some = groups[word][:size] if groups else []
            kept[row, : len(some)] = some
        text = np.frombuffer(b"".join(encoded), np.uint8)
        return cls(text, starts, np.array([counts[word] for word in words], np.int64), kept)

    def in_order(self) -> Self:
        """Sorted by UTF-8."""
        import pyarrow.compute as pc

        return self._taken(np.asarray(pc.sort_indices(strings(self.text, self.starts))))

    def kept(self, rows: npt.NDArray[np.bool_]) -> Self:
        """Those words alone."""
        return self._taken(np.flatnonzero(rows))

    def _taken(self, rows: npt.NDArray[Any]) -> Self:
        text, starts = spans_of(strings(self.text, self.starts).take(rows))
        return type(self)(text, starts, self.counts[rows], self.groups[rows])


def joined(pieces: Iterable[WordCounts]) -> WordCounts:
    """One after the other."""
    some = list(pieces)
    starts = np.zeros(1 + sum(map(len, some)), np.int64)
    np.cumsum(np.concatenate([np.diff(each.starts) for each in some]), out=starts[1:])
    return WordCounts(
        np.concatenate([each.text[each.starts[0] : each.starts[-1]] for each in some]),
        starts,
        np.concatenate([each.counts for each in some]),
        np.concatenate([each.groups for each in some]),
    )


def strings(text: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> "pa.LargeStringArray":
    """Arrow's array of the strings that begin there in `text`, without a copy."""
    import pyarrow as pa

    offsets = np.ascontiguousarray(starts)
    return pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(offsets), pa.py_buffer(text))


def spans_of(column: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The UTF-8 of an Arrow array of strings without nulls, as it lies in memory, and where each begins: [n + 1]."""
    import pyarrow as pa

    _, offsets, data = column.buffers()
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    starts = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return np.frombuffer(data or b"", np.uint8), starts


class CountsWriter:
    """Writes sorted words to a file: Arrow IPC, (word: string, count: uint64), with groups also (groups: list)."""

    def __init__(self, path: Path, groups: int = 0) -> None:
        self._path, self._groups = path, groups
        self._batch_rows = ROWS // max(1, groups // 4)
        self._waiting: list[WordCounts] = []
        self.rows = 0

    def __enter__(self) -> Self:
        import pyarrow as pa

        fields = [("word", pa.string()), ("count", pa.uint64())]
        if self._groups:
            fields.append(("groups", pa.list_(pa.uint64(), self._groups)))
        self._schema = pa.schema(fields)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(str(self._path), self._schema, options=options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush(1)
        self._writer.close()

    def write(self, counts: WordCounts) -> None:
        """The next words. However they come, all batches of a file hold as many, but the last."""
        self._waiting.append(counts)
        if sum(map(len, self._waiting)) >= self._batch_rows:
            self._flush(self._batch_rows)

    def _flush(self, least: int) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        some, first = joined(self._waiting), 0
        while len(some) - first >= least:
            last = min(first + self._batch_rows, len(some))
            batch = joined([some.rows(first, last)])  # a copy: of a slice Arrow writes what stands around it too
            columns = [strings(batch.text, batch.starts).cast(pa.string()), pa.array(batch.counts.astype(np.uint64))]
            if self._groups:
                flat = pa.array(np.ascontiguousarray(batch.groups).reshape(-1))
                columns.append(pa.FixedSizeListArray.from_arrays(flat, self._groups))
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
            first += len(batch)
            self.rows += len(batch)
        self._waiting = [some.rows(first, len(some))] if first < len(some) else []


def read_batches(path: Path) -> Iterator[WordCounts]:
    """A file's words, a record batch at a time."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            groups = np.empty((len(batch), 0), np.uint64)
            if "groups" in batch.schema.names:
                groups = batch["groups"].flatten().to_numpy().reshape(len(batch), -1)
            yield WordCounts(*spans_of(batch["word"]), batch["count"].to_numpy().astype(np.int64), groups)


def read_counts(path: Path) -> WordCounts:
    """All of a file's words; without their groups."""
    nothing = WordCounts.of({})
    batches = (WordCounts(b.text, b.starts, b.counts, np.empty((len(b), 0), np.uint64)) for b in read_batches(path))
    return joined([nothing, *batches])
