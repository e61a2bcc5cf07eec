"""What was taken back is never found or used again, and says who took it back, when and why."""

import getpass
import json
import logging

import pytest

from pipeline.errors import UnknownReference
from pipeline.store import Artifact, Store
from pipeline.store.keys import manifest_key, tombstone_key
from pipeline.store.retraction import SWEPT, retract, tombstone_of
from tests.artifacts import commit, keys, recipe

REASON = "a person asked for it"


def take_back(store: Store, artifact: Artifact, reason: str = REASON) -> list[str]:
    return retract(store, store.version(str(artifact)), reason)


def test_a_retracted_version_is_never_found_again_and_a_run_makes_another(any_store: Store) -> None:
    made = commit(any_store, recipe())
    take_back(any_store, made)
    assert any_store.find(recipe()) is None
    again = commit(any_store, recipe())
    assert again.version == f"{made.version}-2"
    assert any_store.find(recipe()) == any_store.resolve("vocabulary/small") == again


@pytest.mark.parametrize("wanted", ["", "4", "12", "production"])
def test_a_reference_to_it_says_who_took_it_back_when_and_why(any_store: Store, wanted: str) -> None:
    made = commit(any_store, recipe())
    any_store.aliases.tag(made, "production")
    take_back(any_store, made)
    name = {"": "latest", "4": made.version[:4], "12": made.version}.get(wanted, wanted)
    told = rf"{made} was retracted on 20\d\d-\d\d-\d\d \d\d:\d\d by {getpass.getuser()}: {REASON}. `bertmill ls voc"
    with pytest.raises(UnknownReference, match=told):
        any_store.resolve(f"vocabulary/small@{name}")
    assert any_store.resolve(f"vocabulary/small@{name}", retracted=True) == made


def test_the_start_of_a_version_means_the_one_that_is_left(any_store: Store) -> None:
    made = commit(any_store, recipe())
    take_back(any_store, made)
    again = commit(any_store, recipe())
    assert any_store.resolve(f"vocabulary/small@{made.version[:5]}") == again


def test_latest_is_led_to_the_newest_that_is_left(any_store: Store) -> None:
    first, second, third = (commit(any_store, recipe(number)) for number in range(3))
    assert take_back(any_store, second) == []
    assert any_store.resolve("vocabulary/small") == third
    assert take_back(any_store, third) == []
    assert any_store.resolve("vocabulary/small") == first
    assert take_back(any_store, first) == ["latest"], "there is none to lead it to"
    newer = commit(any_store, recipe(3))
    assert any_store.resolve("vocabulary/small") == newer


def test_aliases_that_lead_nowhere_now_are_told(any_store: Store) -> None:
    first, second = commit(any_store, recipe(0)), commit(any_store, recipe(1))
    for alias, artifact in (("production", second), ("staging", second), ("old", first)):
        any_store.aliases.tag(artifact, alias)
    assert take_back(any_store, second) == ["production", "staging"]


def test_what_was_made_from_it_cannot_be_used_with_it(any_store: Store) -> None:
    parent = commit(any_store, recipe())
    child = commit(any_store, recipe(1, "child", parents=(parent,)))
    take_back(any_store, parent)
    with pytest.raises(UnknownReference, match=f"{parent} was retracted"):
        any_store.parent(child, "vocabulary")


def test_a_retraction_without_a_reason_is_refused(any_store: Store) -> None:
    made = commit(any_store, recipe())
    with pytest.raises(UnknownReference, match="A retraction needs a reason"):
        take_back(any_store, made, " ")
    assert any_store.find(recipe()) == made


def test_again_it_keeps_the_first_reason_and_completes_what_a_killed_one_left(any_store: Store) -> None:
    first, second = commit(any_store, recipe(0)), commit(any_store, recipe(1))
    key = tombstone_key("vocabulary", "small", second.version)
    body = {"what": "retracted", "reason": "the first", "at": "2026-01-01T00:00:00", "by": "ada"}
    assert any_store.backend.create(key, json.dumps(body).encode())
    take_back(any_store, second, "the second")
    assert tombstone_of(any_store, any_store.version(str(second))).reason == "the first"
    assert any_store.resolve("vocabulary/small") == first


def test_a_swept_version_may_be_retracted(any_store: Store) -> None:
    made = commit(any_store, recipe())
    retract(any_store, any_store.version(str(made)), "nothing led to it", SWEPT)
    take_back(any_store, made)
    assert tombstone_of(any_store, any_store.version(str(made))).reason == REASON
    retract(any_store, any_store.version(str(made)), "nothing led to it", SWEPT)
    assert tombstone_of(any_store, any_store.version(str(made))).reason == REASON, "not the other way round"


def test_a_tombstone_that_cannot_be_read_counts_all_the_same(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.backend.put(tombstone_key("vocabulary", "small", made.version), b"\xff")
    assert any_store.find(recipe()) is None
    with pytest.raises(UnknownReference, match="its tombstone can't be read"):
        any_store.resolve(str(made))


def test_a_version_whose_manifest_cannot_be_read_may_be_retracted(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.backend.put(manifest_key("vocabulary", "small", made.version), b"\xff")
    take_back(any_store, made)
    assert any_store.versions() == []


def test_a_stage_that_made_it_tells_that_it_was_taken_back(any_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    made = commit(any_store, recipe())
    take_back(any_store, made)
    with caplog.at_level(logging.WARNING, "bertmill"):
        any_store.find(recipe())
    assert f"{made} was retracted" in caplog.text


def test_its_manifest_and_its_place_in_the_lineage_stay(any_store: Store) -> None:
    parent = commit(any_store, recipe())
    made = commit(any_store, recipe(1, parents=(parent,)))
    before = keys(any_store)
    take_back(any_store, made)
    assert set(before) <= set(keys(any_store))
    assert any_store.manifest(made).parents[0].reference == str(parent)
