"""Against a real S3 server: failures in one sentence without secrets, a cache that is checked, a lost answer."""

import os
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store import Store, open_store
from pipeline.store.keys import blob_key
from pipeline.store.s3 import PART_SIZE, S3Backend
from pipeline.store.service import _session
from tests.artifacts import commit, keys, recipe
from tests.conftest import BUCKET


@pytest.fixture
def s3_store(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    _session.cache_clear()  # which remembers credentials
    return opened(f"s3://{BUCKET}/{tmp_path.name}", tmp_path)


def opened(url: str, home: Path) -> Store:
    return open_store(Settings.from_environment({"BERTMILL_HOME": str(home / "home"), "BERTMILL_STORE": url}))


def backend_of(store: Store) -> S3Backend:
    assert isinstance(store.backend, S3Backend)
    return store.backend


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.find(recipe()),
        lambda store: store.check_writable(),
        lambda store: commit(store, recipe()),
        lambda store: commit(store, recipe(), {}),
        lambda store: store.resolve("vocabulary/small"),
    ],
    ids=["find", "check", "upload", "commit", "resolve"],
)
def test_a_missing_bucket_is_told_in_a_sentence_without_secrets(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store], Any]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := uuid.uuid4().hex)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity := uuid.uuid4().hex)
    _session.cache_clear()
    with pytest.raises(StoreError) as error:
        act(opened("s3://no-such-bucket/x", tmp_path))
    assert "There is no bucket 'no-such-bucket'" in str(error.value)
    assert "Create it, or correct BERTMILL_STORE." in str(error.value)
    told = "".join(traceback.format_exception_only(error.value))
    assert secret not in told
    assert identity not in told
    assert error.value.__suppress_context__, "no trace of botocore's for a user's mistake"


def test_missing_credentials_are_told_in_a_sentence(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _session.cache_clear()
    with pytest.raises(StoreError, match="No credentials for .* Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        opened(s3_store.url, tmp_path).find(recipe())


def test_two_prefixes_of_a_bucket_are_two_stores(s3_store: Store, tmp_path: Path) -> None:
    other = opened(f"{s3_store.url}-other", tmp_path)
    made = commit(s3_store, recipe())
    assert other.find(recipe()) is None
    assert s3_store.find(recipe()) == made
    assert keys(other) == []


def test_a_copy_in_the_cache_spares_the_download_and_is_checked_each_time(s3_store: Store) -> None:
    made = commit(s3_store, recipe())
    path = s3_store.file(made, "vocab.txt")
    assert path.is_relative_to(s3_store.settings.cache or "")
    path.chmod(0o644)
    path.write_text("rotted")
    assert s3_store.file(made, "vocab.txt").read_text() == "[PAD]\nmill\n", "fetched again"
    s3_store.backend.delete(blob_key(s3_store.manifest(made).file("vocab.txt").sha256))
    assert s3_store.file(made, "vocab.txt").read_text() == "[PAD]\nmill\n", "the copy is sound"
    assert s3_store.find(recipe()) is None, "the store is not"


def test_bytes_that_are_not_the_blobs_are_never_kept_in_the_cache(s3_store: Store) -> None:
    made = commit(s3_store, recipe())
    entry = s3_store.manifest(made).file("vocab.txt")
    s3_store.backend.put(blob_key(entry.sha256), b"x" * entry.size)
    for _ in range(2):
        with pytest.raises(CorruptArtifact, match="is corrupt: s3://"):
            s3_store.file(made, "vocab.txt")
    assert [path for path in (s3_store.settings.cache or Path()).glob("blobs/*/*") if path.is_file()] == []


def test_a_file_that_is_uploaded_in_parts_comes_back_whole(s3_store: Store, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(1 << 20) * (PART_SIZE // (1 << 20) + 1) + b"end")
    with s3_store.draft(recipe()) as draft:
        draft.add("large.bin", source)
        made = draft.commit(totals={})
    assert s3_store.file(made, "large.bin").read_bytes() == source.read_bytes()


def test_a_create_whose_answer_was_lost_is_ours_when_it_is_tried_again(s3_store: Store) -> None:
    backend = backend_of(s3_store)
    assert backend.create("work/a", b"mine")
    assert backend.create("work/a", b"mine"), "the retry of a create that was carried out"
    assert not backend.create("work/a", b"another's")
    assert backend.get("work/a") == b"mine"


def test_a_listing_longer_than_a_page_is_whole_and_in_order(s3_store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = [f"many/{number:05d}" for number in range(1_005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3_store.backend.put(name, b""), names))
    assert [each.key for each in s3_store.backend.list("many/")] == names
