"""A corpus shard as token ids: documents of sentences, flat arrays that map into memory.

Tokenising is the dear part and depends on text and vocabulary only, so it is a remembered part of its own: another
length, seed or pass doesn't repeat it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.sentences import sentence_spans
from pipeline.progress import progress
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.counts import spans_of
from pipeline.vocabulary.encoder import Encoder

SCHEMA = 2


@dataclass(frozen=True)
class Shard:
    """Legend: D documents, S sentences, T tokens."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    """[T] uint16 or uint32, one sentence after the other."""
    sentence_starts: npt.NDArray[np.int64]
    """[S + 1], into `tokens`."""
    document_starts: npt.NDArray[np.int64]
    """[D + 1], into the sentences."""

    def __len__(self) -> int:
        return len(self.document_starts) - 1

    def count(self, document: int) -> int:
        """How many sentences a document has."""
        return int(self.document_starts[document + 1] - self.document_starts[document])

    def sentences(self, document: int, start: int = 0) -> Iterator[list[int]]:
        """The token ids of a document's sentences, from its sentence `start` on."""
        bounds = self.sentence_starts[self.document_starts[document] + start : self.document_starts[document + 1] + 1]
        for first, last in pairwise(bounds):
            yield self.tokens[first:last].tolist()


def tokenise_shard(entry: FileEntry, *, vocabulary: Artifact, store: Store) -> Part:
    """The part of one corpus shard under one vocabulary; its record counts documents, sentences and tokens."""
    identity = {"schema": SCHEMA, "shard": entry.sha256, "vocabulary": vocabulary.digest}
    return store.part("tokens", identity, partial(_tokenise, entry=entry, vocabulary=vocabulary, store=store))


def _tokenise(draft: PartDraft, *, entry: FileEntry, vocabulary: Artifact, store: Store) -> dict[str, Any]:
    import pyarrow as pa

    encoder = Encoder.load(store, vocabulary)
    tokens = [np.empty(0, encoder.dtype)]
    sentence_lengths, document_lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with pa.memory_map(str(store.blob(entry))) as source, progress(f"tokenising {entry.path}", entry.rows) as advance:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            text, starts = spans_of(reader.get_batch(number)["text"])
            sentences, counts = sentence_spans(text, starts)
            ids, id_starts = encoder.encode_flat(text, sentences)
            tokens.append(ids)
            sentence_lengths.append(np.diff(id_starts))
            document_lengths.append(counts)
            advance(len(counts))
    arrays = {
        "tokens": np.concatenate(tokens),
        "sentence_starts": _starts(sentence_lengths),
        "document_starts": _starts(document_lengths),
    }
    for name, array in arrays.items():
        np.save(draft.folder / f"{name}.npy", array, allow_pickle=False)
        draft.add(f"{name}.npy")
    return {
        "documents": len(arrays["document_starts"]) - 1,
        "documents_with_text": _with_text(arrays["sentence_starts"], arrays["document_starts"]),
        "sentences": len(arrays["sentence_starts"]) - 1,
        "tokens": len(arrays["tokens"]),
    }


def _starts(lengths: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Where each begins, and the end of the last."""
    return np.concatenate(([0], np.cumsum(np.concatenate(lengths)))).astype(np.int64)


def _with_text(sentence_starts: npt.NDArray[np.int64], document_starts: npt.NDArray[np.int64]) -> int:
    """How many documents have a token."""
    return int(np.count_nonzero(np.diff(sentence_starts[document_starts])))


def load_shard(part: Part, store: Store) -> Shard:
    """The part's arrays, mapped into memory."""
    files: dict[str, Path] = {entry.path: store.blob(entry) for entry in part.files}
    arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in files.items()}
    return Shard(arrays["tokens.npy"], arrays["sentence_starts.npy"], arrays["document_starts.npy"])
