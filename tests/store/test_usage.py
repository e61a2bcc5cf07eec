"""What fills the store is counted by what each group has, and what would go with it."""

import pytest

from pipeline.config import CorpusConfig
from pipeline.store import Recipe, Store
from pipeline.store.draft import PartDraft
from pipeline.store.retraction import retract
from pipeline.store.usage import GROUPS, StoreUsage, Usage, usage_of
from tests.artifacts import commit, recipe
from tests.damage import change_manifest

CORPUS = Recipe("corpus", CorpusConfig(name="wiki"), 1)


@pytest.fixture
def filled(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """100 bytes that all share; 10 of the corpus' own; 3 that both versions of `small` share, and 1 of each's own."""
    shared = {"shared.bin": "s" * 100}
    monkeypatch.setenv("LOGNAME", "ada")
    commit(any_store, CORPUS, shared | {"documents.bin": "d" * 10})
    commit(any_store, recipe(0), shared | {"vocab.txt": "two", "own.txt": "0"})
    monkeypatch.setenv("LOGNAME", "ben")
    commit(any_store, recipe(1), shared | {"vocab.txt": "two", "own.txt": "1"})
    commit(any_store, recipe(0, "other"), shared)
    return any_store


def test_a_blob_that_versions_of_a_group_share_is_counted_once(filled: Store) -> None:
    assert usage_of(filled, "kind") == StoreUsage(
        groups=[Usage("corpus", versions=1, bytes=110, own=10), Usage("vocabulary", versions=3, bytes=105, own=5)],
        versions=4,
        bytes=115,
        other=0,
    )


def test_names_and_users_are_other_groups_of_the_same_bytes(filled: Store) -> None:
    by_name, by_user = usage_of(filled, "name"), usage_of(filled, "user")
    assert by_name.groups == [
        Usage("corpus/wiki", versions=1, bytes=110, own=10),
        Usage("vocabulary/small", versions=2, bytes=105, own=5),
        Usage("vocabulary/other", versions=1, bytes=100, own=0),
    ]
    assert by_user.groups == [
        Usage("ada", versions=2, bytes=114, own=11),
        Usage("ben", versions=2, bytes=104, own=1),
    ]
    assert by_name.bytes == by_user.bytes == 115


def test_what_no_version_has_is_counted_apart(filled: Store) -> None:
    def counted(draft: PartDraft) -> dict[str, int]:
        for name, text in {"counts.txt": "c" * 7, "shared.bin": "s" * 100}.items():
            (draft.folder / name).write_text(text)
            draft.add(name)
        return {}

    filled.part("count", {"shard": 1}, counted)
    assert usage_of(filled, "kind").other == 7
    retract(filled, filled.version("corpus/wiki"), "licence")
    usage = usage_of(filled, "kind")
    assert [each.group for each in usage.groups] == ["vocabulary"]
    assert (usage.versions, usage.bytes, usage.other) == (3, 105, 17)


def test_bytes_that_are_missing_fill_nothing(filled: Store) -> None:
    for each in list(filled.backend.list("blobs/")):
        if each.size == 100:
            filled.backend.delete(each.key)
    assert usage_of(filled, "kind").bytes == 15


@pytest.mark.parametrize("by", GROUPS)
def test_an_empty_store_has_no_groups(store: Store, by: str) -> None:
    assert usage_of(store, by) == StoreUsage([], 0, 0, 0)


def test_a_version_without_a_user_is_nobodys(store: Store) -> None:
    change_manifest(store, commit(store, recipe(), {"a": "a"}), producer={})
    assert [each.group for each in usage_of(store, "user").groups] == ["unknown"]
