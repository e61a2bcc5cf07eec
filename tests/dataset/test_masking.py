"""As many masks as google-research/bert draws, and what stands in their place; a function of (seed, epoch, index)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import DatasetConfig
from pipeline.dataset import masking as module
from pipeline.dataset.masking import MASKERS, Masks
from pipeline.dataset.words import Tokens, words_of
from tests.dataset.chance import SIGMAS, fits_even, fits_share
from tests.dataset.masked import (
    CLS,
    DRAWABLE,
    MASK,
    PIECES,
    SEP,
    SIZE,
    UNDRAWABLE,
    Flat,
    Sample,
    config,
    flat,
    masking,
    of_length,
    ten_million_tokens,
)
from tests.dataset.readable_masks import readable_masks
from tests.dataset.test_words import TOKENS


@pytest.fixture(scope="module")
def many() -> Flat:
    return ten_million_tokens()


def draw(of: Flat, masker: str, **more: object) -> Masks:
    """Each sample under its number as its index, in epoch 0."""
    indices = np.arange(of.count)
    return masking(masker, **more).draw(*of, np.zeros_like(indices), indices)


# How many


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        (0.15, {5: 1, 9: 1, 17: 3, 31: 5, 127: 19, 128: 19}),
        (0.15, {10: 2, 30: 4, 50: 8, 70: 10, 90: 14}),
        (0.25, {10: 2, 14: 4, 18: 4, 22: 6}),
        (0.4, {9: 4, 128: 51, 512: 205}),
    ],
    ids=["bert", "halves", "quarter", "40_percent"],
)
@pytest.mark.parametrize("masker", MASKERS)
def test_a_share_of_the_tokens_with_their_specials_is_predicted_halves_rounded_to_even(
    masker: str, share: float, counts: dict[int, int]
) -> None:
    """1.5, 4.5, 7.5, 10.5, 13.5 and 2.5, 3.5, 4.5, 5.5 are the halves."""
    for length, count in counts.items():
        drawn = of_length(length).drawn(masker, 20, max_seq_length=512, masked_lm_prob=share)
        assert {*drawn.is_chosen.sum(axis=1).tolist()} == {count}


@pytest.mark.parametrize("masker", MASKERS)
def test_no_more_are_predicted_than_the_cap_or_than_there_are_and_no_fewer_than_one(masker: str) -> None:
    sample = of_length(128)
    assert sample.drawn(masker, max_predictions_per_seq=7).is_chosen.sum() == 7
    assert sample.drawn(masker, masked_lm_prob=0.001).is_chosen.sum() == 1
    assert sample.drawn(masker, masked_lm_prob=0.99).is_chosen.sum() == 125, "[CLS] and two [SEP] are not"


def test_the_cap_is_the_share_of_the_longest_sample_rounded_up_where_it_is_not_given() -> None:
    assert config().predictions_per_seq == 20
    assert config(max_seq_length=512).predictions_per_seq == 77
    assert config(max_predictions_per_seq=76).predictions_per_seq == 76


def test_shares_over_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask_share 0\.8 and random_share 0\.3 are more than 1 together"):
        config(random_share=0.3)


@pytest.mark.parametrize("masker", MASKERS)
def test_a_sample_of_specials_has_no_predictions_and_others_beside_it_have_theirs(masker: str) -> None:
    specials, words = [(CLS, False), (SEP, False), (SEP, False)], [(CLS, False), (20, True), (SEP, False)]
    masks = draw(flat([specials, words, specials]), masker)
    assert (masks.starts.tolist(), masks.positions.tolist()) == ([0, 0, 1, 1], [4])
    assert draw(flat([]), masker).starts.tolist() == [0]


# What stands in their place


@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (0.6, 0.4)], ids=["bert", "none_kept"])
@pytest.mark.parametrize("masker", MASKERS)
def test_shares_and_random_words_are_right_over_ten_million_tokens(
    masker: str, mask_share: float, random_share: float, many: Flat
) -> None:
    masks = draw(many, masker, mask_share=mask_share, random_share=random_share)
    wanted = masking(masker).counts(np.diff(many.starts))
    counts = np.diff(masks.starts)
    assert (counts <= wanted).all()
    assert counts.sum() == wanted.sum() if masker == "token" else counts.sum() > 0.999 * wanted.sum()

    was, now = many.input_ids[masks.positions], masks.inputs
    assert not np.isin(was, UNDRAWABLE).any()
    same_by_chance = random_share / len(DRAWABLE)
    is_random = (now != MASK) & (now != was)
    for is_hit, share in (
        (now == MASK, mask_share),
        (is_random, random_share - same_by_chance),
        (now == was, 1 - mask_share - random_share + same_by_chance),
    ):
        assert fits_share_of_samples(is_hit, masks.starts, share)
    assert set(now[is_random]) == set(DRAWABLE)
    assert fits_even(np.bincount(now[is_random], minlength=SIZE)[DRAWABLE].tolist())


def fits_share_of_samples(is_hit: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64], share: float) -> bool:
    """As `fits_share`, where the tokens of one sample may share a fate: by the spread from sample to sample."""
    over = np.diff(np.concatenate(([0.0], np.cumsum(is_hit - share)))[starts])
    return abs(over.sum()) <= SIGMAS * np.sqrt((over**2).sum())


@pytest.mark.parametrize("masker", MASKERS)
def test_a_random_word_is_a_special_as_often_as_any_other_where_that_fault_is_kept(masker: str) -> None:
    more = {"mask_share": 0, "random_share": 1}
    for faults, possible in (((), DRAWABLE), (("special_random_words",), range(SIZE))):
        drawn = of_length(102).drawn(masker, 10_000, **more, faults=faults)
        counts = np.bincount(drawn.inputs[drawn.is_chosen], minlength=SIZE)
        assert np.flatnonzero(counts).tolist() == list(possible)
        assert fits_even(counts[possible].tolist())


@pytest.mark.parametrize("masker", ["token", "whole_word", "ngram"])
def test_each_token_has_a_fate_of_its_own(masker: str) -> None:
    drawn = Sample([2] * 24, [2] * 24).drawn(masker, 4_000)
    both, mask = drawn.is_chosen[:, :-1] & drawn.is_chosen[:, 1:], drawn.inputs == MASK
    is_mixed = (mask[:, :-1] != mask[:, 1:])[both]
    assert fits_share(np.count_nonzero(is_mixed), len(is_mixed), 2 * 0.8 * 0.2)


def test_a_span_has_one_fate_and_a_random_word_for_each_of_its_tokens() -> None:
    """A sample has room for one span, of one word of four pieces."""
    sample = Sample([4] * 15, [4] * 15)
    drawn = sample.drawn("span", 4_000, max_predictions_per_seq=4, mask_share=0.5, random_share=0.3)
    was = np.broadcast_to(sample.input_ids, drawn.inputs.shape)[drawn.is_chosen].reshape(-1, 4)
    now = drawn.inputs[drawn.is_chosen].reshape(-1, 4)
    masks = (now == MASK).sum(axis=1)
    assert {*masks.tolist()} == {0, 4}
    assert fits_share(np.count_nonzero(masks), len(masks), 0.5)
    others = now[((now != was) & (now != MASK)).all(axis=1)]
    by_chance = 1 - 1 / len(DRAWABLE)
    assert fits_share(len(others), len(now), 0.3 * by_chance**4)
    assert max(len({*other}) for other in others.tolist()) == 4


# Equal to the readable version, and the same whatever is drawn together

SAMPLES = st.lists(st.lists(TOKENS, min_size=1, max_size=60), min_size=1, max_size=6)
CONFIGS = st.builds(
    lambda masker, share, most, shares, faults, seed: config(
        **masker,
        masked_lm_prob=share,
        max_predictions_per_seq=most,
        mask_share=shares[0],
        random_share=shares[1],
        faults=faults,
        seed=seed,
    ),
    st.one_of(
        st.sampled_from([*MASKERS]).map(lambda name: {"masker": name}),
        st.integers(1, 6).map(lambda most: {"masker": "ngram", "max_words": most}),
        st.builds(
            lambda p, most: {"masker": "span", "p": p, "max_words": most}, st.floats(0.05, 1), st.integers(1, 12)
        ),
    ),
    st.sampled_from([0.15, 0.4, 0.9]),
    st.sampled_from([None, 1, 5]),
    st.sampled_from([(0.8, 0.1), (0.5, 0.5), (0.0, 0.3)]),
    st.sampled_from([(), ("special_random_words",)]),
    st.sampled_from([0, 12_345, 2**63 - 1]),
)


@settings(max_examples=300, deadline=None)
@given(SAMPLES, CONFIGS, st.integers(0, 3))
@example([[(20, False)], [(CLS, False)], [(20, True), (21, False)]], config("span"), 0)
def test_the_compiled_masks_are_the_readable_ones(
    samples: list[list[tuple[int, bool]]], of: DatasetConfig, epoch: int
) -> None:
    entries = {"mask_id": MASK, "undrawable": UNDRAWABLE, "size": SIZE}
    batch, indices = flat(samples), 7 * np.arange(len(samples))
    masks = module.Masking(of, **entries).draw(*batch, np.full(len(samples), epoch), indices)
    for sample, index, (start, end), first in zip(samples, indices.tolist(), pairwise(masks.starts), batch.starts):
        ids, begins = [token for token, _ in sample], [begins for _, begins in sample]
        found = zip((masks.positions[start:end] - first).tolist(), masks.inputs[start:end].tolist())
        assert [*found] == readable_masks(ids, begins, of, **entries, epoch=epoch, index=index)


@pytest.mark.parametrize("masker", MASKERS)
def test_masks_do_not_depend_on_which_samples_are_drawn_together_nor_on_threads(masker: str) -> None:
    random = np.random.default_rng(3)
    samples = [[(int(token), bool(token % 3)) for token in random.integers(0, SIZE, length)] for length in range(1, 90)]
    drawing, names = masking(masker), [(number % 4, 1000 - number) for number in range(len(samples))]

    def drawn(numbers: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        batch = flat([samples[number] for number in numbers])
        epochs, indices = np.array([names[number] for number in numbers]).T.copy()
        masks = drawing.draw(*batch, epochs, indices)
        for (start, end), first in zip(pairwise(masks.starts), batch.starts):
            yield (masks.positions[start:end] - first).tolist(), masks.inputs[start:end].tolist()

    alone = [next(drawn([number])) for number in range(len(samples))]
    assert [*drawn([*range(len(samples))])] == alone
    assert [*drawn([*reversed(range(len(samples)))])] == alone[::-1]
    assert [*drawn([5, 80, 5])] == [alone[5], alone[80], alone[5]]
    with ThreadPoolExecutor(4) as pool:
        parts = [[*range(first, len(samples), 8)] for first in range(8)] * 4
        for numbers, found in zip(parts, pool.map(lambda numbers: [*drawn(numbers)], parts)):
            assert found == [alone[number] for number in numbers]


@pytest.mark.parametrize("masker", MASKERS)
def test_the_same_seed_epoch_and_index_give_the_same_masks_and_others_give_others(masker: str) -> None:
    def drawn() -> list[bytes]:
        each = [of_length(128).drawn(masker, 10, epoch, seed=seed) for seed in (7, 8) for epoch in range(3)]
        return [row.tobytes() for one in each for row in one.is_chosen]

    assert drawn() == drawn()
    assert len(set(drawn())) == 60


def test_ids_of_any_width_and_arrays_that_may_only_be_read_give_the_same_and_stay_as_they_are() -> None:
    sample, zero = PIECES, np.zeros(1, np.int64)
    expected = sample.drawn("whole_word")
    for kind in (np.uint16, np.uint32, np.int64):
        ids, begins, starts = sample.input_ids.astype(kind), sample.begins_word, np.array([0, sample.length])
        for array in (ids, begins, starts):
            array.flags.writeable = False
        masks = masking("whole_word").draw(ids, begins, starts, zero, zero)
        assert masks.positions.tolist() == np.flatnonzero(expected.is_chosen[0]).tolist()
        assert masks.inputs.tolist() == expected.inputs[0, masks.positions].tolist()


# One's own


def test_a_masker_may_be_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def mask_firsts(tokens: Tokens, counts: npt.NDArray[np.int64], _: object) -> npt.NDArray[np.int32]:
        words, units = words_of(tokens), np.zeros(len(tokens.input_ids), np.int32)
        for sample, count in enumerate(counts):
            units[words.starts[words.of_samples[sample] :][:count]] = 1 + np.arange(count)
        return units

    monkeypatch.setattr(module, "MASKERS", {**MASKERS, "firsts": mask_firsts})
    chosen = PIECES.drawn("firsts", max_predictions_per_seq=3).is_chosen
    assert np.flatnonzero(chosen[0]).tolist() == [word.start for word in PIECES.words[:3]]
