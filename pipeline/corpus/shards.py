"""Documents on their way into files: Arrow IPC with zstd, one file a shard, a folder for each split.

What is written is counted from the columns, a batch at a time, so counting costs next to nothing. Memory holds one
batch for each split: at most `BATCH_ROWS` documents, or `BATCH_CHARACTERS` and one document more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.card import Card
from pipeline.corpus.document import Document
from pipeline.store import PartDraft

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "heldout")
BATCH_ROWS = 1_000
BATCH_CHARACTERS = 1 << 24


class ShardWriter:
    """Writes documents into `train/` and `heldout/` of a draft, `documents_per_shard` in a file."""

    def __init__(self, draft: PartDraft, documents_per_shard: int) -> None:
        self._splits = {split: _Split(draft, split, documents_per_shard) for split in SPLITS}

    def write(self, document: Document, *, heldout: bool) -> None:
        self._splits["heldout" if heldout else "train"].write(document)

    def finish(self) -> Card:
        """Complete the files; returns what stands in them."""
        for split in self._splits.values():
            split.close()
        return Card({name: split.counts for name, split in self._splits.items()})


class _Split:
    def __init__(self, draft: PartDraft, name: str, documents_per_shard: int) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._draft, self._name, self._documents_per_shard = draft, name, documents_per_shard
        self._batch: list[Document] = []
        self._characters = 0
        self._writer: Any = None
        self._shards = self._rows = 0

    def write(self, document: Document) -> None:
        self._batch.append(document)
        self._characters += len(document.text)
        if self._rows + len(self._batch) == self._documents_per_shard:
            self.close()
        elif len(self._batch) == BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if not self._batch:
            return
        if self._writer is None:
            self._writer = shard_sink(self._draft.folder / self._path())
        batch = batch_of(self._batch)
        self._writer.write_batch(batch)
        count_batch(batch, self.counts)
        self._rows += len(self._batch)
        self._batch.clear()
        self._characters = 0

    def close(self) -> None:
        """End the shard that is being written, if one is."""
        self._flush()
        if self._writer is None:
            return
        self._writer.close()
        self._draft.add(self._path(), rows=self._rows)
        (self._draft.folder / self._path()).unlink()
        self._writer = None
        self._shards += 1
        self._rows = 0

    def _path(self) -> str:
        return f"{self._name}/{self._shards:05d}.arrow"


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(each.name, pa.string()) for each in fields(Document)])


def batch_of(documents: Sequence[Document]) -> "pa.RecordBatch":
    """Documents as columns."""
    import pyarrow as pa

    columns = [[getattr(each, name) for each in documents] for name in _schema().names]
    return pa.record_batch(columns, schema=_schema())


def shard_sink(path: Path) -> "pa.ipc.RecordBatchFileWriter":
    """A new file for record batches of documents; a context."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    return pa.ipc.new_file(str(path), _schema(), options=pa.ipc.IpcWriteOptions(compression="zstd"))


def count_batch(batch: "pa.RecordBatch", counts: dict[str, Counter[str]]) -> None:
    """Add a batch of documents to `counts`."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.utf8_length(batch["text"]).to_numpy()
    totals = counts.setdefault("totals", Counter())
    totals["documents"] += len(batch)
    totals["characters"] += int(lengths.sum())
    totals["bytes"] += int(pc.sum(pc.binary_length(batch["text"])).as_py())
    powers = np.bincount(np.frexp(lengths)[1], minlength=1)  # a text of 2^(n-1) to 2^n - 1 characters has exponent n
    counts.setdefault("lengths", Counter()).update({str(n): int(powers[n]) for n in np.flatnonzero(powers)})
    for column, name in (("lang", "languages"), ("source", "sources")):
        tally = counts.setdefault(name, Counter())
        for value in pc.value_counts(batch[column]):
            tally[value["values"].as_py()] += value["counts"].as_py()
