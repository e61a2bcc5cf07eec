"""Sentences are parted at words where the tokenizer parts them too, so that ids stay; segmenters are plugs."""

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Segmenter
from pipeline.dataset.text import segmentation
from pipeline.dataset.text.jieba_dictionary import read_dictionary
from pipeline.dataset.text.segmentation import (
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
from tests.dataset.text.chinese import CHINESE, words_of
from tests.vocabulary.oracle import FORMS, KEPT, TEXTS, tokenizer_for


def by_hand(*sentences: str) -> tuple[list[list[str]], WordSpans]:
    """The spans of sentences whose words are parted by `|`; those that are words stand in brackets."""
    texts = [sentence.replace("|", "") for sentence in sentences]
    words = {text: sentence.split("|") for text, sentence in zip(texts, sentences)}
    text, starts = flat(texts)
    spans = word_spans(text, starts, one_by_one(lambda each: words[each]))
    pieces = [text[first:last].tobytes().decode() for first, last in pairwise(spans.begins)]
    marked = [f"[{piece}]" if is_word else piece for piece, is_word in zip(pieces, spans.is_word)]
    return [marked[first:last] for first, last in pairwise(spans.firsts)], spans


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


def test_the_identity_of_a_dictionary_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.txt can't be read: No such file"):
        segmenter_identity(Segmenter(dictionary=str(tmp_path / "none.txt")))
    (tmp_path / "words.txt").write_text("云 计算 5\n", encoding="utf-8")
    with pytest.raises(InputError, match="in line 1"):
        segmenter_identity(Segmenter(dictionary=str(tmp_path / "words.txt")))


def test_the_segmenter_of_a_preset_parts_mixed_text_at_its_words() -> None:
    text, starts = flat(["I wear 新T恤，OK。", "我来到北京清华大学"])
    found = word_spans(text, starts, load_segmenter(Segmenter()))
    pieces = [text[first:last].tobytes().decode() for first, last in pairwise(found.begins)]
    assert pieces == ["I wear ", "新", "T恤", "，OK。", "我", "来到", "北京", "清华大学"]
    assert [piece for piece, is_word in zip(pieces, found.is_word) if not is_word] == ["I wear ", "，OK。"]
