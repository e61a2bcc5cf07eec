"""The store's guarantees on Ceph, another S3 implementation than the tests' own: all of its tests, and Ceph's ways."""

# ruff: noqa: F403  (the tests that are imported are the ones to run)

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.errors import StoreError
from pipeline.store import Artifact, Store, open_store
from pipeline.store.s3 import PART_SIZE, S3Backend
from tests.artifacts import FILES, commit, keys, recipe
from tests.store import test_draft, test_gc, test_lease, test_s3, test_store, test_work
from tests.store.test_draft import *
from tests.store.test_gc import *
from tests.store.test_lease import *
from tests.store.test_s3 import *
from tests.store.test_store import *
from tests.store.test_work import *

MB = 1 << 20


def test_no_test_of_the_stores_hides_another() -> None:
    modules = (test_draft, test_gc, test_lease, test_s3, test_store, test_work)
    names = [name for module in modules for name in vars(module) if name.startswith("test_")]
    assert len(names) == len(set(names)) > 60


def backend_of(store: Store) -> S3Backend:
    assert isinstance(store.backend, S3Backend)
    return store.backend


def commit_bytes(store: Store, data: bytes) -> Artifact:
    with store.draft(recipe()) as draft:
        (draft.folder / "large.bin").write_bytes(data)
        draft.add("large.bin")
        return draft.commit(totals={})


@pytest.mark.parametrize("size", [0, 100, MB + 1, 40 * MB + 1])
def test_a_file_of_any_size_goes_up_and_comes_down_whole(either_store: Store, size: int) -> None:
    data = os.urandom(size)
    made = commit_bytes(either_store, data)
    assert either_store.find(recipe()) == made
    assert either_store.file(made, "large.bin").read_bytes() == data


@pytest.mark.parametrize("size", [100, 40 * MB + 1])
def test_what_is_damaged_on_its_way_up_is_noticed_there_and_sent_again(either_store: Store, size: int) -> None:
    damaged = []

    def damage(request: Any, **_: Any) -> None:
        if request.method == "PUT" and not damaged:
            damaged.append(request.url)
            body = request.body.read()
            request.body = bytes([body[0] ^ 1]) + body[1:]

    backend_of(either_store)._client.meta.events.register("before-send.s3", damage)
    data = os.urandom(size)
    assert either_store.file(commit_bytes(either_store, data), "large.bin").read_bytes() == data
    assert len(damaged) == 1


def test_a_download_that_was_cut_off_fetches_only_the_rest(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(40 * MB + 1)
    made = commit_bytes(any_store, data)
    backend = backend_of(any_store)
    whole, fetched = backend._range, []

    def cut_off(key: str, start: int, size: int) -> bytes:
        fetched.append(start)
        if start == 2 * PART_SIZE and fetched.count(start) == 1:
            raise StoreError("The connection is gone.")
        return whole(key, start, size)

    monkeypatch.setattr(backend, "_range", cut_off)
    with pytest.raises(StoreError, match="The connection is gone"):
        any_store.file(made, "large.bin")
    assert any_store.file(made, "large.bin").read_bytes() == data
    assert sorted(fetched) == [0, PART_SIZE, 2 * PART_SIZE, 2 * PART_SIZE]


def test_of_many_creates_of_one_key_one_wins_and_is_what_stays(either_store: Store) -> None:
    bodies = [f"writer {number}".encode() for number in range(8)]
    for number in range(10):
        key = f"work/raced/{number}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda body: either_store.backend.create(key, body), bodies))  # noqa: B023
        assert [body for body, success in zip(bodies, won) if success] == [either_store.backend.get(key)]


# A bucket with versions, on which Ceph 16 says yes to every create-only write


@pytest.fixture
def careless_store(versioned_store: Store) -> Store:
    """A store on a bucket that has been seen to ignore create-only writes."""
    backend = backend_of(versioned_store)
    backend._put("work/created-twice", b"first", IfNoneMatch="*")
    try:
        backend._put("work/created-twice", b"second", IfNoneMatch="*")
    except ClientError:
        pytest.skip("this Ceph refuses to create what is there, with versions too")
    backend.delete("work/created-twice")
    return versioned_store


def test_a_bucket_that_ignores_create_only_writes_is_refused_and_nothing_is_published(careless_store: Store) -> None:
    with pytest.raises(StoreError, match=r"ignores create-only writes: \d of 8 .* BERTMILL_STORE_SINGLE_WRITER=1"):
        commit(careless_store, recipe())
    with pytest.raises(StoreError, match="ignores create-only writes"), careless_store.lease(recipe()):
        pass
    assert {key.split("/")[0] for key in keys(careless_store)} == {"blobs"}
    assert careless_store.versions() == []


def test_a_declared_single_writer_commits_finds_tags_and_commits_again_there(careless_store: Store) -> None:
    store = open_store(careless_store.settings.model_copy(update={"store_single_writer": True}))
    first, second = commit(store, recipe(0)), commit(store, recipe(1))
    store.aliases.tag(first, "production")
    assert (store.find(recipe(0)), store.resolve("vocabulary/small@production")) == (first, first)
    assert store.resolve("vocabulary/small@latest") == second
    assert store.file(second, "vocab.txt").read_text() == FILES["vocab.txt"]
    assert store.manifest(second).producer["single_writer"] is True
    with store.lease(recipe(2)) as lease:
        assert lease.epoch == 1
