"""The kernels: words get their numbers, whatever is full goes on where it stopped, and pieces are the longest."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.vocabulary import pieces
from pipeline.vocabulary.code_points import PLANES, TAGS, TAGS_END
from pipeline.vocabulary.layout import LONGEST_WORD, SPECIALS
from pipeline.vocabulary.pieces import cut, flat, pieces_of
from pipeline.vocabulary.tokenizer import Form
from pipeline.vocabulary.words import (
    FIRST_KEPT,
    LONG,
    Rules,
    Words,
    count_numbers,
    empty_words,
    number_words,
    rules_for,
    visible_characters,
)
from tests.vocabulary.oracle import FORMS, KEPT, TEXTS, random_texts, words_of

UNCASED = rules_for(True, None, {})


@dataclass
class Numbered:
    """What `number_words` gives, in words: of each text those of the table, <long>, <kept 3>, and chunks as {chunk}."""

    texts: list[list[str]]
    stops: list[tuple[int, int]] = field(default_factory=list)
    """Where it stopped, and went on: text and byte."""


def number(
    texts: list[str], rules: Rules = UNCASED, table: tuple[int, int] = (99, 9999), at_once: int = 99, asked: int = 99
) -> Numbered:
    """Number all words, clearing a table that is full."""
    data, starts = flat(texts)
    words, numbers, chunks = empty_words(*table), np.empty(at_once, np.int32), np.empty((asked, 4), np.int64)
    ends = np.empty(len(texts), np.int64)
    found = Numbered([[] for _ in texts])
    text, at = 0, 0
    for _ in range(len(data) + len(texts) + 1):
        first, begun = text, (text, at)
        text, at, size, count = number_words(data, starts, text, at, rules, words, numbers, ends, chunks)
        names = [name(words, each) for each in numbers[:size].tolist()]
        put = [(place, of, "{" + data[low:high].tobytes().decode() + "}") for of, low, high, place in chunks[:count]]
        for of in range(first, min(text + 1, len(texts))):
            low = ends[of - 1] if of > first else 0
            mine = [(place, 1, names[place]) for place in range(low, ends[of])]
            mine += [(place, 0, chunk) for place, owner, chunk in put if owner == of]
            found.texts[of] += [each for *_, each in sorted(mine, key=lambda one: one[:2])]
        if text == len(texts):
            return found
        found.stops.append((text, at))
        if size < at_once and count < asked:
            assert words.used[0] or begun != (text, at), "an empty table takes a word"
            words.clear()
    raise AssertionError("it stops without having gone on")


def name(words: Words, number: int) -> str:
    if number == LONG:
        return "<long>"
    if number < 0:
        return f"<kept {FIRST_KEPT - number}>"
    return words.text[words.starts[number] : words.starts[number + 1]].tobytes().decode()


def test_equal_words_have_one_number_and_new_ones_the_next() -> None:
    data, starts = flat(["The mill, the MILL", "mill"])
    words, numbers, ends = empty_words(9, 99), np.empty(9, np.int32), np.empty(2, np.int64)
    stopped = number_words(data, starts, 0, 0, UNCASED, words, numbers, ends, np.empty((1, 4), np.int64))
    assert stopped == (2, len(data), 6, 0)
    assert numbers[:6].tolist() == [0, 1, 2, 0, 1, 1]
    assert ends.tolist() == [5, 6]
    assert [name(words, each) for each in range(words.used[0])] == ["the", "mill", ","]


def test_words_that_begin_with_the_same_eight_bytes_are_told_apart() -> None:
    words = [("abcdefgh" * 3)[:size] for size in (1, 7, 8, 9, 15, 16, 17, 24)]
    words += ["abcdefghx", "abcdefghabcdefgx", "eabcdef"]
    assert number([" ".join(words), " ".join(reversed(words))]).texts == [words, words[::-1]]
    data, starts = flat([" ".join(words * 2)])
    table, numbers = empty_words(99, 999), np.empty(99, np.int32)
    number_words(data, starts, 0, 0, UNCASED, table, numbers, np.empty(1, np.int64), np.empty((1, 4), np.int64))
    assert numbers[: 2 * len(words)].tolist() == 2 * list(range(len(words)))


@pytest.mark.parametrize("character", ["a", "É", "が", "\U0001f600"])
def test_a_word_is_too_long_over_a_hundred_characters_however_many_bytes_these_have(character: str) -> None:
    (whole,) = words_of(character * LONGEST_WORD, Form())
    assert number([character * LONGEST_WORD, character * (LONGEST_WORD + 1), "a"]).texts == [[whole], ["<long>"], ["a"]]


def test_characters_that_normalisation_adds_count() -> None:
    assert number(["각" * 33 + "a", "각" * 33 + "ab"]).texts[1] == ["<long>"], "each is three letters"
    assert len(number(["각" * 33 + "a"]).texts[0][0]) == LONGEST_WORD


def test_kept_tokens_are_found_as_written_inside_words_with_blanks_the_longest_of_the_leftmost() -> None:
    rules = rules_for(True, None, {"a b": 0, "ab": 7, "b c": 8, "[X]": 9, "abc": 10, "é": 11})
    texts = ["xabx", "a b c", "AB", "a\x00b", "abcab c", "[x][X]y", "ab", "é É e", "a  b"]
    assert number(texts, rules).texts == [
        ["x", "<kept 7>", "x"],
        ["<kept 0>", "c"],
        ["ab"],
        ["ab"],
        ["<kept 10>", "<kept 7>", "c"],
        ["[", "x", "]", "<kept 9>", "y"],
        ["<kept 7>"],
        ["<kept 11>", "e", "e"],
        ["a", "b"],
    ]


def test_what_is_left_open_is_set_aside_up_to_a_blank_or_a_kept_token() -> None:
    rules = rules_for(True, None, {"[X]": 3, "a b": 4})
    texts = ["the mi\u302ell's mill", "a\u302e[X] b", "\u302ea b", ".\u302e,x\ny", "c[MASK]x[X]"]
    assert number(texts, rules).texts == [
        ["the", "{mi\u302ell's}", "mill"],
        ["{a\u302e}", "<kept 3>", "b"],
        ["{\u302e}", "<kept 4>"],
        [".", "{\u302e,x}", "y"],
        ["{c[MASK]x}", "<kept 3>"],
    ]


def test_blanks_before_what_is_set_aside_stay_behind() -> None:
    assert number([" " * 5_000 + "\u302ea"]).texts == [["{\u302ea}"]]


@pytest.mark.parametrize(
    ("full", "stops"),
    [
        ({"table": (2, 99)}, [(0, 6)]),
        ({"table": (99, 5)}, [(0, 6)]),
        ({"at_once": 2}, [(0, 6), (1, 11)]),
        ({"asked": 1}, [(1, 16)]),
    ],
    ids=["words", "bytes", "numbers", "chunks"],
)
def test_what_is_full_stops_before_the_word_that_has_no_room(
    full: dict[str, int], stops: list[tuple[int, int]]
) -> None:
    texts = ["ab ac ad", "ad b\u302e c\u302e"]
    found = number(texts, **full)
    assert found.texts == number(texts).texts == [["ab", "ac", "ad"], ["ad", "{b\u302e}", "{c\u302e}"]]
    assert found.stops == stops


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from([40, 99]), st.integers(1, 4), st.integers(1, 3), st.sampled_from([(), KEPT]))
def test_nothing_is_lost_or_done_twice_wherever_it_stops(
    texts: list[str], table: int, at_once: int, asked: int, kept: tuple[str, ...]
) -> None:
    rules = rules_for(True, None, {token: number for number, token in enumerate(kept)})
    whole = number(texts, rules, (9_999, 99_999), 9_999, 9_999)
    assert not whole.stops
    assert number(texts, rules, (table, 500), at_once, asked).texts == whole.texts


ENTRIES = ["a", "ab", "abc", "河", "##a", "##b", "##bc", "##c", "##河", "é"]


def greedy(word: str, entries: list[str]) -> list[str]:
    """The longest pieces from the left, else [UNK]."""
    pieces, at = [], 0
    while at < len(word):
        for end in range(len(word), at, -1):
            piece = ("##" if at else "") + word[at:end]
            if piece in entries:
                pieces.append(piece)
                at = end
                break
        else:
            return ["[UNK]"]
    return pieces


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("abc河éü", min_size=1, max_size=8), max_size=8),
    st.lists(st.sampled_from(ENTRIES), unique=True),
)
def test_a_word_is_cut_into_the_longest_pieces_from_the_left(words: list[str], entries: list[str]) -> None:
    vocabulary = [*SPECIALS, *entries]
    ids, starts = cut(*flat(words), pieces_of({token: number for number, token in enumerate(vocabulary)}))
    found = [[vocabulary[each] for each in part] for part in np.split(ids, starts[1:-1])] if words else []
    assert found == [greedy(word, entries) for word in words]
    assert starts[-1] == len(ids)


def test_numbers_are_counted_and_the_first_groups_of_each_kept() -> None:
    numbers = np.array([0, 1, 0, LONG, 1, FIRST_KEPT - 4, 0, 0], np.int32)
    ends, owners = np.array([2, 5, 6, 7, 8]), np.array([7, 7, 8, 9, 5], np.uint64)
    counts, groups = np.zeros(3, np.int64), np.zeros((3, 2), np.uint64)
    assert count_numbers(numbers, ends, 0, owners, counts, groups) == (1, 1)
    assert counts.tolist() == [4, 2, 0]
    assert groups.tolist() == [[7, 9], [7, 0], [0, 0]]
    assert count_numbers(numbers[:1], np.array([0, 0, 0, 0, 1]), 4, owners, counts, groups) == (0, 0)
    assert counts.tolist() == [5, 2, 0]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_visible_characters_are_those_that_normalisation_leaves_something_of(form: Form) -> None:
    rules = rules_for(form.lowercase, form.strip_accents, {})
    texts = ["Chloë's\tmill\u200b 河水 \U0001f600\U000e0041\U0001d173", "", *random_texts(7, 300)]
    outside = {*range(PLANES, 0x110000)} - {*range(TAGS, TAGS_END)}
    for text in texts:
        visible = sum(ord(character) in outside or bool(words_of(character, form)) for character in text)
        assert visible_characters(flat([text])[0], rules.kinds) == visible, ascii(text)


def test_a_vocabulary_of_more_bytes_than_a_tree_has_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MOST_NODES", 9)
    pieces.make_trie({"abcdefgh": 1})
    with pytest.raises(ConfigError, match="have 9 bytes, which is more than the 8 there may be"):
        pieces.make_trie({"abcdefgh": 1, "i": 2})
