"""Pieces of test sets are found in documents, and nothing else is."""

import pickle
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.decontamination import COMMON, NGrams, Scan, scan_of
from tests.corpus.copies.test_hashing import words_of

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
CHINESE = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳"


def finds(tests: list[str], text: str) -> bool:
    return Scan(NGrams.of(tests)).contaminated(text)


def test_thirteen_words_of_a_test_text_are_found_whatever_their_case_and_punctuation() -> None:
    assert len(NGrams.of([" ".join(WORDS)])) == 3
    assert finds([" ".join(WORDS)], "He said: «" + ", ".join(WORDS[1:14]).upper() + "», and left.")
    assert not finds([" ".join(WORDS)], " ".join([*WORDS[:12], "other", *WORDS[3:]]))


def test_a_text_of_eight_to_twelve_words_is_found_whole_and_a_shorter_one_is_passed_over() -> None:
    for count in range(8, 13):
        assert finds([" ".join(WORDS[:count])], " ".join(["before", *WORDS[:count], "after"]))
        assert not finds([" ".join(WORDS[:count])], " ".join(["before", *WORDS[: count - 1], "after"]))
    assert len(NGrams.of([" ".join(WORDS[:7]), "", "..."])) == 0
    assert not finds([" ".join(WORDS[:7])], " ".join(WORDS[:7]))


def test_chinese_is_found_by_26_characters_and_texts_of_16_whole() -> None:
    assert finds([CHINESE], f"曰：{CHINESE[2:10]}，{CHINESE[10:28]}。")
    assert not finds([CHINESE], f"曰：{CHINESE[2:27]}。")
    assert finds([CHINESE[:16]], f"曰：{CHINESE[:20]}。")
    assert not finds([CHINESE[:15]], CHINESE)


def test_the_form_that_many_test_texts_share_is_not_looked_for() -> None:
    form = "Choose the word that fits best into the gap of the following sentence and explain:"
    tests = [f"{form} {' '.join(f'word{number}x{n}' for n in range(13))}" for number in range(COMMON + 1)]
    assert not finds(tests, form)
    assert finds(tests[:COMMON], form)
    assert finds(tests, "word3x0 " + " ".join(f"word3x{n}" for n in range(13)))


def test_a_form_that_one_text_repeats_counts_once() -> None:
    assert finds([" ".join(WORDS[:13] * 20)], " ".join(WORDS[:13]))


def test_ngrams_come_back_from_their_file_and_a_scan_is_made_once(tmp_path: Path) -> None:
    ngrams = NGrams.of([" ".join(WORDS), CHINESE])
    ngrams.write(tmp_path / "ngrams.arrow")
    assert (NGrams.read(tmp_path / "ngrams.arrow").grams == ngrams.grams).all()
    scan = scan_of(tmp_path / "ngrams.arrow")
    assert scan is scan_of(tmp_path / "ngrams.arrow")
    assert scan.contaminated(" ".join(WORDS))
    assert scan.contaminated(CHINESE)
    assert pickle.loads(pickle.dumps(scan)).contaminated(CHINESE)


def test_no_ngrams_contaminate_nothing() -> None:
    assert not finds([], " ".join(WORDS))
    assert not finds(["short"], "")


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=20), max_size=4), st.integers(0, 2**32))
def test_a_scan_finds_what_plain_sets_find(tests: list[list[str]], seed: int) -> None:
    draw = random.Random(seed)
    pieces = [test[start : start + draw.randrange(6, 15)] for test in tests for start in (0, 3)]
    text = " ".join(word for piece in pieces for word in [*piece, draw.choice("abcdef")])
    grams = set[tuple[str, ...]]()
    for test in tests:
        size = min(13, len(test))
        if size >= 8:
            grams |= {tuple(test[start : start + size]) for start in range(len(test) - size + 1)}
    words = words_of(text)
    runs = {tuple(words[start : start + size]) for size in range(8, 14) for start in range(len(words) - size + 1)}
    assert finds([" ".join(test) for test in tests], text) == bool(grams & runs)


@pytest.mark.parametrize("text", ["", "\n", "a" * 100_000, "字" * 100_000, "\ud800 \x00"])
def test_any_text_can_be_scanned(text: str) -> None:
    assert not finds([" ".join(WORDS)], text)
