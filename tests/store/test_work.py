"""A killed run goes on from its newest whole snapshot; a torn one is never seen."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store import FileEntry, Store, Work, open_store
from pipeline.store.gc import collect
from pipeline.store.keys import blob_key
from pipeline.store.s3 import PART_SIZE, S3Backend
from pipeline.store.usage import usage_of
from pipeline.store.verify import verify_store
from tests.artifacts import commit, keys, recipe
from tests.damage import damage_object


def snapshot(store: Store, tmp_path: Path, name: str, text: str) -> FileEntry:
    (tmp_path / "state").write_text(text)
    work = store.work(recipe())
    entry = work.add(tmp_path / "state", "state", name)
    work.commit(name, [entry], {"text": text})
    return entry


def records(store: Store) -> list[str]:
    return [key for key in keys(store, "work/") if key.endswith("snapshot.json")]


def texts(store: Store, prefix: str = "work/") -> list[str]:
    """The bytes of all files there, without records."""
    found = [key for key in keys(store, prefix) if key not in records(store)]
    return sorted((store.backend.get(key) or b"").decode() for key in found)


def begin(work: Work, tmp_path: Path, name: str, text: str) -> FileEntry:
    """Add a file to a snapshot that isn't committed."""
    (tmp_path / "state").write_text(text)
    return work.add(tmp_path / "state", "state", name)


def test_snapshots_are_listed_newest_first_and_come_back_whole(any_store: Store, tmp_path: Path) -> None:
    for step in (9, 100, 20):
        snapshot(any_store, tmp_path, f"step-{step:06d}", f"after {step}")
    work = any_store.work(recipe())
    assert work.names() == ["step-000100", "step-000020", "step-000009"]
    (entry,), record = work.load("step-000020")
    assert work.file(entry).read_text() == "after 20"
    assert record == {"text": "after 20"}


def test_a_snapshot_that_was_not_committed_is_never_seen(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("half")
    any_store.work(recipe()).add(tmp_path / "state", "state", "step-1")
    assert any_store.work(recipe()).names() == []
    with pytest.raises(CorruptArtifact, match="can't be read"):
        any_store.work(recipe()).load("step-1")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_snapshot_that_lost_bytes_is_not_loaded_but_may_be_made_again(
    any_store: Store, tmp_path: Path, damage: str
) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "first")
    damage_object(any_store, any_store.work(recipe()).key(entry), damage)
    with pytest.raises(CorruptArtifact, match="step-1/snapshot.json lacks the bytes of state"):
        any_store.work(recipe()).load("step-1")
    snapshot(any_store, tmp_path, "step-1", "second")
    (again,), record = any_store.work(recipe()).load("step-1")
    assert (any_store.work(recipe()).file(again).read_text(), record) == ("second", {"text": "second"})


@pytest.mark.parametrize("body", [b"", b'{"files": [{"pa', b"[]", b'{"files": [3], "record": {}}', b'{"files": []}'])
def test_an_unreadable_snapshot_is_told_and_may_be_made_again(any_store: Store, tmp_path: Path, body: bytes) -> None:
    snapshot(any_store, tmp_path, "step-1", "first")
    (key,) = records(any_store)
    any_store.backend.put(key, body)
    with pytest.raises(CorruptArtifact, match="can't be read"):
        any_store.work(recipe()).load("step-1")
    snapshot(any_store, tmp_path, "step-1", "first")
    assert any_store.work(recipe()).load("step-1")[1] == {"text": "first"}


def test_a_whole_snapshot_stays_where_another_of_its_name_comes(any_store: Store, tmp_path: Path) -> None:
    snapshot(any_store, tmp_path, "step-1", "first")
    snapshot(any_store, tmp_path, "step-1", "second")
    assert any_store.work(recipe()).load("step-1")[1] == {"text": "first"}


def test_snapshots_belong_to_one_recipe_and_are_no_artifacts(any_store: Store, tmp_path: Path) -> None:
    snapshot(any_store, tmp_path, "step-1", "first")
    assert any_store.work(recipe(1)).names() == []
    assert any_store.work(recipe(name="renamed")).names() == ["step-1"], "names are addresses"
    assert any_store.find(recipe()) is None
    assert any_store.versions() == []


def test_a_snapshot_is_forgotten_alone_or_with_all(any_store: Store, tmp_path: Path) -> None:
    for step in range(3):
        snapshot(any_store, tmp_path, f"step-{step}", str(step))
    work = any_store.work(recipe())
    work.remove("step-1")
    work.remove("step-7")
    assert work.names() == ["step-2", "step-0"]
    work.clear()
    assert work.names() == []
    assert keys(any_store, "work/") == []


# Files


def test_a_snapshots_bytes_go_with_it_at_once_and_no_others(any_store: Store, tmp_path: Path) -> None:
    for step in range(4):
        snapshot(any_store, tmp_path, f"step-{step}", f"after {step}")
    work = any_store.work(recipe())
    work.remove("step-0", "step-2")
    assert texts(any_store) == ["after 1", "after 3"]
    work.clear()
    assert keys(any_store, "work/") == keys(any_store, "blobs/") == []


def test_equal_bytes_of_two_snapshots_and_of_a_blob_go_each_with_its_own(any_store: Store, tmp_path: Path) -> None:
    for name in ("step-1", "step-2"):
        snapshot(any_store, tmp_path, name, "the same")
    work = any_store.work(recipe())
    blob = work.add_blob(tmp_path / "state", "state")
    work.remove("step-1")
    (entry,), _ = work.load("step-2")
    assert work.file(entry).read_text() == "the same"
    work.clear()
    assert any_store.blob(blob).read_text() == "the same"
    assert keys(any_store, "work/") == []


def test_what_an_artifact_is_to_have_is_stored_as_a_blob_and_outlives_the_work(
    any_store: Store, tmp_path: Path
) -> None:
    work = any_store.work(recipe())
    (tmp_path / "weights").write_text("the last ones")
    work.commit("trained", [work.add_blob(tmp_path / "weights", "weights")], {})
    with any_store.draft(recipe()) as draft:
        for entry in work.load("trained")[0]:
            draft.include(entry)
        made = draft.commit(totals={})
    work.clear()
    assert any_store.file(made, "weights").read_text() == "the last ones"


def test_a_file_of_work_is_refused_by_an_artifact_in_a_sentence(any_store: Store, tmp_path: Path) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "in flight")
    with any_store.draft(recipe()) as draft:
        draft.include(entry)
        with pytest.raises(StoreError, match="The bytes of state are gone from the store before the commit"):
            draft.commit(totals={})


def test_a_snapshot_of_a_store_before_this_names_blobs_and_is_read_all_the_same(
    any_store: Store, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("as it was")
    entry = any_store.add_blob(tmp_path / "state", "state", None)
    work = any_store.work(recipe())
    work.commit("step-1", [entry], {"text": "as it was"})
    assert (any_store.backend.get(records(any_store)[0]) or b"").count(b"folder") == 0
    assert work.load("step-1") == ([entry], {"text": "as it was"})
    assert work.file(entry).read_text() == "as it was"
    work.remove("step-1")
    assert keys(any_store, "work/") == []
    assert keys(any_store, "blobs/") == [blob_key(entry.sha256)], "who else has it isn't known here"
    any_store.work(recipe()).commit("step-2", [entry], {})
    any_store.backend.delete(blob_key(entry.sha256))
    with pytest.raises(CorruptArtifact, match="lacks the bytes of state"):
        work.load("step-2")


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt"])
def test_a_files_bytes_are_checked_when_it_is_read(any_store: Store, tmp_path: Path, damage: str) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "as it was\n")
    work = any_store.work(recipe())
    damage_object(any_store, work.key(entry), damage)
    with pytest.raises(CorruptArtifact, match=f"state is {'missing' if damage == 'missing' else 'corrupt'}: "):
        work.file(entry)
    again = begin(work, tmp_path, "step-1", "as it was\n")
    assert work.file(again).read_text() == "as it was\n", "it is stored over what was there"


def test_a_record_leads_to_no_file_outside_its_work(any_store: Store, tmp_path: Path) -> None:
    snapshot(any_store, tmp_path, "step-1", "first")
    (key,) = records(any_store)
    body = (any_store.backend.get(key) or b"").replace(b"0000000001/step-1", b"../../../artifacts")
    any_store.backend.put(key, body)
    with pytest.raises(CorruptArtifact, match="can't be read"):
        any_store.work(recipe()).load("step-1")


def test_a_file_of_several_parts_comes_back_and_goes(any_store: Store, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(PART_SIZE + 1))
    work = any_store.work(recipe())
    entry = work.add(large, "large", "step-1")
    work.commit("step-1", [entry], {})
    assert work.file(entry).read_bytes() == large.read_bytes()
    work.clear()
    assert keys(any_store) == []


# Kills


def test_a_removal_that_is_killed_leaves_no_snapshot_without_its_files(any_store: Store, tmp_path: Path) -> None:
    """Killed after each of its removals in turn; and run again, it leaves nothing."""
    for removals in range(4):
        for step in (1, 2):
            snapshot(any_store, tmp_path, f"step-{step}", f"after {step}")
        killed = open_store(any_store.settings)
        real, left = killed.backend.delete, iter(range(removals))

        def delete(key: str, real: Any = real, left: Any = left) -> None:
            if next(left, None) is None:
                raise StoreError("killed")
            real(key)

        killed.backend.delete = delete  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            killed.work(recipe()).clear()
        work = any_store.work(recipe())
        for name in work.names():
            assert work.load(name)[1]["text"] == f"after {name[-1]}"
        work.clear()
        assert keys(any_store, "work/") == []


def test_what_an_earlier_owner_began_goes_at_the_next_removal_and_what_is_on_its_way_stays(
    any_store: Store, tmp_path: Path
) -> None:
    first, second = (any_store.work(recipe(), epoch) for epoch in (1, 2))
    begin(first, tmp_path, "step-2", "half, by the first")
    begin(second, tmp_path, "step-3", "half, by the second")
    first.commit("step-1", [begin(first, tmp_path, "step-1", "whole")], {})
    assert (first.begun(), second.begun()) == (["step-2"], ["step-3"])
    second.remove()
    assert texts(any_store) == ["half, by the second", "whole"]
    second.remove("step-3")
    first.remove("step-3")
    assert texts(any_store) == ["whole"]


def test_an_owner_that_has_lost_the_lease_removes_no_file_of_the_one_after_it(any_store: Store, tmp_path: Path) -> None:
    first, second = (any_store.work(recipe(), epoch) for epoch in (1, 2))
    for work, text in ((first, "the first"), (second, "the second")):
        work.commit("step-1", [begin(work, tmp_path, "step-1", text)], {})
    first.clear()
    (entry,), _ = first.load("step-1")
    assert first.file(entry).read_text() == "the second"


def test_a_lease_that_ends_its_work_leaves_no_byte_of_it(any_store: Store, tmp_path: Path) -> None:
    begin(any_store.work(recipe(), 1), tmp_path, "step-1", "of a run that was killed")
    with any_store.lease(recipe()) as lease:
        work = any_store.work(recipe(), lease.epoch)
        work.commit("step-2", [begin(work, tmp_path, "step-2", "whole")], {})
        begin(work, tmp_path, "step-3", "half")
        lease.finish()
    assert keys(any_store) == []


def test_an_upload_that_was_cut_off_goes_with_its_snapshot(any_store: Store, tmp_path: Path) -> None:
    first, second = (any_store.work(recipe(), epoch) for epoch in (1, 2))
    for work, name in ((first, "step-1"), (second, "step-1"), (second, "step-2")):
        cut_off(any_store, f"{work.key(begin(work, tmp_path, name, 'whole')).rpartition('/')[0]}/{'0' * 64}")
    assert len(list(any_store.backend.unfinished("work/"))) == 3
    second.remove("step-1")
    assert ["step-2" in each.key for each in any_store.backend.unfinished("work/")] == [True], "it is on its way"
    second.clear()
    assert list(any_store.backend.unfinished()) == []


def test_where_uploads_may_not_be_listed_a_snapshot_is_removed_all_the_same(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(prefix: str = "") -> None:
        raise StoreError("Access denied")

    snapshot(any_store, tmp_path, "step-1", "first")
    monkeypatch.setattr(any_store.backend, "unfinished", denied)
    any_store.work(recipe()).clear()
    assert keys(any_store) == []


def cut_off(store: Store, key: str) -> None:
    """What a process leaves that is killed while it stores a file."""
    if isinstance(store.backend, S3Backend):
        store.backend._client.create_multipart_upload(**store.backend._s3.where(key))
    else:
        folder = (Path(store.url.removeprefix("file://")) / key).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".tmp-killed").write_text("half")


# The cache, and those who look after the store


def test_a_file_that_is_released_is_in_no_cache_unless_another_process_reads_it(
    any_store: Store, tmp_path: Path
) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "read once")
    work = any_store.work(recipe())
    another = open_store(any_store.settings)  # holds its copies by descriptors of its own, as a process does
    path = work.file(entry)
    assert another.work(recipe()).file(entry) == path
    work.release(entry)
    assert path.read_text() == "read once"
    another.work(recipe()).release(entry)
    assert path.exists() == (not isinstance(any_store.backend, S3Backend)), "a folder's is the file itself"
    assert work.file(entry).read_text() == "read once"


def test_a_removed_snapshot_is_in_no_cache(any_store: Store, tmp_path: Path) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "read once")
    work = any_store.work(recipe())
    path = work.file(entry)
    work.remove("step-1")
    assert not path.exists()


def test_du_counts_work_in_flight_and_a_deep_verify_reads_it(any_store: Store, tmp_path: Path) -> None:
    commit(any_store, recipe(1))
    entry = snapshot(any_store, tmp_path, "step-1", "in flight\n")
    (key,) = records(any_store)
    assert usage_of(any_store, "kind").other == entry.size + len(any_store.backend.get(key) or b"")
    assert verify_store(any_store, deep=True) == []
    damage_object(any_store, key := any_store.work(recipe()).key(entry), "corrupt")
    (problem,) = verify_store(any_store, deep=True)
    assert str(problem).startswith(f"{key} has the sha256 ")
    assert collect(any_store).work == []
