"""An alias moves by one more record: each move stays on record, and the alias can be led back along them."""

import getpass
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import CorruptArtifact, UnknownReference
from pipeline.store import Artifact, Store, open_store
from pipeline.store.keys import alias_key
from pipeline.store.retraction import retract
from tests.artifacts import commit, keys, recipe

SMALL = ("vocabulary", "small")
PRODUCTION = (*SMALL, "production")
LATEST = (*SMALL, "latest")


def committed(store: Store, count: int) -> list[Artifact]:
    return [commit(store, recipe(number)) for number in range(count)]


def tagged(store: Store, *artifacts: Artifact) -> None:
    """Lead `production` to one after the other."""
    for artifact in artifacts:
        store.aliases.tag(artifact, "production")


def at(store: Store, alias: tuple[str, str, str]) -> str:
    """The version that the alias is at."""
    move = store.aliases.current(*alias)
    assert move is not None
    return move.version


# Moves


def test_an_alias_is_a_log_that_only_grows(any_store: Store) -> None:
    artifacts = committed(any_store, 2)
    seen: dict[str, bytes | None] = {}
    for turn in range(12):
        any_store.aliases.tag(artifacts[turn % 2], "production", f"turn {turn}")
        assert at(any_store, PRODUCTION) == artifacts[turn % 2].version
        if turn in {5, 11}:
            log = {key: any_store.backend.get(key) for key in keys(any_store, "aliases/vocabulary/small/production/")}
            assert {key: log[key] for key in seen} == seen
            seen = log
    assert sorted(seen) == [f"aliases/vocabulary/small/production/{number:010d}.json" for number in range(1, 13)]
    records = [json.loads(seen[key] or b"") for key in sorted(seen)]
    assert [record["reason"] for record in records] == [f"turn {turn}" for turn in range(12)]


def test_each_move_is_kept_with_its_number_its_reason_who_made_it_and_when(any_store: Store) -> None:
    began = datetime.now(UTC)
    first, second = committed(any_store, 2)
    any_store.aliases.tag(first, "production", "read by two people")
    any_store.aliases.tag(second, "production")
    any_store.aliases.rollback(*PRODUCTION, "it can't spell")
    moves = any_store.aliases.history(*PRODUCTION)
    assert [(move.seq, move.version, move.reason, move.rollback) for move in moves] == [
        (1, first.version, "read by two people", False),
        (2, second.version, "", False),
        (3, first.version, "it can't spell", True),
    ]
    assert {move.by for move in moves} == {getpass.getuser()}
    times = [datetime.fromisoformat(move.at) for move in moves]
    assert began <= times[0] <= times[1] <= times[2] <= datetime.now(UTC)
    assert any_store.aliases.current(*PRODUCTION) == moves[-1]


def test_of_many_that_tag_at_once_each_gets_its_place_in_the_log(any_store: Store) -> None:
    artifacts = committed(any_store, 6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda artifact: any_store.aliases.tag(artifact, "production"), artifacts))
    moves = any_store.aliases.history(*PRODUCTION)
    assert [move.seq for move in moves] == [1, 2, 3, 4, 5, 6]
    assert sorted(move.version for move in moves) == sorted(artifact.version for artifact in artifacts)


def test_an_alias_that_never_was_has_no_moves_and_leads_nowhere(store: Store) -> None:
    commit(store, recipe())
    assert store.aliases.current(*PRODUCTION) is None
    assert store.aliases.history(*PRODUCTION) == []
    assert store.aliases.names(*SMALL) == ["latest"]


@pytest.mark.parametrize("alias", ["beef", "0123456789ab-2", "../latest", "a/b", "Production", ""])
def test_an_alias_that_looks_like_a_version_or_a_path_is_refused(store: Store, alias: str) -> None:
    made = commit(store, recipe())
    with pytest.raises(UnknownReference):
        store.aliases.tag(made, alias)
    assert list(store.aliases.names(*SMALL)) == ["latest"]


# Latest


def test_latest_follows_what_is_created_and_not_what_is_found(any_store: Store) -> None:
    older, newer = committed(any_store, 2)
    any_store.find(recipe(0))
    any_store.find(recipe(1))
    moves = any_store.aliases.history(*LATEST)
    assert [(move.version, move.reason) for move in moves] == [
        (older.version, "committed"),
        (newer.version, "committed"),
    ]


def test_latest_does_not_move_to_one_that_was_created_earlier(store: Store) -> None:
    (newer,) = committed(store, 1)
    older = commit(open_store(store.settings, moves_latest=False), recipe(1))
    created = datetime.fromisoformat(store.manifest(newer).created_at)
    store.aliases.move_latest(older, (created - timedelta(seconds=1)).isoformat(), "found")
    assert [move.version for move in store.aliases.history(*LATEST)] == [newer.version]
    store.aliases.move_latest(older, (created + timedelta(seconds=1)).isoformat(), "found")
    assert at(store, LATEST) == older.version, "it was for the date"


def test_a_store_that_does_not_move_latest_leaves_it_where_it_is(store: Store) -> None:
    bystander = open_store(store.settings, moves_latest=False)
    first = commit(bystander, recipe(0))
    assert bystander.find(recipe(0)) == first
    assert store.aliases.names(*SMALL) == []
    second = commit(store, recipe(1))
    commit(bystander, recipe(2))
    assert store.resolve("vocabulary/small@latest") == second


def test_finding_the_newest_moves_a_latest_that_was_left_behind(store: Store) -> None:
    commit(store, recipe(0))
    newest = commit(open_store(store.settings, moves_latest=False), recipe(1))
    store.find(recipe(1))
    assert store.resolve("vocabulary/small@latest") == newest


def test_a_latest_that_was_rolled_back_moves_for_what_is_created_next_and_not_for_what_it_has_left(
    any_store: Store,
) -> None:
    first, second = committed(any_store, 2)
    any_store.aliases.rollback(*LATEST)
    assert any_store.find(recipe(1)) == second
    assert at(any_store, LATEST) == first.version
    third = commit(any_store, recipe(2))
    assert at(any_store, LATEST) == third.version


# Back


def test_a_rollback_goes_back_and_again_further_back_until_nothing_is_left(any_store: Store) -> None:
    first, second, third = committed(any_store, 3)
    tagged(any_store, first, second, third)
    assert any_store.aliases.rollback(*PRODUCTION).version == second.version
    assert any_store.resolve("vocabulary/small@production") == second
    assert any_store.aliases.rollback(*PRODUCTION).version == first.version
    with pytest.raises(UnknownReference) as error:
        any_store.aliases.rollback(*PRODUCTION)
    assert str(error.value) == (
        "vocabulary/small@production was at no other version before that is left. `bertmill tag vocabulary/small "
        "production --history` shows its moves."
    )
    assert len(any_store.aliases.history(*PRODUCTION)) == 5, "nothing was added"


def test_what_is_tagged_after_a_rollback_is_gone_back_from_to_where_the_rollback_led(store: Store) -> None:
    first, second, third = committed(store, 3)
    tagged(store, first, second)
    store.aliases.rollback(*PRODUCTION)
    tagged(store, third)
    assert store.aliases.rollback(*PRODUCTION).version == first.version


def test_a_version_that_was_tagged_twice_in_a_row_is_gone_back_from_at_once(store: Store) -> None:
    first, second = committed(store, 2)
    tagged(store, first, second, second)
    assert store.aliases.rollback(*PRODUCTION).version == first.version


def test_a_version_that_the_alias_came_back_to_is_one_of_its_stations_each_time(store: Store) -> None:
    first, second = committed(store, 2)
    tagged(store, first, second, first)
    stations = [store.aliases.rollback(*PRODUCTION).version for _ in range(2)]
    assert stations == [second.version, first.version]


def test_a_rollback_passes_over_versions_that_were_retracted(any_store: Store) -> None:
    first, second, third = committed(any_store, 3)
    tagged(any_store, first, second, third)
    retract(any_store, any_store.version(str(second)), "licence")
    assert any_store.aliases.rollback(*PRODUCTION).version == first.version


def test_a_rollback_never_ends_where_it_began(store: Store) -> None:
    first, second, third = committed(store, 3)
    retract(store, store.version(str(third)), "licence")
    assert at(store, LATEST) == second.version, "the retraction led it there"
    assert store.aliases.rollback(*LATEST).version == first.version


def test_a_rollback_passes_over_versions_that_are_gone(store: Store) -> None:
    first, second, third = committed(store, 3)
    tagged(store, first, second, third)
    store.backend.delete(f"artifacts/vocabulary/small/{second.version}/manifest.json")
    assert store.aliases.rollback(*PRODUCTION).version == first.version


# Damage

RECORD = {"version": "0123456789ab", "reason": "", "at": "2026-01-01T00:00:00+00:00", "by": "me", "rollback": False}
DAMAGED = {
    "empty": b"",
    "cut off": b'{"version": "01',
    "not UTF-8": b'{"version": "\xff"}',
    "a list": b"[]",
    "without a time": json.dumps({key: value for key, value in RECORD.items() if key != "at"}).encode(),
    "a number for a version": json.dumps(RECORD | {"version": 5}).encode(),
    "no time but a number": json.dumps(RECORD | {"at": 5}).encode(),
    "a path out of the name": json.dumps(RECORD | {"version": "../x"}).encode(),
    "a path into another": json.dumps(RECORD | {"version": "a/../../other/b"}).encode(),
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_a_record_that_is_damaged_or_leads_out_of_its_name_is_told_by_its_key(store: Store, body: bytes) -> None:
    (made,) = committed(store, 1)
    tagged(store, made)
    store.backend.put(key := alias_key(*PRODUCTION, 1), body)
    told = f"The alias record {key} can't be read. Point the alias anew: `bertmill tag REF production`"
    with pytest.raises(CorruptArtifact, match=told):
        store.aliases.current(*PRODUCTION)
    assert (store.aliases.history(*PRODUCTION), store.aliases.lost(*PRODUCTION)) == ([], [1])
    with pytest.raises(UnknownReference, match="was at no other version before that is left"):
        store.aliases.rollback(*PRODUCTION)
    with pytest.raises(CorruptArtifact, match=told):
        store.resolve("vocabulary/small@production")
    assert store.resolve(str(made)) == made, "by its version it is still found"


@pytest.mark.parametrize("alias", ["production", "latest"])
def test_an_alias_whose_last_record_is_damaged_is_pointed_anew_as_the_message_says(
    any_store: Store, alias: str
) -> None:
    (made,) = committed(any_store, 1)
    any_store.aliases.tag(made, alias)
    (*_, last) = keys(any_store, f"aliases/vocabulary/small/{alias}/")
    any_store.backend.put(last, b"{")
    any_store.aliases.tag(made, alias, "mended")
    assert any_store.resolve(f"vocabulary/small@{alias}") == made
    assert any_store.find(recipe()) == made
    assert any_store.aliases.history(*SMALL, alias)[-1].reason == "mended"
    assert any_store.aliases.lost(*SMALL, alias) == [int(Path(last).stem)]


def test_a_rollback_of_an_alias_whose_last_record_is_damaged_goes_where_it_was_before(store: Store) -> None:
    first, second, third = committed(store, 3)
    for artifact in (first, second, third):
        tagged(store, artifact)
    store.backend.put(alias_key(*PRODUCTION, 3), b"{")
    assert store.aliases.rollback(*PRODUCTION).version == second.version


def test_a_latest_whose_record_is_damaged_hinders_no_run_and_what_it_was_not_at_before_sets_it_anew(
    any_store: Store,
) -> None:
    first, second = committed(any_store, 2)
    any_store.backend.put(alias_key(*LATEST, 2), b"{")
    assert any_store.find(recipe(0)) == first
    assert len(keys(any_store, "aliases/")) == 2, "finding the older one doesn't move it"
    assert any_store.find(recipe(1)) == second
    assert at(any_store, LATEST) == second.version
    any_store.backend.put(alias_key(*LATEST, 3), b"{")
    third = commit(any_store, recipe(2))
    assert at(any_store, LATEST) == third.version


def test_what_lies_beside_the_records_of_an_alias_is_none_of_them(store: Store) -> None:
    (made,) = committed(store, 1)
    tagged(store, made)
    for name in ("notes.txt", ".DS_Store", "²3.json"):
        store.backend.put(f"aliases/vocabulary/small/production/{name}", b"")
    tagged(store, made)
    assert [move.seq for move in store.aliases.history(*PRODUCTION)] == [1, 2]
    assert Path(keys(store, "aliases/vocabulary/small/production/0")[-1]).stem == "0000000002"
