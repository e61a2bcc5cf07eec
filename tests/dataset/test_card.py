"""The gates: what a dataset must hold, and what is said where it doesn't; nothing is published then."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.card import check_gates
from pipeline.errors import InputError
from pipeline.store import Store
from pipeline.vocabulary.layout import SPECIALS
from tests.dataset.byhand import WIDE_GATES, Parents, config, parents, vocabulary_of
from tests.small import small_rows


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    return parents(store, tmp_path, small_rows())


def refused(given: Parents, **more: Any) -> str:
    with pytest.raises(InputError) as error:
        given.build(**more)
    assert not given.store.versions("dataset")
    return str(error.value)


def test_too_many_unknown_tokens_are_a_vocabulary_that_does_not_fit(given: Parents) -> None:
    other = vocabulary_of(given.store, [*SPECIALS, *"abcdefghijklm"])
    sentence = refused(Parents(given.store, given.corpus, other), gates={"max_duplicate_share": 1})
    assert "of the tokens are unknown to the vocabulary (max_unknown_share is 5.00%)" in sentence
    assert sentence.endswith(
        "Nothing is published. Mend the cause, or, where it is meant, widen the gate in [dataset.gates]."
    )


def test_equal_samples_are_text_that_stands_twice(store: Store, tmp_path: Path) -> None:
    rows = [row | {"text": f"The mill {number // 9}.\nThe river sang."} for number, row in enumerate(small_rows())]
    table = {"deduplication": {"exact": False}}
    given = parents(store, tmp_path, rows, **table)
    assert "of the samples are equal to an earlier one of their pass (max_duplicate_share is 10.00%)" in refused(given)


def test_text_that_reaches_no_sample_is_documents_of_lone_words(store: Store, tmp_path: Path) -> None:
    rows = [row | {"text": "mill" if number % 2 else row["text"]} for number, row in enumerate(small_rows())]
    given = parents(store, tmp_path, [row | {"id": f"e{number}"} for number, row in enumerate(rows)])
    assert refused(given, gates={"min_used_share": 1}).count("stand in a sample of their own document") == 2


def test_a_gate_that_is_widened_lets_pass(given: Parents) -> None:
    other = vocabulary_of(given.store, [*SPECIALS, *"abcdefghijklm"])
    assert Parents(given.store, given.corpus, other).build(gates=WIDE_GATES)


def test_a_fault_that_was_asked_for_is_no_reason(given: Parents) -> None:
    assert given.build(faults=["truncation", "lone_sentence_is_random"], max_seq_length=16)


def test_all_gates_that_are_crossed_are_named_at_once(given: Parents) -> None:
    other = vocabulary_of(given.store, [*SPECIALS, *"abcdefghijklm"])
    sentence = refused(Parents(given.store, given.corpus, other), gates={"max_duplicate_share": 0})
    assert sentence.count("of the train part, ") == sentence.count("of the heldout part, ") == 2


def test_equal_samples_of_different_passes_are_no_fault(store: Store, tmp_path: Path) -> None:
    rows = [row | {"text": f"The mill {row['id']}.\nThe river {row['id']} sang."} for row in small_rows()]
    given = parents(store, tmp_path, rows)
    made = given.build(dupe_factor=9)
    samples = [tuple(row["input_ids"]) for row in given.table(made, "train").to_pylist()]
    assert len(set(samples)) < 0.8 * len(samples)
    assert given.store.manifest(made).metrics["train"]["duplicate_share"] < 0.05


@pytest.mark.parametrize(
    ("share", "samples", "passes"),
    [(0.5, 10**6, True), (0.515, 10**6, True), (0.53, 10**6, False), (0.53, 400, True)],
)
def test_a_share_of_random_b_that_is_off_is_refused_unless_it_may_be_chance(
    given: Parents, share: float, samples: int, passes: bool
) -> None:
    """No corpus brings it off, so the card is made to."""
    card = given.store.manifest(given.build()).metrics["train"] | {"random_next_share": share, "samples": samples}
    if passes:
        check_gates({"train": card}, config(), given.corpus)
        return
    with pytest.raises(InputError, match=r"53.00% of the second segments don't follow, where 50.00% were asked for"):
        check_gates({"train": card}, config(), given.corpus)
