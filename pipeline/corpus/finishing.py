"""The second pass over a batch: what deduplication and the mixture leave out is taken out of its shards.

A shard that loses nothing becomes the corpus' shard as it is. Of the others the columns are filtered, a batch at a
time; only documents that lose lines are built anew.
"""

import hashlib
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import CorpusConfig
from pipeline.corpus.card import Card, Counts, Step, write_groups
from pipeline.corpus.deduplication import REASONS, Repeats, dropped_of, without_lines
from pipeline.corpus.reading import EXAMPLES, EXCERPT
from pipeline.corpus.selection import OVER_CAP, OVER_WEIGHT, Limit, column
from pipeline.corpus.shards import SPLITS, count_batch, shard_sink
from pipeline.store import FileEntry, Part, PartDraft, Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SCHEMA = 1
STEPS = ("deduplication", "mixture")
NAMES = ("", *REASONS.values(), OVER_CAP, OVER_WEIGHT)
STEP_OF = {OVER_CAP: "mixture", OVER_WEIGHT: "mixture"}
"""The step that drops for a reason, where it isn't deduplication."""


@dataclass(frozen=True)
class Unfinished:
    """One unit of work: a batch as it was read."""

    number: int
    """Its place in the order of the corpus."""
    part: Part
    limit: Limit | None


@dataclass(frozen=True)
class Losses:
    """What a batch's documents lose, by row in reading order."""

    reasons: "np.ndarray[Any, Any]"
    """An index into `NAMES` for each row, 0 where the document stays: uint8."""
    lines: "dict[int, list[int]]"
    """Numbers of the lines to take out, of documents that stay."""

    def identity(self) -> list[Any]:
        return [hashlib.sha256(self.reasons.tobytes()).hexdigest(), NAMES, sorted(self.lines.items())]


def finish_batch(unit: Unfinished, *, repeats: Repeats, config: CorpusConfig, store: Store) -> Part:
    """The batch's shards of the corpus, with a card and a funnel: remembered under what it holds and loses."""
    losses = _losses(unit, repeats, store)
    identity = {
        "schema": SCHEMA,
        "shards": [[entry.path, entry.sha256] for entry in unit.part.files],
        "losses": losses.identity(),
        "restricted": config.restricted,
    }
    make = partial(_finish_batch, part=unit.part, losses=losses, restricted=config.restricted, store=store)
    return store.part("corpus-finished", identity, make)


def _shards(part: Part, split: str) -> list[FileEntry]:
    return sorted((each for each in part.files if each.path.startswith(f"{split}/")), key=lambda each: each.path)


def _losses(unit: Unfinished, repeats: Repeats, store: Store) -> Losses:
    import numpy as np

    dropped = dropped_of(unit.number, repeats, store=store)
    reasons, limit = dropped.codes.copy(), unit.limit
    if limit is not None:
        over = np.zeros(len(reasons), np.uint8)
        if limit.below < 1 << 64:
            over[column(unit.part, "pick", store) >= np.uint64(limit.below)] = NAMES.index(OVER_WEIGHT)
        over[limit.end :] = NAMES.index(OVER_CAP)
        reasons = np.where(reasons, reasons, over)
    rows = np.unique(dropped.line_rows)
    return Losses(reasons, {row: dropped.lines(row) for row in rows[reasons[rows] == 0].tolist()})


def _finish_batch(draft: PartDraft, *, part: Part, losses: Losses, restricted: bool, store: Store) -> dict[str, Any]:
    import numpy as np

    heldout, stays = column(part, "heldout", store).astype(bool), losses.reasons == 0
    write_groups(draft, column(part, "group", store)[stays], heldout[stays])
    if stays.all() and not losses.lines:
        return _as_it_is(draft, part)
    finisher = _Finisher(draft, losses, restricted)
    for split in SPLITS:
        rows = np.flatnonzero(heldout == (split == "heldout"))
        for entry in _shards(part, split):
            finisher.shard(split, entry, rows[: entry.rows], store)
            rows = rows[entry.rows :]
    return finisher.record()


def _as_it_is(draft: PartDraft, part: Part) -> dict[str, Any]:
    """A batch that loses nothing: its shards aren't even read."""
    card = Card()
    card.add(part.record["card"])
    documents, characters = sum(card.total("documents").values()), sum(card.total("characters").values())
    for split in SPLITS:
        for entry in _shards(part, split):
            draft.include(entry)
    steps = [Step(name, documents, documents, characters, characters) for name in STEPS]
    return {"card": card.record(), "funnel": [step.record() for step in steps], "examples": []}


class _Finisher:
    """Filters shards, and counts what goes and what stays."""

    def __init__(self, draft: PartDraft, losses: Losses, restricted: bool) -> None:
        self._draft, self._losses, self._restricted = draft, losses, restricted
        self._card: dict[str, Counts] = {split: {} for split in SPLITS}
        self._steps = {name: Step(name) for name in STEPS}
        self._seen: Counter[str] = Counter()
        self._examples: list[dict[str, Any]] = []

    def record(self) -> dict[str, Any]:
        steps = [step.record() for step in self._steps.values()]
        return {"card": Card(self._card).record(), "funnel": steps, "examples": self._examples}

    def shard(self, split: str, entry: FileEntry, rows: "np.ndarray[Any, Any]", store: Store) -> None:
        """One shard, whose documents are those `rows` of the part."""
        import pyarrow as pa

        touched = bool(self._losses.reasons[rows].any()) or not self._losses.lines.keys().isdisjoint(rows.tolist())
        path, kept = self._draft.folder / entry.path, 0
        with (
            pa.memory_map(str(store.blob(entry))) as source,
            shard_sink(path) if touched else nullcontext() as sink,
        ):
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                here, rows = rows[: len(batch)], rows[len(batch) :]
                batch = self._filtered(batch, here)
                if len(batch) == 0:
                    continue
                count_batch(batch, self._card[split])
                kept += len(batch)
                if sink is not None:
                    sink.write_batch(batch)
        if not touched:
            self._draft.include(entry)
        elif kept:
            self._draft.add(entry.path, rows=kept)

    def _filtered(self, batch: "pa.RecordBatch", rows: "np.ndarray[Any, Any]") -> "pa.RecordBatch":
        """The batch without what its documents lose; the rest of the funnel is counted on the way."""
        import pyarrow as pa
        import pyarrow.compute as pc

        stays = self._losses.reasons[rows] == 0
        self._count(batch, self._losses.reasons[rows], pc.utf8_length(batch["text"]).to_numpy())
        edited = {at: self._losses.lines[row] for at, row in enumerate(rows.tolist()) if row in self._losses.lines}
        if edited:
            batch = self._without_lines(batch, edited)
            stays &= pc.greater(pc.binary_length(batch["text"]), 0).to_numpy(zero_copy_only=False)
        return batch if stays.all() else batch.filter(pa.array(stays))

    def _count(self, batch: "pa.RecordBatch", reasons: "np.ndarray[Any, Any]", lengths: "np.ndarray[Any, Any]") -> None:
        """Enter a batch in the funnel, before lines are taken out."""
        documents, characters = len(batch), int(lengths.sum())
        for name, step in self._steps.items():
            step.documents_in += documents
            step.characters_in += characters
            for code, reason in enumerate(NAMES):
                here = reasons == code
                if code and STEP_OF.get(reason, "deduplication") == name and here.any():
                    step.dropped[reason] += int(here.sum())
                    documents -= int(here.sum())
                    characters -= int(lengths[here].sum())
                    self._show(batch, name, reason, here)
            step.documents_out += documents
            step.characters_out += characters

    def _show(self, batch: "pa.RecordBatch", step: str, reason: str, here: "np.ndarray[Any, Any]") -> None:
        """Keep the first few of each reason, without text where the corpus is restricted."""
        for at in here.nonzero()[0][: max(0, EXAMPLES - self._seen[reason])].tolist():
            self._seen[reason] += 1
            shown = {"step": step, "reason": reason, "id": batch["id"][at].as_py()}
            self._examples.append(shown | ({} if self._restricted else {"text": batch["text"][at].as_py()[:EXCERPT]}))

    def _without_lines(self, batch: "pa.RecordBatch", edited: "dict[int, list[int]]") -> "pa.RecordBatch":
        import pyarrow as pa

        texts = batch["text"].to_pylist()
        first, later = self._steps.values()
        for at, numbers in edited.items():
            text = without_lines(texts[at], numbers)
            lost = len(texts[at]) - len(text)
            first.characters_out -= lost
            later.characters_in -= lost
            later.characters_out -= lost
            if text:
                first.edited += 1
                first.done["boilerplate lines"] += len(numbers)
            else:
                first.dropped["nothing but boilerplate lines"] += 1
                first.documents_out -= 1
                later.documents_in -= 1
                later.documents_out -= 1
            texts[at] = text
        return batch.set_column(batch.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))
