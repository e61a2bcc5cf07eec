"""Words part sentences where the tokenizer parts them too, and the compiled jieba's are those of jieba itself."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import Segmenter
from pipeline.dataset import segmentation
from pipeline.dataset.jieba_dictionary import import_jieba, plain_tokenizer, read_dictionary
from pipeline.dataset.jieba_words import load_jieba
from pipeline.dataset.segmentation import (
    Cut,
    Plug,
    WordSpans,
    load_segmenter,
    one_by_one,
    segmenter_identity,
    word_spans,
)
from pipeline.errors import ConfigError, InputError
from pipeline.vocabulary.encoder import Encoder
from pipeline.vocabulary.layout import SPECIALS
from pipeline.vocabulary.pieces import flat
from pipeline.vocabulary.tokenizer import Form
from tests.vocabulary.oracle import FORMS, KEPT, TEXTS, tokenizer_for

PROSE = Path(__file__).with_name("gold_sentences_zh.txt").read_text(encoding="utf-8")
HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
COMMON = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可"
PARTS = (
    *(
        "清华大学",
        "T恤",
        "卡拉OK",
        "AA制",
        "3.14%",
        "5%",
        "C++",
        "a.b",
        "x-y",
        "1.x",
        "..",
        "%",
        "\r\n",
        "\n",
        "\r",
        " ",
    ),
    *("\u3000", "，", "。", "“", "é", "\u0301", "\U0001f600", "\U00020000", "㐀", "杭研大厦", "小明", "王小二", "丽"),
)
CHINESE = st.lists(st.sampled_from(PARTS) | st.text(HAN, max_size=3) | st.sampled_from(COMMON), max_size=30).map(
    "".join
)


def by_hand(*sentences: str) -> tuple[list[list[str]], WordSpans]:
    """The spans of sentences whose words are parted by `|`; those that are words stand in brackets."""
    texts = [sentence.replace("|", "") for sentence in sentences]
    words = {text: sentence.split("|") for text, sentence in zip(texts, sentences)}
    text, starts = flat(texts)
    spans = word_spans(text, starts, one_by_one(lambda each: words[each]))
    pieces = [text[first:last].tobytes().decode() for first, last in pairwise(spans.begins)]
    marked = [f"[{piece}]" if is_word else piece for piece, is_word in zip(pieces, spans.is_word)]
    return [marked[first:last] for first, last in pairwise(spans.firsts)], spans


def words_of(cut: Cut, texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, by where they begin."""
    text, starts = flat(texts)
    begins, lost = cut(text, starts)
    assert (begins.dtype, begins.shape, lost) == (np.bool_, text.shape, 0)
    places = [[*(first + np.flatnonzero(begins[first:last])), last] for first, last in pairwise(starts)]
    return [[text[first:last].tobytes().decode() for first, last in pairwise(each)] for each in places]


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


def test_a_word_of_han_is_a_span_and_what_stands_between_is_one() -> None:
    spans, _ = by_hand("我|来到|北京|，| |see| |it|.|大学")
    assert spans == [["[我]", "[来到]", "[北京]", "， see it.", "[大学]"]]


def test_a_mixed_word_is_one_span_apart_from_punctuation_and_blanks() -> None:
    spans, _ = by_hand("He| |wears| |“|T恤|”|,| |唱|卡拉OK|!")
    assert spans == [["He wears “", "[T恤]", "”, ", "[唱]", "[卡拉OK]", "!"]]


def test_a_word_that_the_tokenizer_does_not_part_from_its_neighbour_joins_it() -> None:
    assert by_hand("a| |XXL|T恤|b")[0] == [["a ", "[XXLT恤]", "b"]]


def test_text_without_han_is_left_to_the_rule_of_marks() -> None:
    spans, found = by_hand("Hello|,| |world|!", "  ", "", "かな|カナ", "\U0001f600|é")
    assert spans == [["Hello, world!"], ["  "], [], ["かなカナ"], ["\U0001f600é"]]
    assert not found.is_word.any()


def test_spans_are_numbered_by_sentence() -> None:
    _, found = by_hand("我|们", "", "ab。", "大")
    assert found.firsts.tolist() == [0, 2, 2, 3, 4]
    assert found.begins.tolist() == [0, 3, 6, 11, 14]
    assert (found.begins.dtype, found.firsts.dtype, found.is_word.dtype) == (np.int64, np.int64, np.bool_)


def test_no_sentences_have_no_spans() -> None:
    found = word_spans(np.empty(0, np.uint8), np.zeros(1, np.int64), one_by_one(list))
    assert (found.begins.tolist(), found.firsts.tolist(), found.is_word.tolist(), found.lost) == ([0], [0], [], 0)


def test_sentences_may_begin_amid_the_text() -> None:
    text, _ = flat(["天地玄黄宇宙"])
    found = word_spans(text, np.array([6, 12]), one_by_one(lambda each: [each]))
    assert (found.begins.tolist(), found.firsts.tolist()) == ([6, 12], [0, 1])


@pytest.mark.parametrize("wrong", [["北京"], ["北京", "大学", "！"], ["北京", "", "大字"], []])
def test_where_a_segmenter_changes_the_text_each_han_is_a_word_and_that_is_counted(wrong: Iterable[str]) -> None:
    text, starts = flat(["北京大学", "ok", "好 ok"])
    answers = {"北京大学": wrong, "ok": ["ok"], "好 ok": ["好ok"]}
    found = word_spans(text, starts, one_by_one(lambda each: answers[each]))
    pieces = [text[first:last].tobytes().decode() for first, last in pairwise(found.begins)]
    assert (pieces, found.lost) == (["北", "京", "大", "学", "ok", "好", " ok"], 2)


@pytest.mark.parametrize("whole", [(), KEPT], ids=["none kept", "some kept"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=60, deadline=None)
@given(texts=TEXTS | st.lists(CHINESE, max_size=4), data=st.data())
def test_ids_of_spans_are_those_of_sentences_wherever_words_begin(
    form: Form, whole: tuple[str, ...], texts: list[str], data: st.DataObject
) -> None:
    form = Form(form.lowercase, form.strip_accents, whole)
    encoder = Encoder(tokenizer_for(texts, form))
    text, starts = flat(texts)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    begins = (text & 0xC0 != 0x80) & (rng.random(len(text)) < 0.7)
    found = word_spans(text, starts, lambda *_: (begins, 0), (*whole, *SPECIALS) if whole else ())
    ids, _ = encoder.encode_flat(text, starts)
    of_spans, span_starts = encoder.encode_flat(text, found.begins)
    assert of_spans.tolist() == ids.tolist()
    assert found.begins[found.firsts].tolist() == starts.tolist()
    assert (np.diff(found.begins) > 0).all()
    assert len(span_starts) == len(found.is_word) + 1


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
    for use in (read_dictionary, load_jieba, lambda each: segmenter_identity(Segmenter(dictionary=str(each)))):
        with pytest.raises(InputError, match=message):
            use(path)


def test_a_missing_dictionary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.txt can't be read: No such file"):
        segmenter_identity(Segmenter(dictionary=str(tmp_path / "none.txt")))
    with pytest.raises(InputError, match="can't be read"):
        read_dictionary(tmp_path)


def test_the_identity_is_the_version_and_what_stands_in_the_dictionary(tmp_path: Path) -> None:
    assert segmenter_identity(Segmenter()) == (("segmenter", "jieba 0.42.1"),)
    content = "云计算 5\n".encode()
    for name in ("one.txt", "another.txt"):
        (tmp_path / name).write_bytes(content)
        assert segmenter_identity(Segmenter(dictionary=str(tmp_path / name))) == (
            ("dictionary", hashlib.sha256(content).hexdigest()),
            ("segmenter", "jieba 0.42.1"),
        )


def test_an_unknown_segmenter_is_an_error_that_names_the_nearest() -> None:
    for use in (load_segmenter, segmenter_identity):
        with pytest.raises(ConfigError, match="No segmenter is called 'jeiba'. Did you mean 'jieba'?"):
            use(Segmenter(name="jeiba"))


def test_a_python_function_is_a_plug(monkeypatch: pytest.MonkeyPatch) -> None:
    plug = Plug(lambda path: one_by_one(lambda text: [text[:2], text[2:]]), read_dictionary)
    monkeypatch.setattr(segmentation, "SEGMENTERS", {"numpy": plug})
    assert words_of(load_segmenter(Segmenter(name="numpy")), ["天地玄黄"]) == [["天地", "玄黄"]]
    assert segmenter_identity(Segmenter(name="numpy")) == (("segmenter", f"numpy {np.__version__}"),)


def test_jieba_is_read_without_a_warning_and_leaves_no_file_behind(tmp_path: Path) -> None:
    """Compiled afresh, which is when Python warns."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = "from pipeline.dataset.jieba_dictionary import dictionary; print(len(dictionary(None).counts) > 10**5)"
    command = [sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path / 'compiled'}", "-c", code]
    done = subprocess.run(
        command,
        env={"PATH": "", "TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert list(scratch.iterdir()) == []


def test_numbers_of_the_model_are_added_in_the_order_of_jieba(plain: Any, compiled: Cut) -> None:
    """Characters that the model has never seen tie everywhere, and the last of equals wins."""
    rng = np.random.default_rng(1)
    points = rng.integers(0x4E00, 0x9FD6, 30_000)
    ends = list(accumulate([0, *rng.integers(2, 12, 4000).tolist()]))
    texts = ["".join(map(chr, points[first:last])) for first, last in pairwise(ends)]
    assert words_of(compiled, texts) == [list(plain.cut(text)) for text in texts]
