"""The vocabulary is a function of the counts alone: worked by hand, equal to the plain algorithm, never too large."""

import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.vocabulary.wordpiece import CONTINUES, SPECIALS, alphabet_of, train_wordpiece

HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
ALPHABET = ["b", "g", "h", "n", "p", "s", "u", "##b", "##g", "##h", "##n", "##p", "##s", "##u"]
BY_HAND = ["##ug", "##un", "hug", "pun", "hugs", "pug", "bun"]
"""20 u-g; 16 u-n; 15 h-ug; 12 p-un; then hug-s and p-ug stand 5 times each, and hug-s is first by its text; 4 b-un."""


def test_a_vocabulary_worked_by_hand() -> None:
    assert train_wordpiece(HUGS, size=100, min_frequency=1) == [*SPECIALS, *ALPHABET, *BY_HAND]


@pytest.mark.parametrize("size", range(19, 27))
def test_the_specials_come_first_and_the_size_is_a_hard_cap(size: int) -> None:
    vocabulary = train_wordpiece(HUGS, size=size, min_frequency=1)
    assert vocabulary == [*SPECIALS, *ALPHABET, *BY_HAND][:size]
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_a_size_below_the_alphabet_is_told_with_the_smallest_possible() -> None:
    with pytest.raises(ConfigError) as error:
        train_wordpiece(HUGS, size=18, min_frequency=1)
    assert "vocabulary.size is 18" in str(error.value)
    assert "are 19 entries: that is the smallest possible size" in str(error.value)


@pytest.mark.parametrize(("min_frequency", "merges"), [(4, 7), (5, 6), (6, 4), (13, 3), (16, 2), (17, 1), (21, 0)])
def test_pairs_below_the_minimum_are_not_learned(min_frequency: int, merges: int) -> None:
    no_rare_letters = HUGS | dict.fromkeys("bghnpsu", 90)
    vocabulary = train_wordpiece(no_rare_letters, size=100, min_frequency=min_frequency)
    learned = [piece for piece in vocabulary[5:] if len(piece.removeprefix(CONTINUES)) > 1]
    assert learned == BY_HAND[:merges]


def test_a_rare_character_is_left_out_and_what_it_parted_is_not_joined() -> None:
    vocabulary = train_wordpiece({"axb": 3, "a": 50, "b": 50}, size=100, min_frequency=5)
    assert vocabulary == [*SPECIALS, "a", "b", "##a", "##b"]


def test_a_character_that_always_stands_alone_has_no_continuing_twin() -> None:
    assert alphabet_of({"河": 9, "mo": 9, ".": 9, "水": 1}, min_frequency=2) == [".", "m", "o", "河", "##m", "##o"]


def plain(counts: Mapping[str, int], size: int, min_frequency: int) -> list[str]:
    """The same by counting everything anew for each piece: slow, and plainly right."""
    vocabulary = [*SPECIALS, *alphabet_of(counts, min_frequency)]
    words = {word: [word[0], *(CONTINUES + c for c in word[1:])] for word in counts}
    words = {word: pieces for word, pieces in words.items() if set(pieces) <= set(vocabulary)}
    while len(vocabulary) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        enough = [(-count, pair) for pair, count in pairs.items() if count >= min_frequency]
        if not enough:
            break
        left, right = min(enough)[1]
        piece = left + right.removeprefix(CONTINUES)
        for pieces in words.values():
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == (left, right):
                    pieces[at : at + 2] = [piece]
                at += 1
        if piece not in vocabulary:
            vocabulary.append(piece)
    return vocabulary


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=14),
    st.integers(11, 60),
    st.integers(1, 4),
)
@example({"aaaaa": 3, "aaab": 2, "baaa": 2}, 40, 1)
def test_pieces_are_those_of_counting_everything_anew_for_each(
    counts: dict[str, int], size: int, min_frequency: int
) -> None:
    vocabulary = train_wordpiece(counts, size=size, min_frequency=min_frequency)
    assert vocabulary == plain(counts, size, min_frequency)
    assert len(vocabulary) <= size
    assert len(set(vocabulary)) == len(vocabulary)


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_broken_alike_whatever_order_the_words_come_in(seed: int) -> None:
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdef", k=draw.randint(1, 7))) for _ in range(200)]
    shuffled = random.Random(seed).sample(words, len(words))
    expected = train_wordpiece(dict.fromkeys(words, 3), size=150, min_frequency=2)
    assert train_wordpiece(dict.fromkeys(shuffled, 3), size=150, min_frequency=2) == expected


def test_counts_never_overflow() -> None:
    large = {word: count << 62 for word, count in HUGS.items()}
    assert train_wordpiece(large, size=100, min_frequency=1) == train_wordpiece(HUGS, size=100, min_frequency=1)
