"""Whatever is wrong with a store is found, named, and found for each artifact that it touches."""

import pytest

from pipeline.store import Artifact, Store
from pipeline.store.draft import PartDraft
from pipeline.store.keys import alias_key, blob_key, manifest_key
from pipeline.store.retraction import retract
from pipeline.store.verify import verify_store, verify_version
from tests.artifacts import commit, recipe
from tests.damage import change_manifest, damage_blob, entry_of

SHARED = {"vocab.txt": "[PAD]\nmill\n", "own.txt": ""}


def problems(store: Store, *, deep: bool = False) -> list[str]:
    return [str(problem) for problem in verify_store(store, deep=deep)]


def of_version(store: Store, artifact: Artifact, *, deep: bool = False) -> list[str]:
    return [str(problem) for problem in verify_version(store, store.version(str(artifact)), deep=deep)]


@pytest.mark.parametrize("deep", [False, True], ids=["by size", "deep"])
def test_a_sound_store_has_no_problem(any_store: Store, deep: bool) -> None:
    assert problems(any_store, deep=deep) == [], "an empty one neither"
    parent = commit(any_store, recipe())
    child = commit(any_store, recipe(1, parents=(parent,)))
    any_store.aliases.tag(parent, "production")
    any_store.part("count", {"shard": 1}, counted)
    assert problems(any_store, deep=deep) == []
    assert of_version(any_store, child, deep=deep) == []


@pytest.mark.parametrize(
    ("damage", "told"), [("missing", "is missing"), ("truncated", "has 10 bytes, not 11")], ids=["missing", "truncated"]
)
def test_a_file_without_all_its_bytes_is_told_for_each_version_that_has_it(
    any_store: Store, damage: str, told: str
) -> None:
    made = [commit(any_store, recipe(number), SHARED | {"own.txt": f"{number}"}) for number in range(2)]
    damage_blob(any_store, entry_of(any_store, made[0]), damage)
    assert sorted(problems(any_store)) == sorted(f"vocab.txt of {each} {told}" for each in made)
    assert of_version(any_store, made[1]) == [f"vocab.txt of {made[1]} {told}"]


def test_a_changed_byte_is_found_by_reading_it_only(any_store: Store) -> None:
    made, other = commit(any_store, recipe()), commit(any_store, recipe(1), {"other.txt": "other"})
    damage_blob(any_store, entry_of(any_store, made), "corrupt")
    assert problems(any_store) == []
    (told,) = problems(any_store, deep=True)
    found = any_store.backend.digest(blob_key(entry_of(any_store, made).sha256)) or ""
    assert told == f"vocab.txt of {made} is corrupt: its sha256 is {found[:12]}…"
    assert of_version(any_store, made, deep=True) == [told]
    assert of_version(any_store, other, deep=True) == []


def test_bytes_in_the_cache_do_not_stand_in_for_the_stores(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.file(made, "vocab.txt")
    damage_blob(any_store, entry_of(any_store, made), "corrupt")
    assert len(of_version(any_store, made, deep=True)) == 1


def test_a_manifest_that_cannot_be_read_is_told(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.backend.put(manifest_key("vocabulary", "small", made.version), b"{")
    told = [f"{made} has a manifest that can't be read; a run makes another version"]
    assert problems(any_store) == of_version(any_store, made) == told


def test_a_parent_that_changed_or_is_gone_is_told_for_each_child(any_store: Store) -> None:
    parent = commit(any_store, recipe())
    first, second = (commit(any_store, recipe(number, parents=(parent,))) for number in (1, 2))
    change_manifest(any_store, parent, totals={"files": 99})
    told = [f"{each} was made from another {parent} than the store has" for each in (first, second)]
    assert sorted(problems(any_store)) == sorted(told)
    assert of_version(any_store, first) == told[:1]
    any_store.backend.delete(manifest_key("vocabulary", "small", parent.version))
    assert of_version(any_store, first) == [
        f"{first} was made from {parent}, whose manifest is missing or can't be read"
    ]


def test_an_alias_with_a_gap_in_its_history_or_that_leads_nowhere_is_told(any_store: Store) -> None:
    made = commit(any_store, recipe())
    for _ in range(3):
        any_store.aliases.tag(made, "production")
    record = any_store.backend.get(alias_key("vocabulary", "small", "production", 1)) or b""
    any_store.backend.delete(alias_key("vocabulary", "small", "production", 2))
    any_store.backend.put(
        alias_key("vocabulary", "small", "tested", 1), record.replace(made.version.encode(), b"0123456789ab")
    )
    assert problems(any_store) == [
        "vocabulary/small@production has lost move 2 of its history: it is missing or can't be read",
        "vocabulary/small@tested points at 0123456789ab, which the store doesn't have",
    ]
    assert of_version(any_store, made) == [], "the version is sound"


def test_an_alias_record_that_cannot_be_read_is_told_and_the_others_are_looked_at_too(any_store: Store) -> None:
    made = commit(any_store, recipe())
    any_store.aliases.tag(made, "tested")
    for alias in ("latest", "tested"):
        any_store.backend.put(alias_key("vocabulary", "small", alias, 1), b"")
    assert problems(any_store) == [
        f"vocabulary/small@{alias} has lost move 1 of its history: it is missing or can't be read"
        for alias in ("latest", "tested")
    ]


def test_what_lies_beside_the_aliases_is_none(store: Store) -> None:
    store.backend.put("aliases/notes.txt", b"")
    store.backend.put("aliases/vocabulary/small/notes.txt", b"")
    assert problems(store) == []


def test_damaged_bytes_that_no_version_has_are_found_by_reading_them(any_store: Store) -> None:
    part = any_store.part("count", {"shard": 1}, counted)
    damage_blob(any_store, part.files[0], "corrupt")
    assert problems(any_store) == []
    (told,) = problems(any_store, deep=True)
    found = any_store.backend.digest(key := blob_key(part.files[0].sha256)) or ""
    assert told == f"{key} has the sha256 {found[:12]}…; no artifact needs it"


def counted(draft: PartDraft) -> dict[str, int]:
    (draft.folder / "counts.txt").write_text("mill 3\n")
    draft.add("counts.txt")
    return {"words": 3}


def test_versions_that_were_retracted_are_left_out(any_store: Store) -> None:
    kept, gone = commit(any_store, recipe()), commit(any_store, recipe(1), {"own.txt": "own"})
    entry = entry_of(any_store, gone, "own.txt")
    retract(any_store, any_store.version(str(gone)), "licence")
    damage_blob(any_store, entry, "missing")
    assert problems(any_store, deep=True) == []
    assert of_version(any_store, gone) == [f"own.txt of {gone} is missing"], "unless it is asked for"
    assert of_version(any_store, kept) == []
