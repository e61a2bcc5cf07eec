"""A mixture of sources: caps on what a source gives, and weights between sources.

A cap keeps a source's first documents. Weights are shares of characters: of each weighted source as much stays as keeps
the proportions, chosen by a hash of the document's id, so that a growing corpus changes its choice as little as it can.
Both look at what is left after deduplication; nothing here reads a text.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config import Source
from pipeline.corpus.deduplication import Repeats, dropped_of
from pipeline.corpus.document import Document
from pipeline.store import FileEntry, Part, PartDraft, Store

if TYPE_CHECKING:
    import numpy as np

PATH = "rows.arrow"
OVER_CAP, OVER_WEIGHT = "over the source's cap", "over the source's weight"


class Rows:
    """What the second pass needs to know of a part's documents, in reading order: 21 bytes for each."""

    def __init__(self) -> None:
        self._characters, self._picks, self._groups, self._heldout = array("I"), array("Q"), array("Q"), array("b")

    def add(self, document: Document, *, heldout: bool) -> None:
        self._characters.append(len(document.text))
        self._picks.append(_uniform(document.id))
        self._groups.append(_uniform(document.group))
        self._heldout.append(heldout)

    def write(self, draft: PartDraft) -> None:
        """`rows.arrow`: characters (uint32), pick and group (uint64, uniform), heldout (int8)."""
        import numpy as np
        import pyarrow as pa

        table = pa.table(
            {
                "characters": np.asarray(self._characters, np.uint32),
                "pick": np.asarray(self._picks, np.uint64),
                "group": np.asarray(self._groups, np.uint64),
                "heldout": np.asarray(self._heldout, np.int8),
            }
        )
        with pa.ipc.new_file(str(draft.folder / PATH), table.schema) as writer:
            writer.write_table(table)
        draft.add(PATH, rows=len(table))


def _uniform(name: str) -> int:
    """A number below 2^64 that stands for an id or a group."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def column(part: Part, name: str, store: Store) -> "np.ndarray[Any, Any]":
    """A column of the part's `rows.arrow`."""
    import pyarrow as pa

    entry = file_of(part, PATH)
    with pa.memory_map(str(store.blob(entry))) as source:
        values: np.ndarray[Any, Any] = pa.ipc.open_file(source).read_all()[name].to_numpy()
        return values


def file_of(part: Part, path: str) -> FileEntry:
    """The part's file of that path."""
    return next(entry for entry in part.files if entry.path == path)


@dataclass(frozen=True)
class Limit:
    """What of a part's rows the mixture leaves in: those before `end` whose pick is below `below`."""

    end: int
    below: int


def limits(
    sources: Sequence[Source], of_source: Sequence[str], parts: Sequence[Part], repeats: Repeats, store: Store
) -> list[Limit | None]:
    """For each part, whose source `of_source` names, its limit; None where that has neither cap nor weight."""
    made: list[Limit | None] = [None] * len(parts)
    left: dict[str, int] = {}
    for source in sources:
        if source.weight is None and source.max_documents is None and source.max_characters is None:
            continue
        left[source.name] = 0
        numbers = [number for number, name in enumerate(of_source) if name == source.name]
        for number, end, characters in _capped(source, numbers, parts, repeats, store):
            made[number] = Limit(end, 1 << 64)
            left[source.name] += characters
    weights = {source.name: source.weight for source in sources if source.weight is not None}
    if weights:
        unit = min((left[name] / weight for name, weight in weights.items() if left[name]), default=0)
        for number, name in enumerate(of_source):
            limit = made[number]
            if limit is not None and name in weights and left[name]:
                made[number] = Limit(limit.end, int(min(1.0, unit * weights[name] / left[name]) * (1 << 64)))
    return made


def _capped(
    source: Source, numbers: Sequence[int], parts: Sequence[Part], repeats: Repeats, store: Store
) -> Iterator[tuple[int, int, int]]:
    """For each of the source's parts: its number, the row at which the cap is reached, the characters before it."""
    import numpy as np

    documents, characters = source.max_documents or 1 << 62, source.max_characters or 1 << 62
    for number in numbers:
        lengths = column(parts[number], "characters", store).astype(np.int64)
        stays = (dropped_of(number, repeats, store=store).codes == 0).astype(np.int64)
        counts, sums = np.cumsum(stays), np.cumsum(lengths * stays)
        end = int(min(np.searchsorted(counts, documents, "right"), np.searchsorted(sums, characters, "right")))
        yield number, end, int(sums[end - 1]) if end else 0
        documents -= int(counts[end - 1]) if end else 0
        characters -= int(sums[end - 1]) if end else 0
        if end < len(lengths):
            documents = characters = 0
