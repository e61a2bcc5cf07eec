"""Where the specials and the free slots stand in a vocabulary."""

import pytest

from pipeline.errors import ConfigError
from pipeline.vocabulary.layout import first_entries, is_unused, unused_slot

GOOGLES_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def test_compact_has_specials_then_free_slots_then_tokens() -> None:
    assert first_entries("compact", 2, ["[NAME]", "mill"]) == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *("[unused0]", "[unused1]"),
        *("[NAME]", "mill"),
    ]


@pytest.mark.parametrize("unused", [99, 100, 994])
def test_googles_order_has_the_ids_of_bert_base_uncased(unused: int) -> None:
    entries = first_entries("google", unused, ["mill"])
    assert {token: entries.index(token) for token in GOOGLES_IDS} == GOOGLES_IDS
    assert entries[1:100] == [f"[unused{number}]" for number in range(99)]
    assert entries[104:-1] == [f"[unused{number}]" for number in range(99, unused)]
    assert entries[-1] == "mill"


def test_too_few_free_slots_for_googles_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'unused is 98, but vocabulary.layout = "google" has 99 free slots'):
        first_entries("google", 98)


def test_a_free_slot_is_known_by_its_name_alone() -> None:
    assert is_unused(unused_slot(993))
    assert not [
        each for each in ("[UNK]", "[unused]", "[unused1", "unused1", "[unused-1]", "[unused1a]") if is_unused(each)
    ]
