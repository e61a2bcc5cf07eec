"""Text is parted where a reader would part it, and nothing but blanks is lost, however long a line is."""

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.dataset.marks import ABBREVIATIONS
from pipeline.dataset.sentences import split_sentences

CPU_SECONDS = 10
"""A hundred times what a line of a million characters takes, and a thousandth of what a square of it would."""


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
    for spelled in (word, word.capitalize(), word.upper(), f"({word}", f"“{word}", f'"{word}'):
        parted(f"It was {spelled}. Clay who came.| He spoke.")


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
        "「何？」|「（去。）」|他曰：『善。』|",
        "“去。”|他走了。|",
        "《河》……他走了。|磨坊。",
    ],
)
def test_chinese_ends_at_its_own_marks_with_what_they_close_and_no_blank(marked: str) -> None:
    parted(marked.removesuffix("|"))


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
@given(st.text(st.sampled_from("aB1 \n\t\u00a0\u3000.!?…。！？\"'”’」』)]([“「河") | st.characters(), max_size=60))
@example("Mr. A.B. 。」. .\n!")
def test_nothing_but_blanks_is_lost_and_none_is_empty_or_untrimmed(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)


LINES = {
    "sentences": "'He spoke. ' * 100_000",
    "abbreviations": "'Mr. ' * 250_000",
    "one word": "'x' * 1_000_000 + '. Y'",
    "blanks": "'x.' + ' ' * 1_000_000 + 'Y'",
    "quotes": "'.' + chr(34) * 1_000_000 + 'x'",
    "Chinese": "'河水。' * 330_000",
    "dots": "'.' * 1_000_000 + '12'",
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_million_characters_costs_no_square_of_its_length(line: str) -> None:
    code = f"""
import resource
from pipeline.dataset.sentences import split_sentences
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS}))
line = {LINES[line]}
assert "".join("".join(split_sentences(line)).split()) == "".join(line.split())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"ended by the limit of {CPU_SECONDS} s of processor time"
