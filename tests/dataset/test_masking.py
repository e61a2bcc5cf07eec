"""As many masks as google-research/bert draws, on words only, whole where asked; a function of (seed, epoch, index)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import DatasetConfig, Plug, bound
from pipeline.dataset import masking
from pipeline.dataset.masking import MASKERS, Masking, Masks
from pipeline.dataset.words import Words
from pipeline.errors import ConfigError
from tests.dataset.chance import fits_even, fits_share
from tests.dataset.readable_masks import readable_masks

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

    @property
    def begins_word(self) -> np.ndarray:
        begins = np.zeros(self.length, np.uint8)
        begins[self.starts] = 1
        return begins

    def draw(self, masker: str = "token", epoch: int = 0, index: int = 0, **more: object) -> Masks:
        return self.draw_many(masker, epoch, np.array([index]), **more)

    def draw_many(self, masker: str, epoch: int, indices: npt.NDArray[np.int64], **more: object) -> Masks:
        """The masks of as many samples, all of which are this one."""
        config = DatasetConfig.model_validate({"name": "small", "masker": {"name": masker}} | more)
        drawn = Masking(config, mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)
        count = len(indices)
        starts = self.length * np.arange(count + 1)
        ids, begins = np.tile(self.input_ids, count), np.tile(self.begins_word, count)
        return drawn.draw(ids, begins, starts, np.full(count, epoch), indices)


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


@pytest.mark.parametrize("masker", ["token", "whole_word"])
def test_each_word_of_a_piece_is_masked_as_often_as_any_other(masker: str) -> None:
    sample = of_length(40)
    masks = sample.draw_many(masker, 0, np.arange(20_000))
    counts = np.bincount(masks.positions % sample.length, minlength=sample.length)
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


@pytest.mark.parametrize("masker", MASKERS)
def test_a_random_word_is_any_but_a_special_or_an_unused_one(masker: str) -> None:
    masks = of_length(102).draw_many(masker, 0, np.arange(20_000), mask_share=0, random_share=1)
    assert fits_even([int(np.count_nonzero(masks.inputs == number)) for number in DRAWABLE])
    assert not np.isin(masks.inputs, UNDRAWABLE).any()


def test_a_random_word_may_be_a_special_where_that_fault_is_kept() -> None:
    more = {"mask_share": 0, "random_share": 1, "faults": ["special_random_words"]}
    masks = of_length(102).draw_many("token", 0, np.arange(20_000), **more)
    assert fits_even(np.bincount(masks.inputs, minlength=SIZE).tolist())


def test_the_fate_of_a_span_is_one_and_that_of_other_masks_each_tokens_own() -> None:
    sample, indices = of_length(128), np.arange(4_000)
    for masker, together in (("span", True), ("ngram", False)):
        masks = sample.draw_many(masker, 0, indices, mask_share=0.5, random_share=0)
        neighbours = np.flatnonzero(np.diff(masks.positions) == 1)
        is_mask = masks.inputs == MASK
        differ = np.mean(is_mask[neighbours] != is_mask[neighbours + 1])
        assert differ < 0.2 if together else 0.47 < differ < 0.53


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
    drawn = Masking(DatasetConfig(name="small"), mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)
    ids, begins, zero = PIECES.input_ids, PIECES.begins_word, np.zeros(1, np.int64)
    drawn.draw(ids, begins, np.array([0, PIECES.length]), zero, zero)
    assert ids.tolist() == PIECES.input_ids.tolist()
    assert begins.tolist() == PIECES.begins_word.tolist()


# Equal to the readable version, and the same whatever is drawn together

SAMPLES = st.lists(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.booleans()), min_size=1, max_size=60), min_size=1, max_size=6
)
MASKER = st.one_of(
    st.sampled_from(list(MASKERS)).map(lambda name: {"name": name}),
    st.integers(1, 6).map(lambda most: {"name": "ngram", "max_words": most}),
    st.tuples(st.floats(0.05, 1), st.integers(1, 12)).map(lambda of: {"name": "span", "p": of[0], "max_words": of[1]}),
)


@settings(max_examples=300, deadline=None)
@given(
    SAMPLES,
    MASKER,
    st.sampled_from([0.15, 0.4, 0.9]),
    st.sampled_from([None, 1, 5]),
    st.sampled_from([(0.8, 0.1), (0.5, 0.5), (0.0, 0.3)]),
    st.integers(0, 3),
)
def test_the_compiled_masks_equal_the_readable_ones_of_the_same_draws(
    samples: list[list[tuple[int, bool]]],
    masker: dict[str, object],
    share: float,
    most: int | None,
    shares: tuple[float, float],
    epoch: int,
) -> None:
    config = DatasetConfig.model_validate(
        {
            "name": "small",
            "masker": masker,
            "masked_lm_prob": share,
            "max_predictions_per_seq": most,
            "mask_share": shares[0],
            "random_share": shares[1],
        }
    )
    drawn = Masking(config, mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)
    flat = [each for sample in samples for each in sample]
    starts = np.cumsum([0, *map(len, samples)])
    ids, begins = np.array([token for token, _ in flat]), np.array([begins for _, begins in flat], np.uint8)
    indices = 7 * np.arange(len(samples))
    masks = drawn.draw(ids, begins, starts, np.full(len(samples), epoch), indices)
    for at, sample in enumerate(samples):
        expected = readable_masks(
            [token for token, _ in sample],
            [begins for _, begins in sample],
            UNDRAWABLE,
            config,
            mask_id=MASK,
            size=SIZE,
            epoch=epoch,
            index=7 * at,
        )
        held = slice(masks.starts[at], masks.starts[at + 1])
        assert list(zip((masks.positions[held] - starts[at]).tolist(), masks.inputs[held].tolist())) == expected


@pytest.mark.parametrize("masker", MASKERS)
def test_threads_that_draw_side_by_side_draw_the_same(masker: str) -> None:
    def drawn(index: int) -> tuple[list[int], list[int]]:
        masks = PIECES.draw_many(masker, 0, np.arange(index, index + 200))
        return masks.positions.tolist(), masks.inputs.tolist()

    alone = [drawn(index) for index in range(16)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(16))) == alone


# Over ten million tokens


def random_samples(tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, word begins, starts) of samples of 20 to 128 tokens, of words of one to five pieces."""
    random = np.random.default_rng(11)
    lengths = random.integers(20, 129, tokens // 74)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    ids = random.choice(DRAWABLE, starts[-1])
    ids[starts[:-1]], ids[starts[1:] - 1], ids[(starts[:-1] + starts[1:]) // 2] = CLS, SEP, SEP
    return ids, (random.random(starts[-1]) < 0.7).astype(np.uint8), starts


@pytest.mark.parametrize("masker", MASKERS)
@pytest.mark.parametrize("shares", [(0.8, 0.1), (0.6, 0.4)], ids=["bert", "other"])
def test_shares_are_right_over_ten_million_tokens(masker: str, shares: tuple[float, float]) -> None:
    """Each within 4.5 standard deviations: of all the tests here, less than one in a thousand runs would fail."""
    config = DatasetConfig.model_validate(
        {"name": "small", "masker": {"name": masker}, "mask_share": shares[0], "random_share": shares[1]}
    )
    drawn = Masking(config, mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)
    ids, begins, starts = random_samples(10_000_000)
    count = len(starts) - 1
    masks = drawn.draw(ids, begins, starts, np.zeros(count, np.int64), np.arange(count))
    wanted = drawn.counts(np.diff(starts))
    assert (np.diff(masks.starts) <= wanted).all()
    # A run ends at the count; a word over what is left is passed over for a shorter one, which nearly always is there.
    assert 0.999 * wanted.sum() <= len(masks.positions) <= wanted.sum()
    was, now = ids[masks.positions], masks.inputs
    assert not np.isin(was, UNDRAWABLE).any()
    total = len(now) // (1 if masker != "span" else 6)  # as many as are independent, at the least
    by_chance = shares[1] / len(DRAWABLE)
    for hits, share in (
        (np.count_nonzero(now == MASK), shares[0]),
        (np.count_nonzero((now != MASK) & (now != was)), shares[1] - by_chance),
        (np.count_nonzero(now == was), 1 - sum(shares) + by_chance),
    ):
        assert fits_share(round(hits / len(now) * total), total, share)
    others = now[(now != MASK) & (now != was)]
    assert fits_even(np.bincount(others, minlength=SIZE)[DRAWABLE].tolist())
    if masker == "token":
        places = np.bincount((masks.positions - np.repeat(starts[:-1], np.diff(masks.starts)))[:], minlength=20)[1:9]
        assert fits_even(places.tolist()), "the first places of a sample alike"


def test_runs_have_the_lengths_of_their_law_where_nothing_is_in_their_way() -> None:
    """One run in each sample: the count is large enough for any, and small enough that the second is cut off."""
    sample = Sample([1] * 250, [1] * 250)
    for masker, law in (
        ({"name": "ngram"}, [1 / n for n in (1, 2, 3)]),
        ({"name": "ngram", "max_words": 5}, [1 / n for n in range(1, 6)]),
        ({"name": "span"}, [0.8**n for n in range(10)]),
        ({"name": "span", "p": 0.5, "max_words": 3}, [0.5**n for n in range(3)]),
    ):
        config = DatasetConfig.model_validate({"name": "small", "masker": masker, "max_seq_length": 512})
        count = 20_000
        words = Words(np.arange(500 * count), np.arange(500 * count) + 1, 500 * np.arange(count + 1), 500 * count)
        keys = masking.stream_keys(np.uint64(5), np.zeros(count, np.int64), np.arange(count))
        units = bound(config.masker, MASKERS, "masker")(words, np.full(count, 30), keys).reshape(count, 500)
        lengths = np.array([first_run(row) for row in units[:4_000] if row[480:].sum() == 0])
        total = sum(law)
        for length, weight in enumerate(law, start=1):
            hits = int(np.count_nonzero(lengths == length))
            assert fits_share(hits, len(lengths), weight / total), (masker, length)
    assert sample.length == 503


def first_run(row: npt.NDArray[np.int32]) -> int:
    """The length of the run whose unit is the first drawn."""
    start = int(np.flatnonzero(row == 1)[0])
    length = 1
    is_span = np.count_nonzero(row == 1) > 1 or row[start + 1] == 0 or row[start + 1] != 2
    while row[start + length] == (1 if is_span else 1 + length):
        length += 1
    return length


# Refused, and added


@pytest.mark.parametrize(
    ("masker", "sentence"),
    [
        ({"name": "ngram", "max_words": 0}, "max_words is 0"),
        ({"name": "span", "p": 0}, "p is 0"),
        ({"name": "span", "p": 1.5}, r"p is 1\.5"),
        ({"name": "span", "words": 3}, "no keyword 'words'"),
        ({"name": "token", "p": 0.5}, "It takes none"),
    ],
)
def test_keywords_out_of_range_are_refused(masker: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bound(Plug.model_validate(masker), MASKERS, "masker")


def test_shares_over_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask_share 0.8 and random_share 0.3 are more than 1 together"):
        DatasetConfig(name="small", random_share=0.3)


def test_a_masker_may_be_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def mask_firsts(words: Words, counts: npt.NDArray[np.int64], _: object) -> npt.NDArray[np.int32]:
        units = np.zeros(words.tokens, np.int32)
        for sample, count in enumerate(counts):
            units[words.starts[words.of_samples[sample] :][:count]] = 1 + np.arange(count)
        return units

    monkeypatch.setattr(masking, "MASKERS", {**MASKERS, "firsts": mask_firsts})
    assert PIECES.draw("firsts", max_predictions_per_seq=3).positions.tolist() == PIECES.starts[:3].tolist()
