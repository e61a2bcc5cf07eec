"""The corpus card: what stands in the corpus, and the funnel of what each step took out. Counts only.

Parts make cards of their own, which add up, so a card costs no second look at the text.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store import PartDraft

if TYPE_CHECKING:
    import numpy as np

GROUPS = "groups.arrow"
GROUPS_AT_ONCE = 1 << 22
Counts = dict[str, Counter[str]]


@dataclass
class Card:
    """What stands in the shards of each split: totals, lengths (by power of two), languages, sources."""

    splits: dict[str, Counts] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {
            split: {name: dict(sorted(tally.items())) for name, tally in counts.items()}
            for split, counts in self.splits.items()
        }

    def add(self, record: dict[str, Any]) -> None:
        """Add another card's record."""
        for split, counts in record.items():
            mine = self.splits.setdefault(split, {})
            for name, tally in counts.items():
                mine.setdefault(name, Counter()).update(tally)

    def of(self, split: str, name: str) -> Counter[str]:
        return self.splits.get(split, {}).get(name, Counter())

    def total(self, what: str) -> dict[str, int]:
        """Documents, characters or bytes, by split."""
        return {split: self.of(split, "totals")[what] for split in self.splits}

    def merged(self, name: str) -> dict[str, int]:
        """A tally over both splits."""
        return dict(sorted(sum((self.of(split, name) for split in self.splits), Counter()).items()))

    def lengths(self) -> list[dict[str, Any]]:
        """Documents by their number of characters, in order: {"name": "128 to 255", "documents": 17}."""
        tally = {int(power): count for power, count in self.merged("lengths").items()}
        return [
            {"name": f"{1 << power >> 1} to {(1 << power) - 1}", "documents": tally[power]} for power in sorted(tally)
        ]


@dataclass
class Step:
    """One step of the funnel: what came in, what went out, what was dropped and changed in between."""

    name: str
    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    edited: int = 0
    """Documents that it changed."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Documents by reason."""
    done: Counter[str] = field(default_factory=Counter)
    """What it did to documents, by its own words."""

    def keep(self, characters_in: int, characters_out: int) -> None:
        self.documents_in += 1
        self.documents_out += 1
        self.characters_in += characters_in
        self.characters_out += characters_out

    def drop(self, characters: int, reason: str) -> None:
        self.documents_in += 1
        self.characters_in += characters
        self.dropped[reason] += 1

    def record(self) -> dict[str, Any]:
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in vars(self).items()}


def funnel(records: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The steps of all parts added up, in their order."""
    steps: dict[str, Step] = {}
    for record in records:
        for each in record:
            step = steps.setdefault(each["name"], Step(each["name"]))
            for name, value in each.items():
                if isinstance(value, dict):
                    getattr(step, name).update(value)
                elif name != "name":
                    setattr(step, name, getattr(step, name) + value)
    return [step.record() for step in steps.values()]


def dropped(steps: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Documents by the reason they were dropped for, over all steps."""
    reasons: Counter[str] = Counter()
    for step in steps:
        reasons.update(step["dropped"])
    return dict(sorted(reasons.items()))


def write_groups(draft: PartDraft, groups: "np.ndarray[Any, Any]", heldout: "np.ndarray[Any, Any]") -> None:
    """`groups.arrow`: the distinct groups of a part's documents, sorted: uint64, the lowest bit set where held out."""
    import numpy as np
    import pyarrow as pa

    table = pa.table({"group": np.unique(groups & ~np.uint64(1) | heldout.astype(np.uint64))})
    with pa.ipc.new_file(str(draft.folder / GROUPS), table.schema) as writer:
        writer.write_table(table)
    draft.add(GROUPS, rows=len(table))


def count_groups(paths: Sequence[Path]) -> dict[str, int]:
    """Distinct groups over all parts, by split. Memory holds a range of `GROUPS_AT_ONCE` or so at a time."""
    import numpy as np
    import pyarrow as pa

    columns = [pa.ipc.open_file(pa.memory_map(str(path))).read_all()["group"].to_numpy() for path in paths]
    ranges = 1 + sum(map(len, columns)) // GROUPS_AT_ONCE
    edges = np.array([(number << 64) // ranges for number in range(1, ranges)], np.uint64)
    cuts = [[0, *np.searchsorted(column, edges).tolist(), len(column)] for column in columns]
    count = np.zeros(2, np.int64)
    for number in range(ranges):
        here = [column[cut[number] : cut[number + 1]] for column, cut in zip(columns, cuts, strict=True)]
        count += np.bincount(np.unique(np.concatenate(here)) & np.uint64(1), minlength=2)
    return {"train": int(count[0]), "heldout": int(count[1])}
