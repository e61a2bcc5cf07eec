"""Next-sentence pairs: the document's own text in order, each token once; a random B from any document but its own."""

from dataclasses import replace
from itertools import chain, pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import DatasetConfig, Fault
from pipeline.dataset.assembly import assembled
from pipeline.dataset.donors import _documents, find_donors
from pipeline.dataset.pairs import draw_samples, rules_of
from pipeline.dataset.tokens import Shard
from tests.dataset.chance import fits_even, fits_share
from tests.dataset.numbered import ENTRIES, Example, Text, numbered, own_tokens, random_lengths, segments

CLS, SEP = ENTRIES.cls, ENTRIES.sep
PAIR_FAULTS = tuple(fault for fault in get_args(Fault) if fault != "special_random_words")
NEVER, ALWAYS = 1e-9, 1 - 1e-9
"""As near to 0 and 1 as makes no difference; the config allows neither."""


def config(**more: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"name": "small", "max_seq_length": 32} | more)


@pytest.fixture(scope="module")
def text() -> Text:
    """Sixty documents over several shards; some sentences are longer than half a sample."""
    return numbered(random_lengths(60, 1, 40), documents_per_shard=7)


# Worked by hand


def test_samples_that_follow_worked_by_hand() -> None:
    """Of 13 tokens' room two sentences of six fill twelve, so that A is the one and B the other."""
    text = numbered([[6, 6, 6, 3], [9]])
    of_16 = config(max_seq_length=16, short_seq_prob=0, random_next_share=NEVER)
    starts = [*range(1, 7), *range(8, 14)]
    assert text.samples(0, of_16) == [
        Example([CLS, *range(100, 106), SEP, *range(106, 112), SEP], 8, starts, False),
        Example([CLS, *range(112, 118), SEP, *range(118, 121), SEP], 8, starts[:9], False),
    ]


def test_random_samples_worked_by_hand() -> None:
    """B is put back each time and becomes an A; the last sentence, of two tokens, stands alone and is split.

    Its one other document has a sentence of two tokens: B is both, or, where the A is a split sentence's, its second.
    """
    text = numbered([[6, 6, 2], [2]])
    of_16 = config(max_seq_length=16, short_seq_prob=0, random_next_share=ALWAYS)
    starts = [*range(1, 7), 8, 9]
    assert text.samples(0, of_16) == [
        Example([CLS, *range(100, 106), SEP, 114, 115, SEP], 8, starts, True),
        Example([CLS, *range(106, 112), SEP, 114, 115, SEP], 8, starts, True),
        Example([CLS, 112, SEP, 115, SEP], 3, [1, 3], True),
    ]


# The shape of a sample


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 70), min_size=1, max_size=8), min_size=2, max_size=6).filter(
        lambda lengths: sum(map(any, lengths)) >= 2
    ),
    st.integers(8, 64),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([NEVER, 0.5, ALWAYS]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 99),
)
@example([[1], [1]], 8, 0.1, 0.5, 0.0, 1)
@example([[5_000], [3]], 64, 0.1, 0.5, 0.5, 1)
def test_a_sample_is_cls_a_sep_b_sep_of_own_text_then_own_or_other_text(
    lengths: list[list[int]], max_seq_length: int, short: float, share: float, continuing: float, seed: int
) -> None:
    text = numbered(lengths, documents_per_shard=2).with_continuing(continuing)
    of = config(max_seq_length=max_seq_length, short_seq_prob=short, random_next_share=share, seed=seed)
    for number, sample in text.all_samples(of):
        assert len(sample.input_ids) <= max_seq_length
        first, second = segments(sample)
        assert sample.input_ids == [CLS, *first, SEP, *second, SEP]
        assert {text.document_of(token) for token in first} == {number}, "A is the document's own, and not empty"
        assert len({text.document_of(token) for token in second}) == 1, "B is of one document, and not empty"
        assert (text.document_of(second[0]) == number) is not sample.is_random_next
        assert second == list(range(second[0], second[0] + len(second))), "as it stands in its document"
        assert sample.word_starts == [
            place
            for place, token in enumerate(sample.input_ids)
            if token not in (CLS, SEP) and (place in (1, sample.segment_boundary) or token not in text.continuing)
        ]


def test_a_word_starts_with_each_segment_even_inside_a_word() -> None:
    text = numbered([[40, 40], [40]]).with_continuing(1.0)
    for _, sample in text.all_samples(config(), passes=5):
        assert sample.word_starts == [1, sample.segment_boundary]


# Where B comes from


def test_a_b_that_is_not_random_really_follows_a(text: Text) -> None:
    following = [sample for _, sample in text.all_samples(config(), passes=3) if not sample.is_random_next]
    assert len(following) > 500
    for sample in following:
        first, second = segments(sample)
        assert [*first, *second] == list(range(first[0], first[0] + len(first) + len(second)))


@pytest.mark.parametrize("documents_per_shard", [1, 2, 1000])
@pytest.mark.parametrize("lengths", [[[9, 9, 9]] * 2, [[5], [20, 1, 30], [8, 8]]], ids=["two", "three"])
def test_random_b_never_comes_from_the_same_document(lengths: list[list[int]], documents_per_shard: int) -> None:
    text = numbered(lengths, documents_per_shard)
    drawn = [
        (number, text.document_of(segments(sample)[1][0]))
        for number, sample in text.all_samples(config(random_next_share=0.9), passes=60)
        if sample.is_random_next
    ]
    numbers = range(len(lengths))
    expected = {(number, other) for number in numbers for other in numbers if other != number}
    assert set(drawn) == expected, "each other document gives, the own one never"


def test_each_other_document_gives_as_often_as_the_next() -> None:
    text = numbered([[6] * 4] * 21)
    given = [
        text.document_of(segments(sample)[1][0])
        for pass_ in range(400)
        for sample in text.samples(20, config(random_next_share=ALWAYS), pass_)
    ]
    assert all(fits_share(given.count(other), len(given), 1 / 20) for other in range(20))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 40, 10), (2, 6, 3), (60, 90, 3)], ids=["mixed", "short", "long"])
def test_the_share_of_random_b_is_what_the_config_says(share: float, shape: tuple[int, int, int]) -> None:
    shortest, longest, sentences = shape
    text = numbered(random_lengths(60, shortest, longest, sentences))
    samples = [sample for _, sample in text.all_samples(config(random_next_share=share), passes=10)]
    assert len(samples) > 400
    assert fits_share(sum(sample.is_random_next for sample in samples), len(samples), share)


def test_shares_are_right_over_ten_million_tokens() -> None:
    """Of random B, of short targets, and of the documents that give."""
    random = np.random.default_rng(3)
    sentences = np.cumsum(np.concatenate(([0], random.integers(1, 60, 340_000))))
    documents = np.concatenate(([0], np.sort(random.choice(np.arange(1, 340_000), 39_999, replace=False)), [340_000]))
    bits = np.packbits(random.random(sentences[-1]) < 0.8, bitorder="little")
    shard = Shard(random.integers(5, 1_000, sentences[-1]).astype(np.uint16), bits, sentences, documents)
    for share in (0.5, 0.15):
        of = config(max_seq_length=128, random_next_share=share)
        rules = rules_of(of)
        drawn = draw_samples(shard, np.arange(len(shard)), 0, rules, of.seed, 0)
        count = len(drawn.label)
        assert fits_share(int(drawn.label.sum()), count, share)
        given = find_donors(drawn, [len(shard)], lambda _: shard, rules)
        rows, own = assembled(shard, drawn, given, rules, ENTRIES)
        assert len(rows.input_ids) > 10_000_000
        assert own > 0.995 * sentences[-1]
        assert len(rows) > 0.9999 * count, "nearly each finds a donor"
        donors = np.flatnonzero(drawn.is_donated)
        found = _documents(drawn.key[donors], drawn.document[donors], len(shard), 0, False)
        assert not (found == drawn.document[donors]).any()
        assert fits_even(np.bincount(found // 400, minlength=100).tolist())


@pytest.mark.parametrize("longest", [14, 28, 56], ids=["whole", "two parts", "four parts"])
def test_a_b_begins_inside_a_sentence_about_as_often_whether_it_is_random_or_not(longest: int) -> None:
    text = numbered(random_lengths(400, 3, longest))  # a part is up to fourteen tokens
    starts = text.sentence_starts()
    samples = [sample for _, sample in text.all_samples(config(), passes=3)]
    cut = {
        label: [segments(sample)[1][0] not in starts for sample in samples if sample.is_random_next is label]
        for label in (False, True)
    }
    follows, random = (sum(each) / len(each) for each in cut.values())
    assert 0.1 < follows < 0.8
    assert abs(follows - random) < 0.08, "so that it tells next to nothing of the label"


# What of a document is used


def used(samples: list[Example]) -> list[int]:
    return list(chain.from_iterable(map(own_tokens, samples)))


@pytest.mark.parametrize("continuing", [0.0, 0.6])
@pytest.mark.parametrize("share", [NEVER, 0.5, ALWAYS])
def test_a_documents_tokens_come_once_a_pass_in_order_and_only_lone_words_are_left_out(
    share: float, continuing: float, text: Text
) -> None:
    text, lone = text.with_continuing(continuing), 0
    for number in range(len(text)):
        own, found = text.own(number), used(text.samples(number, config(random_next_share=share)))
        assert found == sorted(set(found)), "in order, none twice"
        missing = set(own) - set(found)
        assert {token for token in missing if token - 1 in missing} <= text.continuing, "of a word, no more"
        lone += len(missing)
    assert lone < 0.03 * sum(map(sum, text.lengths))


@pytest.mark.parametrize("continuing", [0.0, 0.6])
def test_a_document_of_one_long_sentence_is_used_whole_and_cut_at_words(continuing: float) -> None:
    text = numbered([[2_000], [2_000]]).with_continuing(continuing)
    samples = text.samples(0, config(random_next_share=NEVER, short_seq_prob=0))
    assert len(samples) > 2_000 / 29
    assert used(samples) == text.own(0)
    first_tokens = [segment[0] for sample in samples for segment in segments(sample)]
    assert not set(first_tokens[1:]) & text.continuing


@pytest.mark.parametrize("pairs", ["nsp", "sop", "none"])
@pytest.mark.parametrize("donors", [7, 14], ids=["fit", "too long"])
def test_own_tokens_are_counted_as_they_stand_in_the_samples(donors: int, pairs: str) -> None:
    text = numbered([[10, 10, 9, 2] * 5, *[[donors] * 9] * 40])  # two sentences leave room for nine tokens or less
    for pass_ in range(40):
        samples, counted = text.counted(0, config(pairs=pairs), pass_)
        own = [token for sample in samples for token in sample.input_ids if token in text.own(0)]
        assert counted == len(own)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_target_is_short_for_the_share_of_samples_that_the_config_says(share: float) -> None:
    text = numbered([[1] * 20_000, [1] * 20_000])  # any target is filled, up to the document's end
    room = 29
    samples = text.samples(0, config(short_seq_prob=share))[:-9]
    lengths = [len(sample.input_ids) - 3 for sample in samples if not sample.is_random_next]  # a donor may end sooner
    shares = {length: share / 28 + (length == room) * (1 - share) for length in range(2, room + 1)}
    assert set(lengths) <= set(shares)
    assert all(fits_share(lengths.count(length), len(lengths), each) for length, each in shares.items())


def test_a_ends_after_each_sentence_but_the_last_alike() -> None:
    text = numbered([[1] * 20_000, [1] * 20_000])
    samples = text.samples(0, config(short_seq_prob=0))[:-9]
    firsts = [len(segments(sample)[0]) for sample in samples]
    assert all(fits_share(firsts.count(length), len(firsts), 1 / 28) for length in range(1, 29))
    assert set(firsts) == set(range(1, 29))


# Without text of other documents


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_sop_puts_what_follows_first_for_the_share_that_the_config_says(share: float, text: Text) -> None:
    samples = [sample for _, sample in text.all_samples(config(pairs="sop", random_next_share=share), passes=3)]
    swapped = [sample for sample in samples if sample.is_random_next]
    assert fits_share(len(swapped), len(samples), share)
    for sample in samples:
        first, second = segments(sample)
        before, after = (second, first) if sample.is_random_next else (first, second)
        assert [*before, *after] == list(range(before[0], before[0] + len(before) + len(after)))


def test_sop_uses_a_document_as_nsp_does_where_nothing_is_random(text: Text) -> None:
    sop = config(pairs="sop", random_next_share=NEVER)
    assert list(text.all_samples(sop)) == list(text.all_samples(config(random_next_share=NEVER)))


def test_none_is_full_sentences_of_one_document_in_one_segment(text: Text) -> None:
    of = config(pairs="none", short_seq_prob=0)
    starts = text.sentence_starts()
    for number in range(len(text)):
        samples = text.samples(number, of)
        assert [token for sample in samples for token in sample.input_ids[1:-1]] == text.own(number), (
            "all of it, in order"
        )
        for sample in samples:
            assert sample.input_ids[0] == CLS
            assert sample.input_ids[-1] == SEP
            assert sample.segment_boundary == len(sample.input_ids)
            assert not sample.is_random_next
        ends = {*starts, text.own(number)[-1] + 1}
        for sample, after in pairwise(samples):
            first = after.input_ids[1]
            next_sentence = next(length for length in range(1, 41) if first + length in ends)
            assert first not in starts or len(sample.input_ids) + next_sentence > 32, "the next one wouldn't fit"


@pytest.mark.parametrize("pairs", ["sop", "none"])
def test_one_document_is_enough_without_random_text(pairs: str) -> None:
    assert numbered([[6, 6, 6]]).samples(0, config(pairs=pairs))


# Equal to the readable version


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 70), min_size=1, max_size=8), min_size=2, max_size=6),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.4, 0.9, 1.0]),
    st.builds(
        config,
        max_seq_length=st.sampled_from([8, 9, 16, 32, 64]),
        pairs=st.sampled_from(["nsp", "nsp", "sop", "none"]),
        short_seq_prob=st.sampled_from([0, 0.1, 0.5, 1]),
        random_next_share=st.sampled_from([0.1, 0.5, 0.9]),
        faults=st.lists(st.sampled_from(PAIR_FAULTS), unique=True),
        seed=st.integers(0, 99),
    ),
    st.integers(0, 3),
)
def test_the_compiled_pairs_equal_the_readable_ones_of_the_same_draws(
    lengths: list[list[int]], documents_per_shard: int, continuing: float, of: DatasetConfig, pass_: int
) -> None:
    text = numbered(lengths, documents_per_shard).with_continuing(continuing)
    for number in range(len(text)):
        expected = []
        for pair in text.readable(number, of, pass_):
            first, second = (pair.second, pair.first) if of.pairs == "sop" and pair.label else (pair.first, pair.second)
            sample = [(CLS, False), (first[0][0], True), *first[1:], (SEP, False)]
            boundary = len(sample)
            if second:
                sample += [(second[0][0], True), *second[1:], (SEP, False)]
            ids = [token for token, _ in sample]
            starts = [place for place, (_, begins) in enumerate(sample) if begins]
            expected.append(Example(ids, boundary, starts, pair.label))
        assert text.samples(number, of, pass_) == expected


# Again


def test_the_same_seed_pass_and_document_give_the_same_samples_and_others_give_others(text: Text) -> None:
    names = [(seed, pass_) for seed in (1, 2) for pass_ in range(3)]
    made = [text.samples(5, config(seed=seed), pass_) for seed, pass_ in names]
    assert made == [text.samples(5, config(seed=seed), pass_) for seed, pass_ in names]
    assert all(made.count(each) == 1 for each in made)


def test_samples_are_the_same_over_any_number_of_shards(text: Text) -> None:
    expected = list(text.all_samples(config()))
    for documents_per_shard in (1, 13, 1000):
        assert list(replace(text, documents_per_shard=documents_per_shard).all_samples(config())) == expected


def test_samples_are_the_same_whichever_documents_are_drawn_with_them(text: Text) -> None:
    one_by_one = [sample for number in range(7) for sample in text.samples(number, config())]
    assert text.samples_of(range(7), config()) == one_by_one
