"""What a page shows stays, what it is made with goes, and no number of its prose is lost."""

import re
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.formats.wikitext import DEEPEST, _Scan, plain_text

PAGES = sorted((Path(__file__).parent / "wikipedia").glob("*/*.wiki"))
NUMBERS: dict[str, str] = {
    "en/river": "72 1,223 2011 12,345 8.4 2001 54 25 30 2 25 240 3.4 0.2 3 1/2 2 1968 5 8 14 1931 17 2.5",
    "en/person": "30 1871 1 1949 78 23 1.83 1,250 1911 5 10 100 110 49 1899 2 312 1907 12,001 14022 2 3 7",
    "en/element": "351.5 18.02 1.5 10 3 0.97 1.03 20 25 1894 1950 4 77 2 1/2 5 40,000 3.5 90 2019",
    "en/list": "1 5 612 54.5 2.4 609 1998 12 13 1901",
    "en/broken": "3,001 12 5 2 1 2 7",
    "zh/river": "72 1,223 2011 12,345 2001 8.4 54.5 240 14 1931 3 17 1968 3 2 3.5 2.5",
    "zh/person": "1871 4 30 1949 12 1 23 1,250 1.83 78 7 100 110 1899 312 2 1907 12,001 3,500",
    "zh/variant": "65,536 16 39,000 1,200",
    "zh/table": "612 2,008 31 15 121 30 3 4 5 20 609 598",
    "zh/broken": "3,001 12 2 1 2 7 9",
}
"""By hand, from the sentences and lists of each page: what a reader sees, without notes, tables and boxes."""


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def shown(path: Path, **more: Any) -> str:
    return plain_text(path.read_text(encoding="utf-8"), language=path.parent.name, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_becomes_the_text_that_it_shows(path: Path) -> None:
    assert shown(path) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_number_of_the_prose_is_lost(path: Path) -> None:
    text, position = shown(path).translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", " " * 10)), 0
    for number in NUMBERS[name_of(path)].split():
        match = re.compile(rf"(?<![0-9.,]){re.escape(number)}(?![0-9])").search(text, position)
        assert match is not None, f"{number} after {text[max(0, position - 30) : position]!r}"
        position = match.end()


def test_chinese_is_shown_in_the_variant_that_is_asked_for() -> None:
    (path,) = (path for path in PAGES if name_of(path) == "zh/variant")
    assert shown(path, variant="zh-tw").startswith("電腦的記憶體有65,536字节")
    assert shown(path, variant="zh-cn").startswith("计算机的内存有65,536字节")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("[[Mill]]s, [[Mill|a mill]], [[:Category:Mills]]", "Mills, a mill, Category:Mills"),
        ("[[Mill (building)|]], [[Holm, Northshire|]], [[Help:Mills|]] [[fr:Moulin]]", "Mill, Holm, Mills"),
        ("[[File:A.jpg|thumb|{{convert|5|km}} and [[b]] of [[c|d]]]]after", "after"),
        ("[http://a.org/a?b=c the mill] and http://b.org [//c.org x]", "the mill and http://b.org x"),
        ("'''''Both''''' '''bold''' ''italic'' it's ''a'''s", "Both bold italic it's as"),
        ("a<br>b<br/>c < d > e <b>f</b> <span class='x'>g</span>", "a\nb\nc < d > e f g"),
        ("a<!-- b -->c<!-- never ends", "ac"),
        ("5<ref>6</ref>7<ref name=a />8<ref name=\"b\">9 {{cite|10}} [[11]]</ref> 12", "578 12"),
        ("x<sup>2</sup> + 10<sup>-3</sup> CO<sub>2</sub> 1<sup>st</sup>", "x² + 10⁻³ CO2 1st"),
        ("&lt;b&gt; &amp;nbsp; &eacute; &#8211; &unknown;", "<b> &nbsp; é – &unknown;"),
        ("{{convert|5|km|mi}}, {{convert|5|to|10|kg}}", "5 km, 5 to 10 kg"),
        ("{{convert|6|ft|2|in}}, {{cvt|20|C|F}}", "6 ft 2 in, 20 °C"),
        ("{{unknown|5|of|name=7|left}} mills", "5 of mills"),
        ("before\n{{unknown box\n| rows = 7\n| 8\n}}\nafter", "before\n\nafter"),
        ("{{unknown|a {{unknown|b {{convert|3|m}}}}}} c", "a b 3 m c"),
        ("{{#if: x | yes 5 | no 6}} {{#if: | yes 5 | no 6}}", "yes 5 no 6"),
        ("{{#invoke:a|b}}{{formatnum:1234567.5}}", "1,234,567.5"),
        ("a {{{1|default 5}}} {{{2}}}b", "a default 5 b"),
        ("== A ==\n=== B ===\nb\n== C ==\n== Notes ==\n5\n=== D ===\n6\n== E ==\ne", "A\n\nB\nb\n\nE\ne"),
        ("{|\n|a\n{|\n|b\n|}\n|c\n|}\nafter", "after"),
        ("a {{!}} b {{=}} c", "a | b = c"),
        ("-{a}- -{zh-hans:b;zh-hant:c}-", "-{a}- -{zh-hans:b;zh-hant:c}-"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_piece_of_wikitext_becomes(text: str, plain: str) -> None:
    assert plain_text(text) == plain


def test_sections_that_are_left_out_are_named_by_the_user() -> None:
    text = "== Works ==\na\n== References ==\nb"
    assert plain_text(text, sections=["works"]) == "References\nb"
    assert plain_text(text, sections=[]) == "Works\na\n\nReferences\nb"


MARKS = (
    "{{ }} [[ ]] {| |} | -{ }- <ref> </ref> <!-- --> ''' == = * 5 a {{convert| <nowiki> </nowiki> {{{ }}} [http://a ] "
    "( ) ; : &lt; <br> <math> zh-hans:"
)


PIECES = ["\n", " ", *MARKS.split()]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=60), st.sampled_from(["en", "zh"]))
def test_any_text_becomes_some_text(pieces: list[str], language: Literal["en", "zh"]) -> None:
    text = "".join(pieces)
    assert isinstance(plain_text(text, language=language), str)


@pytest.mark.parametrize("unit", ["{{", "}}", "[[", "]]", "{|\n", "-{", "{{a|", "{{a|[[b|", "{{[[", "{{-{]]"])
def test_what_never_closes_takes_steps_in_proportion(unit: str) -> None:
    """Steps are lines of Python, which no noise of the machine changes."""

    def steps(count: int) -> int:
        taken = 0

        def trace(*_: Any) -> Any:
            nonlocal taken
            taken += 1
            return trace

        scan = _Scan("", "zh", "zh-hans")
        sys.settrace(trace)
        try:
            scan.text(unit * count)
        finally:
            sys.settrace(None)
        return taken

    assert steps(20 * DEEPEST) < 2.5 * steps(10 * DEEPEST)
