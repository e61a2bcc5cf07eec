"""Masks of one sample in plain Python, from the same draws as the compiled ones, which are to be equal."""

from collections.abc import Sequence

from pipeline.config import DatasetConfig
from pipeline.dataset.maskers import LENGTHS, ORDER
from pipeline.dataset.masking import FATE, WORD
from pipeline.dataset.randomness import Draws, Purpose

Word = list[int]
"""The positions of its tokens."""


def readable_masks(
    input_ids: Sequence[int],
    begins_word: Sequence[bool],
    undrawable: Sequence[int],
    config: DatasetConfig,
    *,
    mask_id: int,
    size: int,
    epoch: int,
    index: int,
) -> list[tuple[int, int]]:
    """(position, what is seen there) of each prediction, ascending."""

    def draws(stream: int) -> list[float]:
        named = Draws(config.seed, Purpose.MASKS, epoch, index, stream)
        return [named.uniform() for _ in range(len(input_ids) + 1)]

    words = _words(input_ids, begins_word, undrawable)
    count = min(config.predictions_per_seq, max(1, round(len(input_ids) * config.masked_lm_prob)))
    units = MASKERS[config.masker.name](words, count, draws(ORDER), draws(LENGTHS), config.masker.keywords)
    special = "special_random_words" in config.faults
    drawable = [number for number in range(size) if special or number not in undrawable]
    fates, others, masks = draws(FATE), draws(WORD), []
    for position, unit in sorted(units.items()):
        fate, seen = fates[unit - 1], input_ids[position]
        if fate < config.mask_share:
            seen = mask_id
        elif fate < config.mask_share + config.random_share:
            seen = drawable[int(others[position] * len(drawable))]
        masks.append((position, seen))
    return masks


def _words(input_ids: Sequence[int], begins_word: Sequence[bool], undrawable: Sequence[int]) -> list[Word]:
    words, is_inside = list[Word](), False
    for position, (token, begins) in enumerate(zip(input_ids, begins_word, strict=True)):
        if token in undrawable:
            is_inside = False
        elif begins or not is_inside:
            words.append([position])
            is_inside = True
        else:
            words[-1].append(position)
    return words


def _shuffled(items: list[int], order: list[float]) -> list[int]:
    items = list(items)
    for turn in range(len(items)):
        other = turn + int(order[turn] * (len(items) - turn))
        items[turn], items[other] = items[other], items[turn]
    return items


def _tokens(words: list[Word], count: int, order: list[float], _: object, __: object) -> dict[int, int]:
    places = _shuffled([position for word in words for position in word], order)
    return {position: turn + 1 for turn, position in enumerate(places[:count])}


def _runs(
    words: list[Word], count: int, order: list[float], lengths: list[float], weights: list[float], one_unit: bool
) -> dict[int, int]:
    units, unit = dict[int, int](), 0
    for turn, first in enumerate(_shuffled(list(range(len(words))), order)):
        if len(units) == count:
            break
        length = 1
        while length < len(weights) and lengths[turn] >= sum(weights[:length]) / sum(weights):
            length += 1
        unit += one_unit
        for number in range(first, min(first + length, len(words))):
            word = words[number]
            is_apart = number > first and word[0] != words[number - 1][-1] + 1
            if word[0] in units or len(units) + len(word) > count or is_apart:
                break
            for position in word:
                unit += not one_unit
                units[position] = unit
    return units


MASKERS = {
    "token": _tokens,
    "whole_word": lambda words, count, order, lengths, given: _runs(words, count, order, lengths, [1], False),
    "ngram": lambda words, count, order, lengths, given: _runs(
        words, count, order, lengths, [1 / n for n in range(1, given.get("max_words", 3) + 1)], False
    ),
    "span": lambda words, count, order, lengths, given: _runs(
        words,
        count,
        order,
        lengths,
        [given.get("p", 0.2) * (1 - given.get("p", 0.2)) ** n for n in range(given.get("max_words", 10))],
        True,
    ),
}
