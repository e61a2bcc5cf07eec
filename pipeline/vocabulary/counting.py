"""Words of the corpus and how often each stands, under BERT's normalisation and pre-tokenisation.

Each corpus shard is counted by itself: a remembered part, shared by vocabularies of every size. A table of bounded size
takes the words; when it is full, it is sorted and written, and what was written is merged at the end. Parts are merged
in a tree, each node of it a remembered part too, so that a new shard costs the nodes above it. So no process ever holds
more than its table, or a record batch of each file that it merges. Costs a second for 100 MB of English.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.mapping import Map, light
from pipeline.progress import progress
from pipeline.store import FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.counts import CountsWriter, WordCounts, spans_of
from pipeline.vocabulary.layout import LONGEST_WORD
from pipeline.vocabulary.merged_counts import merge_files
from pipeline.vocabulary.pieces import Bytes, Starts
from pipeline.vocabulary.tokenizer import Form, bert_normalizer, bert_pre_tokenizer
from pipeline.vocabulary.words import count_numbers, empty_words, number_words, rules_for, visible_characters

SCHEMA = 2
LIGHT = 1 << 26
"""Bytes of shards, compressed, that are counted in two seconds: some 200 MB of English."""
FAN_IN = 16
"""Files merged at once."""
TABLE_WORDS = 1 << 19
"""Words that a table holds; with their text 40 MB, and 8 bytes more for each group that is kept of a word."""
NUMBERS, ASKED = 1 << 18, 1 << 12
TOTALS = ("documents", "words", "characters", "long", "kept")


def count_words(shards: Sequence[FileEntry], form: Form, *, min_groups: int = 1, store: Store, map: Map = map) -> Part:
    """The words of corpus shards, `counts.arrow`, and a record of totals; words of fewer groups are left out.

    Independent of how the corpus is sharded, of the shards' order and of the map. Record: `documents`, `words` and
    `characters` (visible ones) of the text; `long`: words over 100 characters, which aren't counted; `kept`: tokens
    that are kept whole, which aren't either; `rare_words`, `rare_occurrences`: what `min_groups` left out.
    """
    groups = min_groups if min_groups > 1 else 0
    over = light(map) if sum(shard.size for shard in shards) < LIGHT else map
    parts = list(over(partial(count_shard, form=form, groups=groups, store=store), shards))
    level = tuple(part.files[0] for part in parts)
    while len(level) > FAN_IN:
        nodes = [level[at : at + FAN_IN] for at in range(0, len(level), FAN_IN)]
        level = tuple(part.files[0] for part in over(partial(merge_counts, groups=groups, store=store), nodes))
    root = merge_counts(level, min_groups=min_groups, store=store)
    totals = {name: sum(part.record[name] for part in parts) for name in TOTALS}
    return Part(root.files, totals | root.record)


def count_shard(entry: FileEntry, *, form: Form, groups: int, store: Store) -> Part:
    """The word counts of one corpus shard, with the first `groups` groups of each word."""
    identity = {"schema": SCHEMA, "shard": entry.sha256, "groups": groups} | form.identity
    make = partial(_count_shard, entry=entry, form=form, groups=groups, store=store)
    return store.part("vocabulary", identity, make)


def merge_counts(entries: tuple[FileEntry, ...], *, store: Store, groups: int = 0, min_groups: int = 1) -> Part:
    """Files of counts in one. With `min_groups` words of fewer groups are left out, and groups are no longer kept."""
    if len(entries) == 1 and min_groups == 1:
        return Part(entries, {"rare_words": 0, "rare_occurrences": 0})
    identity: dict[str, Any] = {"schema": SCHEMA, "merged": [entry.sha256 for entry in entries]}
    if min_groups > 1:
        identity["min_groups"] = min_groups
    make = partial(_merge_counts, entries=entries, groups=groups, min_groups=min_groups, store=store)
    return store.part("vocabulary", identity, make)


def _merge_counts(
    draft: PartDraft, *, entries: tuple[FileEntry, ...], groups: int, min_groups: int, store: Store
) -> dict[str, Any]:
    with CountsWriter(draft.folder / "counts.arrow", groups) as writer:
        left_out, occurrences = merge_files([store.blob(entry) for entry in entries], writer, min_groups)
    draft.add("counts.arrow", rows=writer.rows)
    return {"rare_words": left_out, "rare_occurrences": occurrences}


def _count_shard(draft: PartDraft, *, entry: FileEntry, form: Form, groups: int, store: Store) -> dict[str, Any]:
    import pyarrow as pa

    table = _Table(draft, form, groups)
    label = f"counting the words of {entry.path}"
    with pa.memory_map(str(store.blob(entry))) as source, progress(label, entry.rows) as advance:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            owners = _group_hashes(batch["group"].to_pylist()) if groups else np.zeros(len(batch), np.uint64)
            table.add(*spans_of(batch["text"]), owners)
            advance(len(batch))
    rows = table.write()
    draft.add("counts.arrow", rows=rows)
    return table.totals


def _group_hashes(names: list[str]) -> npt.NDArray[np.uint64]:
    """64 bits of each name; never 0, which stands for no group."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    hashes: npt.NDArray[np.uint64] = np.frombuffer(digests, "<u8").astype(np.uint64)
    return np.maximum(hashes, np.uint64(1))


class _Table:
    """A shard's counts in the making: a table of words, and files of sorted words that it was emptied into."""

    def __init__(self, draft: PartDraft, form: Form, groups: int) -> None:
        words = TABLE_WORDS // max(1, groups // 4)
        self._folder, self._groups = draft.folder, groups
        self._rules = rules_for(form.lowercase, form.strip_accents, dict.fromkeys(form.whole, 0))
        self._normalizer = bert_normalizer(form.lowercase, form.strip_accents)
        self._words = empty_words(words, 16 * words)
        self._counts, self._owners = np.zeros(words, np.int64), np.zeros((words, groups), np.uint64)
        self._asked_counts: Counter[str] = Counter()
        self._asked_owners: defaultdict[str, list[int]] = defaultdict(list)
        self._runs = self._rows = 0
        self.totals = dict.fromkeys(TOTALS, 0)

    def add(self, text: Bytes, starts: Starts, owners: npt.NDArray[np.uint64]) -> None:
        """Count the words of texts, each of which belongs to a group."""
        numbers, asked = np.empty(NUMBERS, np.int32), np.empty((ASKED, 4), np.int64)
        ends = np.empty(len(owners), np.int64)
        number, at = 0, int(starts[0])
        while number < len(owners):
            first = number
            number, at, size, chunks = number_words(
                text, starts, number, at, self._rules, self._words, numbers, ends, asked
            )
            some = numbers[:size], ends[: number + 1]
            long, kept = count_numbers(*some, first, owners, self._counts, self._owners)
            self.totals["long"] += long
            self.totals["kept"] += kept
            self.totals["words"] += size - long - kept
            self._ask(text, asked[:chunks], owners)
            if number < len(owners) and size < NUMBERS and chunks < ASKED:
                self._empty()
        self.totals["documents"] += len(owners)
        self.totals["characters"] += visible_characters(text[starts[0] : starts[-1]], self._rules.kinds)

    def _ask(self, text: Bytes, asked: npt.NDArray[np.int64], owners: npt.NDArray[np.uint64]) -> None:
        """Count the words of chunks that are left to `tokenizers`."""
        pre_tokenizer = bert_pre_tokenizer()
        for number, start, end in asked[:, :3].tolist():
            chunk = text[start:end].tobytes().decode()
            for word, _ in pre_tokenizer.pre_tokenize_str(self._normalizer.normalize_str(chunk)):
                if len(word) > LONGEST_WORD:
                    self.totals["long"] += 1
                    continue
                self.totals["words"] += 1
                self._asked_counts[word] += 1
                some = self._asked_owners[word]
                if len(some) < self._groups and (owner := int(owners[number])) not in some:
                    some.append(owner)
        if len(self._asked_counts) >= len(self._counts) // 4:
            self._empty()

    def _empty(self) -> None:
        """Write what there is, sorted, and begin anew."""
        used = int(self._words.used[0])
        starts = self._words.starts[: used + 1]
        table = WordCounts(self._words.text, starts, self._counts[:used], self._owners[:used]).in_order()
        asked = WordCounts.of(self._asked_counts, self._asked_owners, self._groups)
        for counts in (table, asked):
            if len(counts):
                with CountsWriter(self._run(self._runs), self._groups) as writer:
                    writer.write(counts)
                self._runs += 1
                self._rows = writer.rows
        self._words.clear()
        self._counts[:used], self._owners[:used] = 0, 0
        self._asked_counts.clear()
        self._asked_owners.clear()

    def _run(self, number: int) -> Path:
        return self._folder / f"run-{number}.arrow"

    def write(self) -> int:
        """Write `counts.arrow`; returns how many words it has."""
        self._empty()
        path = self._folder / "counts.arrow"
        if self._runs == 1:
            self._run(0).rename(path)
            return self._rows
        with CountsWriter(path, self._groups) as writer:
            merge_files([self._run(number) for number in range(self._runs)], writer)
        return writer.rows
