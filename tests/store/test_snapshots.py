"""A snapshot is a version of its own beside the whole that it leads to: `kind/name@version:step=20000`."""

import pytest

from pipeline.errors import UnknownReference
from pipeline.store import Artifact, Store, open_store
from pipeline.store.gc import collect
from pipeline.store.lineage import lineage_of
from pipeline.store.local import LocalBackend
from pipeline.store.retraction import retract
from pipeline.store.verify import verify_store
from tests.artifacts import commit, recipe

DAY_S = 86_400.0


def snapshot(store: Store, step: int, number: int = 0) -> Artifact:
    return commit(store, recipe(number, step=step), {"own": f"{number} after {step} steps"})


def swept(store: Store, days: float, keep: int) -> list[str]:
    opened = open_store(store.settings)
    assert isinstance(opened.backend, LocalBackend)
    opened.backend._ahead_s = days * DAY_S
    return collect(opened, keep=keep, delete=True).versions


def test_it_is_there_before_its_whole_and_found_again_by_its_recipe(store: Store) -> None:
    made = snapshot(store, 20)
    assert made.version == f"{recipe().version}:step=20"
    assert store.find(recipe(step=20)) == made
    assert store.find(recipe()) is None
    assert store.find(recipe(step=40)) is None


def test_a_reference_with_its_step_names_it_and_one_without_the_whole(store: Store) -> None:
    first, second = snapshot(store, 20), snapshot(store, 200)
    whole = commit(store, recipe(), {"own": "the end"})
    assert store.resolve("vocabulary/small") == whole
    assert store.resolve(f"vocabulary/small@{whole.version[:5]}") == whole
    for beginning in (whole.version, whole.version[:5], "latest"):
        assert store.resolve(f"vocabulary/small@{beginning}:step=20") == first
        assert store.resolve(f"vocabulary/small@{beginning}:step=200") == second
    assert store.resolve("vocabulary/small:step=200") == second
    with pytest.raises(UnknownReference, match=r"has no version or alias '\w+:step=2'"):
        store.resolve(f"vocabulary/small@{whole.version}:step=2")
    with pytest.raises(UnknownReference, match="is not a reference"):
        store.resolve(f"vocabulary/small@{whole.version}:stop=20")


def test_the_latest_is_never_a_snapshot_not_even_when_the_whole_is_retracted(store: Store) -> None:
    snapshot(store, 20)
    assert store.aliases.current("vocabulary", "small", "latest") is None
    before, whole = commit(store, recipe(1), {"own": "before"}), commit(store, recipe(), {"own": "the end"})
    snapshot(store, 40)
    assert store.resolve("vocabulary/small") == whole
    retract(store, store.version(str(whole)), "a test")
    assert store.resolve("vocabulary/small") == before


def test_one_that_is_made_again_takes_the_next_number_of_its_version(store: Store) -> None:
    commit(store, recipe(step=20))
    again = commit(store, recipe(step=20), {"own": "other"}, force=True)
    assert again.version == f"{recipe().version}-2:step=20"
    assert store.resolve(str(again)) == again


def test_what_was_made_from_it_leads_back_to_it(store: Store) -> None:
    made = snapshot(store, 20)
    child = commit(store, recipe(7, "child", parents=(made,)))
    assert lineage_of(store, child).parents[child.reference] == (made.reference,)
    assert lineage_of(store, made).children == {made.reference: (child.reference,)}
    assert verify_store(store, deep=True) == []


def test_it_is_swept_with_its_whole_and_not_before(store: Store) -> None:
    first, snapshots = commit(store, recipe(0), {"own": "first"}), [snapshot(store, step, 0) for step in (20, 40)]
    second = commit(store, recipe(1), {"own": "second"})
    kept = snapshot(store, 20, 1)
    assert set(swept(store, 8, keep=1)) == {each.reference for each in (first, *snapshots)}
    left = {each.reference for each in store.listing() if not each.is_retracted}
    assert left == {second.reference, kept.reference}


def test_one_of_a_training_that_goes_on_stays_until_that_counts_as_given_up(store: Store) -> None:
    made = snapshot(store, 20)
    assert swept(store, 29, keep=1) == []
    assert swept(store, 31, keep=1) == [made.reference]
