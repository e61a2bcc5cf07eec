"""A sample's masks in plain Python, from the same draws as the compiled ones: for reading, and to be equal to."""

from collections.abc import Sequence
from itertools import accumulate

from pipeline.config import DatasetConfig
from pipeline.dataset.maskers import LENGTHS, ORDER
from pipeline.dataset.masking import FATE, WORD
from pipeline.dataset.randomness import Draws, Purpose

Word = list[int]
"""The places of its tokens."""
Units = dict[int, int]
"""The chosen places, and to each the number, from 1, of the unit that shares a fate."""


def readable_masks(
    input_ids: Sequence[int],
    begins_word: Sequence[bool],
    config: DatasetConfig,
    *,
    mask_id: int,
    undrawable: Sequence[int],
    size: int,
    epoch: int,
    index: int,
) -> list[tuple[int, int]]:
    """(place, what the model sees there) of each prediction, ascending."""

    def uniforms(stream: int) -> list[float]:
        draws = Draws(config.seed, Purpose.MASKS, epoch, index, stream)
        return [draws.uniform() for _ in input_ids]

    words = readable_words(input_ids, begins_word, undrawable)
    count = min(config.predictions_per_seq, max(1, round(len(input_ids) * config.masked_lm_prob)))
    if config.masker.name == "token":
        places = [place for word in words for place in word]
        units = {place: unit for unit, place in enumerate(shuffled(places, uniforms(ORDER))[:count], start=1)}
    else:
        law = readable_law(config)
        lengths = [1 + sum(uniform >= share for share in law[:-1]) for uniform in uniforms(LENGTHS)]
        order = shuffled(range(len(words)), uniforms(ORDER))
        units = readable_runs(words, count, order, lengths, is_one_unit=config.masker.name == "span")

    drawable = [n for n in range(size) if n not in undrawable or "special_random_words" in config.faults]
    fates, others = uniforms(FATE), uniforms(WORD)
    masks = []
    for place, unit in sorted(units.items()):
        seen = input_ids[place]
        if fates[unit - 1] < config.mask_share:
            seen = mask_id
        elif fates[unit - 1] < config.mask_share + config.random_share:
            seen = drawable[int(others[place] * len(drawable))]
        masks.append((place, seen))
    return masks


def readable_words(input_ids: Sequence[int], begins_word: Sequence[bool], undrawable: Sequence[int]) -> list[Word]:
    """Each word's places; no word holds a token that may not be masked."""
    words, is_inside = list[Word](), False
    for place, (token, begins) in enumerate(zip(input_ids, begins_word, strict=True)):
        if token in undrawable:
            is_inside = False
        elif begins or not is_inside:
            words.append([place])
            is_inside = True
        else:
            words[-1].append(place)
    return words


def readable_law(config: DatasetConfig) -> list[float]:
    """The cumulated probabilities of a run's length in words."""
    given = config.masker.keywords
    weights = [1.0]
    if config.masker.name == "ngram":
        weights = [1 / n for n in range(1, given.get("max_words", 3) + 1)]
    if config.masker.name == "span":
        p = given.get("p", 0.2)
        weights = [p * (1 - p) ** n for n in range(given.get("max_words", 10))]
    return list(accumulate(weight / sum(weights) for weight in weights))


def readable_runs(
    words: Sequence[Word], count: int, order: Sequence[int], lengths: Sequence[int], *, is_one_unit: bool
) -> Units:
    """Runs from each word in the `order`, of so many words unless something is in the way, until `count` are chosen."""
    units, unit = Units(), 0
    for first, length in zip(order, lengths):
        if len(units) == count:
            break
        unit += is_one_unit
        for number in range(first, min(first + length, len(words))):
            word = words[number]
            is_apart = number > first and word[0] > words[number - 1][-1] + 1
            if is_apart or word[0] in units or len(units) + len(word) > count:
                break
            for place in word:
                unit += not is_one_unit
                units[place] = unit
    return units


def shuffled(items: Sequence[int], uniforms: Sequence[float]) -> list[int]:
    """Fisher and Yates' shuffle, from the front."""
    items = list(items)
    for turn in range(len(items)):
        other = turn + int(uniforms[turn] * (len(items) - turn))
        items[turn], items[other] = items[other], items[turn]
    return items
