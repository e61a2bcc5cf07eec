"""Folding, text keys and MinHash, beside plain Python's own words, sets and odds."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.cleaning import duplicate_key
from pipeline.corpus.copies.folding import ALONE, LIMIT, WORD, codes_of, folding, verbatim
from pipeline.corpus.copies.hashing import near_keys, permutations_of, text_keys

TEXTS = st.text(st.one_of(st.sampled_from(" \n\t\u3000aAbßİﬁ’'.-中国อ文字\u0301"), st.characters()), max_size=40)


def keys(*texts: str) -> list[int]:
    return list(map(int, text_keys(*codes_of(texts), *folding())[0]))


def bands(
    texts: list[str], bands: int = 14, rows: int = 8, seed: int = 1, sizes: tuple[int, int] = (5, 5)
) -> np.ndarray:
    """[T, B], 0 where a text has none."""
    found = np.zeros((len(texts), bands), np.uint64)
    near_keys(*codes_of(texts), *folding(), np.array(sizes), permutations_of(seed, bands * rows), found)
    return found


def words_of(text: str) -> list[str]:
    """The words as the module's docstring has them."""
    words = [""]
    for character in text:
        flags = int(folding()[0][ord(character)]) if ord(character) < LIMIT else WORD | ALONE
        if ord(character) > 0x3FFFF:
            continue
        if flags & ALONE:
            words += [character.casefold(), ""]
        elif character.isspace():
            words.append("")
        elif character.isalnum() or unicodedata.category(character).startswith("M"):
            words[-1] += character.casefold()
    return [word for word in words if word]


def shingles_of(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = words_of(text)
    size = min(size, len(words))
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def test_words_are_casefolded_and_rid_of_punctuation_and_chinese_characters_stand_alone() -> None:
    assert words_of("Don't STOP -- Straße 12,5!") == ["dont", "stop", "strasse", "125"]
    assert words_of("用BERT来做。ไทย") == ["用", "bert", "来", "做", "ไ", "ท", "ย"]


@settings(deadline=None)  # the first call compiles
@given(TEXTS)
def test_a_text_has_the_key_of_its_folded_form_and_its_length(text: str) -> None:
    folded = duplicate_key(text)
    if folded == duplicate_key(folded):  # a few characters fold further when they are folded twice
        assert keys(text) == keys(folded)
    _, lengths = text_keys(*codes_of([text]), *folding())
    assert lengths[0] == len(folded)


def test_every_character_folds_as_python_folds_it() -> None:
    characters = [chr(code) for code in range(0x110000)]
    folded = [duplicate_key(character) for character in characters]
    ours = np.array(keys(*characters))
    plain = text_keys(*codes_of(folded), *verbatim())[0]
    assert (ours == plain).all()


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8))
def test_texts_of_a_batch_have_the_keys_they_have_alone(texts: list[str]) -> None:
    assert keys(*texts) == [key for text in texts for key in keys(text)]
    assert (bands(texts) == np.array([bands([text])[0] for text in texts]).reshape(-1, 14)).all()


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=2))
def test_texts_have_one_key_exactly_when_their_folded_forms_are_equal(texts: list[str]) -> None:
    left, right = keys(*texts)
    assert (left == right) == (duplicate_key(texts[0]) == duplicate_key(texts[1]))


def test_texts_that_differ_in_one_place_have_keys_of_their_own() -> None:
    texts = [("ab" * length)[:at] + "c" + ("ab" * length)[at:] for length in range(1, 60) for at in range(2 * length)]
    texts += ["a" * length for length in range(500)]
    assert len(set(keys(*texts))) == len(set(texts))


@settings(deadline=None)
@given(TEXTS)
def test_a_text_has_the_near_keys_of_its_words(text: str) -> None:
    words = words_of(text)
    assert (bands([text]) == bands([" ".join(words)])).all()
    assert bands([text]).any() == bool(words)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_texts_with_equal_shingles_have_equal_near_keys_and_others_mostly_not(left: str, right: str) -> None:
    here, there = bands([left, right], bands=1, rows=16)
    if shingles_of(left) == shingles_of(right):
        assert here == there
    elif not shingles_of(left) & shingles_of(right):
        assert here != there


def test_short_texts_are_one_shingle_whole_and_dont_all_collide() -> None:
    texts = ["yes", "no", "yes no", "no yes", "a b c d", "a b c e", "是", "不是"]
    assert len({tuple(row) for row in bands(texts).tolist()}) == len(texts)
    assert (bands(["Yes!"]) == bands(["yes"])).all()
    assert not bands(["", "...", "\n"]).any()


def test_a_text_is_cut_by_characters_when_half_of_its_words_are_lone_characters() -> None:
    chinese, english = "天地玄黄宇宙洪荒", "the mill stands at the river"
    assert (bands([chinese], sizes=(5, 2)) == bands([chinese], sizes=(7, 2))).all()
    assert (bands([english], sizes=(5, 2)) == bands([english], sizes=(5, 3))).all()
    assert (bands(["天 a"], sizes=(2, 1)) == bands(["a 天"], sizes=(2, 1))).all()


def pairs(count: int, words: int, share: float, alphabet: str) -> tuple[list[str], list[str], np.ndarray]:
    """Pairs of texts of which `share` of the words differ, and their exact Jaccard similarities."""
    draw = random.Random(f"{words}-{share}")

    def word() -> str:
        return chr(draw.randrange(0x4E00, 0x9FFF)) if alphabet == "zh" else f"w{draw.randrange(10**6)} "

    left = [[word() for _ in range(words)] for _ in range(count)]
    right = [[word() if draw.random() < share else old for old in text] for text in left]
    one, other = ["".join(text) for text in left], ["".join(text) for text in right]
    sets = [(shingles_of(a), shingles_of(b)) for a, b in zip(one, other)]
    return one, other, np.array([len(a & b) / len(a | b) for a, b in sets])


@pytest.mark.parametrize("alphabet", ["en", "zh"])
@pytest.mark.parametrize(("words", "share"), [(20, 0.02), (60, 0.03), (60, 0.08), (200, 0.05)])
def test_texts_collide_at_the_odds_of_their_jaccard_similarity(alphabet: str, words: int, share: float) -> None:
    one, other, similarity = pairs(300, words, share, alphabet)
    agreeing = (bands(one, 112, 1) == bands(other, 112, 1)).mean(axis=1) - similarity
    assert abs(agreeing.mean()) < 4 * np.sqrt((similarity * (1 - similarity) / 112).mean() / len(one)) + 1e-9
    odds = 1 - (1 - similarity**8) ** 14
    found = (bands(one) == bands(other)).any(axis=1)
    assert abs(found.sum() - odds.sum()) < 4 * np.sqrt((odds * (1 - odds)).sum())


def test_permutations_are_a_function_of_the_seed() -> None:
    assert permutations_of(1, 112)[:, :2].tolist() == [[2198257139, 4082210491], [1107255964, 3277612089]]
    assert (permutations_of(2, 112) != permutations_of(1, 112)).any()
    text = ["the mill stands at the river and grinds"]
    assert (bands(text, seed=1) != bands(text, seed=2)).all()


def test_keys_stay_what_they_are_in_the_store() -> None:
    assert keys("The mill", "") == [9028455918706831781, 10749833864783185041]
    near = bands(["The mill stands at the river."], bands=2, rows=2)
    assert near.tolist() == [[2125545949204839421, 244643201729725749]]
