"""A vocabulary from elsewhere: read as it is or refused by line and entry, and extended without moving an old id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import BaseVocabulary, ExistingVocabulary, VocabularyConfig
from pipeline.errors import BertmillError, ConfigError, InputError
from pipeline.store import Store
from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.existing import (
    check_vocabulary,
    extended,
    find_existing,
    read_existing,
    read_vocabulary,
    unreachable,
)
from pipeline.vocabulary.layout import SPECIALS
from pipeline.vocabulary.tokenizer import Form
from tests.texts import write

ENTRIES = [*SPECIALS, "mill", "##s", "河"]


def config(new_words: Any = "append", **more: Any) -> VocabularyConfig:
    base = BaseVocabulary(vocabulary="base.txt", new_words=new_words)
    return VocabularyConfig(**{"name": "small", "size": 100, "base": base} | more)


def extension(base: list[str], counts: Mapping[str, int], tokens: list[str] | None = None, **more: Any) -> list[str]:
    return extended(base, WordCounts.of(counts), config(**more), tokens or [])


# Reading


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_a_file_of_any_system_is_read(tmp_path: Path, end: str, start: str, last: bool) -> None:
    path = write(tmp_path / "vocab.txt", start + end.join(ENTRIES) + end * last)
    assert read_vocabulary(path) == ENTRIES


@pytest.mark.parametrize("entry", ["\u2028", "\x85", "\x0c", "\u3000", "\xa0", "\x1c"])
def test_an_entry_that_other_readers_take_for_a_line_end_is_an_entry(tmp_path: Path, entry: str) -> None:
    assert read_vocabulary(write(tmp_path / "vocab.txt", "\n".join([*ENTRIES, entry, "a"]))) == [*ENTRIES, entry, "a"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters=" \t\n\r"), min_size=1), unique=True))
def test_what_is_written_one_a_line_is_read_back(tmp_path_factory: pytest.TempPathFactory, entries: list[str]) -> None:
    entries = [*SPECIALS, *(entry for entry in entries if entry not in SPECIALS)]
    path = tmp_path_factory.getbasetemp() / "written.txt"
    assert read_vocabulary(write(path, "".join(f"{entry}\n" for entry in entries))) == entries


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"[PAD]\nmill\n\xff\xfe\n", r"line 3: b'\xff\xfe' is not UTF-8"),
        (b"[PAD]\nmill\n\n[UNK]\n", "line 3 is empty; each line is the entry of the id 2"),
        (b"[PAD]\r\n\r\n[UNK]\r\n", "line 2 is empty"),
        (b"", "line 1 is empty"),
        (b"[PAD]\nmill 17\n", "line 2: the entry 'mill 17' has a blank in it"),
        (b"[PAD]\nmill\t17\n", r"line 2: the entry 'mill\t17' has a blank in it"),
        (b"[PAD]\rmill\r", r"line 1: the entry '[PAD]\rmill' has a blank in it"),
        (b"[PAD]\nmill\n[UNK]\nmill\n", "line 4: the entry 'mill' stands on line 2 already"),
        (b"[PAD]\n[UNK]\nmill\n[SEP]\n", "has 4 entries, but not [CLS], [MASK]: it is not a vocabulary of BERT"),
    ],
)
def test_a_malformed_file_is_told_by_line_and_entry(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read_vocabulary(write(tmp_path / "vocab.txt", data))
    assert sentence in str(error.value)
    assert str(tmp_path / "vocab.txt") in str(error.value)


def test_a_folder_that_has_a_vocabulary_leads_to_it_and_names_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "google" / "vocab.txt", "\n".join(ENTRIES))
    for given_path in (path, path.parent):
        found = find_existing(ExistingVocabulary(vocabulary=str(given_path)), store)
        assert (found.path, found.name, found.artifact) == (path, "google", None)
    other = write(tmp_path / "mine.txt", "\n".join(ENTRIES))
    assert find_existing(ExistingVocabulary(vocabulary=str(other)), store).name == "mine"
    monkeypatch.chdir(path.parent)
    assert find_existing(ExistingVocabulary(vocabulary="vocab.txt"), store).name == "google"


@pytest.mark.parametrize("place", ["nowhere.txt", "."])
def test_a_place_without_a_vocabulary_is_told_with_what_to_give(store: Store, tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"There is no vocabulary at .*\. Give the path of a vocab.txt"):
        find_existing(ExistingVocabulary(vocabulary=str(tmp_path / place)), store)


@pytest.mark.parametrize(
    ("own", "of_the_file", "form"),
    [
        ({}, {}, Form(True, None)),
        ({"lowercase": False, "strip_accents": True}, {}, Form(False, True)),
        ({"lowercase": True, "strip_accents": False}, {"lowercase": False}, Form(False, None)),
        ({"lowercase": False}, {"strip_accents": True}, Form(False, True)),
        ({}, {"lowercase": True, "strip_accents": False}, Form(True, False)),
    ],
)
def test_a_file_is_read_as_the_new_vocabulary_unless_it_says_otherwise(
    store: Store, tmp_path: Path, own: dict[str, bool], of_the_file: dict[str, bool], form: Form
) -> None:
    path = write(tmp_path / "vocab.txt", "\n".join(ENTRIES))
    existing = find_existing(ExistingVocabulary(vocabulary=str(path), **of_the_file), store)
    assert read_existing(existing, VocabularyConfig(name="small", **own), store) == (ENTRIES, form)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"base": BaseVocabulary(vocabulary="nowhere.txt")}, "There is no vocabulary at nowhere.txt"),
        ({"compare": (ExistingVocabulary(vocabulary="nowhere.txt"),)}, "There is no vocabulary at nowhere.txt"),
        ({"base": BaseVocabulary(vocabulary="vocabulary/none@1")}, "has no vocabulary/none"),
        ({"layout": "google"}, "vocabulary.unused is 0"),
        ({"tokens": ("mill", "[CLS]")}, "vocabulary.tokens has [CLS], which is a special token already"),
        ({"tokens": ("[unused7]",)}, "vocabulary.tokens has [unused7], which is the name of a free slot already"),
    ],
)
def test_what_a_config_alone_tells_is_refused_before_any_work(
    store: Store, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BertmillError) as error:
        check_vocabulary(VocabularyConfig(name="small", **more), store)
    assert sentence in str(error.value)


def test_two_vocabularies_of_one_name_can_not_stand_side_by_side(store: Store, tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "bert" / "vocab.txt", "\n".join(ENTRIES)) for folder in ("one", "two")]
    compare = tuple(ExistingVocabulary(vocabulary=str(path)) for path in paths)
    with pytest.raises(ConfigError, match=r"compare has 2 vocabularies named bert.*Give each a name of its own"):
        check_vocabulary(VocabularyConfig(name="small", compare=compare), store)


# Extending

LETTERS = [*"abc", *(f"##{letter}" for letter in "abc")]
BASE = [*SPECIALS, *LETTERS, "ab", "[unused0]", "c##", "[unused1]"]


def test_free_slots_are_filled_first_to_last_and_every_other_entry_stays() -> None:
    made = extension(BASE, {"abc": 3, "cab": 5}, new_words="unused")
    assert made == [*SPECIALS, *LETTERS, "ab", "cab", "c##", "abc"]


def test_free_slots_that_nothing_fills_stay_free() -> None:
    assert extension(BASE, {"abc": 3}, new_words="unused")[-3:] == ["abc", "c##", "[unused1]"]


def test_words_are_appended_up_to_the_size_and_free_slots_left() -> None:
    counts = {"abc": 3, "cab": 5, "cc": 9}
    assert extension(BASE, counts) == [*BASE, "cab", "cc", "abc"]
    assert extension(BASE, counts, size=len(BASE) + 2) == [*BASE, "cab", "cc"]


def test_the_words_that_save_most_pieces_come_first_and_of_equals_those_first_by_text() -> None:
    # c ##a ##b: 2 saved x 5 = 10; c ##c: 1 x 10; ab ##c: 1 x 11; b ##a ##a ##a: 3 x 3 = 9
    assert extension(BASE, {"cab": 5, "cc": 10, "abc": 11, "baaa": 3})[len(BASE) :] == ["abc", "cab", "cc", "baaa"]


def test_words_of_one_piece_or_unknown_or_rare_are_no_new_entries() -> None:
    assert extension(BASE, {"ab": 90, "a": 90, "abc": 2, "cab": 3}, min_frequency=3) == [*BASE, "cab"]
    assert extension(BASE, {"a☃": 2, "cab": 3}, min_frequency=3) == [*BASE, "cab"]


def test_characters_come_before_words_the_most_frequent_first() -> None:
    counts = {"é": 2, "水": 3, "xa": 2, "ax": 2, "cab": 50}
    assert extension(BASE, counts)[len(BASE) :] == ["x", "##x", "水", "é", "cab", "ax", "xa"]
    assert extension(BASE, counts, min_character_frequency=4)[len(BASE) :] == ["x", "##x", "cab", "ax", "xa"]
    assert extension(BASE, counts, size=len(BASE) + 1)[len(BASE) :] == ["x"]


def test_a_word_is_judged_with_the_new_characters_there() -> None:
    # Without x, axxxx would be unknown, one piece; with it, it saves more than aaaa.
    assert extension([*SPECIALS, "a", "##a"], {"axxxx": 3, "aaaa": 3})[-4:] == ["x", "##x", "axxxx", "aaaa"]


def test_named_tokens_come_before_all_and_those_that_are_there_take_no_room() -> None:
    made = extension(BASE, {"x": 9, "cab": 5}, ["[NAME]", "ab", "abba", "[NAME]"])
    assert made == [*BASE, "[NAME]", "abba", "x", "cab"]


@pytest.mark.parametrize(
    ("base", "more", "tokens", "sentence"),
    [
        (ENTRIES, {"new_words": "unused"}, [], "has 8 entries and 0 [unused] slots: there is no room for new words"),
        (BASE, {"size": 16}, ["x", "y"], "has 15 entries and vocabulary.size is 16: there is no room for 2 tokens"),
        (BASE, {"new_words": "unused"}, ["x", "y", "z"], "2 [unused] slots: there is no room for 3 tokens"),
        ([*BASE, "x"], {"size": 16}, [], "has 16 entries and vocabulary.size is 16: there is no room for new words"),
        ([*BASE, "x", "y"], {"size": 16}, [], "has 17 entries and vocabulary.size is 16: there is no room"),
    ],
)
def test_no_room_is_told_with_what_to_do(
    base: list[str], more: dict[str, Any], tokens: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        extension(base, {"cab": 5}, tokens, **more)
    assert sentence in str(error.value)
    assert 'Give a larger size and new_words = "append".' in str(error.value)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text("abcdé水", min_size=1, max_size=8), st.integers(1, 9), max_size=30),
    st.sampled_from(["unused", "append"]),
    st.integers(16, 30),
    st.integers(1, 4),
)
def test_no_old_id_ever_changes_and_no_entry_stands_twice(
    counts: dict[str, int], new_words: str, size: int, min_frequency: int
) -> None:
    made = extension(BASE, counts, new_words=new_words, size=size, min_frequency=min_frequency)
    kept = [number for number, entry in enumerate(BASE) if not entry.startswith("[unused")]
    assert [made[number] for number in kept] == [BASE[number] for number in kept]
    assert len(set(made)) == len(made)
    assert len(made) <= (size if new_words == "append" else len(BASE))
    assert {entry for entry in {*made} - {*BASE} if not entry.startswith("##")} <= {*counts} | {*"abcdé水"}


# Judging


@pytest.mark.parametrize(
    ("entries", "form", "never"),
    [
        (["mill", "##s", "河", ".", "##9", "ß"], Form(True), []),
        (["Mill", "##S", "é", "##é", "mill"], Form(True), ["Mill", "##S", "é", "##é"]),
        (["Mill", "##S", "é", "##é", "e\u0301"], Form(False), []),
        (["é", "É", "e"], Form(True, False), ["É"]),
        (["##河", "##.", "mill's", "don't", "a b"], Form(False), ["##河", "##.", "mill's", "don't", "a b"]),
        (["[NAME]", "New York", "[unused7]", *SPECIALS], Form(True, None, ("[NAME]", "New York")), []),
        (["[NAME]", "\u200b"], Form(True), ["[NAME]", "\u200b"]),
    ],
)
def test_entries_that_no_text_leads_to_are_found(entries: list[str], form: Form, never: list[str]) -> None:
    assert unreachable(entries, form) == never
