"""Characters by their script, and scripts by language."""

import numpy as np
import pytest

from pipeline.vocabulary.scripts import WRITTEN_IN, count_letters, script_of


@pytest.mark.parametrize(
    ("script", "characters"),
    [
        ("Latin", "aZéßıªºA\ufb01"),
        ("Han", "河水𠀀々"),
        ("Cyrillic", "мЖ"),
        ("Greek", "σΩµ"),
        ("Hiragana", "の"),
        ("Katakana", "ミカ"),
        ("Hangul", "물"),
        ("Arabic", "م\u064b"),
        ("Devanagari", "नि"),
        ("Number", "7½Ⅳ௧"),
        ("Other", ".,☃$ \n\u200b\ue000"),
    ],
)
def test_a_character_is_of_its_script(script: str, characters: str) -> None:
    assert {character: script_of(character) for character in characters} == dict.fromkeys(characters, script)


def test_letters_are_counted_by_script_and_nothing_else_is() -> None:
    sums = np.zeros(0x110000, np.int64)
    for character, times in {"m": 3, "é": 2, "河": 5, "7": 11, ".": 13}.items():
        sums[ord(character)] = times
    assert count_letters(sums) == {"Latin": 5, "Han": 5}


def test_a_language_of_several_scripts_knows_them_all() -> None:
    assert WRITTEN_IN["ja"] == {"Han", "Hiragana", "Katakana"}
    assert WRITTEN_IN["zh"] == {"Han"}
    assert WRITTEN_IN["en"] == {"Latin"}
    assert all(
        script_of(each) == script for script, each in {"Thai": "ก", "Lao": "ກ", "Khmer": "ក", "Myanmar": "က"}.items()
    )
