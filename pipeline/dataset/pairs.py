"""Pairs of segments: as google-research/bert makes them (create_pretraining_data.py), with its faults corrected.

Kept: whole sentences are gathered up to a target length, which is sometimes short; A is a random part of them; B is
what follows, or text from another document, and what was to follow is then put back. Changed, each for a reason (those
with a name can be had as they were, `DatasetConfig.faults`):

- B is never from the document itself, also where there are few documents (`own_document_as_another`).
- The share of random B is what the config says: a lone sentence is not always paired at random, but parted in two
  (`lone_sentence_is_random`).
- The target is drawn for each chunk, so that no long document is cut short as a whole (`one_target_a_document`).
- Gathering stops before the target is passed, and a sentence longer than half a sample is parted at a word; so none of
  the document's own text is cut away (`truncation`). Nothing is lost by shorter samples: training pads none.
- A cut in mid-sentence gives away next to nothing of the label: a random B begins at a part of a sentence, or at its
  second half, as a B that follows does.

`sop` takes what follows and puts it first at random (Lan et al. 2020). `none` has no B: full sentences of one document
(Liu et al. 2019).

Samples are drawn as places in a shard's tokens, nothing is copied until they are laid out (donors.py has what comes of
another document, layout.py the rows). Everything is a function of (seed, pass, document). Costs 1 to 2 ns a token.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.config import DatasetConfig
from pipeline.dataset.randomness import Purpose, key_of, stream_key, uniform_of
from pipeline.dataset.tokens import Bytes, Shard, Starts

NSP, SOP, NONE = 0, 1, 2
KINDS = {"nsp": NSP, "sop": SOP, "none": NONE}
SPECIALS = {"nsp": 3, "sop": 3, "none": 2}
"""[CLS] and the [SEP]s of a sample."""
SAMPLES_AT_ONCE = 1 << 16


class Rules(NamedTuple):
    """The config, as the kernels take it."""

    kind: int
    longest: int
    """Tokens of text in a sample at most."""
    longest_part: int
    """Sentences are parted into parts of so many tokens."""
    short_seq_prob: float
    random_next_share: float
    lone_is_random: bool
    one_target: bool
    truncates: bool
    own_as_another: bool


class Drawn(NamedTuple):
    """N samples, as places in the tokens of the shard that is drawn from."""

    first: Starts
    """[N, 2], where A begins and ends."""
    second: Starts
    """[N, 2], where B does: in the shard's tokens, or in the donors' where `is_donated`."""
    label: npt.NDArray[np.uint8]
    """[N], 1: B doesn't follow A."""
    is_donated: npt.NDArray[np.bool_]
    """[N], B is of another document."""
    document: Starts
    """[N], the document's number in its split."""
    room: Starts
    """[N], for how many tokens of another document there is room."""
    is_half: npt.NDArray[np.bool_]
    """[N], A is the first half of a part, and a donated B to be the second half of one."""
    key: npt.NDArray[np.uint64]
    """[N], the key of the sample's own stream."""

    def head(self, count: int) -> "Drawn":
        """The first `count` of them."""
        return Drawn(*(each[:count] for each in self))  # type: ignore[arg-type]


def rules_of(config: DatasetConfig) -> Rules:
    longest = config.max_seq_length - SPECIALS[config.pairs]
    part = longest if config.pairs == "none" else max(1, longest // 2)
    truncates = "truncation" in config.faults
    return Rules(
        KINDS[config.pairs],
        longest,
        1 << 40 if truncates and config.pairs != "none" else part,
        config.short_seq_prob,
        config.random_next_share,
        "lone_sentence_is_random" in config.faults,
        "one_target_a_document" in config.faults,
        truncates and config.pairs != "none",
        "own_document_as_another" in config.faults,
    )


def draw_samples(shard: Shard, documents: Starts, before: int, rules: Rules, seed: int, pass_: int) -> Drawn:
    """All samples of some of a shard's documents, in order; what comes of another document is yet to be found.

    `documents` [n] are places in the shard, of which `before` documents of the split come in earlier shards.
    """
    keys = np.array([stream_key(seed, purpose, pass_) for purpose in (Purpose.PAIRS, Purpose.DONORS)], np.uint64)
    found, done = list[Drawn](), 0
    room = SAMPLES_AT_ONCE
    while done < len(documents):
        drawn = _empty(room)
        more, count = _draw(
            shard.word_starts, shard.sentences, shard.documents, documents[done:], before, rules, keys, drawn
        )
        if not more:
            room *= 2  # one document has more
        done += more
        found.append(drawn.head(count))
    return Drawn(*(np.concatenate(each) for each in zip(*found, strict=True))) if found else _empty(0)


def _empty(count: int) -> Drawn:
    return Drawn(
        np.zeros((count, 2), np.int64),
        np.zeros((count, 2), np.int64),
        np.zeros(count, np.uint8),
        np.zeros(count, np.bool_),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.bool_),
        np.zeros(count, np.uint64),
    )


@njit(cache=True, nogil=True)
def _draw(
    word_starts: Bytes,
    sentences: Starts,
    of_documents: Starts,
    documents: Starts,
    before: int,
    rules: Rules,
    keys: npt.NDArray[np.uint64],
    drawn: Drawn,
) -> tuple[int, int]:
    """Fill `drawn` with the samples of as many whole documents as fit; returns how many did, and their samples."""
    first, second, label, is_donated, of, room, is_half, key = drawn
    ends = np.empty(rules.longest + 2, np.int64)
    used = 0
    for number in range(len(documents)):
        document = before + documents[number]
        stream, donors = key_of(keys[0], document), key_of(keys[1], document)
        draws, started = 0, used
        sentence, last = of_documents[documents[number]], of_documents[documents[number] + 1]
        at = sentences[sentence]
        fixed = 0
        while sentence < last:
            target = fixed
            if fixed == 0:
                draws += 1
                target = rules.longest
                if uniform_of(stream, draws) < rules.short_seq_prob:
                    draws += 1
                    target = 2 + int(uniform_of(stream, draws) * (rules.longest - 1))
                if rules.one_target:
                    fixed = target
            # Gather parts of sentences: `ends` of `count` parts, from `at` on.
            count, here, in_sentence = 0, at, sentence
            while in_sentence < last:
                if rules.truncates and count and here - at >= target:
                    break
                end = part_end(word_starts, here, sentences[in_sentence + 1], rules.longest_part)
                if not rules.truncates and count and end - at > target:
                    break
                if count == len(ends):
                    break
                ends[count] = here = end
                count += 1
                in_sentence += here == sentences[in_sentence + 1]
            if used == len(label):
                return number, started
            first[used, 0], of[used], key[used] = at, document, key_of(donors, used - started)
            label[used] = is_donated[used] = is_half[used] = False
            if rules.kind == NONE:
                first[used, 1] = second[used, 0] = second[used, 1] = at = ends[count - 1]
                sentence = in_sentence
                used += 1
                continue
            draws += 1
            is_random = uniform_of(stream, draws) < rules.random_next_share
            middle, end, fits = ends[0], ends[count - 1], rules.longest
            if count > 1:
                draws += 1
                middle, fits = ends[int(uniform_of(stream, draws) * (count - 1))], target
            elif rules.kind == NSP and rules.lone_is_random:
                is_random = True
            else:
                draws += 1
                middle = word_within(word_starts, at, end, uniform_of(stream, draws))
                is_half[used] = True
                if middle == end:  # a lone word has nothing that follows it
                    at, sentence = end, in_sentence
                    continue
            room[used] = max(1, fits - (middle - at))
            first[used, 1], label[used] = middle, is_random
            if is_random and rules.kind == NSP:
                is_donated[used] = True
                at = middle  # what was to follow is put back
                while sentence < last and sentences[sentence + 1] <= at:
                    sentence += 1
            else:
                second[used, 0], second[used, 1] = middle, end
                at, sentence = end, in_sentence
            used += 1
    return len(documents), used


@njit(cache=True, nogil=True, inline="always")
def part_end(word_starts: Bytes, start: int, end: int, longest: int) -> int:
    """Where the part of a sentence ends that begins at `start`: after `longest` tokens at most, at a word if it can."""
    if end - start <= longest:
        return end
    place = start + longest
    while place > start and not (word_starts[place >> 3] >> (place & 7)) & 1:
        place -= 1
    return place if place > start else start + longest


@njit(cache=True, nogil=True, inline="always")
def word_within(word_starts: Bytes, start: int, end: int, uniform: float) -> int:
    """The start of one of the words between, but for the first; `end` where there is none."""
    words = 0
    for place in range(start + 1, end):
        words += (word_starts[place >> 3] >> (place & 7)) & 1
    left = int(uniform * words)
    for place in range(start + 1, end):
        if (word_starts[place >> 3] >> (place & 7)) & 1:
            if left == 0:
                return place
            left -= 1
    return end
