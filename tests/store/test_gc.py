"""What nothing needs goes when it is old; what anything needs stays however old it is; a look removes nothing."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline.errors import CorruptArtifact, StoreError, UnknownReference
from pipeline.store import Artifact, FileEntry, Part, PartDraft, Store, open_store
from pipeline.store.gc import ROOT, Collected, _Collection, collect
from pipeline.store.keys import blob_key, lineage_key, manifest_key
from pipeline.store.lease import Lease
from pipeline.store.local import LocalBackend
from pipeline.store.retraction import retract
from pipeline.store.s3 import S3Backend
from pipeline.store.verify import verify_store
from pipeline.store.work import WorkFile, work_root
from tests.artifacts import commit, keys, recipe

DAY_S = 86_400.0


def later(store: Store, days: float) -> Store:
    """The same store, opened when all that is in it now is so much older."""
    opened = open_store(store.settings)
    assert isinstance(opened.backend, LocalBackend | S3Backend)
    opened.backend._ahead_s = days * DAY_S
    return opened


def swept(store: Store, days: float = 8, **options: Any) -> Collected:
    """A collection that removes, so many days from now."""
    return collect(later(store, days), delete=True, **options)


def stray(store: Store, text: str) -> str:
    """The key of a blob that a run left which was killed before its manifest."""
    with store.draft(recipe(99)) as draft:
        (draft.folder / "stray").write_text(text)
        return blob_key(draft.add("stray").sha256)


def part(store: Store, text: str, calls: list[str] | None = None) -> Part:
    """The remembered part of that text, made where it isn't there."""

    def make(draft: PartDraft) -> dict[str, Any]:
        (draft.folder / "text").write_text(text)
        draft.add("text")
        if calls is not None:
            calls.append(text)
        return {"text": text}

    return store.part("vocabulary", text, make)


def snapshot(store: Store, folder: Path, text: str, number: int = 0) -> FileEntry:
    (folder / text).write_text(text)
    work = store.work(recipe(number))
    entry = work.add(folder / text, "state", "step-1")
    work.commit("step-1", [entry], {})
    return entry


def snapshot_key(entry: FileEntry, number: int = 0) -> str:
    """Of the record of what `snapshot` made."""
    assert isinstance(entry, WorkFile)
    return f"{work_root(recipe(number))}{entry.folder}/snapshot.json"


def uploads(found: Collected) -> list[str]:
    """The keys of unfinished uploads, without those that a collection is just about."""
    return [each.key for each in found.uploads if not each.key.startswith(ROOT)]


def listed(store: Store) -> list[str]:
    """All that is in the store but what a collection itself leaves."""
    return [key for key in keys(store) if not key.startswith(ROOT)]


# Mark and sweep


def test_what_a_version_needs_stays_however_old_it_is_and_the_rest_goes_when_it_is(any_store: Store) -> None:
    made = commit(any_store, recipe())
    left = stray(any_store, "left by a killed run")
    assert swept(any_store, 6).blobs == [], "it is within the grace period"
    assert [each.key for each in swept(any_store, 8).blobs] == [left]
    assert left not in keys(any_store)
    swept(any_store, 4000)
    assert any_store.find(recipe()) == made
    assert verify_store(any_store, deep=True) == []


def test_without_delete_nothing_is_removed_or_written(any_store: Store) -> None:
    commit(any_store, recipe())
    left = stray(any_store, "left by a killed run")
    before = listed(any_store)
    found = collect(later(any_store, 8))
    assert ([each.key for each in found.blobs], found.freed_bytes) == ([left], len("left by a killed run"))
    assert found.kept_bytes == sum(entry.size for entry in any_store.versions()[0].files)
    assert keys(any_store) == before, "not even a lease"


def test_a_collection_where_all_is_needed_finds_nothing(any_store: Store) -> None:
    first = commit(any_store, recipe(0))
    commit(any_store, recipe(1, parents=(first,)))
    before = listed(any_store)
    found = swept(any_store, 4000)
    assert (found.versions, found.parts, found.work, found.marks, found.blobs) == ([], [], [], [], [])
    assert listed(any_store) == before


def test_a_mark_of_a_child_that_never_came_to_be_goes(any_store: Store) -> None:
    parent = commit(any_store, recipe())
    child = commit(any_store, recipe(1, parents=(parent,)))
    places = [("vocabulary", "small", each) for each in (parent.version, child.version, "c0ffee")]
    any_store.backend.put(lineage_key(places[0], places[2]), b"")
    assert [each.key for each in swept(any_store).marks] == [lineage_key(places[0], places[2])]
    assert keys(any_store, "lineage/") == [lineage_key(places[0], places[1])]


def test_where_a_manifest_cannot_be_read_nothing_is_collected(any_store: Store) -> None:
    made = commit(any_store, recipe())
    stray(any_store, "left by a killed run")
    any_store.backend.put(manifest_key("vocabulary", "small", made.version), b"{}")
    before = listed(any_store)
    with pytest.raises(CorruptArtifact, match=f"The manifest of {made} can't be read, .* nothing was collected"):
        swept(any_store)
    assert listed(any_store) == before
    retract(any_store, any_store.version(str(made)), "its manifest is damaged")
    assert len(swept(any_store).blobs) == 3, "what it had is nobody's now"


def test_unfinished_uploads_go_when_they_are_old(any_store: Store) -> None:
    if isinstance(any_store.backend, S3Backend):
        place = any_store.backend._s3.where("blobs/sha256/ab/abc")
        any_store.backend._client.create_multipart_upload(**place)
    else:
        folder = Path(any_store.url.removeprefix("file://")) / "blobs"
        folder.mkdir(parents=True)
        (folder / ".tmp-killed").write_text("half")
    assert uploads(swept(any_store, 6)) == []
    assert len(uploads(swept(any_store, 8))) == 1
    assert list(any_store.backend.unfinished()) == []


# Parts


def test_a_part_that_was_not_used_for_a_grace_period_goes_with_its_bytes(any_store: Store) -> None:
    calls: list[str] = []
    part(any_store, "a shard", calls)
    swept(any_store, 6)
    part(any_store, "a shard", calls)
    assert calls == ["a shard"]
    found = swept(any_store, 8)
    assert (len(found.parts), len(found.blobs)) == (1, 1)
    part(any_store, "a shard", calls)
    assert calls == ["a shard", "a shard"], "it is made again"


def test_a_part_whose_bytes_a_version_has_anyway_stays(any_store: Store) -> None:
    with any_store.draft(recipe()) as draft:
        draft.include(part(any_store, "a shard").files[0])
        draft.commit(totals={})
    found = swept(any_store, 4000)
    assert (found.parts, found.blobs) == ([], [])


def aged(store: Store, prefixes: Sequence[str], days: float) -> None:
    """Date what is there back; only a folder's files can be."""
    for prefix in prefixes:
        for key in keys(store, prefix):
            path = Path(store.url.removeprefix("file://")) / key
            os.utime(path, (time.time() - days * DAY_S,) * 2)


@pytest.mark.parametrize(("days", "is_new"), [(3, False), (4, True)])
def test_what_is_used_again_is_made_young_when_it_is_older_than_half_the_grace(
    store: Store, days: float, is_new: bool
) -> None:
    part(store, "a shard")
    commit(store, recipe())
    aged(store, ["parts/", "blobs/"], days)
    part(store, "a shard")
    commit(store, recipe(1))
    ages = [time.time() - each.modified for prefix in ("parts/", "blobs/") for each in store.backend.list(prefix)]
    assert [age < DAY_S for age in ages] == [is_new] * 4


# Work in flight


def test_snapshots_of_work_in_flight_are_needed_until_it_counts_as_given_up(any_store: Store, tmp_path: Path) -> None:
    entry = snapshot(any_store, tmp_path, "in flight")
    swept(any_store, 29)
    work = any_store.work(recipe())
    assert work.load("step-1")[0] == [entry]
    assert work.file(entry).read_text() == "in flight"
    found = swept(any_store, 31)
    assert {each.key for each in found.work} == {work.key(entry), snapshot_key(entry)}
    assert found.freed_bytes > len("in flight")
    assert keys(any_store, "work/vocabulary/") == []


def test_blobs_that_a_snapshot_names_are_needed_as_long_as_it(any_store: Store, tmp_path: Path) -> None:
    """Those of a training that has ended and isn't published; and those of works that a bertmill before this left."""
    (tmp_path / "weights").write_text("in flight")
    work = any_store.work(recipe())
    entry = work.add_blob(tmp_path / "weights", "weights")
    work.commit("trained", [entry], {})
    swept(any_store, 29)
    assert work.load("trained")[0] == [entry]
    assert work.file(entry).read_text() == "in flight"
    found = swept(any_store, 31)
    assert (len(found.work), [each.key for each in found.blobs]) == (1, [blob_key(entry.sha256)])


def test_what_a_killed_run_had_begun_stays_with_its_work_and_goes_with_it(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("half")
    entry = any_store.work(recipe()).add(tmp_path / "state", "state", "step-1")
    assert swept(any_store, 29).work == []
    assert [each.key for each in swept(any_store, 31).work] == [any_store.work(recipe()).key(entry)]


def test_of_a_work_that_goes_the_records_go_before_the_files(store: Store, tmp_path: Path) -> None:
    """A collector that is killed after each removal in turn: what a snapshot names is there, or it isn't."""
    store = open_store(store.settings.model_copy(update={"lease_s": 0.5}))  # a killed one's is waited for
    for removals in range(6):
        for number in range(2):
            snapshot(store, tmp_path, f"in flight {number}", number)
        collector = later(store, 31)
        backend, left = collector.backend, iter(range(removals))
        real = backend.delete

        def delete(key: str, real: Any = real, left: Any = left) -> None:
            if next(left, None) is None:
                raise StoreError("killed")
            real(key)

        backend.delete = delete  # type: ignore[method-assign]
        with suppress(StoreError):
            collect(collector, delete=True)
        for work in (store.work(recipe(number)) for number in range(2)):
            for name in work.names():
                assert work.load(name)[1] == {}, "it is whole"


def test_what_a_killed_run_left_of_work_that_is_published_goes_after_the_grace(
    any_store: Store, tmp_path: Path
) -> None:
    snapshot(any_store, tmp_path, "published since")
    commit(any_store, recipe())
    assert swept(any_store, 6).work == []
    assert len(swept(any_store, 8).work) == 2


# Sweeping versions


def line(store: Store, count: int) -> list[Artifact]:
    """As many versions of a name, each the next night's, with files of its own."""
    return [commit(store, recipe(number), {"own": f"night {number}"}) for number in range(count)]


def test_keep_sweeps_all_but_the_last_of_each_alias_and_what_these_were_made_from(any_store: Store) -> None:
    nights = line(any_store, 5)
    any_store.aliases.tag(nights[0], "production", "the best")
    child = commit(any_store, recipe(7, "child", parents=(nights[1],)))
    found = swept(any_store, 8, keep=2)
    assert found.versions == [nights[2].reference]
    left = {each.reference for each in any_store.listing() if not each.is_retracted}
    assert left == {each.reference for each in (nights[0], nights[1], nights[3], nights[4], child)}
    with pytest.raises(UnknownReference, match="was swept on .*: not among the last 2 of any alias"):
        any_store.resolve(nights[2].reference)


def test_the_bytes_of_a_swept_version_go_a_grace_period_later_and_a_run_makes_it_again(any_store: Store) -> None:
    nights = line(any_store, 3)
    assert swept(any_store, 8, keep=1).blobs == [], "a run that began before may still read them"
    assert swept(any_store, 6).blobs == []
    assert len(swept(any_store, 8).blobs) == 2
    again = commit(any_store, recipe(0), {"own": "night 0"})
    assert (again.version, again.digest) == (f"{nights[0].version}-2", nights[0].digest)
    assert verify_store(any_store, deep=True) == []


def test_keep_leaves_young_versions_that_no_alias_leads_to(any_store: Store) -> None:
    line(open_store(any_store.settings, moves_latest=False), 2)
    assert swept(any_store, 6, keep=1).versions == []
    assert len(swept(any_store, 8, keep=1).versions) == 2


# Erasure


def test_purge_erases_a_retracted_versions_bytes_at_once_with_the_parts_that_have_them(any_store: Store) -> None:
    shard = part(any_store, "a person's name")
    with any_store.draft(recipe()) as draft:
        draft.include(shard.files[0])
        made = draft.commit(totals={})
    other = commit(any_store, recipe(1))
    copy = any_store.file(made, "text")
    any_store.aliases.tag(made, "production")
    retract(any_store, any_store.version(str(made)), "a person asked for it")
    assert swept(any_store, 0).blobs == [], "without purge it waits for the grace period"
    found = swept(any_store, 0, purge=True)
    assert [each.key for each in found.blobs] == [blob_key(shard.files[0].sha256)]
    assert not copy.exists(), "nor is it in the cache"
    assert keys(any_store, "parts/") == []
    assert any_store.find(recipe(1)) == other
    assert b"a person's name" not in b"".join(any_store.backend.get(key) or b"" for key in keys(any_store))


def test_purge_tells_who_else_has_the_bytes_and_keeps_them(any_store: Store) -> None:
    first, second = commit(any_store, recipe(0)), commit(any_store, recipe(1))
    retract(any_store, any_store.version(str(first)), "a mistake")
    found = swept(any_store, 0, purge=True)
    assert (found.shared, found.blobs) == ([second.reference], [])
    assert any_store.find(recipe(1)) == second
    retract(any_store, any_store.version(str(second)), "a mistake")
    assert len(swept(any_store, 0, purge=True).blobs) == 2


def test_purge_erases_the_snapshots_of_a_retracted_training(any_store: Store, tmp_path: Path) -> None:
    snapshot(any_store, tmp_path, "weights")
    snapshot(any_store, tmp_path, "another's", number=1)
    made = commit(any_store, recipe())
    retract(any_store, any_store.version(str(made)), "a mistake")
    found = swept(any_store, 0, purge=True)
    assert (len(found.work), len(found.blobs)) == (2, 2)
    assert any_store.work(recipe(1)).names() == ["step-1"]


def test_purge_erases_older_versions_of_objects_too(versioned_store: Store) -> None:
    # Some services don't hold to create-only writes where versions are kept.
    store = open_store(versioned_store.settings.model_copy(update={"store_single_writer": True}))
    made = commit(store, recipe())
    commit(store, recipe(), force=True)
    commit(store, recipe(1), {"kept": "kept"})
    for version in (str(made), f"{made}-2"):
        retract(store, store.version(version), "a person asked for it")
    swept(store)
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    client, place = boto3.Session().client("s3"), {"Bucket": bucket, "Prefix": f"{prefix}/blobs/"}
    assert len(client.list_object_versions(**place)["Versions"]) > 2, "what was removed is still there"
    swept(store, 0, purge=True)
    left = client.list_object_versions(**place)
    assert (len(left["Versions"]), left.get("DeleteMarkers", [])) == (1, [])


def test_purge_erases_older_versions_of_checkpoints_that_are_gone_and_leaves_those_that_are_there(
    versioned_store: Store, tmp_path: Path
) -> None:
    store = open_store(versioned_store.settings.model_copy(update={"store_single_writer": True}))
    snapshot(store, tmp_path, "retired")
    store.work(recipe()).clear()
    kept = snapshot(store, tmp_path, "kept")
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    client, place = boto3.Session().client("s3"), {"Bucket": bucket, "Prefix": f"{prefix}/{work_root(recipe())}"}
    sizes = [each["Size"] for each in client.list_object_versions(**place)["Versions"]]
    assert len("retired") in sizes, "what was removed is still there"
    swept(store, 0, purge=True)
    sizes = [each["Size"] for each in client.list_object_versions(**place)["Versions"]]
    assert len("retired") not in sizes
    assert store.work(recipe()).file(kept).read_text() == "kept"


# Against work that goes on


def test_what_a_publish_in_flight_uses_again_is_not_taken_from_under_it(store: Store) -> None:
    """It was old when the collection looked; the publish used it before the collection came to remove it."""
    left = stray(store, "[PAD]\nmill\n")
    aged(store, ["blobs/"], 8)
    collection = _Collection(store, None, False, 30)
    found = collection.plan()
    assert [each.key for each in found.blobs] == [left]
    made = commit(store, recipe())
    with Lease(store, ROOT, "garbage collection") as lease:
        collection.sweep(found, lease)
    assert (found.blobs, found.broken) == ([], [])
    assert store.find(recipe()) == made
    assert verify_store(store, deep=True) == []


def test_a_publish_whose_bytes_are_purged_fails_whole_and_is_run_again(any_store: Store) -> None:
    with any_store.draft(recipe()) as draft:
        (draft.folder / "vocab.txt").write_text("mill")
        draft.add("vocab.txt")
        swept(any_store, 0, purge=True)
        with pytest.raises(StoreError, match="The bytes of vocab.txt are gone from the store before the commit; run"):
            draft.commit(totals={})
    assert any_store.versions() == []
    commit(any_store, recipe())
    assert verify_store(any_store, deep=True) == []


def test_a_version_that_was_published_meanwhile_and_lost_a_file_is_told(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that stood still between its last look and the removal."""
    stray(any_store, "[PAD]\nmill\n")
    collector = later(any_store, 8)
    look, made = collector.backend.look, list[Artifact]()

    def look_and_stand_still(key: str) -> Any:
        seen = look(key)
        if not made:
            made.append(commit(any_store, recipe()))
        return seen

    monkeypatch.setattr(collector.backend, "look", look_and_stand_still)
    found = collect(collector, delete=True)
    assert found.broken == [made[0].reference]
    assert any_store.find(recipe()) is None, "what isn't whole isn't found"
    assert commit(any_store, recipe()) == made[0], "its bytes are there again, so the version is"
    assert any_store.find(recipe()) == made[0]


def test_one_collection_removes_at_a_time_and_a_second_waits(any_store: Store) -> None:
    told = []
    with Lease(any_store, ROOT, "garbage collection") as first:

        def waiting(holder: Any) -> None:
            told.append(holder.pid)
            first.__exit__(None, None, None)

        collect(any_store, delete=True, waiting=waiting)
    assert told == [os.getpid()]


def test_a_collection_that_takes_too_long_stops_before_what_it_knows_is_too_old(any_store: Store) -> None:
    left = stray(any_store, "left by a killed run")
    collection = _Collection(later(any_store, 8), None, False, 30)
    collection.began -= 2 * DAY_S
    with (
        Lease(any_store, ROOT, "garbage collection") as lease,
        pytest.raises(StoreError, match="more than a quarter of BERTMILL_STORE_GRACE_DAYS and stops"),
    ):
        collection.sweep(collection.plan(), lease)
    assert left in keys(any_store)
