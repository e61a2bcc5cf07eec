"""What is committed is found by recipe, version, prefix and alias; what is damaged is told, and never found."""

import json
import os
import pickle
import time
import uuid
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, CorruptArtifact, StoreError, UnknownReference
from pipeline.settings import Settings
from pipeline.store import FileEntry, Store, open_store
from pipeline.store.artifact import tree_digest
from pipeline.store.keys import manifest_key
from pipeline.store.service import _session
from tests.artifacts import commit, keys, recipe
from tests.damage import change_manifest, damage_blob, entry_of


def test_what_was_committed_is_found_by_its_recipe_and_by_nothing_else(any_store: Store) -> None:
    assert any_store.find(recipe()) is None
    made = commit(any_store, recipe())
    assert any_store.find(recipe()) == made
    assert made.version == recipe().fingerprint[:12]
    assert any_store.find(recipe(1)) is None
    assert any_store.find(recipe(name="other")) is None


def test_files_come_back_as_they_went_in(any_store: Store) -> None:
    made = commit(any_store, recipe(), {"a.txt": "河水\n", "b/c.txt": ""})
    assert any_store.file(made, "a.txt").read_text(encoding="utf-8") == "河水\n"
    assert any_store.file(made, "b/c.txt").read_bytes() == b""
    assert [entry.path for entry in any_store.manifest(made).files] == ["a.txt", "b/c.txt"]


def test_equal_bytes_are_stored_once_for_all_versions(any_store: Store) -> None:
    for number in range(3):
        commit(any_store, recipe(number), {"a.txt": "same", "b.txt": f"own {number}"})
    assert len(keys(any_store, "blobs/")) == 4


def test_a_reference_names_a_version_an_alias_or_the_start_of_a_version(any_store: Store) -> None:
    first, second = commit(any_store, recipe(0)), commit(any_store, recipe(1))
    any_store.aliases.tag(first, "production", "the first")
    assert first.version[:4] != second.version[:4], "the recipes are chosen so"
    for wanted in (first.version, first.version[:4], "production"):
        assert any_store.resolve(f"vocabulary/small@{wanted}") == first
    assert any_store.resolve("vocabulary/small@latest") == any_store.resolve("vocabulary/small") == second


def test_a_start_that_fits_several_versions_is_refused_with_their_names(any_store: Store) -> None:
    first = commit(any_store, recipe())
    second = commit(any_store, recipe(), force=True)
    with pytest.raises(UnknownReference) as error:
        any_store.resolve(f"vocabulary/small@{first.version[:5]}")
    assert f"fits 2 versions: {first.version}, {second.version}. Write more of it." in str(error.value)
    assert any_store.resolve(str(first)) == first, "a whole version is no start of another"


def test_an_unknown_name_suggests_the_nearest(any_store: Store) -> None:
    commit(any_store, recipe(name="small"))
    commit(any_store, recipe(name="large"))
    with pytest.raises(UnknownReference, match="has no vocabulary/smal. Did you mean 'vocabulary/small'?"):
        any_store.resolve("vocabulary/smal@latest")


def test_an_unknown_version_lists_what_there_is(any_store: Store) -> None:
    made = commit(any_store, recipe())
    with pytest.raises(UnknownReference) as error:
        any_store.resolve("vocabulary/small@prodction")
    assert f"has no version or alias 'prodction'. It has: latest, {made.version}." in str(error.value)


def test_an_empty_store_says_how_it_is_filled(any_store: Store) -> None:
    with pytest.raises(UnknownReference, match="It is empty: `bertmill run tiny` fills it."):
        any_store.resolve("corpus/wiki@latest")


def test_versions_are_listed_oldest_first(any_store: Store) -> None:
    made = [commit(any_store, recipe(number)).version for number in (2, 0, 1)]
    commit(any_store, recipe(name="other"))
    assert [manifest.version for manifest in any_store.versions("vocabulary", "small")] == made
    assert len(any_store.versions()) == 4


def test_a_parent_is_led_to_and_one_that_was_swapped_is_refused(any_store: Store) -> None:
    first = commit(any_store, recipe(0))
    child = commit(any_store, recipe(1, parents=(first,)))
    assert any_store.parent(child, "vocabulary") == first
    with pytest.raises(UnknownReference, match="was made from no corpus"):
        any_store.parent(child, "corpus")
    change_manifest(any_store, first, totals={"files": 99})
    with pytest.raises(CorruptArtifact, match=f"{child} was made from another {first} than the store has now"):
        any_store.parent(child, "vocabulary")


# Damage


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt"])
def test_a_damaged_file_is_told_by_its_name_its_version_and_the_command_that_makes_it_again(
    any_store: Store, damage: str
) -> None:
    made = commit(any_store, recipe())
    damage_blob(any_store, entry_of(any_store, made), damage)
    with pytest.raises(CorruptArtifact) as error:
        any_store.file(made, "vocab.txt")
    found = "missing" if damage == "missing" else "corrupt"
    assert str(error.value).startswith(f"vocab.txt of vocabulary/small@{made.version} is {found}: ")
    assert str(error.value).endswith("`bertmill vocabulary PRESET --force` makes it again.")
    assert any_store.file(made, "card/card.json").read_text() == "{}", "the others are sound"


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_artifact_that_lost_bytes_is_not_found_and_a_run_that_makes_them_again_mends_it(
    any_store: Store, damage: str
) -> None:
    made = commit(any_store, recipe())
    damage_blob(any_store, entry_of(any_store, made), damage)
    assert any_store.find(recipe()) is None
    assert commit(any_store, recipe()) == made
    assert any_store.find(recipe()) == made
    assert any_store.file(made, "vocab.txt").read_text() == "[PAD]\nmill\n"


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_run_that_makes_other_bytes_than_those_lost_commits_a_second_version(any_store: Store, damage: str) -> None:
    made = commit(any_store, recipe())
    damage_blob(any_store, entry_of(any_store, made), damage)
    again = commit(any_store, recipe(), {"vocab.txt": "[PAD]\nother\n"})
    assert again.version == f"{made.version}-2"
    assert any_store.find(recipe()) == again
    assert any_store.resolve("vocabulary/small@latest") == again


def test_force_mends_what_is_corrupt_as_the_message_promises(any_store: Store) -> None:
    made = commit(any_store, recipe())
    damage_blob(any_store, entry_of(any_store, made), "corrupt")
    again = commit(any_store, recipe(), force=True)
    assert any_store.file(again, "vocab.txt").read_text() == "[PAD]\nmill\n"
    assert any_store.file(made, "vocab.txt").read_text() == "[PAD]\nmill\n", "the bytes are shared"


def test_a_manifest_that_changed_under_a_reference_is_refused(any_store: Store) -> None:
    made = commit(any_store, recipe())
    change_manifest(any_store, made, metrics={"score": 1})
    with pytest.raises(CorruptArtifact, match=f"The manifest of {made} is missing or changed"):
        any_store.file(made, "vocab.txt")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"kind": "vocabulary"}'])
def test_an_unreadable_manifest_is_no_artifact_and_its_number_is_never_used_again(
    any_store: Store, body: bytes
) -> None:
    made = commit(any_store, recipe())
    any_store.backend.put(manifest_key("vocabulary", "small", made.version), body)
    assert any_store.find(recipe()) is None
    assert commit(any_store, recipe()).version == f"{made.version}-2"


def test_a_manifest_copied_to_another_name_is_no_artifact(any_store: Store) -> None:
    made = commit(any_store, recipe())
    data = any_store.backend.get(manifest_key("vocabulary", "small", made.version)) or b""
    any_store.backend.put(manifest_key("vocabulary", "stolen", made.version), data)
    assert any_store.find(recipe(name="stolen")) is None


def test_a_retracted_version_is_never_found_nor_written_again(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.backend.put(f"artifacts/vocabulary/small/{made.version}/tombstone.json", b"{}")
    assert any_store.find(recipe()) is None
    assert commit(any_store, recipe()).version == f"{made.version}-2"


@pytest.mark.parametrize(
    "path", ["../../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "a\\evil.txt", "", ".", "a//b"]
)
def test_a_manifest_whose_paths_leave_the_artifact_is_not_read(store: Store, tmp_path: Path, path: str) -> None:
    made = commit(store, recipe())
    body = json.loads(store.backend.get(manifest_key("vocabulary", "small", made.version)) or b"")
    body["files"][0]["path"] = path
    digest = tree_digest(FileEntry.model_validate(each) for each in body["files"])
    change_manifest(store, made, files=body["files"], digest=digest)
    assert store.read_manifest("vocabulary", "small", made.version) is None
    with pytest.raises(CorruptArtifact, match="The manifest of .* can't be read"):
        store.export(store.resolve(str(made)), tmp_path / "out")
    with pytest.raises(CorruptArtifact):
        store.export(made, tmp_path / "out")
    assert not list(tmp_path.rglob("evil.txt"))


# Exporting


def test_an_export_is_a_folder_of_the_files(any_store: Store, tmp_path: Path) -> None:
    any_store.export(commit(any_store, recipe()), tmp_path / "out")
    assert (tmp_path / "out/vocab.txt").read_text() == "[PAD]\nmill\n"
    assert (tmp_path / "out/card/card.json").read_text() == "{}"


def test_an_export_never_mixes_with_what_is_there(store: Store, tmp_path: Path) -> None:
    made = commit(store, recipe())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there and not empty. Give a new folder."):
        store.export(made, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


# Where it is


def test_a_store_goes_to_another_process_as_its_settings(any_store: Store) -> None:
    made = commit(any_store, recipe())
    there = pickle.loads(pickle.dumps(open_store(any_store.settings, moves_latest=False)))
    assert (there.url, there.settings, there.moves_latest) == (any_store.url, any_store.settings, False)
    assert there.find(recipe()) == made
    assert len(pickle.dumps(any_store)) < 2_000
    assert len(pickle.dumps(made)) < 500, "what goes between stages is a few hundred bytes"


def test_a_process_has_one_store_of_all_that_it_is_sent_so_that_it_verifies_a_blob_once(any_store: Store) -> None:
    first, second, other = (
        pickle.loads(pickle.dumps(open_store(any_store.settings, moves_latest=moves))) for moves in (True, True, False)
    )
    assert first is second
    assert first is not other


@pytest.mark.parametrize("url", ["/tmp/store", "file://host/store", "s3://", "https://bucket/prefix", "store"])
def test_a_store_that_is_neither_a_folder_nor_s3_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="it reads file:///folder or s3://bucket/prefix"):
        open_store(Settings.from_environment({"BERTMILL_STORE": url}))


def test_a_store_below_a_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = open_store(Settings.from_environment({"BERTMILL_STORE": (tmp_path / "file/store").as_uri()}))
    with pytest.raises(StoreError, match="The store can't list .*: Not a directory. Mend"):
        store.find(recipe())
    with pytest.raises(StoreError, match="The store can't write .*: Not a directory. Mend that, or set BERTMILL_STORE"):
        store.check_writable()
    with pytest.raises(StoreError, match="The store can't write .*: Not a directory"):
        commit(store, recipe())
    with pytest.raises(StoreError, match="The store can't write .*: Not a directory"):
        commit(store, recipe(), {})


def test_an_objects_age_is_told_by_the_stores_clock(any_store: Store) -> None:
    assert any_store.backend.age("work/a") is None
    any_store.backend.put("work/a", b"1")
    time.sleep(2.1)
    any_store.backend.put("work/b", b"2")
    old, young = any_store.backend.age("work/a"), any_store.backend.age("work/b")
    assert old is not None
    assert young is not None
    assert young < 2 <= old < 60
    assert keys(any_store, "work/") == ["work/a", "work/b"]


def test_a_writable_store_is_left_as_it_was(any_store: Store) -> None:
    any_store.check_writable()
    assert [each.key for each in any_store.backend.list("")] == []


def test_nothing_that_is_stored_holds_a_credential(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_KEY")
    secrets = {name: os.environ.get(name, f"{name.lower()}-{uuid.uuid4().hex}") for name in names}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    _session.cache_clear()  # which remembers credentials
    store = open_store(any_store.settings)
    made = commit(store, recipe())
    store.aliases.tag(made, "production", "good")
    store.part("count", {"shard": 1}, lambda draft: {"words": 3})
    store.work(recipe()).commit("step-1", [], {"step": 1})
    stored = [store.backend.get(key) or b"" for key in keys(store)]
    assert len(stored) >= 7
    for value in secrets.values():
        assert not [data for data in stored if value.encode() in data]
    assert set(store.manifest(made).producer) == {"bertmill", "python", "machine", "cores", "user", "seconds"}
