"""Equal texts become equal bytes; paragraphs, case and accents stay."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.cleaning import duplicate_key, normalised


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


def test_duplicates_are_told_by_what_they_say_and_not_by_case_or_blanks() -> None:
    assert duplicate_key("The  Mill\nSTRASSE") == duplicate_key("the mill straße")
    assert duplicate_key("the mill.") != duplicate_key("the mill")
