"""As many masks as google-research/bert draws, on words only, whole where asked; a function of (seed, epoch, index)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from pipeline.config import DatasetConfig
from pipeline.dataset.masking import MASKERS, Masking, Masks
from tests.dataset.chance import fits_even, fits_share

CLS, SEP, MASK = 2, 3, 4
UNDRAWABLE = (0, 1, 2, 3, 4, 7, 11)
"""The specials, and two that stand for [unused]."""
SIZE = 40
DRAWABLE = sorted(set(range(SIZE)) - set(UNDRAWABLE))


@dataclass(frozen=True)
class Sample:
    """[CLS] A [SEP] B [SEP] by the lengths of the words."""

    first: list[int]
    second: list[int]

    @property
    def boundary(self) -> int:
        return 2 + sum(self.first)

    @property
    def length(self) -> int:
        return 3 + sum(self.first) + sum(self.second)

    @property
    def starts(self) -> np.ndarray:
        lengths = np.array([*self.first, *self.second])
        starts = 1 + np.cumsum(lengths) - lengths
        return starts + (np.arange(len(lengths)) >= len(self.first))

    @property
    def words(self) -> list[range]:
        lengths = [*self.first, *self.second]
        return [range(start, start + length) for start, length in zip(self.starts.tolist(), lengths)]

    @property
    def input_ids(self) -> np.ndarray:
        """Drawable ids, all of them in turn."""
        ids = np.array(DRAWABLE)[np.arange(self.length) % len(DRAWABLE)]
        ids[[0, self.boundary - 1, self.length - 1]] = CLS, SEP, SEP
        return ids

    def draw(self, masker: str = "token", epoch: int = 0, index: int = 0, **more: object) -> Masks:
        config = DatasetConfig.model_validate({"name": "small", "masker": {"name": masker}} | more)
        masking = Masking(config, mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)
        return masking.draw(self.input_ids, self.starts, self.boundary, epoch=epoch, index=index)


def of_length(length: int) -> Sample:
    """A sample of that many tokens, each a word."""
    return Sample([1] * ((length - 3) // 2), [1] * (length - 3 - (length - 3) // 2))


PIECES = Sample([1, 2, 1, 3, 1, 1, 4, 2, 1], [2, 1, 1, 3, 1, 5, 1, 1, 2])
"""Words of one to five pieces; the last of A is one piece, the first of B two."""


# How many


@pytest.mark.parametrize(
    ("length", "count"),
    [(5, 1), (9, 1), (10, 2), (16, 2), (17, 3), (30, 4), (31, 5), (50, 8), (70, 10), (90, 14), (127, 19), (128, 19)],
)
@pytest.mark.parametrize("masker", MASKERS)
def test_15_percent_of_the_tokens_with_their_specials_are_predicted_halves_rounded_to_even(
    masker: str, length: int, count: int
) -> None:
    assert len(of_length(length).draw(masker, max_seq_length=512).positions) == count


@pytest.mark.parametrize("masker", MASKERS)
def test_no_more_are_predicted_than_the_cap_and_no_fewer_than_one(masker: str) -> None:
    assert len(of_length(128).draw(masker, max_predictions_per_seq=7).positions) == 7
    assert len(of_length(128).draw(masker, masked_lm_prob=0.001).positions) == 1
    assert len(of_length(128).draw(masker, masked_lm_prob=0.99).positions) == 125, "no more than there are words"


def test_the_cap_is_the_share_of_the_longest_sample_rounded_up_where_it_is_not_given() -> None:
    assert DatasetConfig(name="small").predictions_per_seq == 20
    assert DatasetConfig(name="small", max_seq_length=512).predictions_per_seq == 77
    assert DatasetConfig(name="small", max_predictions_per_seq=76).predictions_per_seq == 76


# Which


@pytest.mark.parametrize("masker", MASKERS)
def test_positions_ascend_and_no_special_is_ever_masked(masker: str) -> None:
    specials = {0, PIECES.boundary - 1, PIECES.length - 1}
    for index in range(300):
        positions = PIECES.draw(masker, index=index, masked_lm_prob=0.4).positions.tolist()
        assert all(left < right for left, right in pairwise(positions))
        assert specials.isdisjoint(positions)
        assert 0 < positions[0] < positions[-1] < PIECES.length


@pytest.mark.parametrize("masker", MASKERS)
def test_each_word_of_a_piece_is_masked_as_often_as_any_other(masker: str) -> None:
    sample = of_length(40)
    counts = np.zeros(sample.length, int)
    for index in range(4_000):
        counts[sample.draw(masker, index=index).positions] += 1
    assert fits_even(counts[counts > 0].tolist())
    assert np.count_nonzero(counts) == 37


def test_under_whole_word_masking_all_pieces_of_a_word_are_masked_or_none() -> None:
    seen = set()
    for index in range(500):
        positions = set(PIECES.draw("whole_word", index=index, masked_lm_prob=0.3).positions.tolist())
        assert all(set(word) <= positions or positions.isdisjoint(word) for word in PIECES.words)
        seen |= {word for word in PIECES.words if set(word) <= positions}
    assert seen == set(PIECES.words), "each word comes to its turn"


def test_no_word_glues_across_sep() -> None:
    last, first = PIECES.words[8], PIECES.words[9]
    assert (last.stop, first.start) == (PIECES.boundary - 1, PIECES.boundary)
    alone = {last: 0, first: 0}
    for index in range(300):
        positions = set(PIECES.draw("whole_word", index=index, masked_lm_prob=0.3).positions.tolist())
        for word, other in ((last, first), (first, last)):
            alone[word] += set(word) <= positions and positions.isdisjoint(other)
    assert min(alone.values()) > 20


def test_a_word_over_what_is_left_of_the_count_is_passed_over() -> None:
    threes_and_a_one = Sample([3, 3, 3], [3, 3, 1])
    for index in range(100):
        positions = threes_and_a_one.draw("whole_word", index=index, max_predictions_per_seq=5, masked_lm_prob=0.9)
        assert len(positions.positions) == 4, "one word of three, and the one of one; never two of three"
    assert len(Sample([4], [4]).draw("whole_word").positions) == 0, "no word is as short as the count"


# What stands in their place


def fates(masker: str) -> list[tuple[int, int]]:
    """(what stood there, what the model sees) of the predictions of many samples."""
    sample = PIECES if masker == "whole_word" else of_length(102)
    drawn = [sample.draw(masker, index=index) for index in range(3_000)]
    return [pair for masks in drawn for pair in zip(sample.input_ids[masks.positions].tolist(), masks.inputs.tolist())]


@pytest.mark.parametrize("masker", MASKERS)
def test_of_the_masked_80_percent_are_mask_10_random_10_kept(masker: str) -> None:
    pairs = fates(masker)
    same_by_chance = 0.1 / len(DRAWABLE)
    assert fits_share(sum(now == MASK for _, now in pairs), len(pairs), 0.8)
    assert fits_share(sum(now == was for was, now in pairs), len(pairs), 0.1 + same_by_chance)


@pytest.mark.parametrize("masker", MASKERS)
def test_a_random_word_is_any_but_a_special_or_an_unused_one(masker: str) -> None:
    others = [now for was, now in fates(masker) if now not in (was, MASK)]
    assert set(others) == set(DRAWABLE)
    assert masker == "whole_word" or fits_even([others.count(number) for number in DRAWABLE])


def test_under_whole_word_masking_the_fate_is_drawn_for_each_piece() -> None:
    mixed = total = 0
    for index in range(2_000):
        masks = Sample([2] * 8, [2] * 8).draw("whole_word", index=index)
        is_mask = (masks.inputs == MASK).reshape(-1, 2)
        mixed += int(np.sum(is_mask[:, 0] != is_mask[:, 1]))
        total += len(is_mask)
    assert fits_share(mixed, total, 2 * 0.8 * 0.2)


# Again


@pytest.mark.parametrize("masker", MASKERS)
def test_the_same_seed_epoch_and_index_give_the_same_masks_and_others_give_others(masker: str) -> None:
    def drawn(seed: int, epoch: int, index: int) -> tuple[list[int], list[int]]:
        masks = of_length(128).draw(masker, epoch, index, seed=seed)
        return masks.positions.tolist(), masks.inputs.tolist()

    names = [(seed, epoch, index) for seed in (7, 8) for epoch in range(3) for index in range(3)]
    there = [drawn(*name) for name in names]
    assert [drawn(*name) for name in reversed(names)] == there[::-1]
    assert all(there.count(each) == 1 for each in there)
    assert len({tuple(positions) for positions, _ in there}) == len(names)


def test_drawing_leaves_the_sample_as_it_is() -> None:
    config = DatasetConfig(name="small")
    ids, starts = PIECES.input_ids, PIECES.starts
    Masking(config, mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE).draw(ids, starts, PIECES.boundary, epoch=0, index=0)
    assert ids.tolist() == PIECES.input_ids.tolist()
    assert starts.tolist() == PIECES.starts.tolist()
