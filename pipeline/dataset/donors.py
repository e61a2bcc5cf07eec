"""What another document gives to a pair: the second segments that don't follow.

The document is any of the split, each as likely as the next, wherever its shard is; its text begins at a part of one of
its sentences, each as likely as the next. One whose beginning doesn't fit is drawn again, in the document and then in
another one, so that a cut end gives away no label; where none of many fits, the last is cut, from a word on.

Requests are answered shard by shard, so that a corpus need not be at hand as a whole: each round maps the shards that
it needs one after the other. All draws are the sample's own (`Drawn.key`), so neither the order nor what else is asked
for matters.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.pairs import Drawn, Rules, part_end, word_within
from pipeline.dataset.randomness import uniform_of
from pipeline.dataset.tokens import Bytes, Shard, Starts

ROUNDS = 4
"""Documents that are tried for a sample."""
TRIES = 16
"""Places that are tried in a document."""
DRAWS_A_ROUND = 1 + 3 * TRIES + 1
PARTS_DRAWN = 4
"""A sentence is entered at its first, second, ... part alike, up to the fourth."""
GOOGLES_DRAWS = 10
"""So often google-research/bert draws a document that isn't the own one, before it takes it (`own_as_another`)."""


class Donated(NamedTuple):
    """Text of other documents, one piece after the other."""

    tokens: npt.NDArray[np.uint32]
    begins_word: Bytes
    """A byte a token: whether a word starts there."""


def find_donors(drawn: Drawn, ends: Sequence[int], load: Callable[[int], Shard], rules: Rules) -> Donated:
    """Find each donated second segment, whose place `drawn.second` is told; it stays empty where there is none.

    `ends` is, for each shard, how many documents of the split it and those before it hold; `load` maps a shard.
    """
    bounds = np.array([0, *ends], np.int64)
    texts, size = list[Donated](), 0
    waiting = np.flatnonzero(drawn.is_donated)
    for round_ in range(ROUNDS):
        donors = _documents(drawn.key[waiting], drawn.document[waiting], bounds[-1], round_, rules.own_as_another)
        order = np.argsort(donors, kind="stable")
        waiting, donors = waiting[order], donors[order]
        spans = np.zeros((len(waiting), 2), np.int64)
        groups = np.searchsorted(donors, bounds)
        for number, (begin, end) in enumerate(pairwise(groups.tolist())):
            if begin == end:
                continue
            shard, asked = load(number), waiting[begin:end]
            _find(
                shard.word_starts,
                shard.sentences,
                shard.documents,
                donors[begin:end] - bounds[number],
                drawn.key[asked],
                drawn.room[asked],
                drawn.is_half[asked],
                rules,
                round_,
                spans[begin:end],
            )
            starts = np.concatenate(([0], np.cumsum(spans[begin:end, 1] - spans[begin:end, 0])))
            texts.append(Donated(*_copied(shard.tokens, shard.word_starts, spans[begin:end], starts)))
            drawn.second[asked, 0], drawn.second[asked, 1] = size + starts[:-1], size + starts[1:]
            size += int(starts[-1])
        waiting = waiting[spans[:, 0] == spans[:, 1]]
    empty = Donated(np.empty(0, np.uint32), np.empty(0, np.uint8))
    return Donated(*(np.concatenate(each) for each in zip(empty, *texts, strict=True)))


@njit(cache=True, nogil=True)
def _documents(
    keys: npt.NDArray[np.uint64], own: Starts, documents: int, round_: int, own_as_another: bool
) -> npt.NDArray[np.int64]:
    """The other document of each sample in a round."""
    found = np.empty(len(keys), np.int64)
    for at in range(len(keys)):
        uniform = uniform_of(keys[at], round_ * DRAWS_A_ROUND + 1)
        if own_as_another:
            # As likely the own one as after GOOGLES_DRAWS in vain; else uniform over the others.
            chance = (1 / documents) ** GOOGLES_DRAWS
            if uniform < chance:
                found[at] = own[at]
                continue
            uniform = (uniform - chance) / (1 - chance)
        other = int(uniform * (documents - 1))
        found[at] = other + (other >= own[at])
    return found


@njit(cache=True, nogil=True)
def _find(
    word_starts: Bytes,
    sentences: Starts,
    of_documents: Starts,
    donors: Starts,
    keys: npt.NDArray[np.uint64],
    rooms: Starts,
    is_half: npt.NDArray[np.bool_],
    rules: Rules,
    round_: int,
    spans: npt.NDArray[np.int64],
) -> None:
    """Where the donors' texts lie in their shard: `spans` [n, 2], left empty where none fits and rounds are left."""
    for at in range(len(donors)):
        draws = round_ * DRAWS_A_ROUND + 1
        first, last = of_documents[donors[at]], of_documents[donors[at] + 1]
        start = end = 0
        for _ in range(TRIES):
            sentence = first + int(uniform_of(keys[at], draws + 1) * (last - first))
            part = int(uniform_of(keys[at], draws + 2) * PARTS_DRAWN)
            draws += 3
            here, stop = sentences[sentence], sentences[sentence + 1]
            while part and here < stop:
                here, part = part_end(word_starts, here, stop, rules.longest_part), part - 1
            if here >= stop:
                continue
            to = part_end(word_starts, here, stop, rules.longest_part)
            if is_half[at]:
                here = word_within(word_starts, here, to, uniform_of(keys[at], draws))
                if here == to:
                    continue
            else:
                while not (rules.truncates and to - here >= rooms[at]):
                    if to == stop:
                        sentence += 1
                        if sentence == last:
                            break
                        stop = sentences[sentence + 1]
                    more = part_end(word_starts, to, stop, rules.longest_part)
                    if not rules.truncates and more - here > rooms[at]:
                        break
                    to = more
            start, end = here, to
            if end - start <= rooms[at] or rules.truncates:
                spans[at, 0], spans[at, 1] = start, end
                break
        if spans[at, 0] == spans[at, 1] and round_ == ROUNDS - 1 and start < end:
            cut = word_within(word_starts, start - 1, end - rooms[at] + 1, uniform_of(keys[at], draws + 1))
            cut = min(cut, end - rooms[at])
            spans[at, 0], spans[at, 1] = cut, cut + rooms[at]


@njit(cache=True, nogil=True)
def _copied(
    tokens: npt.NDArray[np.unsignedinteger], word_starts: Bytes, spans: npt.NDArray[np.int64], starts: Starts
) -> tuple[npt.NDArray[np.uint32], Bytes]:
    """The spans of a shard one after the other."""
    ids, begins = np.empty(starts[-1], np.uint32), np.empty(starts[-1], np.uint8)
    for at in range(len(spans)):
        to = starts[at]
        for place in range(spans[at, 0], spans[at, 1]):
            ids[to] = tokens[place]
            begins[to] = (word_starts[place >> 3] >> (place & 7)) & 1
            to += 1
    return ids, begins
