"""The oracle makes what google-research/bert's own script makes, in the same order, from the same random numbers."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.reference import ReferenceSample, reference_samples
from pipeline.errors import ConfigError, InputError
from tests.dataset.chance import fits_even, fits_share
from tests.dataset.reference.golden import Case, Documents, digest, line, read_cases, read_texts, read_vocabulary

WORDS = ["mill", "river", "##s", "##ing", "the", "stone", "bread", "##er"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
ORDER_AND_DRAWS = ([3, 1, 7, 4, 2, 0, 5, 6], 74, 0.43622841061419115)


@pytest.fixture(scope="module")
def texts() -> dict[str, Documents]:
    return read_texts()


def unmasked(sample: ReferenceSample) -> list[str]:
    """The tokens before the masks."""
    tokens = list(sample.tokens)
    for position, label in zip(sample.masked_lm_positions, sample.masked_lm_labels):
        tokens[position] = label
    return tokens


def segments(sample: ReferenceSample) -> tuple[list[str], list[str]]:
    """The text of A and of B."""
    tokens, b = unmasked(sample), sample.segment_ids.index(1)
    return tokens[1 : b - 1], tokens[b:-1]


def numbered(*lengths: Sequence[int]) -> Documents:
    """Documents of sentences of those lengths; each token tells its document, and no two are the same."""
    return [
        [[f"d{document}s{sentence}t{token}" for token in range(length)] for sentence, length in enumerate(of)]
        for document, of in enumerate(lengths)
    ]


def documents_of(tokens: Sequence[str]) -> set[str]:
    return {token.partition("s")[0] for token in tokens}


# Equal to the original


def test_the_stream_is_the_one_of_the_golden_samples() -> None:
    """Where this fails, Python draws other numbers than the one the original ran on, and nothing below can hold."""
    rng = random.Random(12_345)
    order = list(range(8))
    rng.shuffle(order)
    assert (order, rng.randint(2, 125), rng.random()) == ORDER_AND_DRAWS


@pytest.mark.parametrize("case", read_cases(), ids=str)
def test_the_samples_are_the_originals(case: Case, texts: dict[str, Documents]) -> None:
    samples = reference_samples(texts[case.text], read_vocabulary(), **case.settings)
    lines = [line(sample) for sample in samples]
    assert lines[: len(case.first)] == case.first
    assert (len(lines), digest(lines)) == (case.count, case.sha256)


def test_the_golden_texts_have_what_is_hard(texts: dict[str, Documents]) -> None:
    lengths = {name: [[len(sentence) for sentence in document] for document in text] for name, text in texts.items()}
    by_hand = lengths["by_hand"]
    assert [] in by_hand
    assert any(document and not any(document) for document in by_hand)
    assert any(len(document) == 1 for document in by_hand)
    assert max(length for document in by_hand for length in document) > 512
    assert len(lengths["alone"]) == 1
    assert max(sum(document) for document in lengths["addresses"]) > 5 * 512
    assert {case.settings["max_seq_length"] for case in read_cases()} >= {128, 512}


# Worked by hand


def test_sentences_alone_make_samples_whose_b_is_the_other_documents() -> None:
    """Of two documents of a sentence each, every pass makes two samples; A is the one and B the other."""
    samples = reference_samples(numbered([2], [2]), VOCABULARY, max_seq_length=8, short_seq_prob=0, dupe_factor=3)
    assert Counter(tuple(unmasked(sample)) for sample in samples) == {
        ("[CLS]", "d0s0t0", "d0s0t1", "[SEP]", "d1s0t0", "d1s0t1", "[SEP]"): 3,
        ("[CLS]", "d1s0t0", "d1s0t1", "[SEP]", "d0s0t0", "d0s0t1", "[SEP]"): 3,
    }
    assert all(sample.segment_ids == [0, 0, 0, 0, 1, 1, 1] for sample in samples)
    assert all(sample.is_random_next for sample in samples)


@pytest.mark.parametrize(("length", "predictions"), [(9, 4), (10, 5), (11, 6), (12, 6), (13, 6), (15, 8)])
def test_halves_of_a_prediction_are_rounded_to_the_even_number(length: int, predictions: int) -> None:
    """9 tokens with the specials make 4.5 predictions at one half, so 4; 11 make 5.5, so 6."""
    documents = numbered([3], [length - 6])
    for sample in reference_samples(documents, VOCABULARY, masked_lm_prob=0.5, short_seq_prob=0):
        assert len(sample.tokens) == length
        assert len(sample.masked_lm_positions) == predictions


def test_a_single_document_is_its_own_random_next() -> None:
    samples = reference_samples(numbered([4, 4, 4]), VOCABULARY, max_seq_length=16)
    assert any(sample.is_random_next for sample in samples)
    assert all(documents_of(segments(sample)[1]) == {"d0"} for sample in samples)


def test_another_document_is_looked_for_ten_times_only() -> None:
    """Of two, the own one is drawn ten times in a row once in 1,024; then it is the random next."""
    samples = reference_samples(numbered([2], [2]), VOCABULARY, max_seq_length=8, dupe_factor=20_000)
    own = sum(documents_of(segments(sample)[0]) == documents_of(segments(sample)[1]) for sample in samples)
    assert own > 0
    assert fits_share(own, len(samples), 2**-10)


def test_a_word_may_reach_across_sep() -> None:
    """B begins with a piece: as a whole word it goes with the last of A, which the original is known for."""
    documents = [[["mill"], ["##s", "##er"]]]
    samples = reference_samples(
        documents, VOCABULARY, max_seq_length=8, masked_lm_prob=0.5, short_seq_prob=0, do_whole_word_mask=True
    )
    follows = [
        sample.masked_lm_positions for sample in samples if unmasked(sample)[1:5] == "mill [SEP] ##s ##er".split()
    ]
    assert follows
    assert all(positions == [1, 3, 4] for positions in follows)


# Always


CORPORA = st.lists(st.lists(st.lists(st.sampled_from(WORDS), max_size=12), max_size=6), max_size=5)


@settings(max_examples=100, deadline=None)
@given(CORPORA, st.integers(5, 40), st.sampled_from([0.0, 0.1, 1.0]), st.booleans(), st.integers(1, 30))
def test_a_sample_is_cls_a_sep_b_sep_with_its_predictions(
    documents: Documents, max_seq_length: int, short_seq_prob: float, whole_words: bool, most: int
) -> None:
    before = repr(documents)
    samples = reference_samples(
        documents,
        VOCABULARY,
        max_seq_length=max_seq_length,
        short_seq_prob=short_seq_prob,
        max_predictions_per_seq=most,
        dupe_factor=2,
        do_whole_word_mask=whole_words,
    )
    assert repr(documents) == before
    assert bool(samples) == any(map(any, documents))
    for sample in samples:
        a, b = segments(sample)
        assert a
        assert b
        assert unmasked(sample) == ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
        assert len(sample.tokens) == len(sample.segment_ids) <= max_seq_length
        assert sample.masked_lm_positions == sorted(set(sample.masked_lm_positions))
        assert len(sample.masked_lm_positions) == len(sample.masked_lm_labels)
        count = min(most, max(1, round(len(sample.tokens) * 0.15)))
        assert whole_words or len(sample.masked_lm_positions) == min(count, len(a) + len(b))
        assert len(sample.masked_lm_positions) <= count


def test_a_whole_word_is_predicted_or_not(texts: dict[str, Documents]) -> None:
    samples = reference_samples(texts["addresses"], read_vocabulary(), do_whole_word_mask=True, dupe_factor=1)
    for sample in samples:
        chosen, tokens = set(sample.masked_lm_positions), unmasked(sample)
        for place in range(2, len(tokens)):
            if tokens[place].startswith("##") and tokens[place - 1] != "[SEP]":
                assert (place in chosen) == (place - 1 in chosen)


def test_of_predictions_80_percent_are_masks_10_stay_and_10_are_any_entry() -> None:
    """Of the 10 % random words one in as many as there are entries is the token itself or [MASK]."""
    samples = reference_samples(numbered([60] * 4, [60] * 4), VOCABULARY, dupe_factor=200)
    shown = [
        (sample.tokens[place], label)
        for sample in samples
        for place, label in zip(sample.masked_lm_positions, sample.masked_lm_labels)
    ]
    words = Counter(token for token, label in shown if token in VOCABULARY and token != "[MASK]")
    assert fits_share(sum(token == label for token, label in shown), len(shown), 0.1)
    assert fits_share(sum(token == "[MASK]" for token, _ in shown), len(shown), 0.8 + 0.1 / len(VOCABULARY))
    assert set(words) == {*VOCABULARY} - {"[MASK]"}
    assert fits_even(list(words.values()))


def test_another_seed_makes_other_samples_and_the_same_seed_the_same(texts: dict[str, Documents]) -> None:
    def of(seed: int) -> list[ReferenceSample]:
        return reference_samples(texts["sample_text"], read_vocabulary(), dupe_factor=1, seed=seed)

    assert of(1) == of(1)
    assert of(1) != of(2)


# Refused


def test_a_length_that_holds_no_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_seq_length is 4, too short for a pair: .* take 5\. Give at least that"):
        reference_samples(numbered([2], [2]), VOCABULARY, max_seq_length=4)


def test_a_vocabulary_without_entries_is_refused() -> None:
    with pytest.raises(InputError, match="no entry to draw random words from"):
        reference_samples(numbered([2], [2]), [])
