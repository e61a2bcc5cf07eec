"""Documents whose tokens all have different ids, in order, so that a sample tells where each of its tokens is from."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.dataset.example import Example
from pipeline.dataset.pairs import Documents, SpecialTokens, document_pairs
from pipeline.dataset.tokens import Shard

FIRST = 100
"""The id of the first document's first token; the next ones follow."""
SPECIALS = SpecialTokens(cls=2, sep=3, mask=4, undrawable=(0, 1, 2, 3, 4), continuing=frozenset(), size=1 << 20)


@dataclass(frozen=True)
class Text:
    """The documents of a split, by the lengths of their sentences."""

    lengths: Sequence[Sequence[int]]
    shards: Sequence[Shard]
    specials: SpecialTokens = SPECIALS

    def __len__(self) -> int:
        return len(self.lengths)

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
        documents = Documents(self.shards, config, self.specials)
        return list(document_pairs(number, documents, config, self.specials, pass_=pass_))

    def all_samples(self, config: DatasetConfig, passes: int = 1) -> Iterator[tuple[int, Example]]:
        """(document, sample) of each."""
        documents = Documents(self.shards, config, self.specials)
        for pass_ in range(passes):
            for number in range(len(self)):
                for sample in document_pairs(number, documents, config, self.specials, pass_=pass_):
                    yield number, sample

    def with_continuing(self, share: float) -> "Text":
        """The same, in which that share of the ids continues a word."""
        ids = range(FIRST, FIRST + sum(map(sum, self.lengths)))
        chosen = frozenset(random.Random(8).sample(ids, round(share * len(ids))))
        return replace(self, specials=replace(self.specials, continuing=chosen))


def numbered(lengths: Sequence[Sequence[int]], documents_per_shard: int = 1_000) -> Text:
    """Documents of sentences of those lengths."""
    shards, first = [], FIRST
    for start in range(0, len(lengths), documents_per_shard):
        some = lengths[start : start + documents_per_shard]
        flat = [length for document in some for length in document]
        shards.append(
            Shard(
                np.arange(first, first + sum(flat), dtype=np.uint32),
                np.array([0, *accumulate(flat)], np.int64),
                np.array([0, *accumulate(map(len, some))], np.int64),
            )
        )
        first += sum(flat)
    return Text(lengths, shards)


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
