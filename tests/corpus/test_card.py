"""A card adds up over parts, and says exactly what each step took out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpus import card as module
from pipeline.corpus.card import Card, Step, count_groups, dropped, funnel, write_groups
from pipeline.corpus.document import Document
from pipeline.corpus.shards import ShardWriter
from pipeline.store import PartDraft, Store


def document(number: int, text: str, lang: str = "en", source: str = "a") -> Document:
    return Document(f"{source}/{number}", text, source, lang, f"g{number}", "")


def written(store: Store, documents: list[tuple[Document, bool]], documents_per_shard: int = 3) -> Card:
    with PartDraft(store) as draft:
        writer = ShardWriter(draft, documents_per_shard)
        for each, heldout in documents:
            writer.write(each, heldout=heldout)
        return writer.finish()


def test_a_card_counts_documents_characters_bytes_languages_and_lengths(store: Store) -> None:
    card = written(
        store,
        [
            (document(0, "mill"), False),
            (document(1, "磨坊", "zh"), False),
            (document(2, "m", source="b"), True),
            (document(3, "millers", "de"), False),
            (document(4, ""), False),
        ],
    )
    assert card.total("documents") == {"train": 4, "heldout": 1}
    assert card.total("characters") == {"train": 13, "heldout": 1}
    assert card.total("bytes") == {"train": 17, "heldout": 1}
    assert card.merged("languages") == {"de": 1, "en": 3, "zh": 1}
    assert card.merged("sources") == {"a": 4, "b": 1}
    lengths = {each["name"]: each["documents"] for each in card.lengths()}
    assert list(lengths.items()) == [("0 to 0", 1), ("1 to 1", 1), ("2 to 3", 1), ("4 to 7", 2)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 30), st.integers(1, 7))
def test_cards_of_parts_add_up_to_the_card_of_the_whole(
    store: Store, lengths: list[int], cut: int, documents_per_shard: int
) -> None:
    documents = [(document(number, "m" * length), length % 3 == 0) for number, length in enumerate(lengths)]
    whole, parts = written(store, documents), Card()
    for piece in (documents[:cut], documents[cut:]):
        parts.add(written(store, piece, documents_per_shard).record())
    assert parts.record() == whole.record()


def test_a_funnels_steps_add_up_in_their_order() -> None:
    first, second = Step("read"), Step("length")
    first.keep(9, 9)
    first.drop(0, "not JSON")
    second.drop(9, "too short")
    later = Step("length")
    later.keep(5, 4)
    later.edited, later.done = 1, Counter(e_mail=2)
    steps = funnel([[first.record(), second.record()], [Step("read").record(), later.record()]])
    assert [step["name"] for step in steps] == ["read", "length"]
    assert steps[1] == {
        "name": "length",
        "documents_in": 2,
        "documents_out": 1,
        "characters_in": 14,
        "characters_out": 4,
        "edited": 1,
        "dropped": {"too short": 1},
        "done": {"e_mail": 2},
    }
    assert dropped(steps) == {"not JSON": 1, "too short": 1}


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
def test_groups_are_counted_once_over_all_parts(store: Store, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "GROUPS_AT_ONCE", at_once)
    numbers = np.random.default_rng(1).integers(0, 2**64, 60, np.uint64)
    parts = [numbers[:30], numbers[10:50], numbers[40:], numbers[:0], np.array([0, 1, 2**64 - 1], np.uint64)]
    paths: list[Path] = []
    expected: dict[bool, set[int]] = {False: set(), True: set()}
    for part in parts:
        heldout = part % np.uint64(5) == 0
        for value, held in zip(part.tolist(), heldout.tolist()):
            expected[held].add(value >> 1)
        with PartDraft(store) as draft:
            write_groups(draft, part, heldout)
            paths.append(store.blob(draft.files[0]))
    assert count_groups(paths) == {"train": len(expected[False]), "heldout": len(expected[True])}
