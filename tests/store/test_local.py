"""A folder keeps object storage's promises: whole objects, one creator, nothing half-written in a listing."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.store.local import LocalBackend
from tests.artifacts import commit, keys, recipe


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "store")


def test_what_a_killed_writer_left_is_no_object(tmp_path: Path, backend: LocalBackend) -> None:
    code = (
        "import pathlib, sys, time; from pipeline.store.local import LocalBackend; "
        "LocalBackend(pathlib.Path(sys.argv[1]))._write("
        "'a/b', lambda path: (path.write_bytes(b'half'), time.sleep(60)), pathlib.Path.replace)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(backend.root)])
    try:
        deadline = time.monotonic() + 30
        while not (left := list(backend.root.rglob("*-*"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left, "it was writing"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert list(backend.list("")) == []
    assert (backend.get("a/b"), backend.look("a/b")) == (None, None)
    assert backend.create("a/b", b"whole")
    assert [each.key for each in backend.list("a/")] == ["a/b"]


def test_the_winner_of_a_create_is_what_stays(backend: LocalBackend) -> None:
    assert backend.create("a/b", b"first")
    assert not backend.create("a/b", b"second")
    assert backend.get("a/b") == b"first"
    assert [path.name for path in (backend.root / "a").iterdir()] == ["b"], "no temporary file stays"


def test_a_listing_is_by_the_start_of_the_key_and_in_order(backend: LocalBackend) -> None:
    for key in ("a/2", "a/10", "ab/1", "b", "c/1", "c-2/1"):
        backend.put(key, key.encode())
    assert [each.key for each in backend.list("")] == ["a/10", "a/2", "ab/1", "b", "c-2/1", "c/1"], "as S3 lists them"
    assert [each.key for each in backend.list("a/")] == ["a/10", "a/2"]
    assert [each.key for each in backend.list("a")] == ["a/10", "a/2", "ab/1"]
    assert [each.size for each in backend.list("ab/")] == [4]


def test_a_missing_object_is_none_and_removing_it_is_no_error(backend: LocalBackend) -> None:
    backend.delete("a/b")
    assert (backend.get("a/b"), backend.look("a/b"), list(backend.list("a/"))) == (None, None, [])


def test_a_blob_is_read_only(store: Store) -> None:
    path = store.file(commit(store, recipe()), "vocab.txt")
    assert path.stat().st_mode & 0o222 == 0


def test_a_key_that_a_folder_stands_at_is_told_in_a_sentence(backend: LocalBackend) -> None:
    backend.put("a/b", b"x")
    with pytest.raises(StoreError, match="The store can't read .*/a: Is a directory"):
        backend.get("a")


def test_a_store_may_lie_in_a_folder_with_blanks_and_percent_signs(tmp_path: Path) -> None:
    from pipeline.settings import Settings
    from pipeline.store import open_store

    home = tmp_path / "my home 100%25 河"
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(home)}))
    made = commit(store, recipe())
    assert (home / "store").is_dir()
    assert store.find(recipe()) == made
    assert keys(store, "artifacts/")
    assert list(tmp_path.iterdir()) == [home]


# What garbage collection and the doctor ask for


def aged(backend: LocalBackend, key: str, data: bytes, age_s: float = 1_000_000) -> None:
    backend.put(key, data)
    then = time.time() - age_s
    os.utime(backend.root / key, (then, then))


def test_a_refreshed_object_is_young_and_has_its_own_bytes(backend: LocalBackend) -> None:
    aged(backend, "a/b", b"mill")
    assert backend.refresh("a/b")
    seen = backend.look("a/b")
    assert seen is not None
    assert backend.now() - seen.modified < 60
    assert backend.get("a/b") == b"mill"
    assert [backend.refresh(key) for key in ("a/c", "a/b/c", "c")] == [False, False, False]
    assert [each.key for each in backend.list("")] == ["a/b"]


def test_another_users_object_is_refreshed_by_a_copy_of_it(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(backend, "a/b", b"mill")

    def refused(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr("pipeline.store.local.os.utime", refused)
    assert backend.refresh("a/b")
    assert (backend.age("a/b") or 0) < 60
    assert backend.get("a/b") == b"mill"
    assert list(backend.unfinished()) == []


def test_there_are_no_versions_to_erase_or_to_list(backend: LocalBackend) -> None:
    for key in ("a/1", "a/2"):
        backend.put(key, b"x")
    backend.erase("a/1")
    backend.erase("a/1")
    assert [each.key for each in backend.list("", removed=True)] == ["a/2"]
    assert backend.versioning() == "off"


def test_what_a_killed_writer_left_is_listed_as_unfinished_and_can_be_discarded(backend: LocalBackend) -> None:
    backend.put("a/whole", b"whole")
    (backend.root / "a/.tmp-x1").write_bytes(b"half")
    (left,) = backend.unfinished()
    assert [*backend.unfinished("b/"), *backend.unfinished("a/")] == [left]
    assert (left.key, left.size) == ("a/.tmp-x1", 4)
    assert abs(backend.now() - left.modified) < 60
    backend.discard(left)
    backend.discard(left)
    assert list(backend.unfinished()) == []
    assert [path.name for path in (backend.root / "a").iterdir()] == ["whole"]


def test_a_digest_is_of_the_bytes_that_are_there_now(backend: LocalBackend) -> None:
    assert backend.digest("a/b") is None
    for data in (b"", b"mill"):
        backend.put("a/b", data)
        assert backend.digest("a/b") == hashlib.sha256(data).hexdigest()
    assert backend.digest("a/b/c") is None


def test_the_clock_of_a_store_that_is_not_there_yet_is_ours_and_asking_makes_nothing(backend: LocalBackend) -> None:
    assert abs(backend.now() - time.time()) < 5
    assert not backend.root.exists()


def test_the_clock_is_the_one_that_dates_the_files(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared filesystem dates them by its server's, which may be ahead of ours."""
    monkeypatch.setattr("pipeline.store.local._clock_of", lambda folder: time.time() + 3_600)
    assert 3_590 < backend.now() - time.time() < 3_610
