"""A text's language: by its script where that decides, else by the identifier; the short are kept."""

import pytest

from pipeline.corpus.document import Document, Edited, Rejected
from pipeline.corpus.filters.language import identify, language

EN = "The mill stands at the river, and its wheel has turned there for two hundred years."
DE = "Die Mühle steht am Fluss, und ihr Rad dreht sich dort seit mehr als zweihundert Jahren."
ZH = "磨坊在河边，水车在那里转了两百年。"
CLASSICAL = "關關雎鳩，在河之洲。窈窕淑女，君子好逑。"
JA = "水車は川のそばにあり、二百年のあいだ回り続けている。"


def document(text: str, lang: str = "en") -> Document:
    return Document("d", text, "s", lang, "g", "")


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        (EN, "en"),
        (DE, "de"),
        (ZH, "zh"),
        (CLASSICAL, "zh"),
        (JA, "ja"),
        ("ls 列出文件名 (GNU coreutils)，加 -l 显示详细信息。", "zh"),
        ("방앗간은 강가에 서 있고 물레방아는 그곳에서 돌고 있다.", "ko"),
        ("Мельница стоит у реки, и её колесо вращается там уже двести лет.", "ru"),
        ("Ο μύλος στέκεται δίπλα στο ποτάμι.", "el"),
        (EN * 500 + "中文", "en"),
        ("Mill", ""),
        ("1 2 3 4 5 6 7 8 9 10", ""),
        ("", ""),
    ],
)
def test_a_text_is_identified(text: str, lang: str) -> None:
    assert identify(text)[0] == lang


def test_a_text_is_kept_in_its_own_language_and_named_when_it_is_in_another() -> None:
    assert language(document(EN)) is None
    assert language(document(ZH, "zh-CN")) is None
    assert language(document(DE)) == Rejected("language: de")
    assert language(document(JA, "zh")) == Rejected("language: ja")
    assert language(document(DE), keep=("en", "de")) is None
    assert language(document(EN), keep=("de",)) == Rejected("language: en")
    assert language(document("Kurz")) is None


def test_what_the_identifier_is_not_sure_of_is_dropped() -> None:
    assert language(document(EN), min_score=1.0) == Rejected("language: not sure")


def test_a_language_is_set_only_where_it_is_asked_for() -> None:
    assert language(document(DE, ""), set=False) is None
    assert language(document(DE, ""), set=True) == Edited(document(DE, "de"))
    assert language(document(DE), keep=("en", "de"), set=True) == Edited(document(DE, "de"))
    assert language(document(EN, "en-GB"), set=True) is None
