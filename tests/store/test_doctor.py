"""The doctor tries each promise on the store itself: it finds what is broken, and leaves the store as it was."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.settings import Settings
from pipeline.store import Store, doctor, open_store
from pipeline.store.backend import Stored
from pipeline.store.doctor import BAD, NOTE, OK, Finding, examine_store
from tests.artifacts import commit, recipe
from tests.conftest import free_port

TRIALS = ["reachable", "writable", "create-only", "checksums", "clock", "versioning", "unfinished", "throughput"]


@pytest.fixture(autouse=True)
def a_small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_BYTES", 1 << 20)


def examined(store: Store) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_store(store)}


def bad(store: Store) -> list[str]:
    return [what for what, finding in examined(store).items() if finding.state == BAD]


def everything(store: Store) -> list[str]:
    """Its own traces too."""
    return [each.key for each in store.backend.list("")]


def test_a_sound_store_has_nothing_bad_and_is_left_as_it_was(any_store: Store) -> None:
    assert list(examined(any_store)) == TRIALS, "an empty one can be examined too"
    assert everything(any_store) == []
    commit(any_store, recipe())
    before = everything(any_store)
    assert bad(any_store) == []
    found = examined(any_store)
    assert list(found) == TRIALS
    assert found["reachable"].told.startswith(f"{any_store.url} has 1 name, listed in ")
    assert found["versioning"] == Finding(OK, "versioning", "the store keeps no older versions of objects")
    assert everything(any_store) == before


def test_a_bucket_that_keeps_older_versions_is_sound_and_said_to(versioned_store: Store) -> None:
    found = examined(versioned_store)
    assert bad(versioned_store) == []
    assert found["versioning"].state == NOTE
    assert found["versioning"].told.startswith("the bucket's versioning is enabled: what gc removes stays")


def test_a_service_that_cannot_be_reached_is_one_bad_finding_and_no_more_is_tried(
    s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    there = {"BERTMILL_HOME": str(tmp_path), "BERTMILL_STORE": "s3://any/x", "BERTMILL_STORE_DEADLINE_S": "0.2"}
    (finding,) = examine_store(open_store(Settings.from_environment(there)))
    assert (finding.state, finding.what) == (BAD, "reachable")
    assert "Check that AWS_ENDPOINT_URL_S3 is right and the service is up" in finding.told


def test_a_folder_that_cannot_be_one_is_one_bad_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = open_store(Settings.from_environment({"BERTMILL_STORE": (tmp_path / "file/store").as_uri()}))
    (finding,) = examine_store(store)
    assert (finding.state, finding.what) == (BAD, "reachable")
    assert "Not a directory. Mend that" in finding.told


def test_a_store_that_cannot_be_written_is_bad_and_no_more_is_tried(store: Store) -> None:
    """Tests run as root too, whom no permission stops: a file stands where a folder would have to."""
    store.backend.put("work/self-test", b"")
    assert [(finding.state, finding.what) for finding in examine_store(store)] == [(OK, "reachable"), (BAD, "writable")]


def test_a_store_that_ignores_create_only_writes_is_bad_unless_one_writer_is_declared(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwriting(store: Store) -> Store:
        def create(key: str, data: bytes) -> bool:
            store.backend.put(key, data)
            return True

        monkeypatch.setattr(store.backend, "create", create)
        return store

    found = examined(overwriting(open_store(any_store.settings)))["create-only"]
    assert found.state == BAD
    assert found.told.startswith(f"{any_store.url} ignores create-only writes: 8 of 8 racing creates")
    alone = any_store.settings.model_copy(update={"store_single_writer": True})
    assert examined(overwriting(open_store(alone)))["create-only"] == Finding(
        NOTE, "create-only", f"{found.told} It is declared."
    )
    assert everything(any_store) == []


def uploads(store: Store) -> list[Stored]:
    now = store.backend.now()
    return [Stored(f"blobs/{number}", 0, now - number * 50_000) for number in range(4)]


def test_what_is_not_as_it_should_be_and_works_all_the_same_is_a_note(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = store.backend
    now, old = backend.now() + 100, uploads(store)
    monkeypatch.setattr(backend, "refuses_damage", lambda: False)
    monkeypatch.setattr(backend, "versioning", lambda: "unknown")
    monkeypatch.setattr(backend, "unfinished", lambda: iter(old))
    monkeypatch.setattr(backend, "now", lambda: now)
    found = examined(store)
    notes = {finding.what: finding.told for finding in found.values() if finding.state == NOTE}
    assert set(notes) == {"checksums", "clock", "versioning", "unfinished"}
    assert "ahead of this machine's; services refuse signatures" in notes["clock"]
    assert "s3:GetBucketVersioning" in notes["versioning"]
    assert notes["unfinished"].startswith(
        "uploads begun more than a day ago and never ended: 2; `bertmill gc --delete`"
    )


def test_bytes_that_come_back_as_others_are_bad(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.backend, "digest", lambda key: "0" * 64)
    assert bad(store) == ["throughput"]
    assert everything(store) == []


def test_a_trial_that_fails_is_bad_and_the_others_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> Any:
        raise StoreError("Access denied: ListMultipartUploads on s3://bucket/. Ask for the permission.")

    monkeypatch.setattr(store.backend, "unfinished", denied)
    found = examined(store)
    assert list(found) == TRIALS
    assert found["unfinished"].state == BAD
    assert found["unfinished"].told.startswith("Access denied: ListMultipartUploads")
