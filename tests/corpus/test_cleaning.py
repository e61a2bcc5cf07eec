"""Equal texts become equal bytes; paragraphs, case and accents stay."""

import re
import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import Plug, bound
from pipeline.corpus.cleaning import FILTERS, canary, duplicate_key, length, normalised
from pipeline.corpus.document import Document, Edited, Rejected
from pipeline.corpus.filters.boilerplate import boilerplate_lines
from pipeline.corpus.filters.repair import repair
from pipeline.errors import ConfigError
from pipeline.preset import load_preset, shipped_presets


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Chloe\u0308 ran", "Chloë ran"),
        ("  a \t\u00a0\u3000 b  ", "a b"),
        ("one \r\n  two\rthree", "one\ntwo\nthree"),
        ("one\n\n\n \n\ntwo", "one\n\ntwo"),
        ("one\u2028two\u2029three", "one\ntwo\n\nthree"),
        ("\ufeffa\x00b\x07c\x7f", "abc"),
        ("e\x00\u0301", "é"),
        ("ｆｕｌｌ　ｗｉｄｔｈ ﬁ", "ｆｕｌｌ ｗｉｄｔｈ ﬁ"),
        ("McMill İstanbul", "McMill İstanbul"),
        (" \n\t ", ""),
    ],
)
def test_a_text_is_normalised(text: str, clean: str) -> None:
    assert normalised(text) == clean


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters() | st.sampled_from(" \n\r\t\x00\x85\u2028\u0301\u0308\ufeffe")))
@example("e\x00\u0301")
@example("\n \u2029 \n")
def test_what_is_normalised_stays_as_it_is(text: str) -> None:
    clean = normalised(text)
    assert normalised(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert "\n\n\n" not in clean
    assert "  " not in clean
    assert clean == clean.strip()


@pytest.mark.parametrize("preset", shipped_presets())
def test_the_filters_of_a_shipped_preset_are_there_with_their_keywords(preset: str) -> None:
    for plug in load_preset(preset).corpus.filters:
        bound(plug, FILTERS, "filter")


def test_duplicates_are_told_by_what_they_say_and_not_by_case_or_blanks() -> None:
    assert duplicate_key("The  Mill\nSTRASSE") == duplicate_key("the mill straße")
    assert duplicate_key("the mill.") != duplicate_key("the mill")


def by_regular_expressions(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """What `normalised` means, said slowly."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]", "", text)
    text = re.sub(r"[^\S\n]+", " ", unicodedata.normalize(form, text))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


@settings(max_examples=500, deadline=None)
@given(
    st.text(st.characters() | st.sampled_from("ab \n\r\t\x00\x85\xa0\u2028\u2029\u3000\u0301\ufeffé¨")),
    st.sampled_from(["NFC", "NFKC"]),
)
@example("\u2029a\u2029\u2029b", "NFC")
def test_the_compiled_scan_does_what_the_expressions_say(text: str, form: Literal["NFC", "NFKC"]) -> None:
    assert normalised(text, form) == by_regular_expressions(text, form)


def document(text: str) -> Document:
    return Document("d", text, "s", "en", "g", "")


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("The cafÃ© isnâ€™t open.", "The café isn’t open."),
        ("ç£¨åŠ is Chinese for mill: ç£¨å\x9d\x8a", "ç£¨åŠ is Chinese for mill: ç£¨å\x9d\x8a"),
        ("It\x92s open", "It’s open"),
    ],
)
def test_text_from_a_wrong_encoding_is_made_whole(broken: str, whole: str) -> None:
    verdict = repair(document(broken))
    if broken != whole:
        assert verdict == Edited(document(whole), {"mojibake": 1})


@pytest.mark.parametrize("text", ["Der Müller – “naïve” – ging.", "“é” is é", "磨坊在河边。", "plain", ""])
def test_sound_text_is_not_repaired(text: str) -> None:
    assert repair(document(text)) is None


def test_too_many_lost_characters_reject_a_text() -> None:
    assert repair(document("a" * 99 + "\ufffd")) is None
    assert repair(document("a" * 97 + "\ufffd" * 2)) == Rejected("broken characters")
    assert repair(document("a" * 97 + "\ufffd" * 2), max_lost=0.05) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Home | About us | Log in\nThe mill stands.\nRead more...", "The mill stands."),
        ("The mill.\n\nThis site uses cookies.\n\nThe river.", "The mill.\n\nThe river."),
        ("首页 > 登录 > 注册\n磨坊在河边。\n版权所有 未经许可不得转载", "磨坊在河边。"),
        ("The mill is my home.\n" + "He uses cookies for the tale " * 20, None),
        ("Nothing here.", None),
    ],
)
def test_lines_about_the_page_are_taken_out(text: str, left: str | None) -> None:
    verdict = boilerplate_lines(document(text))
    assert verdict is None if left is None else isinstance(verdict, Edited) and verdict.document.text == left


def test_a_length_is_within_its_bounds() -> None:
    assert length(document("four"), min_characters=4, max_characters=4) is None
    assert length(document("four"), min_characters=5) == Rejected("too short")
    assert length(document("four"), max_characters=3) == Rejected("too long")


def test_a_text_with_a_canary_is_dropped() -> None:
    strings = ("BENCHMARK DATA 26b5c67b", "secret")
    assert canary(document("a secret"), strings=strings) == Rejected("canary string")
    assert canary(document("a SECRET"), strings=strings) is None
    with pytest.raises(ConfigError, match="strings"):
        bound(Plug(name="canary", strings=[""]), FILTERS, "filter")
    with pytest.raises(ConfigError, match="needs the keyword 'strings'"):
        bound(Plug(name="canary"), FILTERS, "filter")
