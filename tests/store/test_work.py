"""A killed run goes on from its newest whole snapshot; a torn one is never seen."""

from pathlib import Path

import pytest

from pipeline.errors import CorruptArtifact
from pipeline.store import FileEntry, Store
from pipeline.store.keys import blob_key
from tests.artifacts import keys, recipe


def snapshot(store: Store, tmp_path: Path, name: str, text: str) -> FileEntry:
    (tmp_path / "state").write_text(text)
    work = store.work(recipe())
    entry = work.add(tmp_path / "state", "state")
    work.commit(name, [entry], {"text": text})
    return entry


def test_snapshots_are_listed_newest_first_and_come_back_whole(any_store: Store, tmp_path: Path) -> None:
    for step in (9, 100, 20):
        snapshot(any_store, tmp_path, f"step-{step:06d}", f"after {step}")
    work = any_store.work(recipe())
    assert work.names() == ["step-000100", "step-000020", "step-000009"]
    (entry,), record = work.load("step-000020")
    assert any_store.blob(entry).read_text() == "after 20"
    assert record == {"text": "after 20"}


def test_a_snapshot_that_was_not_committed_is_never_seen(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("half")
    any_store.work(recipe()).add(tmp_path / "state", "state")
    assert any_store.work(recipe()).names() == []
    with pytest.raises(CorruptArtifact, match="can't be read"):
        any_store.work(recipe()).load("step-1")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_snapshot_that_lost_bytes_is_not_loaded_but_may_be_made_again(
    any_store: Store, tmp_path: Path, damage: str
) -> None:
    entry = snapshot(any_store, tmp_path, "step-1", "first")
    if damage == "missing":
        any_store.backend.delete(blob_key(entry.sha256))
    else:
        any_store.backend.put(blob_key(entry.sha256), b"fir")
    with pytest.raises(CorruptArtifact, match="step-1/snapshot.json lacks the bytes of state"):
        any_store.work(recipe()).load("step-1")
    snapshot(any_store, tmp_path, "step-1", "second")
    (again,), record = any_store.work(recipe()).load("step-1")
    assert (any_store.blob(again).read_text(), record) == ("second", {"text": "second"})


@pytest.mark.parametrize("body", [b"", b'{"files": [{"pa', b"[]", b'{"files": [3], "record": {}}', b'{"files": []}'])
def test_an_unreadable_snapshot_is_told_and_may_be_made_again(any_store: Store, tmp_path: Path, body: bytes) -> None:
    snapshot(any_store, tmp_path, "step-1", "first")
    (key,) = keys(any_store, "work/")
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
