"""What identifies a person is masked, in every form that is valid by its rule; what only looks like it stays."""

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pipeline.corpus
from pipeline.config import Plug, bound
from pipeline.corpus.document import Document, Edited
from pipeline.corpus.filters import identifiers as package
from pipeline.corpus.filters.identifiers import KINDS, addresses, identifiers, mask_identifiers, replacement_tokens
from pipeline.corpus.filters.identifiers.patterns import check_patterns
from pipeline.errors import ConfigError
from tests.corpus.filters.planted import FORMS, planted

SAMPLES = Path(pipeline.corpus.__file__).parent / "samples"


def document(text: str) -> Document:
    return Document(id="s/1", text=text, source="s", lang="en", group="", date="")


def masked(text: str, **keywords: object) -> str:
    verdict = mask_identifiers(document(text), **keywords)  # type: ignore[arg-type]
    return verdict.document.text if isinstance(verdict, Edited) else text


def sentences(sample: str, ends: str) -> list[str]:
    """Sentences without digits of a corpus that comes with the package."""
    with zstandard.open(SAMPLES / f"{sample}.jsonl.zst", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(40))]
    found = [part for text in texts for part in re.split(rf"(?<=[{ends}])\s*|\n", text)]
    return [part for part in found if 20 <= len(part) <= 300 and not re.search(r"[0-9]", part)]


@pytest.mark.parametrize(("sample", "ends"), [("sotu-en", "."), ("qu-zh", "。！？")])
def test_at_least_98_in_100_planted_identifiers_of_each_form_are_found_whole(sample: str, ends: str) -> None:
    missed: dict[tuple[str, str], list[str]] = {}
    for plant in planted(100, sentences(sample, ends)):
        found = identifiers(plant.text)
        if not any(what == plant.kind and start <= plant.start and plant.end <= end for start, end, what in found):
            missed.setdefault((plant.kind, plant.form), []).append(plant.text)
    assert not {form: texts for form, texts in missed.items() if len(texts) > 2}


@pytest.mark.parametrize("sample", ["sotu-en", "qu-zh", "ci-zh"])
def test_nothing_is_found_in_texts_without_identifiers(sample: str) -> None:
    with zstandard.open(SAMPLES / f"{sample}.jsonl.zst", "rt", encoding="utf-8") as file:
        assert [found for line in file if (found := identifiers(json.loads(line)["text"]))] == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to anna.li+x@mail.example.co.uk.", "Write to [EMAIL]."),
        ("请联系zhang_san@qq.com谢谢", "请联系[EMAIL]谢谢"),
        ("邮箱：ｚｈａｎｇ＠ｑｑ．ｃｏｍ。", "邮箱：[EMAIL]。"),
        ("bob [at] host [dot] org", "[EMAIL]"),
        ("<a href='mailto:josé@example.es'>", "<a href='mailto:[EMAIL]'>"),
        ("Call +1 (212) 555-0123 ext. 4 now", "Call [PHONE] now"),
        ("手机13800138000，办公室（010）62334455转8001。", "手机[PHONE]，办公室[PHONE]。"),
        ("电话:010-62334455/13800138000", "电话:[PHONE]/[PHONE]"),
        ("手机１３８００１３８０００", "手机[PHONE]"),
        ("(call 212-555-0123)", "(call [PHONE])"),
        ("电话2125550123", "电话[PHONE]"),
        ("from 192.168.1.77:8080 to 2001:db8::1/64", "from [IP]:8080 to [IP]/64"),
        ("DNS 8.8.8.8", "DNS [IP]"),
        ("Card 4111 1111 1111 1111, 378282246310005", "Card [CARD], [CARD]"),
        ("身份证号11010519491231002X。", "身份证号[ID]。"),  # GB 11643's own example
        ("身份证110105491231002", "身份证[ID]"),
        ("A123456(3) and A123456789", "[ID] and [ID]"),
        ("123-45-6789; SSN 123 45 6789", "[ID]; SSN [ID]"),
        ("DNI 12345678Z, 12.345.678-Z, NIE X1234567L", "DNI [ID], [ID], NIE [ID]"),
        ("2 55 08 14 168 025 38", "[ID]"),
        ("CPF 529.982.247-25", "CPF [ID]"),
    ],
)
def test_an_identifier_is_replaced_by_its_token(text: str, clean: str) -> None:
    assert masked(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "From 1914-1918 to 2003/2004, (1860-1865), pp. 1234-1256.",
        "On 2008-06-17 13:57:36, 17/06/2008 09:51:00, 01.02.2003 10:30, 20080617.",
        "$5551234567, 13800138000元, ￥13800138000, 1,234,567,890 people, 212,555,0123.",
        "3.14159265358979 and 0.4111111111111111 and 1e13800138000",
        "ISBN 978-0-306-40615-7, ISBN 0764526413, 书号：9787111054252, ISSN 0317-8471",
        "arXiv:2101.12345 and doi:10.1016/0022-2836(81)90087-5 and RFC 5321",
        "https://example.org/13800138000/212-555-0123 and www.example.org/?q=4111111111111111",
        "4111111111111112 and 1234567890123456 and 110105194912310020 and 12345678A",
        "version 1.2.3.4, v10.20.30.40, linux-2.6.32.10, 版本1.2.3.4, section 21.2.3.4, see 1.2.3.4",
        "127.0.0.1, 0.0.0.0, 255.255.255.0, 256.1.1.1, 1.2.3, 1.3.6.1.4.1",
        "std::vector, dead::beef, 12:34:56, 00:1a:2b:3c:4d:5e, ::, ::1",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6 and e3b0c44298fc1c149afbf4c8996fb92427ae41e4",
        "getty@tty1.service, icon@2x.png, root@localhost, @example.com, a @ b.com",
        "20: e8 1d 94 ff e0 3d 00 08 00 00 75 16 be 17 00 00",
        "Boston, MA 02111-1307, USA. No. 000-12-3456, 666-12-3456, 900-12-3456.",
        "6-7 (3-7) 6-3 6-3 and 4-6 7-6 (8-6) 7-5",
        "订单号：13800138000，收到的9400-512mb的显卡",
        "He was ratable to [at] two marks; to wink (at).",
    ],
)
def test_what_only_looks_like_an_identifier_stays(text: str) -> None:
    assert masked(text) == text


def test_a_text_without_identifiers_gets_no_verdict_and_one_with_them_is_counted_by_kind() -> None:
    assert mask_identifiers(document("The mill stands at the river.")) is None
    verdict = mask_identifiers(document("a@b.org, c@d.org, 13800138000"), patterns={"WARD": "[a-z]@"}, kinds=("phone",))
    assert isinstance(verdict, Edited)
    assert verdict.document.text == "[WARD]b.org, [WARD]d.org, [PHONE]"
    assert verdict.counts == {"WARD": 2, "phone number": 1}


def test_a_card_is_no_telephone_number_even_where_cards_are_not_masked() -> None:
    assert masked("Tel 4111 1111 1111 1111", kinds=("phone",)) == "Tel 4111 1111 1111 1111"


def test_a_users_pattern_comes_before_the_others_and_is_not_looked_for_in_their_tokens() -> None:
    patterns = {"RECORD": r"MRN-[0-9]+", "WORD": r"EMAIL|RECORD|@b"}
    assert masked("MRN-13800138000 a@b.org c@d.org", patterns=patterns) == "[RECORD] a[WORD].org [EMAIL]"


def test_every_token_that_is_written_is_listed_for_the_vocabulary() -> None:
    assert replacement_tokens() == ("[EMAIL]", "[IP]", "[ID]", "[CARD]", "[PHONE]")
    assert replacement_tokens(("phone",), {"WARD": "x"}) == ("[PHONE]", "[WARD]")
    assert {kind for kind, _ in FORMS} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "pattern", "says"),
    [
        ("WARD", "(", "no regular expression: missing \\)"),
        ("WARD", "[0-9]*", "matches the empty text"),
        ("WARD", r"(?=x)", "matches the empty text"),
        ("WARD", "(a+)+b", "a repetition inside a repetition"),
        ("WARD", "(?:[a-z]{2,}-?)*x", "a repetition inside a repetition"),
        ("WARD", "((x|y*)z){3,}", "a repetition inside a repetition"),
        ("ward", "x", "capital letters"),
        ("MASK", "x", "none of CARD, CLS"),
    ],
)
def test_a_pattern_that_will_not_do_is_refused_before_any_text_is_read(name: str, pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_patterns({name: pattern})
    with pytest.raises(ConfigError, match=says):
        bound(Plug(name="mask", patterns={name: pattern}), {"mask": mask_identifiers}, "filter")  # type: ignore[call-arg]


@pytest.mark.parametrize("pattern", [r"MRN[0-9]{6,8}", r"(?:[0-9]++-)+x", r"(?:ab?)+c", r"(?>a+)+b", r"(?:ab){2,}c+"])
def test_a_pattern_without_nested_backtracking_is_taken(pattern: str) -> None:
    assert check_patterns({"WARD": pattern}) == {"WARD": pattern}


ALPHABET = st.sampled_from("0123456789") | st.sampled_from("+()-./:@ １８＠（中aAxX[]") | st.characters()


@settings(max_examples=500, deadline=None)
@given(st.text(ALPHABET, max_size=80))
@example("A123456(A)")
@example("+(")
@example("::ffff:1.2.3.4")
def test_what_is_found_lies_in_order_and_apart_and_a_masked_text_stays_as_it_is(text: str) -> None:
    found = identifiers(text)
    assert all(0 <= start < end <= len(text) for start, end, _ in found)
    assert all(first[1] <= second[0] for first, second in pairwise(found))
    assert Counter(re.findall(r"\[(?:EMAIL|IP|ID|CARD|PHONE)\]", masked(text))).total() >= len(found)


PIECES = [
    "7",
    "1 ",
    "1-",
    "1.",
    "0 ",
    "00 ",
    "01 23 ",
    "(1) ",
    "+1 ",
    "a@",
    "a@b.c",
    "@a.",
    "[at]a",
    "(at)a[dot]",
    ":",
    "a:",
]
PIECES += ["2001:", "11111/", "１３８ ", "138 ", "tel 1", "www.1", "4111 ", "A1", "1.1.1.1", "@a-a-"]


class Counting:
    """A compiled pattern that counts how many characters its searches may have looked at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern, self.looked = pattern, 0

    def search(self, text: str, position: int = 0) -> re.Match[str] | None:
        match = self.pattern.search(text, position)
        self.looked += (match.end() if match else len(text)) - position
        return match

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self.pattern, name)


@pytest.mark.parametrize("piece", PIECES)
def test_a_text_of_near_misses_is_passed_through_once(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = piece * (200_000 // len(piece))
    counters = []
    for module, name in [
        (package, "_CANDIDATE"),
        (addresses, "_DOTTED"),
        (addresses, "_COLONS"),
    ]:
        counters.append(Counting(getattr(module, name)))
        monkeypatch.setattr(module, name, counters[-1])
    identifiers(text)
    assert all(counter.looked <= 30 * len(text) for counter in counters)
