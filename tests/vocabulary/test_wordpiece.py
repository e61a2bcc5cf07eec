"""The vocabulary is a function of the counts alone: worked by hand, equal to the plain algorithm, never too large."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.sources import sample_path
from pipeline.errors import ConfigError, InputError
from pipeline.vocabulary import alphabet, wordpiece
from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.layout import CONTINUES, SPECIALS
from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer
from pipeline.vocabulary.wordpiece import SURPLUS, Merges, Objective, train_wordpiece
from tests.texts import read

HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
ALPHABET = ["b", "g", "h", "n", "p", "s", "u", "##b", "##g", "##h", "##n", "##p", "##s", "##u"]
BY_HAND = ["##ug", "##un", "hug", "pun", "pug", "hugs", "bun"]
"""20 u-g; 16 u-n; 15 h-ug; 12 p-un; p-ug and hug-s stand 5 times each, and p was there before hug; 4 b-un."""


def trained(counts: Mapping[str, int], size: int, min_frequency: int = 1, **more: Any) -> list[str]:
    given: dict[str, Any] = {"min_character_frequency": min_frequency, "reserved": SPECIALS} | more
    return train_wordpiece(WordCounts.of(counts), size=size, min_frequency=min_frequency, **given)


def alphabet_of(counts: Mapping[str, int], min_frequency: int) -> list[str]:
    return alphabet.alphabet_of(WordCounts.of(counts), min_frequency)


def test_a_vocabulary_worked_by_hand() -> None:
    assert trained(HUGS, 100) == [*SPECIALS, *ALPHABET, *BY_HAND]


@pytest.mark.parametrize("size", range(19, 27))
def test_what_is_reserved_comes_first_and_the_size_is_a_hard_cap(size: int) -> None:
    assert trained(HUGS, size) == [*SPECIALS, *ALPHABET, *BY_HAND][:size]


def test_a_size_below_the_alphabet_is_told_with_the_smallest_possible_and_what_would_do() -> None:
    with pytest.raises(ConfigError) as error:
        trained(HUGS | {"ümlaut": 3, "über": 1}, 30)
    # ü a b e g h l m n p r s t u and their continuing forms; without those that stand up to 4 times b g h n p s u
    assert str(error.value) == (
        "vocabulary.size is 30, but specials, free slots and tokens (5) and the characters that stand at least 1 times "
        "are 33 entries: that is the smallest possible size. Raise it, or min_character_frequency: with 2 there would "
        "be 29, and other characters would be [UNK]."
    )
    with pytest.raises(ConfigError, match=r"\(5\) .* smallest possible size. Raise it.$"):
        trained({"a": 1}, 4)


@pytest.mark.parametrize(("min_frequency", "merges"), [(4, 7), (5, 6), (6, 4), (13, 3), (16, 2), (17, 1), (21, 0)])
def test_pairs_below_the_minimum_are_not_learned(min_frequency: int, merges: int) -> None:
    vocabulary = trained(HUGS, 100, min_frequency, min_character_frequency=1)
    assert vocabulary == [*SPECIALS, *ALPHABET, *BY_HAND[:merges]]


def test_a_rare_character_is_left_out_and_what_it_parted_is_not_joined() -> None:
    assert trained({"axb": 3, "a": 50, "b": 50}, 100, 5) == [*SPECIALS, "a", "b", "##a", "##b"]


def test_characters_have_a_minimum_of_their_own() -> None:
    assert trained({"axb": 3, "ab": 50}, 100, 5, min_character_frequency=2)[5:] == [*"abx", "##a", "##b", "##x", "ab"]


def test_a_character_that_always_stands_alone_has_no_continuing_twin() -> None:
    assert alphabet_of({"河": 9, "mo": 9, ".": 9, "水": 1}, 2) == [".", "m", "o", "河", "##m", "##o"]


def test_a_sign_that_only_begins_words_has_no_continuing_twin_but_a_letter_has() -> None:
    assert alphabet_of({"£q": 9, "a€b": 9, "€": 2}, 2) == ["a", "b", "q", "£", "€", "##a", "##b", "##q", "##€"]


def test_a_reserved_word_is_encoded_whole_and_teaches_no_piece() -> None:
    vocabulary = trained(HUGS, 100, reserved=[*SPECIALS, "pun", "##ug"])
    # 20 u-g, a piece that is there already; 15 h-ug; p-ug and hug-s; u-n stands in bun alone
    assert vocabulary == [*SPECIALS, "pun", "##ug", *ALPHABET, "hug", "pug", "hugs", "bu", "bun"]


def test_words_over_the_longest_teach_nothing() -> None:
    assert trained({"a" * 101: 9, "b": 9}, 100) == [*SPECIALS, "a", "b", "##a"]
    assert "a" * 100 in trained({"a" * 100: 9}, 100)


def plain(counts: Mapping[str, int], size: int, least: int, objective: Objective = "bpe") -> list[str]:
    """The same by counting everything anew for each piece: slow, and plainly right."""
    vocabulary = [*SPECIALS, *alphabet_of(counts, least)]
    words = {word: [word[0], *(CONTINUES + c for c in word[1:])] for word in counts}
    words = {word: pieces for word, pieces in words.items() if set(pieces) <= set(vocabulary)}
    first, wanted = len(vocabulary), size if objective == "bpe" else round(SURPLUS * size)
    symbols = list(vocabulary)  # those that came first are the first of equals
    for floor in octaves(words, counts, least) if objective == "wordpiece" else [least]:
        while len(vocabulary) < wanted and (pair := best(words, counts, symbols, floor, objective)):
            piece = pair[0] + pair[1].removeprefix(CONTINUES)
            for pieces in words.values():
                join(pieces, *pair, piece)
            if piece not in symbols:
                symbols.append(piece)
                vocabulary.append(piece)
    if len(vocabulary) <= size:
        return vocabulary
    used = uses(vocabulary, counts)
    order = sorted(vocabulary[first:], key=lambda piece: (-used[piece], vocabulary.index(piece)))
    return vocabulary[:first] + sorted(order[: size - first], key=vocabulary.index)


def pairs_of(words: Mapping[str, list[str]], counts: Mapping[str, int]) -> Counter[tuple[str, str]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, pieces in words.items():
        for pair in pairwise(pieces):
            pairs[pair] += counts[word]
    return pairs


def octaves(words: Mapping[str, list[str]], counts: Mapping[str, int], least: int) -> Iterator[int]:
    floor = max(pairs_of(words, counts).values(), default=0)
    while floor > least:
        yield floor
        floor //= 2
    yield least


def best(
    words: Mapping[str, list[str]], counts: Mapping[str, int], symbols: list[str], floor: int, objective: Objective
) -> tuple[str, str] | None:
    singles: Counter[str] = Counter()
    for word, pieces in words.items():
        for piece in pieces:
            singles[piece] += counts[word]

    def order(pair: tuple[str, str], count: int) -> tuple[float, int, int]:
        score = count if objective == "bpe" else count / singles[pair[0]] / singles[pair[1]]
        return -score, symbols.index(pair[0]), symbols.index(pair[1])

    enough = {pair: count for pair, count in pairs_of(words, counts).items() if count >= floor}
    return min(enough, key=lambda pair: order(pair, enough[pair]), default=None)


def join(pieces: list[str], left: str, right: str, piece: str) -> None:
    at = 0
    while at < len(pieces) - 1:
        if (pieces[at], pieces[at + 1]) == (left, right):
            pieces[at : at + 2] = [piece]
        at += 1


def uses(vocabulary: list[str], counts: Mapping[str, int]) -> Counter[str]:
    """How often each piece is taken, the longest first from the left."""
    used: Counter[str] = Counter()
    for word, count in counts.items():
        rest, found = word, list[str]()
        while rest:
            mark = CONTINUES if found else ""
            fitting = [mark + rest[:end] for end in range(len(rest), 0, -1) if mark + rest[:end] in vocabulary]
            if not fitting:
                found = []
                break
            found.append(fitting[0])
            rest = rest[len(fitting[0].removeprefix(mark)) :]
        for piece in found:
            used[piece] += count
    return used


COUNTS = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=14)


@settings(max_examples=150, deadline=None)
@given(COUNTS, st.integers(11, 60), st.integers(1, 4), st.sampled_from(["bpe", "wordpiece"]))
@example({"aaaaa": 3, "aaab": 2, "baaa": 2}, 40, 1, "bpe")
@example({"aaaaa": 3, "aaab": 2, "baaa": 2}, 40, 1, "wordpiece")
def test_pieces_are_those_of_counting_everything_anew_for_each(
    counts: dict[str, int], size: int, min_frequency: int, objective: Objective
) -> None:
    vocabulary = trained(counts, size, min_frequency, objective=objective)
    assert vocabulary == plain(counts, size, min_frequency, objective)
    assert len(vocabulary) <= size
    assert len(set(vocabulary)) == len(vocabulary)


def real_counts(words: int) -> dict[str, int]:
    """The words of some speeches; the most frequent ones and as many rare ones."""
    texts = [row.text for row in read("jsonl", sample_path("sotu-en.jsonl.zst"))][:6]  # type: ignore[union-attr]
    normalizer, pre_tokenizer = bert_normalizer(True, None), bert_pre_tokenizer()
    counts = Counter(w for text in texts for w, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))
    order = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: counts[word] for word in order[: words // 2] + order[-words // 2 :]}


@pytest.mark.parametrize("objective", ["bpe", "wordpiece"])
def test_pieces_of_real_words_are_those_of_counting_everything_anew(objective: Objective) -> None:
    counts = real_counts(600)
    assert len(counts) == 600
    assert trained(counts, 260, objective=objective) == plain(counts, 260, 1, objective)


@pytest.mark.parametrize("objective", ["bpe", "wordpiece"])
def test_arrays_that_must_grow_change_nothing(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = real_counts(2_000)
    expected = trained(counts, 900, objective=objective)
    monkeypatch.setattr(wordpiece, "FEWEST_PAIRS", 256)
    grown = list[int]()
    monkeypatch.setattr(Merges, "_grow", lambda self, grow=Merges._grow: (grown.append(1), grow(self)))
    assert trained(counts, 900, objective=objective) == expected
    assert grown


def test_the_score_is_the_likelihoods() -> None:
    # At the floor of 12 h-o is alone. In the octave below q-u has 8/(8 * 8), and t-o 9/(9 * 9), as h-o took its o.
    counts = {"to": 9, "ho": 12, "qu": 8}
    assert trained(counts, 100, objective="wordpiece")[-3:] == ["ho", "qu", "to"]
    assert trained(counts, 100, objective="bpe")[-3:] == ["ho", "to", "qu"]


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_broken_alike_whatever_order_the_words_come_in(seed: int) -> None:
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdef", k=draw.randint(1, 7))) for _ in range(200)]
    shuffled = random.Random(seed).sample(words, len(words))
    assert trained(dict.fromkeys(shuffled, 3), 150, 2) == trained(dict.fromkeys(words, 3), 150, 2)


def test_counts_over_32_bits_are_exact() -> None:
    large = {word: (count << 33) + (word == "pug") for word, count in HUGS.items()}
    assert trained(large, 100)[-3:] == ["pug", "hugs", "bun"]
    large["hugs"] += 2
    assert trained(large, 100)[-3:] == ["hugs", "pug", "bun"], "two in 10^10 decide"


def test_counts_that_can_not_be_added_exactly_are_refused() -> None:
    with pytest.raises(InputError, match="too often for their pairs to be counted exactly"):
        trained({word: count << 50 for word, count in HUGS.items()}, 100)


def test_more_characters_than_32_bits_count_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "MOST_CHARACTERS", 16)
    with pytest.raises(InputError, match="6 distinct words have 17 characters; training takes at most 16"):
        trained(HUGS | {"a": 1}, 100)
    assert trained(HUGS, 100) == [*SPECIALS, *ALPHABET, *BY_HAND]


def test_an_empty_table_of_counts_leaves_what_is_reserved() -> None:
    assert trained({}, 100) == list(SPECIALS)
    assert np.array_equal(WordCounts.of({}).starts, [0])
