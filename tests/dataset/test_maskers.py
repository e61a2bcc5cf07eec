"""Which tokens are predicted: whole words where asked, and as often as the orders and lengths that lead to them."""

from collections import defaultdict
from itertools import pairwise, permutations, product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Plug, bound
from pipeline.dataset.masking import MASKERS
from pipeline.dataset.randomness import Purpose, stream_key, stream_keys
from pipeline.dataset.words import Tokens
from pipeline.errors import ConfigError
from tests.dataset.chance import fits_even, fits_share
from tests.dataset.masked import PIECES, Sample, config, masking, of_length, ten_million_tokens
from tests.dataset.readable_masks import readable_law, readable_runs

Ints = npt.NDArray[np.int64]
OF_WORDS = [masker for masker in MASKERS if masker != "token"]


def units(
    masker: str, sizes: list[list[int]], counts: list[int], seed: int = 0, **more: object
) -> npt.NDArray[np.int32]:
    """The units of samples given as their words' sizes, with nothing between the words."""
    begins = [place == 0 for sample in sizes for size in sample for place in range(size)]
    starts = np.cumsum([0, *map(sum, sizes)])
    tokens = Tokens(np.zeros(len(begins), np.int64), np.array(begins, np.uint8), starts, np.ones(1, np.bool_))
    indices = np.arange(len(sizes))
    keys = stream_keys(np.uint64(stream_key(seed, Purpose.MASKS)), np.zeros_like(indices), indices)
    return bound(config(masker, **more).masker, MASKERS, "masker")(tokens, np.array(counts), keys)


# Whole words


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(OF_WORDS),
    st.lists(st.lists(st.integers(1, 9), max_size=30), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_all_pieces_of_a_word_are_masked_or_none_and_no_word_is_left_that_would_fit(
    masker: str, sizes: list[list[int]], count: int, seed: int
) -> None:
    found = units(masker, sizes, [count] * len(sizes), seed).tolist()
    for sample in sizes:
        left, words = count, list[tuple[int, bool]]()
        for size in sample:
            pieces, found = found[:size], found[size:]
            assert all(pieces) or not any(pieces)
            words.append((size, any(pieces)))
            left -= size * any(pieces)
        assert left >= 0
        assert all(size > left for size, is_chosen in words if not is_chosen)


def test_tokens_are_as_many_as_asked_for_whatever_their_words() -> None:
    found = units("token", [[9, 9], [1], [3, 4]], [5, 5, 7])
    assert [np.count_nonzero(part) for part in np.split(found, [18, 19])] == [5, 1, 7]


@pytest.mark.parametrize("masker", OF_WORDS)
def test_no_word_glues_across_sep(masker: str) -> None:
    last, first = PIECES.words[8], PIECES.words[9]
    assert (last.stop, first.start) == (PIECES.boundary - 1, PIECES.boundary)
    chosen = PIECES.drawn(masker, 2_000, masked_lm_prob=0.3).is_chosen
    for word, other in ((last, first), (first, last)):
        assert np.count_nonzero(chosen[:, word].all(axis=1) & ~chosen[:, other].any(axis=1)) > 100


def test_a_word_over_what_is_left_of_the_count_is_passed_over() -> None:
    threes_and_a_one = Sample([3, 3, 3], [3, 3, 1])
    drawn = threes_and_a_one.drawn("whole_word", 100, max_predictions_per_seq=5, masked_lm_prob=0.9)
    assert set(drawn.is_chosen.sum(axis=1)) == {4}, "one word of three, and the one of one; never two of three"
    assert not Sample([4], [4]).drawn("whole_word").is_chosen.any(), "no word is as short as the count"


# Their laws


@pytest.mark.parametrize(
    ("masker", "keywords"),
    [
        ("whole_word", {}),
        ("ngram", {"max_words": 2}),
        ("ngram", {"max_words": 3}),
        ("span", {"p": 0.2, "max_words": 3}),
        ("span", {"p": 0.7, "max_words": 2}),
    ],
)
@pytest.mark.parametrize(("sizes", "count"), [([1, 2, 3, 1, 1], 4), ([1, 1, 1, 1, 1], 3)], ids=["sizes", "ones"])
def test_a_choice_is_as_likely_as_the_orders_and_lengths_that_lead_to_it(
    masker: str, keywords: dict[str, float], sizes: list[int], count: int
) -> None:
    """All orders of five words, and all lengths of runs from each, with what they are likely; against 50,000 draws."""
    law = readable_law(config(masker, **keywords))
    weights = np.diff([0.0, *law]).tolist()
    ends = np.cumsum(sizes).tolist()
    words = [list(range(end - size, end)) for size, end in zip(sizes, ends)]
    likely = defaultdict[tuple[int, ...], float](float)
    for order in permutations(range(len(words))):
        for lengths in product(range(1, len(law) + 1), repeat=len(words)):
            chosen = readable_runs(words, count, order, lengths, is_one_unit=False)
            likely[tuple(sorted(chosen))] += float(np.prod([weights[length - 1] for length in lengths])) / 120
    assert sum(likely.values()) == pytest.approx(1)

    draws = 50_000
    found = units(masker, [sizes] * draws, [count] * draws, **keywords).reshape(draws, -1)
    seen = defaultdict[tuple[int, ...], int](int)
    for row in found:
        seen[tuple(np.flatnonzero(row).tolist())] += 1
    assert seen.keys() <= likely.keys()
    assert all(fits_share(seen[choice], draws, share) for choice, share in likely.items())


@pytest.mark.parametrize(
    ("masker", "keywords", "law"),
    [
        ("ngram", {}, [1, 1 / 2, 1 / 3]),
        ("ngram", {"max_words": 5}, [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        ("span", {}, [0.8**n for n in range(10)]),
        ("span", {"p": 0.5, "max_words": 3}, [1, 1 / 2, 1 / 4]),
        ("span", {"p": 1}, [1]),
    ],
)
def test_a_run_has_the_length_of_its_law_where_nothing_is_in_its_way(
    masker: str, keywords: dict[str, float], law: list[float]
) -> None:
    """The first run of each sample. (The second begins right behind it in one sample of a thousand: nothing to see.)"""
    draws, words = 4_000, 1_000
    found = units(masker, [[1] * words] * draws, [10] * draws, **keywords).reshape(draws, words)
    lengths = np.zeros(draws, int)
    firsts = np.argmax(found == 1, axis=1)
    for sample, first in enumerate(firsts.tolist()):
        run = found[sample, first:].tolist()
        following = [1] * len(run) if masker == "span" else [*range(1, len(run) + 1)]
        lengths[sample] = next((at for at, pair in enumerate(zip(run, following)) if pair[0] != pair[1]), len(run))
    lengths = lengths[firsts < words - 10]
    for length, weight in enumerate(law, start=1):
        assert fits_share(np.count_nonzero(lengths == length), len(lengths), weight / sum(law))
    assert fits_even(np.bincount(firsts * 10 // words, minlength=10).tolist()), "from any word alike"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_a_span_is_one_run_of_no_more_words_than_asked_for(
    sizes: list[int], count: int, max_words: int, seed: int
) -> None:
    found = units("span", [sizes], [count], seed, max_words=max_words)
    ends = np.cumsum(sizes)
    for unit in set(found[found > 0].tolist()):
        places = np.flatnonzero(found == unit)
        assert all(right == left + 1 for left, right in pairwise(places))
        assert len({int(np.searchsorted(ends, place, side="right")) for place in places}) <= max_words


@pytest.mark.parametrize(("masker", "alone"), [("ngram", 2 / 3), ("span", 0.2 / 0.36)])
def test_a_run_ends_at_a_special(masker: str, alone: float) -> None:
    """[CLS] a b [SEP] c d [SEP]; two are chosen. Both b and c are when b comes first (1/4), whose run ends with it, and
    c is next (1/3), or when c comes first, with a run of one, and b is next. A run over [SEP] would make it more.
    """
    chosen = Sample([1, 1], [1, 1]).drawn(masker, 50_000, masked_lm_prob=0.3, max_words=2).is_chosen
    assert {*chosen.sum(axis=1).tolist()} == {2}
    assert fits_share(np.count_nonzero(chosen[:, 2] & chosen[:, 4]), len(chosen), (1 + alone) / 12)


def test_each_place_is_chosen_as_often_as_any_other_over_ten_million_tokens() -> None:
    many = ten_million_tokens()
    indices = np.arange(many.count)
    masks = masking("token").draw(*many, np.zeros_like(indices), indices)
    lengths = np.diff(many.starts)
    of = np.repeat(indices, np.diff(masks.starts))
    places = masks.positions - many.starts[of]
    assert lengths.min() >= 20
    assert fits_even(np.bincount(places)[1:10].tolist())
    assert fits_even(np.bincount(lengths[of] - 1 - places)[1:10].tolist()), "from the end"


@pytest.mark.parametrize("masker", MASKERS)
def test_each_word_of_one_piece_between_specials_is_chosen_alike_but_for_the_ends_of_runs(masker: str) -> None:
    counts = of_length(40).drawn(masker, 20_000).is_chosen.sum(axis=0)
    assert counts[[0, 19, 39]].tolist() == [0, 0, 0]
    assert (counts > 0).sum() == 37
    if masker in ("token", "whole_word"):
        assert fits_even(counts[counts > 0].tolist())


# Refused


@pytest.mark.parametrize(
    ("masker", "sentence"),
    [
        ({"name": "ngram", "max_words": 0}, "The masker 'ngram': max_words is 0: Input should be greater than"),
        ({"name": "ngram", "max_words": 2.5}, "The masker 'ngram': max_words is 2.5"),
        ({"name": "span", "p": 0}, "The masker 'span': p is 0: Input should be greater than 0"),
        ({"name": "span", "p": 1.5}, "The masker 'span': p is 1.5: Input should be less than or equal to 1"),
        ({"name": "span", "words": 3}, "The masker 'span' has no keyword 'words'"),
        ({"name": "token", "p": 0.5}, "It takes none"),
        ({"name": "whole_words"}, "There is no masker 'whole_words'"),
    ],
)
def test_keywords_out_of_range_and_unknown_names_are_refused(masker: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        bound(Plug.model_validate(masker), MASKERS, "masker")
    assert sentence in str(error.value)
