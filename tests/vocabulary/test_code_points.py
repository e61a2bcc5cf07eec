"""The table of code points says what `tokenizers` does to each, wherever it stands, and leaves it little to say."""

import unicodedata

import numpy as np
import pytest

from pipeline.vocabulary.code_points import (
    ALONE,
    BREAK,
    DROP,
    LETTER,
    ORACLE,
    PLANES,
    TAGS,
    TAGS_END,
    CodePoints,
    code_points,
)
from pipeline.vocabulary.tokenizer import Form
from tests.vocabulary.oracle import FORMS, words_of

BEYOND = 20_000
"""Code points above the first plane that are asked singly; of the first plane, all are."""


def entry(table: CodePoints, point: int) -> tuple[int, str]:
    """Its kind, and what it is replaced by."""
    row = point if point < PLANES else point - TAGS + PLANES
    return int(table.kinds[row]), table.text[table.starts[row] : table.starts[row + 1]].tobytes().decode()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_between_letters_each_does_what_the_table_says(form: Form) -> None:
    table = code_points(form.lowercase, form.strip_accents)
    above = [*range(0x10000, PLANES), *range(TAGS, TAGS_END)]
    sample = np.random.default_rng(5).choice(above, BEYOND, replace=False).tolist()
    for point in [*range(0xD800), *range(0xE000, 0x10000), *sample]:
        kind, text = entry(table, point)
        expected = {LETTER: [f"x{text}x"], BREAK: ["x", "x"], ALONE: ["x", text, "x"], DROP: ["xx"]}
        if kind != ORACLE:
            assert words_of(f"x{chr(point)}x", form) == expected[kind], f"U+{point:04X}"


@pytest.mark.parametrize(
    ("character", "form", "kind", "text"),
    [
        ("A", "uncased", LETTER, "a"),
        ("A", "cased", LETTER, "A"),
        ("É", "uncased", LETTER, "e"),
        ("É", "accents kept", LETTER, "é"),
        ("É", "cased without accents", LETTER, "E"),
        ("ß", "uncased", LETTER, "ß"),
        ("İ", "uncased", LETTER, "i"),
        ("İ", "accents kept", LETTER, "i\u0307"),
        ("Σ", "uncased", LETTER, "σ"),
        ("각", "uncased", LETTER, "\u1100\u1161\u11a8"),
        ("각", "cased", LETTER, "각"),
        ("が", "uncased", LETTER, "か"),
        ("²", "uncased", LETTER, "²"),
        ("٣", "uncased", LETTER, "٣"),
        ("😀", "uncased", LETTER, "😀"),
        (" ", "uncased", BREAK, ""),
        ("\t", "uncased", BREAK, ""),
        ("\u00a0", "uncased", BREAK, ""),
        ("\u3000", "uncased", BREAK, ""),
        ("\u2028", "uncased", BREAK, ""),
        ("|", "uncased", ALONE, "|"),
        ("$", "uncased", ALONE, "$"),
        ("。", "uncased", ALONE, "。"),
        ("河", "uncased", ALONE, "河"),
        ("\u3400", "cased", ALONE, "\u3400"),
        ("\uf900", "uncased", ALONE, "豈"),
        ("≠", "uncased", ALONE, "="),
        ("≠", "cased", LETTER, "≠"),
        ("々", "uncased", LETTER, "々"),
        ("\x00", "uncased", DROP, ""),
        ("\x07", "uncased", DROP, ""),
        ("\u200b", "uncased", DROP, ""),
        ("\ufffd", "cased", DROP, ""),
        ("\u0301", "uncased", DROP, ""),
        ("\u0301", "cased", LETTER, "\u0301"),
        ("\U000e0100", "uncased", DROP, ""),
        ("\u302e", "uncased", ORACLE, ""),
        ("\u302e", "cased", LETTER, "\u302e"),
    ],
)
def test_kinds_worked_by_hand(character: str, form: str, kind: int, text: str) -> None:
    table = code_points(FORMS[form].lowercase, FORMS[form].strip_accents)
    assert entry(table, ord(character)) == (kind, text)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_only_marks_that_may_move_and_unassigned_ones_are_left_open(form: Form) -> None:
    table = code_points(form.lowercase, form.strip_accents)
    left = [chr(point) for point in np.flatnonzero(table.kinds[:PLANES] == ORACLE) if not 0xD800 <= point < 0xE000]
    assigned = [each for each in left if unicodedata.category(each) != "Cn"]
    assert all(any(map(unicodedata.combining, unicodedata.normalize("NFD", each))) for each in assigned)
    assert len(assigned) < 300
    if not (form.lowercase if form.strip_accents is None else form.strip_accents):
        assert not left, "where nothing is decomposed nothing moves"


def test_no_code_point_becomes_more_characters_than_it_has_bytes() -> None:
    for form in FORMS.values():
        table = code_points(form.lowercase, form.strip_accents)
        for point in np.flatnonzero(np.diff(table.starts)[:PLANES]).tolist():
            assert len(entry(table, point)[1]) <= len(chr(point).encode())
