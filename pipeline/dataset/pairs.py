"""Next-sentence pairs as google-research/bert makes them (create_pretraining_data.py), with its faults corrected.

Kept: whole sentences are gathered up to a target length, which is sometimes short; A is a random part of them; B is
what follows, or text from another document, whose unused place is then put back. Changed, each for a reason:

- B is never from the document itself, also where there are few documents.
- The share of random B is what the config says: a lone sentence is not always paired at random, but split in two.
- A cut in mid-sentence gives away next to nothing of the label: a random B begins at a part of a sentence, or at its
  second half, about as often as a B that follows does.
- The target is drawn for each chunk, so that no long document is cut short as a whole.
- Gathering stops before the target is passed, and a sentence longer than half a sample is parted at a word; so none of
  the document's own text is truncated away, only a random B that doesn't fit. Nothing is lost by shorter samples:
  training pads none.

Everything is a function of (seed, pass, document). Costs about 10 µs a sentence.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice

from pipeline.config import DatasetConfig
from pipeline.dataset.example import Example
from pipeline.dataset.randomness import Draws, Purpose
from pipeline.dataset.tokens import Shard

SPECIALS_IN_A_PAIR = 3
DONOR_DRAWS = 50
PARTS_DRAWN = 4
"""A donor's sentence is entered at its first, second, … part alike, up to the fourth."""
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

    def parts(self, number: int, sentence: int) -> list[list[int]]:
        """The parts of one of a document's sentences."""
        shard = bisect_right(self._ends, number)
        whole = next(iter(self._shards[shard].sentences(number - self.first_of(shard), sentence)))
        return [part for part in _parted(whole, self._longest, self._tokens) if part]

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
    own = list(documents.sentences(number))  # what is left to use, from `at` on
    longest = config.max_seq_length - SPECIALS_IN_A_PAIR
    at = 0
    while at < len(own):
        target = longest
        if draws.uniform() < config.short_seq_prob:
            target = 2 + draws.below(longest - 1)
        chunk = _gathered(islice(own, at, None), target)
        is_random_next = draws.uniform() < config.random_next_share
        if len(chunk) == 1:
            first, second = _parted_by_draw(chunk[0], tokens, draws)
            if is_random_next and second:
                own[at] = second  # put back
                second = _from_another(number, documents, longest - len(first), draws, tokens, halved=True)
            else:
                at += 1
        else:
            used = 1 + draws.below(len(chunk) - 1)
            first, second = _joined(chunk[:used]), _joined(chunk[used:])
            if is_random_next:
                second = _from_another(number, documents, target - len(first), draws, tokens, halved=False)
                at += used
            else:
                at += len(chunk)
        if not second:
            continue  # a lone token has nothing that follows it
        yield _example(first, second, is_random_next, tokens)


def _gathered(sentences: Iterable[list[int]], target: int) -> Sentences:
    """The first of the sentences, and as many more as fit the target."""
    chunk, length = list[list[int]](), 0
    for sentence in sentences:
        length += len(sentence)
        if chunk and length > target:
            break
        chunk.append(sentence)
    return chunk


def _parted_by_draw(sentence: list[int], tokens: SpecialTokens, draws: Draws) -> tuple[list[int], list[int]]:
    """A sentence cut at one of its words but the first; the second part is empty where there is only that."""
    words = [place for place in range(1, len(sentence)) if sentence[place] not in tokens.continuing]
    place = words[draws.below(len(words))] if words else len(sentence)
    return sentence[:place], sentence[place:]


def _from_another(
    number: int, documents: Documents, room: int, draws: Draws, tokens: SpecialTokens, *, halved: bool
) -> list[int]:
    """Text that starts at a random part of a sentence of a random other document; `halved`, the rest of one alone.

    One that doesn't fit is drawn again, so that a cut end gives away no label; so is a part beyond the sentence's last,
    so that each part is as likely as the next. Where none of many fits, it is cut out of the last, from a word on.
    """
    text: list[int] = []
    for _ in range(DONOR_DRAWS):
        other = draws.below(len(documents) - 1)
        other += other >= number
        if not (count := documents.count(other)):
            continue
        sentence, part = draws.below(count), draws.below(PARTS_DRAWN)
        parts = documents.parts(other, sentence)
        if part >= len(parts):
            continue
        if halved:
            text = _parted_by_draw(parts[part], tokens, draws)[1]
        else:
            text = _joined(_gathered(chain(parts[part:], documents.sentences(other, sentence + 1)), room))
        if 0 < len(text) <= room:
            return text
    words = [place for place in range(len(text) - room + 1) if text[place] not in tokens.continuing] or [0]
    start = words[draws.below(len(words))]
    return text[start : start + room]


def _joined(sentences: Sentences) -> list[int]:
    return [token for sentence in sentences for token in sentence]


def _example(first: list[int], second: list[int], is_random_next: bool, tokens: SpecialTokens) -> Example:
    input_ids = [tokens.cls, *first, tokens.sep, *second, tokens.sep]
    boundary = len(first) + 2
    specials = {0, boundary - 1, len(input_ids) - 1}
    starts = [
        place
        for place, token in enumerate(input_ids)
        if place not in specials and (token not in tokens.continuing or place - 1 in specials)
    ]
    return Example(input_ids, boundary, starts, is_random_next, len(first) + (0 if is_random_next else len(second)))
