"""A corpus shard as token ids: documents of sentences, flat arrays that map into memory.

Tokenising is the dear part and depends on text, vocabulary and segmenter only, so it is a remembered part of its own:
another length, seed or pass doesn't repeat it. What has no token, sentence or document, is left out. One file a shard,
as each costs the store more than its bytes do. Memory: a batch of documents; files grow batch by batch.

Legend: D documents, S sentences, T tokens.
"""

import mmap
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.compiled import eight_bytes
from pipeline.config import Segmenter
from pipeline.dataset.entries import Entries
from pipeline.dataset.randomness import GOLDEN, mixed_in
from pipeline.dataset.text.sentences import sentence_spans
from pipeline.progress import progress
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.counts import spans_of
from pipeline.vocabulary.encoder import Encoder

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 4
FILE = "shard.bin"
BEHIND: Mapping[str, Any] = {"sentences": np.int64, "documents": np.int64, "texts": np.uint64, "word_starts": np.uint8}
"""What stands in a part's file behind the tokens, from a multiple of eight bytes on, and of which type."""
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
        from pipeline.dataset.text.segmentation import segmenter_identity

        identity["segmenter"] = [list(each) for each in segmenter_identity(segmenter)]
    make = partial(_tokenise, entry=entry, vocabulary=vocabulary, segmenter=segmenter, store=store)
    return store.part("tokens", identity, make)


def _tokenise(
    draft: PartDraft, *, entry: FileEntry, vocabulary: Artifact, segmenter: Segmenter | None, store: Store
) -> dict[str, Any]:
    import pyarrow as pa

    tokeniser = _Tokeniser(vocabulary, segmenter, store)
    with (
        _ShardFile(draft.folder) as file,
        pa.memory_map(str(store.blob(entry))) as source,
        progress(f"tokenising {entry.path}", entry.rows) as advance,
    ):
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            file.add(tokeniser.tokenised(batch["text"]), np.array(batch["source"].to_pylist(), str))
            advance(len(batch))
        record = file.finish()
    draft.add(FILE)
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
            from pipeline.dataset.text.segmentation import load_segmenter, word_spans

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


class _ShardFile:
    """The file of a part: tokens as they come, and behind them what is written beside it meanwhile. A context."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / FILE).open("wb")
        self._behind: dict[str, IO[bytes]] = {name: (folder / f"{name}.bin").open("w+b") for name in BEHIND}
        self._bits = np.empty(0, bool)  # of the last, not yet whole byte
        self._tokens = self._sentences = self._documents = self._all_documents = 0
        self._sources: dict[str, Counter[str]] = {}
        for name in ("sentences", "documents"):
            self._behind[name].write(np.zeros(1, np.int64).tobytes())

    def __enter__(self) -> "_ShardFile":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, *self._behind.values()):
            file.close()

    def add(self, found: _Tokens, sources: npt.NDArray[Any]) -> None:
        """Write what has tokens of some documents, which come from these sources."""
        kept = np.diff(found.sentences) > 0
        sentences_before = np.concatenate(([0], np.cumsum(kept)))[found.documents]
        has_text = np.diff(sentences_before) > 0
        self._file.write(found.tokens.data)
        self._write_bits(found.begins_word)
        self._behind["sentences"].write((self._tokens + found.sentences[1:][kept]).tobytes())
        self._behind["documents"].write((self._sentences + sentences_before[1:][has_text]).astype(np.int64).tobytes())
        self._behind["texts"].write(found.texts[has_text].tobytes())
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
        self._behind["word_starts"].write(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._bits = bits[whole:]

    def finish(self) -> dict[str, Any]:
        """Put all into the one file; returns what is in it."""
        self._write_bits(np.empty(0, bool), last=True)
        self._file.write(bytes(-self._file.tell() % 8))
        for file in self._behind.values():
            file.seek(0)
            shutil.copyfileobj(file, self._file)
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
        at, end = starts[number], starts[number + 1]
        value = np.uint64(end - at)
        while at + 8 <= end:
            value = (value ^ eight_bytes(text, at)) * np.uint64(GOLDEN)
            value ^= value >> np.uint64(32)
            at += 8
        word = np.uint64(0)
        for place in range(at, end):
            word = word << np.uint64(8) | np.uint64(text[place])
        hashes[number] = mixed_in(value ^ word)
    return hashes


def load_shard(part: Part, store: Store) -> Shard:
    """The part's arrays, mapped into memory."""
    arrays = _arrays(part, store)
    return Shard(**{name: arrays[name] for name in ("tokens", "word_starts", "sentences", "documents")})


def load_texts(part: Part, store: Store) -> npt.NDArray[np.uint64]:
    """[D], a hash of each document's text."""
    return _arrays(part, store)["texts"]


def _arrays(part: Part, store: Store) -> dict[str, npt.NDArray[Any]]:
    """All that is in the part's file, each in its place."""
    record = part.record
    documents, sentences, tokens = (record[name] for name in ("documents_with_text", "sentences", "tokens"))
    data = mapped(part, FILE, np.uint8, store)
    kind = np.dtype(record["type"])
    found, at = {"tokens": data[: tokens * kind.itemsize].view(kind)}, -(-tokens * kind.itemsize // 8) * 8
    lengths = {
        "sentences": sentences + 1,
        "documents": documents + 1,
        "texts": documents,
        "word_starts": -(-tokens // 8),
    }
    for name, type_ in BEHIND.items():
        size = lengths[name] * np.dtype(type_).itemsize
        found[name], at = data[at : at + size].view(type_), at + size
    return found


def mapped(part: Part, name: str, kind: Any, store: Store) -> npt.NDArray[Any]:
    """A part's file as an array in mapped memory."""
    (entry,) = (entry for entry in part.files if entry.path == name)
    if entry.size == 0:
        return np.frombuffer(b"", kind)
    with store.blob(entry).open("rb") as file:  # numpy's own memmap resolves the path, which takes longer than all else
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)
