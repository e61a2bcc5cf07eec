"""Against a real S3 server: failures in one sentence without secrets, a cache that is checked, a lost answer."""

import base64
import hashlib
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.settings import Settings
from pipeline.store import Store, open_store, s3
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
    s3_store: Store, tmp_path: Path, act: Callable[[Store], Any]
) -> None:
    with pytest.raises(StoreError) as error:
        act(opened("s3://no-such-bucket/x", tmp_path))
    assert "There is no bucket 'no-such-bucket'" in str(error.value)
    assert "Create it, or correct BERTMILL_STORE." in str(error.value)
    told = "".join(traceback.format_exception_only(error.value))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in told
    assert os.environ["AWS_ACCESS_KEY_ID"] not in told
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


# What garbage collection and the doctor ask for


def in_bucket(store: Store) -> list[str]:
    """The keys of all its versions and delete markers in the bucket."""
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    found = boto3.Session().client("s3").list_object_versions(Bucket=bucket, Prefix=f"{prefix}/")
    return sorted(
        each["Key"].removeprefix(f"{prefix}/") for each in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
    )


def test_a_refreshed_object_is_young_and_has_its_own_bytes_whether_it_is_copied_whole_or_in_parts(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LONGEST_COPY", 5 << 20)
    backend = backend_of(s3_store)
    (tmp_path / "large").write_bytes(data := os.urandom(12 << 20))
    large = blob_key(hashlib.sha256(data).hexdigest())
    backend.upload(large, tmp_path / "large")
    backend.put("work/small", b"mill")
    time.sleep(2)
    before = {each.key: each.modified for each in backend.list("")}
    assert [backend.refresh(key) for key in ("work/small", large, "work/none")] == [True, True, False]
    after = {each.key: each.modified for each in backend.list("")}
    assert {key for key in before if after[key] > before[key]} == {"work/small", large}
    assert backend.get("work/small") == b"mill"
    assert backend.digest(large) == hashlib.sha256(data).hexdigest()
    assert list(backend.unfinished()) == []


def test_an_erased_object_leaves_no_version_and_its_neighbours_all_theirs(versioned_store: Store) -> None:
    backend = backend_of(versioned_store)
    for data in (b"1", b"2"):
        backend.put("blobs/a", data)
        backend.put("blobs/a-2", data)
    backend.delete("blobs/a")
    assert in_bucket(versioned_store) == ["blobs/a"] * 3 + ["blobs/a-2"] * 2
    backend.erase("blobs/a")
    assert in_bucket(versioned_store) == ["blobs/a-2"] * 2
    backend.erase("blobs/a-2")
    backend.erase("blobs/never-was")
    assert in_bucket(versioned_store) == []


def test_an_object_is_erased_where_no_versions_are_kept_too_and_from_the_cache(s3_store: Store) -> None:
    made = commit(s3_store, recipe())
    path = s3_store.file(made, "vocab.txt")
    key = blob_key(s3_store.manifest(made).file("vocab.txt").sha256)
    s3_store.backend.erase(key)
    assert s3_store.backend.look(key) is None
    assert not path.exists()
    assert len(keys(s3_store, "blobs/")) == 1, "the others stay"


def test_a_listing_of_what_was_removed_too_has_each_key_once_and_by_its_newest_bytes(versioned_store: Store) -> None:
    backend = backend_of(versioned_store)
    for data in (b"1", b"22"):
        for key in ("blobs/b-gone", "blobs/a-here", "blobs/c-here"):
            backend.put(key, data)
    backend.put("work/other", b"")
    backend.delete("blobs/b-gone")
    assert [each.key for each in backend.list("blobs/")] == ["blobs/a-here", "blobs/c-here"]
    listed = [(each.key, each.size) for each in backend.list("blobs/", removed=True)]
    assert listed == [("blobs/a-here", 2), ("blobs/b-gone", 2), ("blobs/c-here", 2)]


def test_a_listing_of_what_was_removed_too_is_the_same_where_no_versions_are_kept(s3_store: Store) -> None:
    for key in ("blobs/a", "blobs/b"):
        s3_store.backend.put(key, b"1")
    s3_store.backend.delete("blobs/a")
    assert [each.key for each in s3_store.backend.list("blobs/", removed=True)] == ["blobs/b"]


def test_an_upload_that_was_begun_is_listed_as_unfinished_and_can_be_discarded(s3_store: Store) -> None:
    backend, client = backend_of(s3_store), boto3.Session().client("s3")
    prefix = s3_store.url.rpartition("/")[2]
    for place in (prefix, f"{prefix}-other"):
        client.create_multipart_upload(Bucket=BUCKET, Key=f"{place}/blobs/large")
    (left,) = backend.unfinished()
    assert [*backend.unfinished("work/"), *backend.unfinished("blobs/")] == [left]
    assert (left.key, left.size) == ("blobs/large", 0)
    assert abs(backend.now() - left.modified) < 60
    backend.discard(left)
    backend.discard(left)
    assert list(backend.unfinished()) == []
    assert list(opened(f"{s3_store.url}-other", s3_store.settings.home).backend.unfinished()), "another store's stays"


def test_a_digest_is_of_the_bytes_that_the_store_has_whatever_the_cache_has(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(s3_store, recipe(), {"vocab.txt": "mill\n" * 700})
    monkeypatch.setattr(s3, "PART_SIZE", 1_000)
    entry = s3_store.manifest(made).file("vocab.txt")
    key = blob_key(entry.sha256)
    assert s3_store.backend.digest(key) == entry.sha256
    s3_store.file(made, "vocab.txt")
    for data in (b"", b"m" * 3_500):
        s3_store.backend.put(key, data)
        assert s3_store.backend.digest(key) == hashlib.sha256(data).hexdigest()
    s3_store.backend.delete(key)
    assert s3_store.backend.digest(key) is None


def test_versioning_is_what_the_bucket_says(s3_store: Store, versioned_store: Store) -> None:
    assert (s3_store.backend.versioning(), versioned_store.backend.versioning()) == ("off", "enabled")
    suspended: Any = {"Status": "Suspended"}
    boto3.Session().client("s3").put_bucket_versioning(
        Bucket=backend_of(versioned_store).bucket, VersioningConfiguration=suspended
    )
    assert versioned_store.backend.versioning() == "suspended"


def test_the_clock_is_the_services(s3_store: Store) -> None:
    s3_store.backend.put("work/a", b"")
    seen = s3_store.backend.look("work/a")
    assert seen is not None
    assert abs(s3_store.backend.now() - seen.modified) < 10


def test_what_is_sent_is_told_by_its_length_and_its_md5_before_the_body(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://127.0.0.1:9")  # https: botocore would like a trailer there
    backend = S3Backend("bucket", "x", backend_of(s3_store).cache)
    sent: list[tuple[Any, bytes]] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        response = AWSResponse(request.url, 200, {"ETag": "e", "Date": "Wed, 25 Nov 2026 12:00:00 GMT"}, None)
        response._content = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        if request.method == "PUT":
            sent.append((request.headers, request.body.read()))
            response._content = b""
        return response

    backend._client.meta.events.register("before-send.s3", answer)
    source = tmp_path / "file"
    for size in (7, PART_SIZE + 1):
        source.write_bytes(os.urandom(size))
        backend.upload(blob_key("0" * 64), source)
    backend.put("work/a", b"small")
    backend.create("work/b", b"small")
    assert sorted(len(body) for _, body in sent) == [1, 5, 5, 7, PART_SIZE]
    for headers, body in sent:
        assert headers["Content-MD5"] == base64.b64encode(hashlib.md5(body).digest())
        assert headers["Content-Length"] == str(len(body))
        assert not {"x-amz-trailer", "transfer-encoding"} & {name.lower() for name in headers}
