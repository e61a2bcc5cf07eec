"""An artifact exists from its manifest on: written last, once, by one of however many try; parts are remembered."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from pipeline.errors import BertmillError, StoreError, UnknownReference
from pipeline.mapping import process_map
from pipeline.store import Artifact, PartDraft, Store
from pipeline.store import draft as drafting
from pipeline.store.keys import blob_key
from tests.artifacts import commit, keys, recipe

RACERS = 8


def test_nothing_is_visible_before_the_manifest(any_store: Store) -> None:
    with any_store.draft(recipe()) as draft:
        (draft.folder / "vocab.txt").write_text("mill")
        draft.add("vocab.txt")
        assert any_store.find(recipe()) is None
        assert any_store.versions() == []
        with pytest.raises(UnknownReference):
            any_store.resolve("vocabulary/small")
        assert [key.split("/")[0] for key in keys(any_store)] == ["blobs"]
        made = draft.commit(totals={})
        assert any_store.find(recipe()) == made


def test_a_draft_that_fails_publishes_nothing_and_leaves_no_scratch(any_store: Store) -> None:
    folders = []

    def fail_half_way() -> None:
        with any_store.draft(recipe()) as draft:
            folders.append(draft.folder)
            (draft.folder / "vocab.txt").write_text("mill")
            draft.add("vocab.txt")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert not folders[0].exists()
    assert any_store.versions() == []
    assert keys(any_store, "artifacts/") == keys(any_store, "aliases/") == []


def test_an_artifact_whose_bytes_vanish_before_its_commit_is_not_committed(any_store: Store) -> None:
    with any_store.draft(recipe()) as draft:
        (draft.folder / "vocab.txt").write_text("mill")
        any_store.backend.delete(blob_key(draft.add("vocab.txt").sha256))
        with pytest.raises(StoreError, match="The bytes of vocab.txt are gone"):
            draft.commit(totals={})
    assert any_store.versions() == []


def race(store: Store, racer: int, barrier: Barrier | None = None, *, same: bool = True) -> tuple[str, str]:
    """(the artifact or the failure, "committed" or its sentence)."""
    if barrier is not None:
        barrier.wait()
    try:
        made = commit(store, recipe(), {"vocab.txt": "mill" if same else f"mill {racer}"})
    except BertmillError as error:
        return "", str(error)
    return f"{made} {made.digest} {made.manifest_sha256}", "committed"


@pytest.mark.parametrize("who", ["threads", "processes"])
def test_of_many_that_commit_the_same_one_wins_and_the_others_return_its_artifact(any_store: Store, who: str) -> None:
    if who == "threads":
        with ThreadPoolExecutor(RACERS) as pool:
            barrier = Barrier(RACERS)
            ended = list(pool.map(lambda racer: race(any_store, racer, barrier), range(RACERS)))
    else:
        with process_map(3) as parallel:
            ended = list(parallel(partial(race, any_store), range(12)))
    assert {how for _, how in ended} == {"committed"}
    found = any_store.find(recipe())
    assert found is not None
    assert {made for made, _ in ended} == {f"{found} {found.digest} {found.manifest_sha256}"}
    assert len(keys(any_store, "artifacts/")) == 1
    assert len(keys(any_store, "aliases/vocabulary/small/latest/")) == 1


def test_of_many_that_commit_other_bytes_one_wins_and_the_others_are_told(any_store: Store) -> None:
    with ThreadPoolExecutor(RACERS) as pool:
        barrier = Barrier(RACERS)
        ended = list(pool.map(lambda racer: race(any_store, racer, barrier, same=False), range(RACERS)))
    sentences = [how for _, how in ended if how != "committed"]
    assert len(sentences) == RACERS - 1
    for sentence in sentences:
        assert f"vocabulary/small@{recipe().fingerprint[:12]} was committed by another run with other bytes" in sentence
        assert "Keep that one, or make another with --force." in sentence
    assert len(keys(any_store, "artifacts/")) == 1


def test_force_commits_a_version_beside_those_that_are_there(any_store: Store) -> None:
    made = [commit(any_store, recipe(), force=number > 0) for number in range(3)]
    base = recipe().fingerprint[:12]
    assert [artifact.version for artifact in made] == [base, f"{base}-2", f"{base}-3"]
    assert any_store.find(recipe()) == any_store.resolve("vocabulary/small@latest") == made[2]
    assert any_store.resolve(f"vocabulary/small@{base}") == made[0]
    assert len({artifact.manifest_sha256 for artifact in made}) == 3
    assert len({artifact.digest for artifact in made}) == 1


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\\x", "a\0x", ".", "a//b", "./a"])
def test_a_path_that_leaves_the_artifact_is_refused(store: Store, tmp_path: Path, path: str) -> None:
    source = tmp_path / "source"
    source.write_text("mill")
    with store.draft(recipe()) as draft:
        with pytest.raises(UnknownReference, match="must be relative, with '/' and without '..'"):
            draft.add(path, source)
        entry = draft.add("fine", source)
        with pytest.raises(UnknownReference, match="must be relative"):
            draft.include(entry, path)
        assert [each.path for each in draft.files] == ["fine"]


# Stores that don't hold to create-only writes


class Careless:
    """A real backend, but for its create-only writes, which overwrite what is there, as some services' do."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def create(self, key: str, data: bytes) -> bool:
        self._backend.put(key, data)
        return True


def careless(store: Store, *, single_writer: bool) -> Store:
    """A store that ignores create-only writes."""
    made = Store(store.settings.model_copy(update={"store_single_writer": single_writer}))
    made.backend = Careless(made.backend)  # type: ignore[assignment]
    return made


def test_a_store_that_ignores_create_only_writes_is_refused_before_anything_is_written(any_store: Store) -> None:
    made = commit_in(store := careless(any_store, single_writer=False))
    assert "ignores create-only writes: 8 of 8 racing creates of one key succeeded" in made
    assert "BERTMILL_STORE_SINGLE_WRITER=1" in made
    assert keys(store, "artifacts/") == keys(store, "aliases/") == []
    with pytest.raises(StoreError, match="ignores create-only writes"):
        store.part("count", 1, lambda draft: {})
    with pytest.raises(StoreError, match="ignores create-only writes"):
        store.work(recipe()).commit("step-1", [], {})
    assert keys(store, "parts/") == keys(store, "work/") == []


def commit_in(store: Store) -> str:
    try:
        return str(commit(store, recipe()))
    except StoreError as error:
        return str(error)


def test_a_declared_single_writer_may_commit_there_and_the_manifest_says_so(any_store: Store) -> None:
    store = careless(any_store, single_writer=True)
    made = commit(store, recipe())
    assert store.find(recipe()) == made
    assert store.manifest(made).producer["single_writer"] is True


def test_one_users_word_does_not_spare_the_next_store_its_test(any_store: Store) -> None:
    commit(careless(any_store, single_writer=True), recipe())
    with pytest.raises(StoreError, match="ignores create-only writes"):
        commit(careless(any_store, single_writer=False), recipe(1))


def test_a_sound_store_is_not_said_to_have_a_single_writer(any_store: Store) -> None:
    assert "single_writer" not in any_store.manifest(commit(any_store, recipe())).producer


def test_a_manifest_overwritten_while_it_is_committed_is_noticed(any_store: Store) -> None:
    class Crowded(Careless):
        """Another writer comes right after."""

        def create(self, key: str, data: bytes) -> bool:
            self._backend.put(key, data)
            self._backend.put(key, data.replace(b'"nonce":"', b'"nonce":"0'))
            return True

    store = careless(any_store, single_writer=True)
    store.backend = Crowded(any_store.backend)  # type: ignore[assignment]
    with pytest.raises(StoreError, match="was overwritten while it was committed"):
        commit(store, recipe())


# Parts


def counted(draft: PartDraft, calls: list[int]) -> dict[str, Any]:
    calls.append(os.getpid())
    (draft.folder / "counts.txt").write_text("mill 3")
    draft.add("counts.txt", rows=1)
    return {"words": 3}


def test_a_part_is_made_once_and_remembered(any_store: Store) -> None:
    calls: list[int] = []
    first = any_store.part("count", {"shard": 1}, partial(counted, calls=calls))
    again = open_again(any_store).part("count", {"shard": 1}, partial(counted, calls=calls))
    assert len(calls) == 1
    assert again == first
    assert any_store.blob(again.files[0]).read_text() == "mill 3"
    assert again.record == {"words": 3}


def open_again(store: Store) -> Store:
    return Store(store.settings)


@pytest.mark.parametrize(("stage", "identity"), [("other", {"shard": 1}), ("count", {"shard": 2})])
def test_another_stage_or_identity_is_another_part(store: Store, stage: str, identity: Any) -> None:
    calls: list[int] = []
    store.part("count", {"shard": 1}, partial(counted, calls=calls))
    store.part(stage, identity, partial(counted, calls=calls))
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_part_that_lost_its_bytes_is_made_again_and_remembered_again(any_store: Store, damage: str) -> None:
    calls: list[int] = []
    make = partial(counted, calls=calls)
    entry = any_store.part("count", 1, make).files[0]
    if damage == "missing":
        any_store.backend.delete(blob_key(entry.sha256))
    else:
        any_store.backend.put(blob_key(entry.sha256), b"mill")
    for _ in range(2):
        part = any_store.part("count", 1, make)
        assert any_store.blob(part.files[0]).read_text() == "mill 3"
    assert len(calls) == 2


def test_an_unreadable_record_of_a_part_is_written_anew(any_store: Store) -> None:
    calls: list[int] = []
    make = partial(counted, calls=calls)
    any_store.part("count", 1, make)
    (key,) = keys(any_store, "parts/")
    any_store.backend.put(key, b'{"files": [{"pa')
    assert [any_store.part("count", 1, make).record for _ in range(2)] == [{"words": 3}] * 2
    assert len(calls) == 2


def test_a_part_that_fails_is_not_remembered(any_store: Store) -> None:
    def fail(draft: PartDraft) -> dict[str, Any]:
        (draft.folder / "counts.txt").write_text("half")
        draft.add("counts.txt")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_store.part("count", 1, fail)
    assert keys(any_store, "parts/") == []


def test_of_many_that_make_a_part_all_return_the_same(any_store: Store) -> None:
    def make(number: int) -> Any:
        def slow(draft: PartDraft) -> dict[str, Any]:
            (draft.folder / "own.txt").write_text(f"made by {number}")
            draft.add("own.txt")
            barrier.wait()
            return {"maker": number}

        return any_store.part("count", 1, slow)

    barrier = Barrier(RACERS)
    with ThreadPoolExecutor(RACERS) as pool:
        parts = list(pool.map(make, range(RACERS)))
    assert len({part.record["maker"] for part in parts}) == 1
    assert len({part.files for part in parts}) == 1


def test_a_draft_takes_in_what_a_part_has_stored(any_store: Store) -> None:
    part = any_store.part("count", 1, partial(counted, calls=[]))
    with any_store.draft(recipe()) as draft:
        draft.include(part.files[0], "train/00000.txt")
        made: Artifact = draft.commit(totals={})
    assert any_store.file(made, "train/00000.txt").read_text() == "mill 3"
    assert any_store.manifest(made).file("train/00000.txt").rows == 1


def test_files_that_are_added_at_once_are_the_same_as_one_after_the_other(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "SMALL", 100)  # some count as large
    texts = {f"folder/{number:02d}.txt": f"{number} " * number for number in range(1, 60)}
    with any_store.draft(recipe()) as draft:
        (draft.folder / "folder").mkdir()
        for path, text in texts.items():
            (draft.folder / path).write_text(text)
        assert [entry.path for entry in draft.add_all(reversed(texts))] == sorted(texts)
        made = draft.commit(totals={})
    assert {path: any_store.file(made, path).read_text() for path in texts} == texts
    assert commit(any_store, recipe(1), texts).digest == made.digest


def test_of_files_that_are_added_at_once_none_may_lie_outside_the_scratch_folder(store: Store) -> None:
    with store.draft(recipe()) as draft, pytest.raises(UnknownReference, match="must be relative"):
        draft.add_all(["../outside.txt"])
