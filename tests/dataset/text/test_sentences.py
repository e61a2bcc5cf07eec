"""Text is parted where a reader would part it, and nothing but blanks is lost, however long a line is."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.dataset.text.marks import ABBREVIATIONS
from pipeline.dataset.text.sentences import sentence_spans, split_sentences
from pipeline.errors import ConfigError
from pipeline.vocabulary.counts import spans_of
from pipeline.vocabulary.encoder import Encoder
from pipeline.vocabulary.pieces import flat
from pipeline.vocabulary.tokenizer import Form, make_tokenizer

CPU_SECONDS = 10
"""A hundred times what a line of a million characters takes, and a thousandth of what a square of it would."""
BEST_PEER = {"en": 118, "zh": 49}
"""Passages that the best of four other splitters parts rightly: blingfire 0.1.8 and sentencex 1.0.32, by
benchmarks/sentences.py."""
CHARACTERS = "aB1 \n\t\u00a0\u3000.!?…。！？；：，\"'”’」』)]([“‘「《（河說说着与とД۔।-"
MIXED = st.text(st.sampled_from(CHARACTERS) | st.characters(), max_size=60)


def parted(marked: str) -> None:
    """Check that the text parts exactly where `|` stands."""
    assert split_sentences(marked.replace("|", "")) == [part.strip() for part in marked.split("|")]


@pytest.mark.parametrize(
    "marked",
    [
        "Mr. Clay met Dr. Hay and Gen. Lee.| They spoke.",
        "He came at 5 p.m. Monday.| It rained.",
        "The U.S. Senate sat.| It rose.",
        "See Fig. 2 and vol. IV.| It shows Jones et al. (1862).",
        "Books (cf. Gibbon) and bread, i.e. Food.| All else, e.g. Ale, was gone.",
        "“Mr. Clay rose.”| He spoke.",
        "He said no.| See No. 5 and art. 7 of it.| It was art.| Yes.",
    ],
)
def test_an_abbreviation_ends_no_sentence(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize("word", sorted(ABBREVIATIONS))
def test_each_abbreviation_is_one_in_any_case_and_behind_a_bracket(word: str) -> None:
    for spelled in (word, word.capitalize(), f"({word}", f"“{word}", f'"{word}'):
        parted(f"It was {spelled}. Clay who came.| He spoke.")
    parted(f"IT WAS {word.upper()}. CLAY WHO CAME.| HE SPOKE.")


def test_capitals_amid_small_letters_are_no_abbreviation() -> None:
    parted("It was sold to the SEC.| Companies paid.")


@pytest.mark.parametrize("dash", ["—", "–", "--"])
def test_an_abbreviation_behind_a_dash_ends_no_sentence(dash: str) -> None:
    parted(f"The speaker{dash}Mr. Clay{dash}rose.| He spoke.")


@pytest.mark.parametrize(
    "marked",
    [
        "J. Q. Adams came.| He left.",
        "They met W. E. B. Du Bois.| He wrote.",
        "J.Q. Adams came.| He left.",
        "And so am I.| He left.",
        "It was plan b.| He left.",
    ],
)
def test_an_initial_ends_no_sentence_but_the_word_i_does(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize(
    "marked",
    ["It rose by 3.14 percent.| Then by 2.5.", "See example.com or 1.2.3 for more.| Yes.", "It cost $1.50.| No more."],
)
def test_a_point_inside_a_number_or_a_name_ends_no_sentence(marked: str) -> None:
    parted(marked)


def test_nothing_before_a_lowercase_letter_ends_a_sentence_but_a_chinese_mark() -> None:
    parted("He spoke... and left the Lieut. behind.| Then...| Silence.")
    parted("“Stop!” he said.| “Why?” asked she… and stopped.| He went.")
    parted("他走了。| then he came.")


@pytest.mark.parametrize(
    "marked",
    [
        'He said "Go."| Then he left.',
        "“Go!”| Then he left.",
        "(He left.)| She stayed.",
        "He asked (why?).| None answered.",
        '("Go!")| She stayed.',
        "‘Go.’| [Aside.]| She stayed.",
        "Really?!| Yes.",
        "Well…| Yes.",
    ],
)
def test_quotes_and_brackets_stay_with_what_they_close(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "河水流過磨坊。|他走了！|何處？！|去。",
        "他說：「走！」|然後走了。",
        "山高；水長。|去。",
        "「何？」|「（去。）」|他曰：『善。』|",
        "“去。”|他走了。|",
        "《河》……他走了。|磨坊……|去。",
        "我……我走了。|磨坊。",
        "你好!|我來了.|他呢?|走了｡|好．|去。",
        "約３．１４。|約3.14。|iPhone!|好。",
        "行け！|「行け！」と言った。|はい。",
    ],
)
def test_chinese_ends_at_its_own_marks_with_what_they_close_and_no_blank(marked: str) -> None:
    parted(marked.removesuffix("|"))


@pytest.mark.parametrize(
    "marked",
    [
        "「走！快走。」他說。|眾人散去。",
        "他說：「走！快走。」|眾人散去。",
        "“走！快走。”她笑着说，“天黑了。走吧。”|没人动。",
        "『走！「快走。」他說。』|去。",
        '他说:"走吧。快走。"|她没动。',
        "「走！」|他說：「快走！」|去。",
        "“好。”|我知道。|“走。”他问道。|去。",
        "（他走了。她也走了。）|去。",
        "他（真的！）走了。|《你好！春天》很好。|一声“走！”的喊声。",
    ],
)
def test_a_quotation_in_chinese_stays_whole_with_who_said_it(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize(
    "marked",
    ["他說：「走！|快走。|去。", "「走。|去。\n|快。」|去。", "(他走了。|去。", "他說：“走！|“去。”|去。"],
)
def test_a_quotation_that_never_closes_in_its_line_hides_no_end(marked: str) -> None:
    parted(marked)


def test_a_quotation_longer_than_the_cap_parts_at_its_ends() -> None:
    assert split_sentences("「" + "走。" * 30 + "」去。", 40) == ["「走。", *["走。"] * 28, "走。」", "去。"]


@pytest.mark.parametrize(
    "marked",
    [
        "वह गया।| वह आई।",
        "هل ذهب؟| نعم.",
        "وہ گیا۔| وہ آئی۔",
        "Գնաց։| Եկավ։",
        "သွားပြီ။|လာပြီ။",
        "Он ушёл.| Она пришла!| Да?",
    ],
)
def test_the_marks_of_other_scripts_end_sentences(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "1. Clay rose.| 2. Hay sat.",
        "a. Yes.| No.",
        "He left in the U.S.| The end.| It was J. Hay.",
        "He rose . . . and sat.| ...and fell.| .NET runs.| iPhone sales rose.| eBay fell.",
        "« Il part. »| « Oui. »| Elle reste.",
        'He said, " Go. "| Then he left.',
        "“Stop!” — he said.| — Go.",
    ],
)
def test_lists_ellipses_and_spaced_quotes_part_as_a_reader_parts_them(marked: str) -> None:
    parted(marked)


@pytest.mark.parametrize("lang", BEST_PEER)
def test_passages_parted_by_hand_part_as_rightly_as_by_the_best_peer(lang: str) -> None:
    marked = (Path(__file__).parent / f"gold_sentences_{lang}.txt").read_text(encoding="utf-8").splitlines()
    right = sum(split_sentences(each.replace("|", "")) == [part.strip() for part in each.split("|")] for each in marked)
    assert len(marked) >= right >= BEST_PEER[lang]


def test_a_line_ends_a_sentence_whatever_stands_there() -> None:
    assert split_sentences("The mill of Mr.\nClay, who\n\n  ground flour.\n") == [
        "The mill of Mr.",
        "Clay, who",
        "ground flour.",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\n"])
def test_blanks_are_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


@settings(max_examples=400, deadline=None)
@given(MIXED, st.sampled_from([1, 2, 5, 1000]))
@example("Mr. A.B. 。」. .\n!", 1000)
def test_nothing_but_blanks_is_lost_and_none_is_empty_untrimmed_or_too_long(text: str, longest: int) -> None:
    sentences = split_sentences(text, longest)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" and len(sentence) <= longest for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)


@settings(max_examples=200, deadline=None)
@given(st.lists(MIXED, max_size=6), st.sampled_from([3, 1000]))
def test_documents_in_one_run_of_bytes_part_as_each_alone(texts: list[str], longest: int) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    data, starts = flat(texts)
    begins, counts = sentence_spans(data, starts, longest)
    whole = [data[first:last].tobytes().decode() for first, last in pairwise(begins.tolist())]
    assert [each.strip() for each in whole] == [part for text in texts for part in split_sentences(text, longest)]
    assert counts.tolist() == [len(split_sentences(text, longest)) for text in texts]
    assert begins[-1] == starts[-1]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_malformed_bytes_are_parted_too_and_none_is_lost(data: bytes) -> None:
    begins, counts = sentence_spans(np.frombuffer(data, np.uint8), np.array([0, len(data)]), 4)
    assert counts.tolist() == [len(begins) - 1]
    assert (np.diff(begins) > 0).all()
    assert begins[-1] == len(data)
    assert not data[: begins[0]].decode("utf-8", "replace").strip()


def test_sentences_of_a_slice_of_an_arrow_column_encode_as_their_strings() -> None:
    texts = ["Left out.", "The mill.  It grinds. ", "", "河水。「走！去。」\n去", "Left out."]
    encoder = Encoder(
        make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"themil.gndsrw河水走去。"], Form())
    )
    text, starts = spans_of(pa.array(texts).slice(1, 3))
    begins, counts = sentence_spans(text, starts)
    parts = [part for each in texts[1:4] for part in split_sentences(each)]
    assert counts.tolist() == [2, 0, 3]
    for got, wanted in zip(encoder.encode_flat(text, begins), encoder.encode(parts), strict=True):
        assert np.array_equal(got, wanted)


def test_what_is_too_long_is_cut_at_its_last_blank_or_comma_else_anywhere() -> None:
    assert split_sentences("one two three", 9) == ["one two", "three"]
    assert split_sentences("onetwothree", 4) == ["onet", "woth", "ree"]
    assert split_sentences("河水，流過磨坊", 5) == ["河水，", "流過磨坊"]
    assert split_sentences("河水流過，", 5) == ["河水流過，"]


def test_a_cap_of_no_character_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match=r"longest length was given as 0\. Give 1 character or more\."):
        sentence_spans(np.zeros(0, np.uint8), np.zeros(1, np.int64), 0)


LINES = {
    "sentences": "'He spoke. ' * 100_000",
    "abbreviations": "'Mr. ' * 250_000",
    "one word": "'x' * 1_000_000 + '. Y'",
    "blanks": "'x.' + ' ' * 1_000_000 + 'Y'",
    "quotes": "'.' + chr(34) * 1_000_000 + 'x'",
    "Chinese": "'河水。' * 330_000",
    "dots": "'.' * 1_000_000 + '12'",
    "spaced dots": "'. ' * 500_000",
    "dashes": "'x. ' + '- ' * 500_000 + 'Y'",
    "opened": "'「走。' * 330_000",
    "quoted": "'「走。」他' * 200_000",
    "commas": "'河，' * 500_000",
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_million_characters_costs_no_square_of_its_length(line: str) -> None:
    code = f"""
import resource
from pipeline.dataset.text.sentences import split_sentences
split_sentences("It is. Compiled.", 4)
limit = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + {CPU_SECONDS}
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
line = {LINES[line]}
assert "".join("".join(split_sentences(line)).split()) == "".join(line.split())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"ended by the limit of {CPU_SECONDS} s of processor time"
