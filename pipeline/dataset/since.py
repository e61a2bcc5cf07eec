"""A dataset of what is new since an earlier one, with a share of what isn't: for going on with a trained encoder.

A document is old where the earlier corpus' train part holds the same text. Of the old ones those are replayed whose
text's hash falls under a threshold, which makes their share of the tokens what is asked for.
Memory: the hashes of one shard of the earlier corpus, 8 bytes a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.randomness import GOLDEN, WORD, Purpose, stream_key
from pipeline.dataset.tokens import Starts, load_shard, load_texts, mapped, text_hashes
from pipeline.errors import InputError, UnknownReference
from pipeline.mapping import Map
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.counts import spans_of

SCHEMA = 2


@dataclass(frozen=True)
class Selection:
    """Which documents of the shards of a split have samples."""

    novelty: Sequence[Part]
    """Of each shard, which documents are new."""
    replayed: float
    """Share of the others that are taken too."""
    seed: int

    @property
    def identity(self) -> list[Any]:
        return [[part.files[0].sha256 for part in self.novelty], self.replayed, self.seed]


def earlier_corpus(reference: str, store: Store) -> Artifact:
    """The corpus of the dataset that `since` names, or the corpus itself."""
    artifact = store.resolve(reference)
    if artifact.kind not in ("dataset", "corpus"):
        raise UnknownReference(f"dataset.since is {reference}, a {artifact.kind}, where a dataset is wanted.")
    return store.parent(artifact, "corpus") if artifact.kind == "dataset" else artifact


def select_since(
    earlier: Artifact,
    shards: Sequence[FileEntry],
    tokens: Sequence[Part],
    share: float,
    seed: int,
    store: Store,
    map: Map,
) -> Selection:
    """New documents of the shards, and of the old ones so many that they make `share` of the tokens.

    Raises InputError where nothing is new.
    """
    old = store.manifest(earlier).matching("train/")
    held = {entry.sha256 for entry in old}
    texts = list(map(partial(hash_texts, store=store), old))
    units = [(part, entry.sha256 in held) for part, entry in zip(tokens, shards, strict=True)]
    novelty = list(map(partial(find_new, texts=texts, store=store), units))
    new, known = (sum(part.record[name] for part in novelty) for name in ("new_tokens", "old_tokens"))
    if not new:
        raise InputError(
            f"Every document to train on stands in {earlier} already, so nothing is new. Add documents to the corpus, "
            f"or leave dataset.since out."
        )
    return Selection(novelty, min(1.0, share / (1 - share) * new / max(1, known)), seed)


def hash_texts(entry: FileEntry, *, store: Store) -> Part:
    """The sorted hashes of a corpus shard's texts."""
    return store.part("texts", {"schema": SCHEMA, "shard": entry.sha256}, partial(_hash, entry=entry, store=store))


def _hash(draft: PartDraft, *, entry: FileEntry, store: Store) -> dict[str, Any]:
    import pyarrow as pa

    with pa.memory_map(str(store.blob(entry))) as source:
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        found = [text_hashes(*spans_of(batch["text"])) for batch in batches]
    hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *found]))
    hashes.tofile(draft.folder / "texts.bin")
    draft.add("texts.bin")
    return {"documents": len(hashes)}


def find_new(unit: tuple[Part, bool], *, texts: Sequence[Part], store: Store) -> Part:
    """Which documents with text of a shard are new: of one that the earlier corpus holds as it is, none."""
    tokens, is_held = unit
    identity = {
        "schema": SCHEMA,
        "tokens": [entry.sha256 for entry in tokens.files],
        "earlier": None if is_held else [part.files[0].sha256 for part in texts],
    }
    return store.part(
        "novelty", identity, partial(_find_new, tokens=tokens, texts=None if is_held else texts, store=store)
    )


def _find_new(draft: PartDraft, *, tokens: Part, texts: Sequence[Part] | None, store: Store) -> dict[str, Any]:
    hashes, shard = load_texts(tokens, store), load_shard(tokens, store)
    is_new = np.full(len(hashes), texts is not None)
    for part in texts or ():
        old = mapped(part, "texts.bin", np.uint64, store)
        if len(old):
            is_new &= old[np.minimum(np.searchsorted(old, hashes), len(old) - 1)] != hashes
    is_new.tofile(draft.folder / "is_new.bin")
    draft.add("is_new.bin")
    counts = np.diff(shard.sentences[shard.documents])
    return {"new_tokens": int(counts[is_new].sum()), "old_tokens": int(counts[~is_new].sum())}


def selected(shard: int, tokens: Sequence[Part], selection: Selection | None, count: int, store: Store) -> Starts:
    """The places of the documents of a shard, of `count`, that have samples."""
    if selection is None:
        return np.arange(count, dtype=np.int64)
    is_new: npt.NDArray[np.bool_] = mapped(selection.novelty[shard], "is_new.bin", np.bool_, store)
    key = np.uint64(stream_key(selection.seed, Purpose.REPLAY))
    uniform = (load_texts(tokens[shard], store) ^ key) * np.uint64(GOLDEN) / WORD
    return np.flatnonzero(is_new | (uniform < selection.replayed)).astype(np.int64)
