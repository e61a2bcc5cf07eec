"""A corpus shard as token ids: documents of sentences, flat arrays that map into memory.

Tokenising is the dear part and depends on text, vocabulary and segmenter only, so it is a remembered part of its own:
another length, seed or pass doesn't repeat it. What has no token, sentence or document, is left out. Memory: a batch
of documents; files grow batch by batch.

Legend: D documents, S sentences, T tokens.
"""

import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.config import Segmenter
from pipeline.dataset.entries import Entries
from pipeline.dataset.randomness import mixed_in
from pipeline.dataset.sentences import sentence_spans
from pipeline.progress import progress
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.counts import spans_of
from pipeline.vocabulary.encoder import Encoder

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 3
FILES: Mapping[str, Any] = {"tokens": None, "word_starts": np.uint8, "sentences": np.int64, "documents": np.int64}
"""The files of a part and their types; that of the tokens is the vocabulary's."""
Starts = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shard:
    """A corpus shard's documents, sentences and tokens, each with at least one of the next."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    """[T] uint16 or uint32, one sentence after the other."""
    word_starts: Bytes
    """[ceil(T / 8)], a bit a token, the least significant first: whether a word starts there."""
    sentences: Starts
    """[S + 1], into `tokens`."""
    documents: Starts
    """[D + 1], into the sentences."""

    def __len__(self) -> int:
        return len(self.documents) - 1

    @property
    def size(self) -> int:
        """In bytes."""
        return self.tokens.nbytes + self.word_starts.nbytes + self.sentences.nbytes + self.documents.nbytes


def tokenise_shard(entry: FileEntry, *, vocabulary: Artifact, segmenter: Segmenter | None, store: Store) -> Part:
    """The part of one corpus shard under one vocabulary; its record counts what is in it."""
    identity = {"schema": SCHEMA, "shard": entry.sha256, "vocabulary": vocabulary.digest}
    if segmenter is not None:
        from pipeline.dataset.segmentation import segmenter_identity

        identity["segmenter"] = [list(each) for each in segmenter_identity(segmenter)]
    make = partial(_tokenise, entry=entry, vocabulary=vocabulary, segmenter=segmenter, store=store)
    return store.part("tokens", identity, make)


def _tokenise(
    draft: PartDraft, *, entry: FileEntry, vocabulary: Artifact, segmenter: Segmenter | None, store: Store
) -> dict[str, Any]:
    import pyarrow as pa

    tokeniser = _Tokeniser(vocabulary, segmenter, store)
    with (
        _ShardFiles(draft.folder) as files,
        pa.memory_map(str(store.blob(entry))) as source,
        progress(f"tokenising {entry.path}", entry.rows) as advance,
    ):
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            files.add(tokeniser.tokenised(batch["text"]), np.array(batch["source"].to_pylist(), str))
            advance(len(batch))
        record = files.record()
    for name in [*FILES, "texts"]:
        draft.add(f"{name}.bin")
    return record | {"type": np.dtype(tokeniser.encoder.dtype).name, **tokeniser.counts}


@dataclass(frozen=True)
class _Tokens:
    """Some documents; as a `Shard`, but a byte for each word start, and some of them perhaps empty."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    begins_word: npt.NDArray[np.bool_]
    sentences: Starts
    documents: Starts
    texts: npt.NDArray[np.uint64]
    """[D], a hash of each document's text."""


class _Tokeniser:
    """Texts to tokens with the starts of words."""

    def __init__(self, vocabulary: Artifact, segmenter: Segmenter | None, store: Store) -> None:
        self.encoder = Encoder.load(store, vocabulary)
        self.counts: Counter[str] = Counter()
        self._entries = Entries.load(store, vocabulary)
        self._begins = ~self._entries.continues
        self._segmenter = segmenter

    def tokenised(self, texts: "pa.StringArray") -> _Tokens:
        text, starts = spans_of(texts)
        sentences, counts = sentence_spans(text, starts)
        if self._segmenter is None:
            ids, id_starts = self.encoder.encode_flat(text, sentences)
            begins = self._begins.take(ids, mode="clip")
        else:
            from pipeline.dataset.segmentation import load_segmenter, word_spans

            spans = word_spans(text, sentences, load_segmenter(self._segmenter), self.encoder.kept)
            ids, span_starts = self.encoder.encode_flat(text, spans.begins)
            begins = self._begins.take(ids, mode="clip")
            begins[np.repeat(spans.is_word, np.diff(span_starts))] = False
            begins[span_starts[:-1][spans.is_word & (np.diff(span_starts) > 0)]] = True
            id_starts = span_starts[spans.firsts]
            self.counts["sentences_not_segmented"] += spans.lost
        self.counts["unknown"] += int(np.count_nonzero(ids == self._entries.unknown))
        documents = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return _Tokens(ids, begins, id_starts, documents, text_hashes(text, starts))


class _ShardFiles:
    """The files of a part, written as they grow. A context."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, IO[bytes]] = {name: (folder / f"{name}.bin").open("wb") for name in [*FILES, "texts"]}
        self._bits = np.empty(0, bool)  # of the last, not yet whole byte
        self._tokens = self._sentences = self._documents = self._all_documents = 0
        self._sources: dict[str, Counter[str]] = {}
        for name in ("sentences", "documents"):
            self._files[name].write(np.zeros(1, np.int64).tobytes())

    def __enter__(self) -> "_ShardFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._write_bits(np.empty(0, bool), last=True)
        for file in self._files.values():
            file.close()

    def add(self, found: _Tokens, sources: npt.NDArray[Any]) -> None:
        """Write what has tokens of some documents, which come from these sources."""
        kept = np.diff(found.sentences) > 0
        sentences_before = np.concatenate(([0], np.cumsum(kept)))[found.documents]
        has_text = np.diff(sentences_before) > 0
        self._files["tokens"].write(found.tokens.data)
        self._write_bits(found.begins_word)
        self._files["sentences"].write((self._tokens + found.sentences[1:][kept]).tobytes())
        self._files["documents"].write((self._sentences + sentences_before[1:][has_text]).astype(np.int64).tobytes())
        self._files["texts"].write(found.texts[has_text].tobytes())
        self._tokens += len(found.tokens)
        self._sentences += int(sentences_before[-1])
        self._documents += int(np.count_nonzero(has_text))
        self._all_documents += len(has_text)
        tokens = np.diff(found.sentences[found.documents])
        for name in np.unique(sources):
            tally = self._sources.setdefault(str(name), Counter())
            tally["documents"] += int(np.count_nonzero(has_text & (sources == name)))
            tally["tokens"] += int(tokens[sources == name].sum())

    def _write_bits(self, begins: npt.NDArray[np.bool_], *, last: bool = False) -> None:
        bits = np.concatenate((self._bits, begins))
        whole = len(bits) if last else len(bits) // 8 * 8
        self._files["word_starts"].write(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._bits = bits[whole:]

    def record(self) -> dict[str, Any]:
        return {
            "documents": self._all_documents,
            "documents_with_text": self._documents,
            "sentences": self._sentences,
            "tokens": self._tokens,
            "sources": {name: dict(tally) for name, tally in sorted(self._sources.items())},
        }


@njit(cache=True, nogil=True)
def text_hashes(text: Bytes, starts: Starts) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text, [D], by which equal ones are known."""
    hashes = np.empty(len(starts) - 1, np.uint64)
    for number in range(len(hashes)):
        value = np.uint64(starts[number + 1] - starts[number])
        at, end = starts[number], starts[number + 1]
        while at < end:
            word = np.uint64(0)
            for place in range(min(8, end - at)):
                word |= np.uint64(text[at + place]) << np.uint64(8 * place)
            value = mixed_in(value ^ word)
            at += 8
        hashes[number] = value
    return hashes


def load_shard(part: Part, store: Store) -> Shard:
    """The part's arrays, mapped into memory."""
    types = {**FILES, "tokens": np.dtype(part.record["type"])}
    return Shard(**{name: mapped(part, name, kind, store) for name, kind in types.items()})


def load_texts(part: Part, store: Store) -> npt.NDArray[np.uint64]:
    """[D], a hash of each document's text."""
    return mapped(part, "texts", np.uint64, store)


def mapped(part: Part, name: str, kind: Any, store: Store) -> npt.NDArray[Any]:
    """A part's file as an array in mapped memory."""
    (entry,) = (entry for entry in part.files if entry.path == f"{name}.bin")
    if entry.size == 0:
        return np.frombuffer(b"", kind)
    with store.blob(entry).open("rb") as file:  # numpy's own memmap resolves the path, which takes longer than all else
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)
