"""Next-sentence pairs as google-research/bert makes them (create_pretraining_data.py), with its faults corrected.

Kept: whole sentences are gathered up to a target length, which is sometimes short; A is a random part of them; B is
what follows, or text from another document, whose unused place is then put back; the longer is truncated by coin from
its front or back. Changed, each for a reason:

- B is never from the document itself, also where there are few documents.
- The share of random B is what the config says: a lone sentence is not always paired at random, but split in two.
- The target is drawn for each chunk, so that no long document is cut short as a whole.
- Gathering stops before the target is passed, and a sentence longer than half a sample is parted at a word; so none of
  the document's own text is truncated away. Nothing is lost by shorter samples: training pads none.

Everything is a function of (seed, pass, document). Costs about 10 µs a sentence.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from pipeline.config import DatasetConfig
from pipeline.dataset.example import Example
from pipeline.dataset.randomness import Draws, Purpose
from pipeline.dataset.tokens import Shard

SPECIALS_IN_A_PAIR = 3
DONOR_DRAWS = 10
Sentences = list[list[int]]


@dataclass(frozen=True)
class SpecialTokens:
    """What a sample needs to know of the vocabulary."""

    cls: int
    sep: int
    mask: int
    undrawable: tuple[int, ...]
    """Ids that never stand in for a masked token: the specials and [unused]."""
    continuing: frozenset[int]
    """Ids of pieces that continue a word."""
    size: int


class Documents:
    """All documents of a split, over its shards, by a number from 0."""

    def __init__(self, shards: Sequence[Shard], config: DatasetConfig, tokens: SpecialTokens) -> None:
        self._shards = shards
        self._ends = list(accumulate(len(shard) for shard in shards))
        self._longest = max(1, (config.max_seq_length - SPECIALS_IN_A_PAIR) // 2)
        self._tokens = tokens

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def first_of(self, shard: int) -> int:
        """The number of a shard's first document."""
        return self._ends[shard] - len(self._shards[shard])

    def count(self, number: int) -> int:
        """How many sentences a document has."""
        shard = bisect_right(self._ends, number)
        return self._shards[shard].count(number - self.first_of(shard))

    def sentences(self, number: int, start: int = 0) -> Iterator[list[int]]:
        """A document's sentences from `start` on, none empty, none longer than half a sample."""
        shard = bisect_right(self._ends, number)
        for sentence in self._shards[shard].sentences(number - self.first_of(shard), start):
            yield from (part for part in _parted(sentence, self._longest, self._tokens) if part)


def _parted(sentence: list[int], longest: int, tokens: SpecialTokens) -> Iterator[list[int]]:
    """Cut a sentence into parts of at most `longest` tokens, at words where there is one."""
    start = 0
    while len(sentence) - start > longest:
        end = start + longest
        while end > start and sentence[end] in tokens.continuing:
            end -= 1
        end = end if end > start else start + longest
        yield sentence[start:end]
        start = end
    yield sentence[start:]


def document_pairs(
    number: int, documents: Documents, config: DatasetConfig, tokens: SpecialTokens, *, pass_: int
) -> Iterator[Example]:
    """The samples of one document in one pass. `documents` needs two that have sentences."""
    draws = Draws(config.seed, Purpose.PAIRS, pass_, number)
    own = list(documents.sentences(number))
    longest = config.max_seq_length - SPECIALS_IN_A_PAIR
    at = 0
    while at < len(own):
        target = longest
        if draws.uniform() < config.short_seq_prob:
            target = 2 + draws.below(longest - 1)
        chunk = _gathered(islice(own, at, None), target)
        is_random_next = draws.uniform() < config.random_next_share
        if len(chunk) == 1 and not is_random_next:
            first, second = _halves(chunk[0], tokens)
            used = 1
        else:
            used = 1 + draws.below(len(chunk) - 1) if len(chunk) > 1 else 1
            first = _joined(chunk[:used])
            second = _joined(chunk[used:])
            if is_random_next:
                second = _from_another(number, documents, target - len(first), draws)
            else:
                used = len(chunk)
        at += used
        if not second:
            continue  # a lone token has nothing that follows it
        own_tokens = len(first) + (0 if is_random_next else len(second))
        _truncate(first, second, longest, draws)
        yield _example(first, second, is_random_next, own_tokens, tokens)


def _gathered(sentences: Iterable[list[int]], target: int) -> Sentences:
    """The first of the sentences, and as many more as fit the target."""
    chunk, length = list[list[int]](), 0
    for sentence in sentences:
        length += len(sentence)
        if chunk and length > target:
            break
        chunk.append(sentence)
    return chunk


def _halves(sentence: list[int], tokens: SpecialTokens) -> tuple[list[int], list[int]]:
    """A sentence parted at the word nearest after its middle."""
    middle = (len(sentence) + 1) // 2
    while middle < len(sentence) and sentence[middle] in tokens.continuing:
        middle += 1
    return sentence[:middle], sentence[middle:]


def _from_another(number: int, documents: Documents, room: int, draws: Draws) -> list[int]:
    """Text that starts at a random sentence of a random other document.

    One that doesn't fit is drawn again, so that a cut end gives away no label.
    """
    chunk: Sentences = []
    for _ in range(DONOR_DRAWS):
        other = draws.below(len(documents) - 1)
        other += other >= number
        if count := documents.count(other):
            chunk = _gathered(documents.sentences(other, draws.below(count)), room)
            if chunk and len(chunk[0]) <= room:
                break
    return _joined(chunk)


def _joined(sentences: Sentences) -> list[int]:
    return [token for sentence in sentences for token in sentence]


def _truncate(first: list[int], second: list[int], longest: int, draws: Draws) -> None:
    """Take single tokens from the longer (of equals from B), at its front or back by a coin, until both fit."""
    while len(first) + len(second) > longest:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if draws.uniform() < 0.5 else -1)


def _example(
    first: list[int], second: list[int], is_random_next: bool, own_tokens: int, tokens: SpecialTokens
) -> Example:
    input_ids = [tokens.cls, *first, tokens.sep, *second, tokens.sep]
    boundary = len(first) + 2
    specials = {0, boundary - 1, len(input_ids) - 1}
    starts = [
        place
        for place, token in enumerate(input_ids)
        if place not in specials and (token not in tokens.continuing or place - 1 in specials)
    ]
    return Example(input_ids, boundary, starts, is_random_next, own_tokens)
