"""The compiled jieba's words are those of jieba itself, with the package's dictionary and with one's own."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.dataset.text.jieba_dictionary import dictionary, import_jieba, plain_tokenizer, read_dictionary
from pipeline.dataset.text.jieba_words import load_jieba
from pipeline.dataset.text.segmentation import Cut
from pipeline.errors import InputError
from tests.dataset.text.chinese import CHINESE, COMMON, words_of

PROSE = Path(__file__).with_name("gold_sentences_zh.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain() -> Any:
    return plain_tokenizer()


@pytest.fixture(scope="module")
def compiled() -> Cut:
    return load_jieba(None)


@pytest.fixture
def no_forced_splits() -> Iterator[None]:
    """Jieba keeps the words that its model may not make for all of its tokenizers, and for good."""
    forced = import_jieba().finalseg.Force_Split_Words
    forced.clear()
    yield
    forced.clear()


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(CHINESE, max_size=4))
@example(texts=["", " ", "\r\n\r\n \n", "\U0001f600", "a", "工信处女干事每月经过下属科室都要亲口交代24口交换机等"])
@example(texts=["他来到了网易杭研大厦", "小明硕士毕业于中国科学院计算所，后在日本京都大学深造", "永和服装饰品有限公司"])
@example(texts=["丿乀亅" * 20, "鿕鿖", "买了XXLT恤C++和.5.5%%a-b_#&", "的" * 1000, "1.2.3%4.a"])
def test_compiled_words_are_those_of_jieba(plain: Any, compiled: Cut, texts: list[str]) -> None:
    assert words_of(compiled, texts) == [list(plain.cut(text)) for text in texts]


def test_compiled_words_of_prose_are_those_of_jieba(plain: Any, compiled: Cut) -> None:
    lines = PROSE.splitlines(keepends=True)
    for texts in (lines, ["".join(lines)]):
        assert words_of(compiled, texts) == [list(plain.cut(text)) for text in texts]


def test_numbers_of_the_model_are_added_in_the_order_of_jieba(plain: Any, compiled: Cut) -> None:
    """Characters that the model has never seen tie everywhere, and the last of equals wins."""
    rng = np.random.default_rng(1)
    points = rng.integers(0x4E00, 0x9FD6, 30_000)
    ends = list(accumulate([0, *rng.integers(2, 12, 4000).tolist()]))
    texts = ["".join(map(chr, points[first:last])) for first, last in pairwise(ends)]
    assert words_of(compiled, texts) == [list(plain.cut(text)) for text in texts]


@pytest.mark.usefixtures("no_forced_splits")
@pytest.mark.parametrize("seed", range(3))
def test_compiled_words_by_a_dictionary_of_ones_own_are_those_of_jieba(tmp_path: Path, seed: int) -> None:
    """Words of it are pieces of the text, so that they matter."""
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice([*COMMON, "清华大学", "T", "3", "丿", "小明"], 4000))
    ends = rng.choice(["", " 0", " 1", " 3", " 100000", " 10 nz", " nr"], 300).tolist()
    words = [text[at : at + size] for at, size in zip(rng.integers(0, len(text), 300), rng.integers(1, 6, 300))]
    path = tmp_path / "words.txt"
    path.write_text("\ufeff" + "\n".join(map("".join, zip(words, ends))) + "\n\n 清华 0 \n", encoding="utf-8")
    tokenizer = plain_tokenizer()
    with path.open("rb") as file:
        tokenizer.load_userdict(file)
    texts = [text, *(text[at : at + 20] for at in range(0, 4000, 20))]
    expected = [list(tokenizer.cut(each)) for each in texts]
    assert words_of(load_jieba(path), texts) == expected
    assert words_of(load_jieba(None), texts) != expected


@pytest.mark.usefixtures("no_forced_splits")
def test_a_dictionary_makes_words_and_unmakes_them(tmp_path: Path) -> None:
    text = "他来到了网易杭研大厦"
    path = tmp_path / "words.txt"
    path.write_text("易杭研大\n杭研 0\n", encoding="utf-8")
    assert "杭研" in words_of(load_jieba(None), [text])[0]
    assert words_of(load_jieba(path), [text]) == [["他", "来到", "了", "网", "易杭研大", "厦"]]
    path.write_text("杭研 0\n", encoding="utf-8")
    assert words_of(load_jieba(path), [text])[0][-3:] == ["杭", "研", "大厦"]
    assert "杭研" in words_of(load_jieba(None), [text])[0]  # of another it is still one


def test_the_packages_words_and_counts_are_those_that_jieba_reads() -> None:
    found, plain = dictionary(None), plain_tokenizer()
    assert found.counts == {word: count for word, count in plain.FREQ.items() if count}
    assert found.total == plain.total


def test_jieba_is_read_without_a_warning_and_leaves_no_file_behind(tmp_path: Path) -> None:
    """Compiled afresh, which is when Python warns."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = "from pipeline.dataset.text.jieba_dictionary import dictionary; print(len(dictionary(None).counts) > 10**5)"
    command = [sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path / 'compiled'}", "-c", code]
    done = subprocess.run(
        command,
        env={"PATH": "", "TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("云计算 5\n区块 链 6\n".encode(), "has '区块 链 6' in line 2. Give a word, and behind one blank each"),
        ("云计算\t5\n".encode(), r"has '云计算\\t5' in line 1"),
        ("云计算 5 N\n".encode(), "in line 1"),
        (f"云计算 {'9' * 13}\n".encode(), "in line 1"),
        ("\n\n云计算\n".encode("gbk"), "isn't UTF-8 in line 3. Save it as UTF-8"),
    ],
)
def test_a_malformed_dictionary_is_an_error_that_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    for use in (read_dictionary, load_jieba):
        with pytest.raises(InputError, match=message):
            use(path)


def test_a_missing_dictionary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.txt can't be read: No such file"):
        read_dictionary(tmp_path / "none.txt")
    with pytest.raises(InputError, match="Name a file of UTF-8 text"):
        read_dictionary(tmp_path)
