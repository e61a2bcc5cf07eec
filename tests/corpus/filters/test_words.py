"""What a word is: spaCy's words for English prose, one for each character where a script parts none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.filters.c4 import sentence_spans
from pipeline.corpus.filters.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The mill stands.", "The mill stands ."),
        ('"Well," he said (twice).', '" Well , " he said ( twice ) .'),
        ("I don't, we'll, they've, it's, I'm", "I do n't , we 'll , they 've , it 's , I 'm"),
        ("Don’t", "Do n’t"),
        ("a well-known and/or 10-12 crisis...only", "a well - known and / or 10 - 12 crisis ... only"),
        ("Mr. Smith of the U.S. met Dr. Who, e.g. here", "Mr. Smith of the U.S. met Dr. Who , e.g. here"),
        ("3.5km for $5 or 70m, 5%", "3.5 km for $ 5 or 70 m , 5 %"),
        ("see http://a-b.org/c-d?e=f and mail me@x-y.com", "see http://a-b.org/c-d?e=f and mail me@x-y.com"),
        ("end.Start", "end . Start"),
        ("磨坊在河边。Mill 7号", "磨 坊 在 河 边 。 Mill 7 号"),
        ("カタカナ", "カ タ カ ナ"),
        ("ที่นี่", "ที่ นี่"),
        ("한국어 문장.", "한국어 문장 ."),
        ("...", "..."),
        ("", ""),
        (" \n\u3000", ""),
    ],
)
def test_a_text_is_parted_into_words(text: str, words: str) -> None:
    assert words_of(text) == words.split()


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters() | st.sampled_from("ab1 .,'’-/:@\n…中ก")))
def test_words_hold_all_of_a_text_but_its_blanks(text: str) -> None:
    words = words_of(text)
    assert "".join(words) == "".join(text.split())
    assert all(words)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One here. Two there! Three?", ["One here. ", "Two there! ", "Three?"]),
        ('He said "Go." Then he went.', ['He said "Go." ', "Then he went."]),
        ("Mr. X of the U.S. came", ["Mr. X of the U.S. came"]),
        ("水落。石出！", ["水落。", "石出！"]),
    ],
)
def test_a_line_is_parted_into_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences
