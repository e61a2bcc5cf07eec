"""Documents whose tokens all have different ids, in order, so that a sample tells where each of its tokens is from."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.dataset.assembly import assembled
from pipeline.dataset.donors import find_donors
from pipeline.dataset.entries import Entries
from pipeline.dataset.pairs import draw_samples, rules_of
from pipeline.dataset.rows import Rows
from pipeline.dataset.tokens import Shard
from pipeline.vocabulary.layout import SPECIALS
from tests.dataset.readable_pairs import Pair, readable_pairs

FIRST = 100
"""The id of the first document's first token; the next ones follow."""
ENTRIES = Entries({token: number for number, token in enumerate(SPECIALS)})


@dataclass(frozen=True)
class Example:
    """One sample, as lists."""

    input_ids: list[int]
    segment_boundary: int
    word_starts: list[int]
    """The places at which words start."""
    is_random_next: bool


@dataclass(frozen=True)
class Text:
    """The documents of a split, by the lengths of their sentences; none is empty."""

    lengths: Sequence[Sequence[int]]
    documents_per_shard: int = 1_000
    continuing: frozenset[int] = frozenset()
    """Ids that continue a word."""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def shards(self) -> list[Shard]:
        shards, first = [], FIRST
        for start in range(0, len(self), self.documents_per_shard):
            some = self.lengths[start : start + self.documents_per_shard]
            flat = [length for document in some for length in document]
            ids = np.arange(first, first + sum(flat), dtype=np.uint32)
            arrays = (
                ids,
                np.packbits([each not in self.continuing for each in ids.tolist()], bitorder="little"),
                np.array([0, *accumulate(flat)], np.int64),
                np.array([0, *accumulate(map(len, some))], np.int64),
            )
            for array in arrays:
                array.flags.writeable = False  # as what is mapped from a file
            shards.append(Shard(*arrays))
            first += sum(flat)
        return shards

    def own(self, number: int) -> list[int]:
        """A document's tokens."""
        ends = list(accumulate((sum(each) for each in self.lengths), initial=FIRST))
        return list(range(ends[number], ends[number + 1]))

    def document_of(self, token: int) -> int:
        return bisect_right(list(accumulate(sum(each) for each in self.lengths)), token - FIRST)

    def sentence_starts(self) -> set[int]:
        """The first tokens of all sentences."""
        return set(accumulate((length for each in self.lengths for length in each), initial=FIRST))

    def samples(self, number: int, config: DatasetConfig, pass_: int = 0) -> list[Example]:
        """Of one document."""
        return self.counted(number, config, pass_)[0]

    def counted(self, number: int, config: DatasetConfig, pass_: int = 0) -> tuple[list[Example], int]:
        """Of one document, and how many tokens of them are said to be its own."""
        shard, place = divmod(number, self.documents_per_shard)
        return self._drawn(shard, [place], config, pass_)

    def samples_of(self, places: Sequence[int], config: DatasetConfig) -> list[Example]:
        """Of some documents of the first shard, drawn together."""
        return self._drawn(0, places, config, 0)[0]

    def _drawn(self, shard: int, places: Sequence[int], config: DatasetConfig, pass_: int) -> tuple[list[Example], int]:
        own, rules = self.shards[shard], rules_of(config)
        before = shard * self.documents_per_shard
        drawn = draw_samples(own, np.array(places, np.int64), before, rules, config.seed, pass_)
        ends = list(accumulate(map(len, self.shards)))
        donated = find_donors(drawn, ends, self.shards.__getitem__, rules)
        rows, own_tokens = assembled(own, drawn, donated, rules, ENTRIES)
        return listed(rows), own_tokens

    def all_samples(self, config: DatasetConfig, passes: int = 1) -> Iterator[tuple[int, Example]]:
        """(document, sample) of each."""
        for pass_ in range(passes):
            for number in range(len(self)):
                for sample in self.samples(number, config, pass_):
                    yield number, sample

    def readable(self, number: int, config: DatasetConfig, pass_: int = 0) -> list[Pair]:
        """The pairs of a document, by the readable version."""
        ids = iter(range(FIRST, FIRST + sum(map(sum, self.lengths))))
        documents = [
            [[(each, each not in self.continuing) for each in (next(ids) for _ in range(length))] for length in lengths]
            for lengths in self.lengths
        ]
        return readable_pairs(number, documents, config, pass_)

    def with_continuing(self, share: float) -> "Text":
        """The same, in which that share of the ids continues a word."""
        ids = range(FIRST, FIRST + sum(map(sum, self.lengths)))
        return replace(self, continuing=frozenset(random.Random(8).sample(ids, round(share * len(ids)))))


def numbered(lengths: Sequence[Sequence[int]], documents_per_shard: int = 1_000) -> Text:
    """Documents of sentences of those lengths; what is empty is left out, as a shard leaves it out."""
    kept = [[length for length in document if length] for document in lengths]
    return Text([document for document in kept if document], documents_per_shard)


def listed(rows: Rows) -> list[Example]:
    """The samples as lists."""
    begins = rows.begins_word(0, len(rows))
    return [
        Example(
            rows.input_ids[start:end].tolist(),
            int(rows.segment_boundary[at]),
            np.flatnonzero(begins[start:end]).tolist(),
            bool(rows.next_sentence_label[at]),
        )
        for at, (start, end) in enumerate(pairwise(rows.starts.tolist()))
    ]


def random_lengths(documents: int, shortest: int, longest: int, sentences: int = 10) -> list[list[int]]:
    """That many documents of about so many sentences of between `shortest` and `longest` tokens."""
    draw = random.Random(documents)
    return [
        [draw.randint(shortest, longest) for _ in range(draw.randint(sentences - 2, sentences + 2))]
        for _ in range(documents)
    ]


def segments(sample: Example) -> tuple[list[int], list[int]]:
    """A and B, without the specials."""
    return sample.input_ids[1 : sample.segment_boundary - 1], sample.input_ids[sample.segment_boundary : -1]


def own_tokens(sample: Example) -> list[int]:
    """Those that the document gave: A, and B where it follows."""
    first, second = segments(sample)
    return first if sample.is_random_next else first + second
