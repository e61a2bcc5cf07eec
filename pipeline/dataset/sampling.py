"""The samples of one corpus shard in one pass over its split: a remembered part, whose files the dataset takes as is.

Works through the shard in blocks of documents, so that memory holds a block's samples whatever the shard's size. Text
of other documents comes from any shard of the split, mapped when it is asked for (donors.py).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.assembly import assembled
from pipeline.dataset.donors import find_donors
from pipeline.dataset.entries import Entries
from pipeline.dataset.masking import Masking
from pipeline.dataset.pairs import draw_samples, rules_of
from pipeline.dataset.rows import Rows, StoredMasks, joined, joined_masks, write_rows
from pipeline.dataset.since import Selection, selected
from pipeline.dataset.sketch import Sketch
from pipeline.dataset.tokens import Shard, Starts, load_shard
from pipeline.progress import progress
from pipeline.store import Artifact, Part, PartDraft, Store

SCHEMA = 4
BLOCK_TOKENS = 1 << 24
MAPPED_BYTES, MAPPED_SHARDS = 1 << 28, 64
"""Of other shards, mapped at a time: so that neither memory nor open files grow with the corpus."""
MASKED_AT_ONCE = 1_024
"""Samples: what is worked out for them fits the processor's cache."""
MOST_ROWS = 1 << 40
"""Of a shard in a pass: by so many its rows' numbers are apart from the next shard's."""
LENGTH_BINS = 8
"""A sample's length is counted in eighths of the longest."""
DECIDES_PAIRS = (
    "max_seq_length",
    "pairs",
    "short_seq_prob",
    "random_next_share",
    "faults",
    "rows_per_shard",
    "masks",
    "seed",
)
"""What of the config a shard's samples depend on, and, where they are stored, its masks besides."""
DECIDES_MASKS = ("masker", "masked_lm_prob", "max_predictions_per_seq", "mask_share", "random_share")


@dataclass(frozen=True)
class Unit:
    """One unit of work: a corpus shard in one pass over its split."""

    split: str
    shard: int
    pass_: int


@dataclass(frozen=True)
class Source:
    """What the samples of a split are made of."""

    tokens: Sequence[Part]
    """Of each shard of the split, in order."""
    selection: Selection | None = None
    """Which documents have samples; None: all of them. Any may give text to another's sample."""

    @property
    def ends(self) -> list[int]:
        """For each shard, how many documents with text it and those before it hold."""
        return list(accumulate(part.record["documents_with_text"] for part in self.tokens))

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "tokens": [[entry.sha256 for entry in part.files] for part in self.tokens],
            "selection": self.selection.identity if self.selection else None,
        }


def make_samples(
    unit: Unit, *, sources: Mapping[str, Source], vocabulary: Artifact, config: DatasetConfig, store: Store
) -> Part:
    """The samples of a unit. Any shard may give text to a pair, so all their tokens make the identity."""
    source = sources[unit.split]
    decides = {*DECIDES_PAIRS, *(DECIDES_MASKS if config.masks == "stored" else ())}
    identity = {
        "schema": SCHEMA,
        "unit": [unit.split, unit.shard, unit.pass_],
        "vocabulary": vocabulary.digest,
        "config": config.model_dump(mode="json", include=decides),
        **source.identity,
    }
    make = partial(_make_samples, unit=unit, source=source, vocabulary=vocabulary, config=config, store=store)
    return store.part("pairs", identity, make)


def _make_samples(
    draft: PartDraft, *, unit: Unit, source: Source, vocabulary: Artifact, config: DatasetConfig, store: Store
) -> dict[str, Any]:
    entries, rules = Entries.load(store, vocabulary), rules_of(config)
    ends = source.ends
    own = load_shard(source.tokens[unit.shard], store)
    documents = selected(unit.shard, source.tokens, source.selection, len(own), store)

    at_hand = ShardsAtHand(source.tokens, store)
    writer = SamplesWriter(draft, config, entries, unit)
    with progress(f"samples of {unit.split} {unit.shard}, pass {unit.pass_}", len(documents)) as advance:
        for block in blocks(own, documents, BLOCK_TOKENS):
            drawn = draw_samples(own, block, ends[unit.shard] - len(own), rules, config.seed, unit.pass_)
            donated = find_donors(drawn, ends, at_hand, rules)
            writer.add(*assembled(own, drawn, donated, rules, entries))
            advance(len(block))
    return writer.finish() | {"own_documents": len(documents), "source_tokens": _tokens_of(own, documents)}


def blocks(shard: Shard, documents: Starts, size: int) -> Iterator[Starts]:
    """The documents in runs of `size` tokens, or one document more."""
    begins = shard.sentences[shard.documents]
    counts = np.cumsum(np.diff(begins)[documents])
    cuts = [0, *(1 + np.flatnonzero(np.diff(counts // size))).tolist(), len(documents)]
    for first, last in pairwise(cuts):
        if first < last:
            yield documents[first:last]


def _tokens_of(shard: Shard, documents: Starts) -> int:
    return int(np.diff(shard.sentences[shard.documents])[documents].sum())


class ShardsAtHand:
    """Maps the shards of a split when they are asked for, and keeps those that were asked for last."""

    def __init__(self, tokens: Sequence[Part], store: Store) -> None:
        self._tokens, self._store = tokens, store
        self._mapped: OrderedDict[int, Shard] = OrderedDict()
        self._bytes = 0

    def __call__(self, number: int) -> Shard:
        if number not in self._mapped:
            self._mapped[number] = load_shard(self._tokens[number], self._store)
            self._bytes += self._mapped[number].size
            while len(self._mapped) > 1 and (self._bytes > MAPPED_BYTES or len(self._mapped) > MAPPED_SHARDS):
                self._bytes -= self._mapped.popitem(last=False)[1].size
        self._mapped.move_to_end(number)
        return self._mapped[number]


class SamplesWriter:
    """Writes samples into a unit's files of `rows_per_shard` rows, the last with what is left, and counts them."""

    def __init__(self, draft: PartDraft, config: DatasetConfig, entries: Entries, unit: Unit) -> None:
        self._draft, self._config, self._unit = draft, config, unit
        self._masking = None
        if config.masks == "stored" and config.rules == "bertmill":
            self._masking = Masking.of(config, entries)
        self._waiting: list[Rows] = []
        self._sketch = Sketch.empty()
        self._files = self._rows = self._tokens = self._own = self._random = self._predictions = 0
        self._lengths: list[npt.NDArray[np.uint16]] = [np.empty(0, np.uint16)]
        self._bins = np.zeros(LENGTH_BINS, np.int64)

    def add(self, rows: Rows, own_tokens: int = 0) -> None:
        """Take some more; `own_tokens` of theirs are their own documents'."""
        self._own += own_tokens
        self._random += int(rows.next_sentence_label.sum())
        self._lengths.append(rows.lengths.astype(np.uint16))
        self._bins += np.bincount(
            (rows.lengths - 1) * LENGTH_BINS // self._config.max_seq_length, minlength=LENGTH_BINS
        )
        self._sketch = self._sketch.with_samples(rows, self._unit.pass_)
        self._waiting.append(rows)
        while sum(map(len, self._waiting)) >= self._config.rows_per_shard:
            whole = joined(self._waiting)
            self._write(whole.cut(0, self._config.rows_per_shard))
            self._waiting = [whole.cut(self._config.rows_per_shard, len(whole))]

    def finish(self) -> dict[str, Any]:
        """Write what is left; returns the unit's record."""
        if sum(map(len, self._waiting)):
            self._write(joined(self._waiting))
        arrays: dict[str, npt.NDArray[Any]] = {
            "lengths": np.concatenate(self._lengths),
            "duplicates": self._sketch.array(),
        }
        for name, array in arrays.items():
            np.save(self._draft.folder / f"{name}.npy", array, allow_pickle=False)
            self._draft.add(f"{name}.npy")
        return {
            "rows": self._rows,
            "tokens": self._tokens,
            "own_tokens": self._own,
            "random_next": self._random,
            "predictions": self._predictions,
            "lengths": self._bins.tolist(),
        }

    def _write(self, rows: Rows) -> None:
        rows = self._with_masks(rows)
        path = f"{self._files:05d}.arrow"
        write_rows(self._draft.folder / path, rows)
        self._draft.add(path, rows=len(rows))
        (self._draft.folder / path).unlink()
        self._files += 1
        self._rows += len(rows)
        self._tokens += len(rows.input_ids)
        self._predictions += 0 if rows.masks is None else len(rows.masks.positions)

    def _with_masks(self, rows: Rows) -> Rows:
        """With masks that are a function of (seed, pass, shard, index in the unit), where they are to be stored."""
        if self._masking is None:
            return rows
        cuts = range(0, len(rows), MASKED_AT_ONCE)
        drawn = [self._masks(rows, first, min(first + MASKED_AT_ONCE, len(rows))) for first in cuts]
        return rows.masked(joined_masks(drawn))

    def _masks(self, rows: Rows, first: int, last: int) -> StoredMasks:
        """Of the rows from `first` to before `last`, which follow those of the unit that are written."""
        assert self._masking is not None, "asked for where masks are to be stored"
        starts = rows.starts[first : last + 1].astype(np.int64)
        ids, starts = rows.input_ids[starts[0] : starts[-1]], starts - starts[0]
        epochs = np.full(last - first, self._unit.pass_, np.int64)
        indices = self._unit.shard * MOST_ROWS + self._rows + np.arange(first, last, dtype=np.int64)
        masks = self._masking.draw(ids, rows.begins_word(first, last), starts, epochs, indices)
        positions = masks.positions - np.repeat(starts[:-1], np.diff(masks.starts))
        return StoredMasks(
            masks.starts.astype(np.int32), positions.astype(np.uint16), masks.inputs.astype(rows.input_ids.dtype)
        )
