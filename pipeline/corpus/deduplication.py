"""Copies are dropped: a document goes exactly when an earlier one has one of its keys, whether that one stays or not.

The order is that of the parts, then of their rows. So the rule asks nothing of other documents' fates: no connected
components are built, chains of near copies leave their first link only, and a part that comes last changes nothing in
those before it. Of a line the first `copies` documents keep it. (FineWeb and text-dedup cluster, and keep one document
a cluster: for pairs that is the same; of a chain a, b, c both leave a.)

A map over ranges of keys, each of some million: every part's keys of the range go, in order, through a table of those
seen, and what is to be dropped is written with a record batch for each part. So memory is that of one range, whatever
the number of documents, and neither the number of ranges nor that of workers changes what is dropped. A worker reads
the parts' files of keys (8 + 4 bytes a key; 14 bands, a text and an id: 192 a document) through the store's cache.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import Deduplication
from pipeline.corpus.copies.hashing import Keys
from pipeline.corpus.copies.keys import Rows, keys_path, kinds_of
from pipeline.corpus.copies.seen import Seen
from pipeline.mapping import Map
from pipeline.store import FileEntry, Part, PartDraft, Store

SCHEMA = 1
RANGE_KEYS = 1 << 21
"""A range has so many keys at most, on average; its table takes 60 bytes for each."""
EXAMPLES = 20
REASONS = {"id": "duplicate id", "text": "duplicate text", "near": "near duplicate"}
GROUPS = {"2": 2, "3-5": 3, "6-10": 6, "11-100": 11, "over 100": 101}
"""Sizes of groups of equal texts, by the least of each class."""
_GAPS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class KeyRange:
    """The keys whose upper `bits` bits are `number`."""

    kind: str
    number: int
    bits: int

    def cut(self, keys: Keys) -> slice:
        """Where they stand among sorted keys."""
        low, high = (np.uint64((self.number + end) << (64 - self.bits) & (2**64 - 1)) for end in (0, 1))
        stop = np.searchsorted(keys, high) if self.number + 1 < 1 << self.bits else len(keys)
        return slice(int(np.searchsorted(keys, low)), int(stop))


@dataclass(frozen=True)
class Repeats:
    """What `repeated` has found: a small reference, to be handed to each `dropped_of`."""

    index: FileEntry
    """A list of files, kept in the store."""
    groups: dict[str, int]
    """How many groups of equal texts there are, by their size."""


@dataclass(frozen=True)
class Copy:
    """A dropped document and the first that has a key of it, each as (part, row)."""

    row: int
    reason: str
    of: tuple[int, int]


@dataclass(frozen=True)
class Dropped:
    """What goes of one part. Takes a byte for each of its documents, and eight for each line taken out."""

    codes: npt.NDArray[np.uint8]
    """For each row: 0 stays, else the place in REASONS, from 1."""
    line_rows: Rows
    line_numbers: Rows
    """Lines to take out, sorted by row, then by their place in the text."""
    examples: tuple[Copy, ...]
    """The first ones."""

    def reason(self, row: int) -> str | None:
        """Why the document goes; None: it stays."""
        code = int(self.codes[row])
        return list(REASONS.values())[code - 1] if code else None

    def lines(self, row: int) -> list[int]:
        """Which lines of the document go, as numbers in `text.split` at newlines."""
        first, last = np.searchsorted(self.line_rows, np.array([row, row + 1], np.uint32))
        numbers: list[int] = self.line_numbers[first:last].tolist()
        return numbers

    @property
    def counts(self) -> dict[str, int]:
        """Documents by reason."""
        counted = np.bincount(self.codes, minlength=len(REASONS) + 1)[1:].tolist()
        return {reason: count for reason, count in zip(REASONS.values(), counted, strict=True) if count}


def without_lines(text: str, lines: Sequence[int]) -> str:
    """The text without the lines of these numbers; at most one empty line stays where they stood."""
    gone = set(lines)
    kept = "\n".join(line for number, line in enumerate(text.split("\n")) if number not in gone)
    return _GAPS.sub("\n\n", kept).strip("\n")


def repeated(
    parts: Sequence[Part], config: Deduplication, *, store: Store, map: Map = map, range_keys: int = RANGE_KEYS
) -> Repeats:
    """Find every row of the parts, in their order, that has a key of an earlier one. Remembered under the keys.

    Each part has been given its files of keys by `DocumentKeys` under the same `config`. A part that comes anew, or
    goes, costs this whole pass. `range_keys` changes no result.
    """
    kinds = kinds_of(config)
    rosters = [{entry.path: entry for entry in part.files} for part in parts]
    files = {kind: [roster[keys_path(kind)] for roster in rosters] for kind in kinds}
    identity = {"schema": SCHEMA, "keys": {kind: [entry.sha256 for entry in files[kind]] for kind in kinds}}
    roster = store.part("duplicates", identity | {"what": "roster"}, partial(_write_index, files=files)).files[0]
    ranges = [
        KeyRange(kind, number, bits)
        for kind in kinds
        for bits in [_bits(sum(entry.rows or 0 for entry in files[kind]), range_keys)]
        for number in range(1 << bits)
    ]
    copies = config.lines.copies if config.lines else 1
    marked = list(map(partial(mark_range, roster=roster, copies=copies, store=store), ranges))
    marks = {kind: [p.files[0] for r, p in zip(ranges, marked, strict=True) if r.kind == kind] for kind in kinds}
    found = {"schema": SCHEMA, "marks": {kind: [entry.sha256 for entry in marks[kind]] for kind in kinds}}
    index = store.part(
        "duplicates", found | {"of": roster.sha256}, partial(_write_index, files=marks | {"": files["id"]})
    )
    groups = {size: sum(part.record["groups"].get(size, 0) for part in marked) for size in GROUPS}
    return Repeats(index.files[0], groups)


def _bits(keys: int, range_keys: int) -> int:
    """How many bits of the key tell the ranges apart."""
    return max(0, -(-keys // range_keys) - 1).bit_length()


def _write_index(draft: PartDraft, *, files: dict[str, list[FileEntry]]) -> dict[str, Any]:
    body = {kind: [entry.model_dump(mode="json") for entry in entries] for kind, entries in files.items()}
    (draft.folder / "index.json").write_text(json.dumps(body), encoding="utf-8")
    draft.add("index.json")
    return {}


def _read_index(path: Path) -> dict[str, list[FileEntry]]:
    body = json.loads(path.read_text(encoding="utf-8"))
    return {kind: [FileEntry.model_validate(entry) for entry in entries] for kind, entries in body.items()}


def mark_range(keys: KeyRange, *, roster: FileEntry, copies: int, store: Store) -> Part:
    """What is to be dropped for a key of one range: a remembered part, `marks.arrow`."""
    copies = copies if keys.kind == "lines" else 1
    identity = {"schema": SCHEMA, "roster": roster.sha256, "range": [keys.kind, keys.number, keys.bits]}
    make = partial(_mark_range, keys=keys, roster=roster, copies=copies, store=store)
    return store.part("duplicates", identity | {"copies": copies}, make)


def _mark_range(draft: PartDraft, *, keys: KeyRange, roster: FileEntry, copies: int, store: Store) -> dict[str, Any]:
    import pyarrow as pa

    paths = [store.blob(entry) for entry in _read_index(store.blob(roster))[keys.kind]]
    seen = Seen(sum(_distinct(run[0]) for path in paths for run in _runs(path, keys)), keys.bits)
    schema = pa.schema([("row", pa.uint32()), ("line", pa.uint32()), ("first", pa.uint64())])
    marks = 0
    with (
        pa.OSFile(str(draft.folder / "marks.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for number, path in enumerate(paths):
            found = [seen.mark(number, *run, copies) for run in _runs(path, keys)]
            columns = _in_order(found, one_a_row=keys.kind != "lines")
            writer.write_batch(pa.record_batch(columns, schema=schema))
            marks += len(columns[0])
    draft.add("marks.arrow", rows=marks)
    return {"groups": seen.sizes(GROUPS) if keys.kind == "text" else {}}


def _distinct(keys: Keys) -> int:
    return int(np.count_nonzero(keys[1:] != keys[:-1])) + 1 if len(keys) else 0


def _runs(path: Path, keys: KeyRange) -> Iterator[tuple[Keys, Rows, Rows]]:
    """Key, row and line (0 where keys are of documents) of each run's keys in the range."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            columns = [column.to_numpy() for column in reader.get_batch(number).columns]
            cut = keys.cut(columns[0])
            lines = columns[2][cut] if len(columns) > 2 else np.zeros(cut.stop - cut.start, np.uint32)
            yield columns[0][cut], columns[1][cut], lines


def _in_order(found: list[tuple[Rows, Rows, Keys]], *, one_a_row: bool) -> list[npt.NDArray[Any]]:
    """A part's marks by row and line; of several for one row the one whose first document is the earliest."""
    rows, lines, firsts = (np.concatenate(pieces) for pieces in zip(_NOTHING, *found, strict=True))
    order = np.lexsort((firsts, lines, rows))
    if one_a_row:
        order = order[np.unique(rows[order], return_index=True)[1]]
    return [rows[order], lines[order], firsts[order]]


_NOTHING = (np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.uint64))


def dropped_of(part: int, repeats: Repeats, *, store: Store) -> Dropped:
    """What goes of the part of that number among those that `repeated` was given."""
    index = _read_index(store.blob(repeats.index))
    codes = np.zeros(index[""][part].rows or 0, np.uint8)
    first = np.full(len(codes), 2**64 - 1, np.uint64)
    for code, kind in reversed(list(enumerate(REASONS, 1))):  # the first reason is written last, and stands
        for entry in index.get(kind, []):
            rows, _, firsts = _marks(store.blob(entry), part)
            first[rows] = np.where(codes[rows] == code, np.minimum(first[rows], firsts), firsts)
            codes[rows] = code
    lines = [_marks(store.blob(entry), part)[:2] for entry in index.get("lines", [])]
    line_rows, line_numbers = (np.concatenate(pieces) for pieces in zip(_NOTHING[:2], *lines, strict=True))
    order = np.lexsort((line_numbers, line_rows))
    names = list(REASONS.values())
    examples = tuple(
        Copy(row, names[codes[row] - 1], (int(first[row]) >> 32, int(first[row]) & 0xFFFFFFFF))
        for row in np.flatnonzero(codes)[:EXAMPLES].tolist()
    )
    return Dropped(codes, line_rows[order], line_numbers[order], examples)


def _marks(path: Path, part: int) -> tuple[Rows, Rows, Keys]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        rows, lines, firsts = (column.to_numpy() for column in pa.ipc.open_file(source).get_batch(part).columns)
        return rows, lines, firsts
