"""The numbers of a card, worked by hand; and that it shows no text that must not be seen."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import BaseVocabulary, ExistingVocabulary
from pipeline.store import Part, Store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.card import EXAMPLES, examples, fit
from pipeline.vocabulary.counting import count_words
from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.layout import SPECIALS
from pipeline.vocabulary.tokenizer import Form
from tests.texts import write
from tests.vocabulary.made import card, config, documents, made_corpus

ENTRIES = [*SPECIALS, "[unused0]", "[unused1]", "mill", "##s", "river", "河", "Mill", "##河"]
TEXT = f"mills MILL\nriver 河水 Mill xyz {'a' * 101}"
"""Lowercased: mill ##s, mill, river, 河, [UNK], mill, [UNK], [UNK]: 8 words, 9 tokens, of which 3 unknown.
As it is written: mill ##s, [UNK], river, 河, [UNK], Mill, [UNK], [UNK]: 4 unknown."""
UNCASED, CASED = Form(True), Form(False)


def counted(store: Store, path: Path, texts: list[str], form: Form) -> Part:
    """The words of held-out texts."""
    corpus = made_corpus(store, path, documents(["nothing"], texts))
    return count_words(store.manifest(corpus).matching("heldout/"), form, store=store)


def test_a_card_worked_by_hand(store: Store, tmp_path: Path) -> None:
    assert fit(ENTRIES, UNCASED, counted(store, tmp_path, [TEXT], UNCASED), store) == {
        "size": 13,
        "free_slots": 2,
        "unreachable_entries": 2,  # Mill and ##河
        "heldout_documents": 1,
        "heldout_words": 8,
        "heldout_tokens": 9,
        "unknown_rate": pytest.approx(3 / 9),
        "unknown_words": pytest.approx(3 / 8),
        "pieces_per_word": pytest.approx(9 / 8),
        "characters_per_token": pytest.approx((5 + 4 + 5 + 2 + 4 + 3 + 101) / 9),
        "scripts": {
            "Latin": {"words": 5, "pieces_per_word": pytest.approx(6 / 5), "unknown_words": pytest.approx(1 / 5)},
            "Han": {"words": 2, "pieces_per_word": 1.0, "unknown_words": pytest.approx(1 / 2)},
        },
    }


def test_a_cased_card_counts_its_own_words_over_the_same_characters(store: Store, tmp_path: Path) -> None:
    uncased, cased = (fit(ENTRIES, form, counted(store, tmp_path, [TEXT], form), store) for form in (UNCASED, CASED))
    assert (cased["heldout_words"], cased["heldout_tokens"], cased["unreachable_entries"]) == (8, 9, 1)
    assert cased["unknown_rate"] == pytest.approx(4 / 9)
    assert cased["characters_per_token"] == uncased["characters_per_token"]


def test_tokens_kept_whole_are_words_of_one_piece(store: Store, tmp_path: Path) -> None:
    form = Form(whole=("[NAME]", "New Mill"))
    found = fit([*ENTRIES, *form.whole], form, counted(store, tmp_path, ["[NAME] mills New Mill"], form), store)
    assert (found["heldout_words"], found["heldout_tokens"], found["unknown_words"]) == (3, 4, 0.0)
    assert found["unreachable_entries"] == 2


def test_an_empty_held_out_part_has_a_card_of_zeros(store: Store) -> None:
    found = fit(ENTRIES, UNCASED, count_words([], UNCASED, store=store), store)
    assert (found["heldout_words"], found["unknown_rate"], found["pieces_per_word"], found["scripts"]) == (0, 0, 0, {})


def test_the_most_frequent_words_of_several_pieces_are_shown_and_characters_without_an_entry(
    store: Store, tmp_path: Path
) -> None:
    entries = [*SPECIALS, "a", "b", "##a", "##b", "ab"]
    part = counted(store, tmp_path, ["abb bb a ab abb ax x x ☃", "bb abb aa"], UNCASED)
    assert examples(entries, part, store) == {
        "split_words": [
            {"word": "abb", "pieces": "ab ##b", "count": 3},
            {"word": "bb", "pieces": "b ##b", "count": 2},
            {"word": "aa", "pieces": "a ##a", "count": 1},
        ],
        "dropped_characters": [{"character": "x", "count": 3}, {"character": "☃", "count": 1}],
    }


def test_a_card_shows_some_examples_alone_those_that_count_most(store: Store, tmp_path: Path) -> None:
    letters = "abcdefghij"
    words = [first + second for first in letters for second in letters]
    text = " ".join(word for number, word in enumerate(words) for _ in range(1 + number % 7))
    entries = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters)]
    shown = examples(entries, counted(store, tmp_path, [text], UNCASED), store)["split_words"]
    expected = sorted(((-(1 + number % 7), word) for number, word in enumerate(words)))[:EXAMPLES]
    assert [(-each["count"], each["word"]) for each in shown] == expected


def test_only_words_of_enough_groups_are_shown(store: Store, tmp_path: Path) -> None:
    entries = [*SPECIALS, "a", "b", "##a", "##b"]
    part = counted(store, tmp_path, ["ab ba ba x☃ ☃ x"], UNCASED)
    assert examples(entries, part, store, WordCounts.of({"ab": 9, "☃": 3})) == {
        "split_words": [{"word": "ab", "pieces": "a ##b", "count": 1}],
        "dropped_characters": [{"character": "☃", "count": 1}],
    }


# As a stage makes them

TRAIN = ["mill river mill river the Mill", "river the mill Zebedee"]
HELD = ["The Mills river Zebedee Quux", "Zebedee"]


def test_references_stand_side_by_side_each_in_its_own_form(store: Store, tmp_path: Path) -> None:
    cased = write(tmp_path / "cased" / "vocab.txt", "\n".join([*SPECIALS, "The", "Mill", "##s", "Zebedee"]))
    uncased = write(tmp_path / "uncased" / "vocab.txt", "\n".join([*SPECIALS, "the", "mill", "##s", "river"]))
    compare = (ExistingVocabulary(vocabulary=str(cased), lowercase=False), ExistingVocabulary(vocabulary=str(uncased)))
    corpus = made_corpus(store, tmp_path, documents(TRAIN, HELD))
    beside = card(store, made := build_vocabulary(config(compare=compare), corpus, store=store))["beside"]
    assert list(beside) == ["cased", "uncased"]
    # The Mill ##s [UNK] Zebedee [UNK], Zebedee; and the mill ##s river [UNK] [UNK], [UNK]
    assert {name: (each["heldout_words"], each["heldout_tokens"]) for name, each in beside.items()} == {
        "cased": (6, 7),
        "uncased": (6, 7),
    }
    assert beside["cased"]["unknown_rate"] == pytest.approx(2 / 7)
    assert beside["uncased"]["unknown_rate"] == pytest.approx(3 / 7)
    assert store.manifest(made).metrics["beside"] == beside
    assert "split_words" not in beside["cased"]


def test_a_reference_of_the_store_is_named_by_what_it_is(store: Store, tmp_path: Path) -> None:
    corpus = made_corpus(store, tmp_path, documents(TRAIN, HELD))
    first = build_vocabulary(config(size=60, lowercase=False), corpus, store=store)
    compare = (ExistingVocabulary(vocabulary=str(first)),)
    second = build_vocabulary(config(size=61, compare=compare), corpus, store=store)
    numbers = card(store, first)
    examples_of_text = {key: numbers.pop(key) for key in ("split_words", "dropped_characters")}
    assert all(key not in card(store, second)["beside"][str(first)] for key in examples_of_text)
    assert card(store, second)["beside"] == {str(first): numbers}


def shown(store: Store, path: Path, restricted: bool = False, **more: Any) -> dict[str, Any]:
    corpus = made_corpus(store, path, documents(TRAIN, HELD), restricted=restricted)
    return card(store, build_vocabulary(config(**more), corpus, store=store))


def test_the_card_of_a_restricted_corpus_shows_no_text(store: Store, tmp_path: Path) -> None:
    free, restricted = (shown(store, tmp_path, each, size=30, min_frequency=1) for each in (False, True))
    assert "zebedee" in str(free)
    assert {*free} - {*restricted} == {"split_words", "dropped_characters"}
    assert restricted == {key: free[key] for key in restricted}


def test_the_card_shows_no_word_of_fewer_groups_than_the_minimum(store: Store, tmp_path: Path) -> None:
    least = {"min_frequency": 1}
    assert "zebedee" in str(shown(store, tmp_path, size=30, **least)).lower()
    found = shown(store, tmp_path, size=30, min_groups=2, **least)
    assert "zebedee" not in str(found).lower()
    assert "split_words" in found


def test_an_imports_card_shows_no_rare_word_either(store: Store, tmp_path: Path) -> None:
    letters = "abdeiloqrux"
    file = write(
        tmp_path / "vocab.txt", "\n".join([*SPECIALS, *letters, *(f"##{letter}" for letter in letters), "##z", "z"])
    )
    base = BaseVocabulary(vocabulary=str(file))
    assert "zebedee" in str(shown(store, tmp_path, base=base))
    assert "split_words" not in shown(store, tmp_path, base=base, min_groups=2)
