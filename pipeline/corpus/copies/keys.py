"""The keys by which a part's documents are found again elsewhere, written beside its documents.

Documents gather in small batches, which the kernels hash; keys gather in runs, which are sorted and written. So a file
of keys is a row of sorted runs (the record batches of an Arrow IPC file): what reads a range of keys cuts it out of
each run, and nothing is ever merged. Memory: one batch of texts, and 12 or 16 bytes for each key of the runs begun.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config import Deduplication
from pipeline.corpus.copies.folding import codes_of, folding, verbatim
from pipeline.corpus.copies.hashing import Keys, near_keys, permutations_of, text_keys
from pipeline.corpus.document import Document
from pipeline.store import PartDraft

BATCH_CHARACTERS = 1 << 16
"""So many are hashed at a time: they, four bytes each, and their words stay in a core's cache."""
RUN_KEYS = 1 << 20
"""So many are sorted at a time."""
Rows = npt.NDArray[np.uint32]


def kinds_of(config: Deduplication) -> list[str]:
    """Which keys a document gets. The first kind by which it is a copy is the reason given."""
    return ["id", *(kind for kind in ("text", "near", "lines") if getattr(config, "exact" if kind == "text" else kind))]


def keys_path(kind: str) -> str:
    return f"keys/{kind}.arrow"


class DocumentKeys:
    """Takes a part's documents in their order, which numbers them 0, 1, 2, …; `write` adds their keys to the draft.

    `keys/<kind>.arrow`: (key: uint64, row: uint32), for lines also (line: uint32), the line's number in
    `text.split` at newlines; runs sorted by key, then as the documents came.
    """

    def __init__(self, config: Deduplication, draft: PartDraft) -> None:
        self._config = config
        self._draft = draft
        self._batch: list[Document] = []
        self._characters = 0
        self._rows = 0
        (draft.folder / "keys").mkdir(exist_ok=True)
        self._runs = {
            kind: _Runs(draft.folder / keys_path(kind), ["row", "line"] if kind == "lines" else ["row"])
            for kind in kinds_of(config)
        }

    def add(self, document: Document) -> None:
        self._batch.append(document)
        self._characters += len(document.text) + len(document.id)
        if self._characters >= BATCH_CHARACTERS:
            self._hash()

    def write(self) -> None:
        """Add the files. No document may follow."""
        self._hash()
        for kind, runs in self._runs.items():
            runs.close()
            self._draft.add(keys_path(kind), rows=runs.keys)

    def _hash(self) -> None:
        batch, self._batch, self._characters = self._batch, [], 0
        if not batch:
            return
        rows = np.arange(self._rows, self._rows + len(batch), dtype=np.uint32)
        self._rows += len(batch)
        self._runs["id"].add(_names(document.id for document in batch), rows)
        groups = np.zeros(len(batch), np.uint64)
        if self._config.within == "group":
            groups = _names(document.group for document in batch)
        self._hash_texts([document.text for document in batch], groups, rows)

    def _hash_texts(self, texts: list[str], groups: Keys, rows: Rows) -> None:
        codes, starts = codes_of(texts)
        if "text" in self._runs:
            self._runs["text"].add(text_keys(codes, starts, *folding())[0] ^ groups, rows)
        if near := self._config.near:
            keys = np.empty((len(texts), near.bands), np.uint64)
            sizes = np.array([near.shingle_words, near.shingle_characters])
            permutations = permutations_of(near.seed, near.bands * near.rows)
            some = near_keys(codes, starts, *folding(), sizes, permutations, keys)
            keys ^= groups[:, None]
            self._runs["near"].add(keys[some].ravel(), np.repeat(rows[some], near.bands))
        if lines := self._config.lines:
            line_starts = np.concatenate([[0], np.flatnonzero(codes == ord("\n")) + 1])
            keys, lengths = text_keys(codes, line_starts, *folding())
            first = np.searchsorted(line_starts, starts)
            text = np.repeat(np.arange(len(texts)), np.diff(first))
            number = (np.arange(len(text)) - first[text]).astype(np.uint32)
            long = lengths >= lines.min_characters
            self._runs["lines"].add((keys ^ groups[text])[long], rows[text[long]], number[long])


def _names(names: Iterable[str]) -> Keys:
    """A key for each name, as it is written."""
    keys: Keys = text_keys(*codes_of(list(names)), *verbatim())[0]
    return keys


class _Runs:
    """A file of sorted runs on its way."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        import pyarrow as pa

        self._schema = pa.schema([("key", pa.uint64()), *((column, pa.uint32()) for column in columns)])
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._waiting: list[tuple[npt.NDArray[np.unsignedinteger], ...]] = []
        self._begun = 0
        self.keys = 0

    def add(self, keys: Keys, *columns: Rows) -> None:
        self._waiting.append((keys, *columns))
        self._begun += len(keys)
        if self._begun >= RUN_KEYS:
            self._write_run()

    def close(self) -> None:
        if self._begun:
            self._write_run()
        self._writer.close()
        self._sink.close()

    def _write_run(self) -> None:
        import pyarrow as pa

        keys, *columns = (np.concatenate(pieces) for pieces in zip(*self._waiting, strict=True))
        order = np.argsort(keys, kind="stable")
        self._writer.write_batch(pa.record_batch([array[order] for array in (keys, *columns)], schema=self._schema))
        self.keys += self._begun
        self._waiting, self._begun = [], 0
