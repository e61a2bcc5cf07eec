"""Each rule on both sides of its threshold, in English and Chinese; verdicts are pure, and nothing makes them raise."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Plug, bound
from pipeline.corpus.cleaning import FILTERS
from pipeline.corpus.document import Document, Edited, Rejected
from pipeline.corpus.filters.profiles import THRESHOLDS
from pipeline.corpus.sources import sample_path
from pipeline.errors import ConfigError

RULES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
PROSE = """The mill stands at the bend of a slow green river.
Its owner came from the north with two carts and a dog.
Every morning he opened the sluice and listened to the wheel.
People brought barley when harvests had been good.
In bad years they came to borrow flour instead.
That winter the ice was thick enough to be walked on.
Children crossed it on their way home from school.
One evening a lantern was seen below the old bridge.
Nobody knew who carried it, or why it moved so fast.
By spring most villagers had forgotten about it.
Only my grandmother kept asking questions at the market.
She wrote down what each trader told her in a blue book.
Years later I found those pages behind some loose bricks.
They begin with a drawing of an owl and end in mid-sentence.""".split("\n")
HAN = "春夏秋冬东南西北天地山水日月"


def said(name: str, text: str, lang: str = "en", **keywords: Any) -> str | None:
    """The reason of a rejection, the text of an edit, or None."""
    verdict = FILTERS[name](Document("d", text, "s", lang, "g", ""), **keywords)
    if isinstance(verdict, Edited):
        return verdict.document.text
    return verdict.reason if isinstance(verdict, Rejected) else None


def prose(sentences: int = 10, lang: str = "en") -> str:
    """Lines of one sentence, of which no two are alike."""
    if lang == "zh":
        lines = [
            f"{HAN[n]}天的{HAN[n - 1]}边有{HAN[n - 2]}{HAN[n - 4]}，我在{HAN[n - 3]}村看见了{HAN[n - 5]}色的花。"
            for n in range(sentences)
        ]
    else:
        lines = PROSE[:sentences]
    return "\n".join(lines)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", RULES)
def test_plain_prose_is_kept_as_it_is(name: str, lang: str) -> None:
    assert said(name, prose(lang=lang), lang) is None


def test_chinese_is_rejected_by_what_is_right_for_english() -> None:
    assert said("gopher_quality", prose(lang="zh"), "en") == "gopher: words too short"
    assert said("c4", prose(lang="zh"), "en") == "c4: too few sentences"


def words(count: int, word: str = "with the river") -> str:
    return " ".join((f"{word} " * count).split()[:count])


@pytest.mark.parametrize(
    ("kept", "dropped", "reason", "lang"),
    [
        (words(50), words(49), "too few words", "en"),
        ("的日" * 40, "的日" * 39 + "的", "too few words", "zh"),
        (words(100_000), words(100_001), "too many words", "en"),
        (words(30) + " ab" * 30 + " the" * 30, words(30) + " ab" * 90, "words too short", "en"),
        (words(60) + " abcdefghijklmnop" * 60, words(60) + " abcdefghijklmnopqrst" * 60, "words too long", "en"),
        ("的日" * 40 + " abcde" * 40, "的日" * 40 + " abcdefgh" * 80, "words too long", "zh"),
        (words(90) + " #" * 9, words(90) + " #" * 11, "too many hashes", "en"),
        (words(90) + " the..." * 8 + " end", words(90) + " the..." * 13 + " end", "too many ellipses", "en"),
        (
            "- " + "\n- ".join([words(9)] * 9) + "\n" + words(9),
            "- " + "\n• ".join([words(9)] * 10),
            "too many bullet lines",
            "en",
        ),
        (
            "...\n".join([words(20)] * 3) + ("\n" + words(20)) * 4,
            "...\n".join([words(20)] * 4) + ("\n" + words(20)) * 4,
            "too many lines end in an ellipsis",
            "en",
        ),
        (
            "……\n".join(["的日" * 30] * 3) + ("\n" + "的日" * 30) * 4,
            "……\n".join(["的日" * 30] * 4) + ("\n" + "的日" * 30) * 4,
            "too many lines end in an ellipsis",
            "zh",
        ),
        (words(80) + " 1234" * 20, words(80) + " 1234" * 21, "too few words with a letter", "en"),
        (words(60, "the with mill"), words(60, "the old mill"), "too few stop words", "en"),
        ("的日山" * 30, "的山水" * 30, "too few stop words", "zh"),
    ],
)
def test_gopher_quality_decides_at_its_threshold(kept: str, dropped: str, reason: str, lang: str) -> None:
    assert said("gopher_quality", kept, lang) is None
    assert said("gopher_quality", dropped, lang) == f"gopher: {reason}"


def distinct(count: int, size: int = 5) -> list[str]:
    """Words of that size, no two alike."""
    return [f"{chr(97 + n % 26)}{n:0{size - 1}d}" for n in range(count)]


def repeated(n: int, times: int, others: int) -> str:
    """A phrase of n words that stands so often between others, of which none comes again."""
    own = distinct(others + times)
    phrase = " ".join(distinct(n, 7))
    return " ".join(f"{phrase} {own[at]}" for at in range(times)) + " " + " ".join(own[times:])


NO_GRAMS = {"top_n_grams": (), "duplicate_n_grams": ()}
LONG = "x" * 40


@pytest.mark.parametrize(
    ("kept", "dropped", "reason"),
    [
        ([*distinct(7), *["a0000"] * 2], [*distinct(6), *["a0000"] * 4], "repeated {}s"),
        ([LONG, *distinct(7, 10), "x"], [LONG, *distinct(7, 10), LONG], "repeated {}s, by characters"),
    ],
)
@pytest.mark.parametrize(("what", "newlines"), [("line", "\n"), ("paragraph", "\n\n")])
def test_gopher_repetition_counts_lines_and_paragraphs(
    what: str, newlines: str, kept: list[str], dropped: list[str], reason: str
) -> None:
    assert said("gopher_repetition", newlines.join(kept), **NO_GRAMS) is None
    assert said("gopher_repetition", newlines.join(dropped), **NO_GRAMS) == f"gopher: {reason.format(what)}"


@pytest.mark.parametrize(
    ("kept", "dropped", "reason", "keywords"),
    [
        (repeated(2, 9, 100), repeated(2, 13, 100), "one 2-gram too often", {}),
        (repeated(3, 5, 110), repeated(3, 7, 110), "one 3-gram too often", {}),
        (repeated(4, 3, 100), repeated(4, 4, 100), "one 4-gram too often", {}),
        (repeated(5, 2, 40), repeated(5, 2, 20), "repeated 5-grams", {"top_n_grams": ()}),
        (repeated(20, 2, 200), repeated(20, 2, 153), "repeated 10-grams", {}),
    ],
)
def test_gopher_repetition_counts_n_grams(kept: str, dropped: str, reason: str, keywords: dict[str, Any]) -> None:
    assert said("gopher_repetition", kept, **keywords) is None
    assert said("gopher_repetition", dropped, **keywords) == f"gopher: {reason}"


def test_an_empty_text_has_no_quality() -> None:
    assert said("gopher_repetition", "") == "gopher: empty"
    assert said("gopher_quality", "") == "gopher: too few words"
    assert said("c4", "") == "c4: too few sentences"
    assert said("fineweb", " \n ") == "fineweb: empty"


@pytest.mark.parametrize(
    ("line", "left", "lang"),
    [
        ("Home and garden tools", False, "en"),
        ("It went on and on...", False, "en"),
        ("He came.", False, "en"),
        ("He came home.", True, "en"),
        ("x" * 1_001 + " came home.", False, "en"),
        ("x" * 1_000 + " came home.", True, "en"),
        ("Please enable Javascript for this page.", False, "en"),
        ("This site uses cookies for your comfort.", False, "en"),
        ("  Blanks at the edges go. ", True, "en"),
        ("首页 登录 注册", False, "zh"),
        ("好的。", False, "zh"),
        ("他回家去了。", True, "zh"),
        ("他说：“我回家去了。”", True, "zh"),
    ],
)
def test_c4_takes_out_lines_that_are_not_sentences(line: str, left: bool, lang: str) -> None:
    text = prose(lang=lang)
    expected = f"{text}\n{line.strip()}" if left else text
    assert (said("c4", f"{text}\n\n{line}", lang)) == expected


def test_c4_takes_out_citations_and_keeps_their_sentence() -> None:
    text = prose()
    cited = text.replace("slow", "slow[12]", 1).replace(".\n", ".[3]\n", 1)
    assert said("c4", cited) == text
    assert said("c4", text.replace(".\n", ".[3]\n", 1), citations=False) == text.partition("\n")[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (prose() + "\nThis is lorem ipsum of old.", "c4: lorem ipsum"),
        (prose() + "\nA set of { braces }, no less.", "c4: curly bracket"),
        (prose(4), "c4: too few sentences"),
        (prose(5) + "\nA set of {braces", None),
        (prose(5), None),
    ],
)
def test_c4_rejects_filler_code_and_what_keeps_too_little(text: str, reason: str | None) -> None:
    found = said("c4", text)
    assert found == reason if reason else found in (None, prose(5))


@pytest.mark.parametrize(
    ("kept", "dropped", "reason", "lang"),
    [
        (
            "\n".join(
                [words(9)] * 1 + [f"{n} {words(9)}" for n in range(6)] + ["So it was for all of the old river then."]
            ),
            "\n".join(f"{n} {words(9)}" for n in range(9)),
            "too few lines end a sentence",
            "en",
        ),
        (
            "\n".join([f"It is {n}." for n in range(6)] + [f"{n} {words(12)}." for n in range(3)]),
            "\n".join([f"It is {n}." for n in range(7)] + [f"{n} {words(12)}." for n in range(3)]),
            "too many short lines",
            "en",
        ),
        ("\n".join([prose(14), "So."]), "\n".join([prose(14), prose(1)]), "repeated lines", "en"),
        (("\n" * 3).join(prose(9).split("\n")), ("\n" * 9).join(prose(9).split("\n")), "too many newlines", "en"),
        (
            ("\n" * 2).join(prose(9, "zh").split("\n")),
            ("\n" * 9).join(prose(9, "zh").split("\n")),
            "too many newlines",
            "zh",
        ),
        (prose(9, "zh"), prose(9, "zh").replace("。", ""), "too few lines end a sentence", "zh"),
    ],
)
def test_fineweb_decides_at_its_threshold(kept: str, dropped: str, reason: str, lang: str) -> None:
    assert said("fineweb", kept, lang) is None
    assert said("fineweb", dropped, lang) == f"fineweb: {reason}"


def test_a_keyword_stands_before_the_language() -> None:
    assert said("gopher_quality", words(50), min_words=51) == "gopher: too few words"
    assert said("gopher_quality", words(10), min_words=0) is None
    assert said("c4", prose(2), min_sentences=0) is None
    assert said("gopher_repetition", "a a a a", top_n_grams=(), duplicate_n_grams=()) is None


@pytest.mark.parametrize(
    ("lang", "kept"), [("zh", True), ("zh-CN", True), ("yue", True), ("en", False), ("en-GB", False)]
)
def test_a_language_is_known_with_its_region(lang: str, kept: bool) -> None:
    assert (said("gopher_quality", prose(lang="zh"), lang) is None) is kept


def test_an_unknown_language_is_judged_without_stop_words() -> None:
    text = "Der Müller vom Fluss sah das alte Rad mit all seinen Zähnen sich drehen und freute sich sehr. " * 4
    assert said("gopher_quality", text, "en") == "gopher: too few stop words"
    assert said("gopher_quality", text, "de") is None


def test_a_preset_may_set_each_threshold() -> None:
    for name, rules in THRESHOLDS.items():
        for key, (english, *_) in rules.items():
            assert callable(bound(Plug(name=name, **{key: english}), FILTERS, "filter"))
    with pytest.raises(ConfigError, match="has no keyword 'min_word'. Did you mean 'min_words'"):
        bound(Plug(name="gopher_quality", min_word=3), FILTERS, "filter")


ANY = st.text(st.characters() | st.sampled_from("the. \n\n。的…[1]{-•#'")) | st.text(
    st.sampled_from("ab. \n的。"), max_size=400
)


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "canary"])
def test_no_text_makes_a_filter_raise_and_its_verdict_is_always_the_same(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(ANY, st.sampled_from(["en", "zh", "de", ""]))
    def holds(text: str, lang: str) -> None:
        document = Document("d", text, "s", lang, "g", "")
        first: Any = FILTERS[name](document)
        FILTERS[name](Document("e", text + " again", "s", lang, "g", ""))
        assert FILTERS[name](document) == first
        assert document == Document("d", text, "s", lang, "g", "")

    holds()


@pytest.mark.parametrize("name", RULES)
def test_no_text_makes_a_filter_without_limits_raise(name: str) -> None:
    off = {key: 0 for key, (value, *_) in THRESHOLDS[name].items() if key.startswith("min_") or isinstance(value, bool)}
    function: Callable[..., Any] = FILTERS[name]

    @settings(max_examples=100, deadline=None)
    @given(ANY)
    def holds(text: str) -> None:
        function(Document("d", text, "s", "en", "g", ""), **off)

    holds()


@pytest.mark.parametrize(
    ("sample", "lang", "least"), [("sotu-en.jsonl.zst", "en", 0.95), ("ci-zh.jsonl.zst", "zh", 0.9)]
)
def test_the_samples_pass_the_rules_that_fit_them(sample: str, lang: str, least: float) -> None:
    data = zstandard.ZstdDecompressor().stream_reader(sample_path(sample).read_bytes()).read().decode()
    texts = [json.loads(line)["text"] for line in data.splitlines()[:150]]
    names = RULES[:2] if lang == "en" else ("c4",)
    for name in names:
        kept = sum(not str(said(name, text, lang) or "").startswith(("gopher:", "c4:")) for text in texts)
        assert kept >= least * len(texts), name
