"""The failures that a store survives: none loses a committed byte, none shows an uncommitted one.

Faults are real: processes kill themselves, files on disk are damaged, and a proxy (tests/faults.py) stands before a
real S3 server. After each, every file of what was committed before is read back from the store, past all caches.
"""

import hashlib
import json
import logging
import os
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs

import pytest

from pipeline.errors import BertmillError, CorruptArtifact, StoreError
from pipeline.settings import Settings
from pipeline.store import Artifact, FileEntry, PartDraft, Store, open_store, retrying
from pipeline.store import store as opening
from pipeline.store.keys import blob_key
from pipeline.store.local import TEMPORARY, LocalBackend
from pipeline.store.s3 import PART_SIZE
from pipeline.store.service import _session
from tests.artifacts import commit, keys, recipe
from tests.conftest import BUCKET
from tests.faults import FAULTS, Faults, Request, Which, is_create_only

ROOT = Path(__file__).parents[2]
LARGE = "mill " * 300_000
"""Above the size from which object storage is asked for a blob before it is sent."""
BIG = 40 << 20
"""Three parts, the last one shorter."""
FILES = {"vocab.txt": "[PAD]\nriver\n", "large.txt": LARGE}
PAST = {1: {"vocab.txt": "[PAD]\nfirst\n", "card/card.json": "{}"}, 2: {"vocab.txt": "[PAD]\nsecond\n"}}


@dataclass
class Scene:
    """A store with a past, and the faults before it where it is on S3."""

    store: Store
    faults: Faults | None
    past: dict[Artifact, Mapping[str, str]]

    def holds(self, *later: Artifact) -> None:
        """The past is there byte for byte, and beside it are these artifacts and no other."""
        store = self.keeps_the_past()
        known = [*self.past, *later]
        assert sorted(f"{each.kind}/{each.name}@{each.version}" for each in store.versions()) == sorted(map(str, known))
        assert store.resolve("vocabulary/small@latest") in known[1:]

    def keeps_the_past(self) -> Store:
        """Each of its files is read, past the proxy and all caches."""
        with pytest.MonkeyPatch.context() as patch:
            if self.faults is not None:
                patch.setenv("AWS_ENDPOINT_URL_S3", self.faults.server)
            store = reopened(self.store, cache=Path(tempfile.mkdtemp(dir=self.store.settings.home)))
        for artifact, files in self.past.items():
            assert {each.path: store.blob(each).read_text() for each in store.manifest(artifact).files} == files
        assert store.resolve("vocabulary/small@production") == next(iter(self.past))
        assert read_snapshot(store, "step-1") == ["rank 0 at step-1", "rank 1 at step-1"]
        return store


def reopened(store: Store, **changes: Any) -> Store:
    """As another process opens it, with other settings."""
    return open_store(store.settings.model_copy(update=changes))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Artifact, Mapping[str, str]]]:
    """A store's folder with what is committed in it; the layout is the same everywhere, so that it may be copied."""
    home = tmp_path_factory.mktemp("past")
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(home)}))
    committed = {commit(store, recipe(number), files): files for number, files in PAST.items()}
    store.aliases.tag(next(iter(committed)), "production", "good")
    store.work(recipe()).commit("step-1", [shard(store, rank, "step-1") for rank in range(2)], {"step": 1})
    return home / "store", committed


def shard(store: Store, rank: int, name: str) -> FileEntry:
    source = store.settings.home / f"rank-{rank}"
    source.write_text(f"rank {rank} at {name}")
    return store.work(recipe()).add(source, f"rank-{rank}", name)


def read_snapshot(store: Store, name: str) -> list[str]:
    work = store.work(recipe())
    return [work.file(entry).read_text() for entry in work.load(name)[0]]


@pytest.fixture
def faults(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A proxy before the S3 server, which boto3 takes for it."""
    with Faults(s3_server["AWS_ENDPOINT_URL_S3"]) as faults:
        for name, value in (s3_server | {"AWS_ENDPOINT_URL_S3": faults.address}).items():
            monkeypatch.setenv(name, value)
        yield faults


@pytest.fixture
def on_s3(faults: Faults, past: Any, tmp_path: Path) -> Scene:
    """A scene on the S3 server, behind the proxy."""
    url = f"s3://{BUCKET}/{tmp_path.name}"
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(tmp_path / "home"), "BERTMILL_STORE": url}))
    store.settings.home.mkdir()
    folder, committed = past
    objects = [path for path in folder.rglob("*") if path.is_file()]
    in_threads(lambda path: store.backend.put(path.relative_to(folder).as_posix(), path.read_bytes()), objects)
    faults.clear()
    return Scene(store, faults, committed)


@pytest.fixture
def on_disk(store: Store, past: Any) -> Scene:
    """A scene in a folder."""
    folder, committed = past
    shutil.copytree(folder, store.settings.home / "store")
    return Scene(store, None, committed)


@pytest.fixture(params=["on_disk", "on_s3"])
def scene(request: pytest.FixtureRequest) -> Scene:
    made: Scene = request.getfixturevalue(request.param)
    return made


# Crashes

CRASH = """
import json, os, signal, sys
from pipeline.settings import Settings
from pipeline.store import open_store
from tests.artifacts import commit, recipe
store, start, when = open_store(Settings.model_validate_json(sys.argv[1])), sys.argv[2], sys.argv[3]
create = store.backend.create
def crash(key, data):
    if not key.startswith(start):
        return create(key, data)
    if when == "after":
        create(key, data)
    os.kill(os.getpid(), signal.SIGKILL)
store.backend.create = crash
commit(store, recipe(), json.load(sys.stdin))
"""


def crash(store: Store, key: str, when: str) -> None:
    """Commit in a process that kills itself before or after it creates an object under `key`."""
    ended = subprocess.run(script(CRASH, store, key, when), cwd=ROOT, timeout=60, input=json.dumps(FILES), text=True)
    assert ended.returncode == -signal.SIGKILL


def script(code: str, store: Store, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, store.settings.model_dump_json(), *arguments]


def writes(scene: Scene, entry: FileEntry) -> object:
    """Whatever changes when a blob is written."""
    if scene.faults is not None:
        return len(scene.faults.seen("PUT", entry.sha256))
    assert isinstance(scene.store.backend, LocalBackend)
    seen = (scene.store.backend.root / blob_key(entry.sha256)).stat()
    return seen.st_ino, seen.st_mtime_ns


def test_a_crash_before_the_manifest_shows_nothing_and_its_large_blobs_are_used_again(scene: Scene) -> None:
    crash(scene.store, "artifacts/", "before")
    assert scene.store.find(recipe()) is None
    scene.holds()
    (entry,) = [each for each in blobs(scene.store) if each.size == len(LARGE)]
    before = writes(scene, entry)
    made = commit(scene.store, recipe(), FILES)
    assert writes(scene, entry) == before
    scene.holds(made)


def blobs(store: Store) -> list[FileEntry]:
    found = [(Path(each.key).name, each.size) for each in store.backend.list("blobs/")]
    return [FileEntry(path=sha256, size=size, sha256=sha256) for sha256, size in found]


@pytest.mark.parametrize("key", ["artifacts/", "aliases/"])
def test_a_crash_after_the_manifest_is_completed_by_the_rerun(scene: Scene, key: str) -> None:
    crash(scene.store, key, "after")
    (version,) = {each.version for each in scene.store.versions()} - {each.version for each in scene.past}
    latest = scene.store.resolve("vocabulary/small@latest")
    assert (latest.version == version) == (key == "aliases/")
    made = scene.store.find(recipe())
    assert made is not None
    assert made.version == version
    assert scene.store.resolve("vocabulary/small@latest") == made == commit(scene.store, recipe(), FILES)
    assert {path: scene.store.file(made, path).read_text() for path in FILES} == FILES
    assert len(alias_log(scene.store, "latest")) == 3
    scene.holds(made)


def alias_log(store: Store, alias: str) -> list[dict[str, str]]:
    return [json.loads(store.backend.get(key) or b"") for key in keys(store, f"aliases/vocabulary/small/{alias}/")]


UPLOAD = """
import sys
from pathlib import Path
from pipeline.settings import Settings
from pipeline.store import open_store
open_store(Settings.model_validate_json(sys.argv[1])).add_blob(Path(sys.argv[2]), "large.bin", None)
"""


def test_a_writer_killed_in_the_midst_of_a_transfer_in_parts_leaves_no_object(on_s3: Scene, tmp_path: Path) -> None:
    assert on_s3.faults is not None
    on_s3.faults.add("delay", "PUT", "partNumber=2", times=None, delay_s=60)
    source = large_file(tmp_path, PART_SIZE + 1)
    with subprocess.Popen(script(UPLOAD, on_s3.store, str(source)), cwd=ROOT) as writer:
        until(lambda: on_s3.faults is not None and bool(on_s3.faults.seen("PUT", "partNumber=2")))
        writer.send_signal(signal.SIGKILL)
    on_s3.faults.clear()
    assert PART_SIZE + 1 not in [each.size for each in blobs(on_s3.store)]
    on_s3.holds()


def large_file(folder: Path, size: int) -> Path:
    path = folder / "large.bin"
    path.write_bytes(os.urandom(size))
    return path


def until(true: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it came to be in time"
        time.sleep(0.02)


# Answers that never arrive

LOST = {
    "manifest": ("PUT", "/artifacts/"),
    "alias": ("PUT", "/latest/"),
    "blob": ("PUT", f"/{hashlib.sha256(b'mill').hexdigest()}"),
    "part of a blob": ("PUT", "partNumber=2"),
    "start of a transfer in parts": ("POST", "?uploads"),
    "end of a transfer in parts": ("POST", "uploadId="),
}


def test_lost_answers_lose_and_double_nothing(on_s3: Scene, tmp_path: Path) -> None:
    assert on_s3.faults is not None
    for method, where in LOST.values():
        on_s3.faults.add("lost", method, where)
    source = large_file(tmp_path, PART_SIZE + 1)
    with on_s3.store.draft(recipe()) as draft:
        (draft.folder / "small.txt").write_text("mill")
        draft.add("small.txt")
        draft.add("large.bin", source)
        made = draft.commit(totals={})
    lost = on_s3.faults.seen(fault="lost")
    assert len(lost) == len(LOST)
    for each in lost:
        assert len(on_s3.faults.seen(each.method, each.target)) == 2, "it was tried once more"
    assert made.version == recipe().fingerprint[:12]
    assert [each["version"] for each in alias_log(on_s3.store, "latest")][2:] == [made.version]
    assert on_s3.store.file(made, "large.bin").read_bytes() == source.read_bytes()
    on_s3.holds(made)


def test_when_no_answer_comes_any_more_the_error_is_clear_and_the_rerun_finds_what_was_committed(on_s3: Scene) -> None:
    assert on_s3.faults is not None
    on_s3.faults.add("lost", "PUT", "/artifacts/", times=None)
    with pytest.raises(
        StoreError, match=r"Object storage failed at PutObject \(If-None-Match\) on .*manifest.json.*again"
    ):
        commit(hasty(on_s3.store), recipe(), FILES)
    assert on_s3.faults.seen(fault="lost")
    on_s3.faults.clear()
    made = on_s3.store.find(recipe())
    assert made is not None
    assert on_s3.store.resolve("vocabulary/small@latest") == made
    on_s3.holds(made)


def hasty(store: Store, deadline_s: float = 0.5) -> Store:
    """One that gives up soon."""
    return reopened(store, store_deadline_s=deadline_s)


def test_a_lost_answer_to_a_snapshot_a_part_or_a_removal_changes_nothing(on_s3: Scene) -> None:
    assert on_s3.faults is not None
    store, work = on_s3.store, on_s3.store.work(recipe())
    for where in ("/work/", "/parts/"):
        on_s3.faults.add("lost", "PUT", where)
    on_s3.faults.add("lost", "DELETE")
    work.commit("step-2", [shard(store, 0, "step-2")], {"step": 2})
    assert store.part("count", 1, counted).record == store.part("count", 1, counted).record == {"words": 3}
    assert work.load("step-2")[1] == {"step": 2}
    work.remove("step-2")
    assert work.names() == ["step-1"]
    assert len(on_s3.faults.seen(fault="lost")) == 3
    on_s3.holds()


def counted(draft: PartDraft) -> dict[str, Any]:
    (draft.folder / "counts.txt").write_text("mill 3")
    draft.add("counts.txt")
    return {"words": 3}


# Two at once


@pytest.mark.parametrize("same", [True, False], ids=["same bytes", "other bytes"])
def test_of_two_that_publish_one_version_none_overwrites_the_other(scene: Scene, same: bool) -> None:
    if scene.faults is not None:
        scene.faults.add("lost", "PUT", "/artifacts/", times=2)  # neither is told how it went
    barrier = Barrier(2)

    def publish(runner: int) -> Artifact | str:
        barrier.wait()
        try:
            return commit(reopened(scene.store), recipe(), {"vocab.txt": "mill" if same else f"mill {runner}"})
        except BertmillError as error:
            return str(error)

    ended = in_threads(publish, range(2))
    made = [each for each in ended if isinstance(each, Artifact)]
    told = [each for each in ended if isinstance(each, str)]
    assert len(set(made)) == 1
    if same:
        assert made[0] == made[1]
    else:
        (sentence,) = told
        assert f"{made[0]} was committed by another run with other bytes" in sentence
        assert scene.store.file(made[0], "vocab.txt").read_text() == f"mill {ended.index(made[0])}"
    scene.holds(made[0])


def in_threads(work: Callable[[Any], Any], items: Any) -> list[Any]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, items))


def test_of_two_that_race_for_an_alias_both_are_in_its_history_and_the_last_wins(scene: Scene) -> None:
    if scene.faults is not None:
        scene.faults.add("lost", "PUT", "/staging/", times=2)
    first, second = scene.past
    barrier = Barrier(2)

    def tag(artifact: Artifact) -> None:
        barrier.wait()
        reopened(scene.store).aliases.tag(artifact, "staging", f"of {artifact.version}")

    in_threads(tag, [first, second])
    log = alias_log(scene.store, "staging")
    assert sorted(each["version"] for each in log) == sorted([first.version, second.version])
    assert scene.store.resolve("vocabulary/small@staging").version == log[-1]["version"]
    scene.holds()


# Damage


def damage(store: Store, key: str, how: str) -> None:
    """One bit flipped, half of the bytes, or none: on the disk, or in the bucket."""
    data = store.backend.get(key)
    assert data is not None
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    wrong = data[:middle] if how == "truncated" else flipped
    if not isinstance(store.backend, LocalBackend):
        store.backend.delete(key) if how == "missing" else store.backend.put(key, wrong)
        return
    path = store.backend.root / key
    path.unlink() if how == "missing" else path.chmod(0o644)
    if how == "truncated":
        os.truncate(path, middle)
    elif how == "flipped":
        path.write_bytes(flipped)


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
def test_a_damaged_blob_is_told_and_a_run_that_is_forced_mends_it(scene: Scene, how: str) -> None:
    made = commit(scene.store, recipe(), FILES)
    damage(scene.store, blob_key(scene.store.manifest(made).file("large.txt").sha256), how)
    sentence = f"large.txt of {made} is {'missing' if how == 'missing' else 'corrupt'}: .*--force` makes it again"
    with pytest.raises(CorruptArtifact, match=sentence):
        scene.store.file(made, "large.txt")
    assert scene.store.file(made, "vocab.txt").read_text() == FILES["vocab.txt"], "the other file is sound"
    found = scene.store.find(recipe())
    assert found == (made if how == "flipped" else None), "sizes are looked at, bytes are when they are read"
    again = commit(scene.store, recipe(), FILES, force=how == "flipped")
    for each in {made, again}:
        assert scene.store.file(each, "large.txt").read_text() == LARGE
    assert scene.store.find(recipe()) == again
    scene.holds(*{made, again})


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_a_damaged_manifest_is_never_taken_for_another_and_the_rerun_makes_one(scene: Scene, how: str) -> None:
    made = commit(scene.store, recipe(), FILES)
    damage(scene.store, f"artifacts/vocabulary/small/{made.version}/manifest.json", how)
    with pytest.raises(CorruptArtifact, match=f"The manifest of {made} is missing or changed"):
        scene.store.file(made, "vocab.txt")
    again = commit(scene.store, recipe(), FILES, force=True)
    assert again.version == f"{made.version}-2"
    assert {path: scene.store.file(again, path).read_text() for path in FILES} == FILES
    assert scene.store.find(recipe()) == again
    scene.keeps_the_past()


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_damaged_snapshot_is_not_loaded(scene: Scene, how: str) -> None:
    work = scene.store.work(recipe())
    work.commit("step-2", [entry := shard(scene.store, 0, "step-2")], {"step": 2})
    damage(scene.store, work.key(entry), how)
    with pytest.raises(CorruptArtifact, match="step-2/snapshot.json lacks the bytes of rank-0"):
        work.load("step-2")
    scene.holds()


def test_a_damaged_alias_is_told_and_set_again_by_a_tag_or_a_run(scene: Scene) -> None:
    first, second = scene.past
    for alias in ("latest", "staging"):
        scene.store.aliases.tag(second, alias)
        damage(scene.store, keys(scene.store, f"aliases/vocabulary/small/{alias}/")[-1], "truncated")
        sentence = f"The alias record .*/small/{alias}/.* can't be read. Point .*: `bertmill tag REF {alias}`"
        with pytest.raises(CorruptArtifact, match=sentence):
            scene.store.resolve(f"vocabulary/small@{alias}")
    scene.store.aliases.tag(first, "staging")
    assert scene.store.resolve("vocabulary/small@staging") == first
    made = commit(scene.store, recipe(), FILES)
    assert scene.store.resolve("vocabulary/small@latest") == made
    scene.holds(made)


# Damage on the way


@pytest.mark.parametrize("fault", ["flipped", "truncated", "reset_in_body"])
def test_bytes_that_are_damaged_on_the_way_are_fetched_once_more(on_s3: Scene, fault: str) -> None:
    assert on_s3.faults is not None
    first, second = on_s3.past
    entry = on_s3.store.manifest(first).file("vocab.txt")
    for where in (entry.sha256, second.version):
        on_s3.faults.add(fault, "GET", where)
    assert on_s3.store.file(first, "vocab.txt").read_text() == PAST[1]["vocab.txt"]
    assert on_s3.store.manifest(second).totals == {"files": 1}
    for where in (entry.sha256, second.version):
        assert [each.fault for each in on_s3.faults.seen("GET", where)] == [fault, None]
    on_s3.holds()


RANGES = [f"bytes={start}-{min(start + PART_SIZE, BIG) - 1}" for start in range(0, BIG, PART_SIZE)]


def test_a_fault_in_the_midst_of_a_part_sends_or_fetches_that_part_again_alone(on_s3: Scene, tmp_path: Path) -> None:
    assert on_s3.faults is not None
    source = large_file(tmp_path, BIG)
    on_s3.faults.add("reset", "PUT", "partNumber=2")
    on_s3.faults.add("late_error", "POST", "uploadId=")
    entry = on_s3.store.add_blob(source, "large.bin", None)
    assert [len(on_s3.faults.seen("PUT", f"partNumber={part}")) for part in (1, 2, 3)] == [1, 2, 1]
    assert [each.fault for each in on_s3.faults.seen("POST")] == [None, "late_error", None], "one transfer, ended twice"
    assert len(on_s3.faults.seen(fault="reset")) == 1
    on_s3.faults.add("reset_in_body", "GET", of_range(1))
    on_s3.faults.add("truncated", "GET", of_range(2))
    assert on_s3.store.blob(entry).read_bytes() == source.read_bytes()
    assert fetched(on_s3.faults, entry) == dict(zip(RANGES, (1, 2, 2)))
    on_s3.holds()


def test_a_download_that_was_given_up_goes_on_where_it_ended(on_s3: Scene, tmp_path: Path) -> None:
    assert on_s3.faults is not None
    entry = on_s3.store.add_blob(large_file(tmp_path, PART_SIZE + 1), "large.bin", None)
    last = f"bytes={PART_SIZE}-{PART_SIZE}"
    on_s3.faults.add("reset", "GET", lambda request: request.headers["Range"] == last, times=None)
    with pytest.raises(StoreError, match="Object storage failed at GetObject on .*, after retries.*run again"):
        hasty(on_s3.store).blob(entry)
    on_s3.faults.clear()
    assert hashlib.sha256(on_s3.store.blob(entry).read_bytes()).hexdigest() == entry.sha256
    assert fetched(on_s3.faults, entry) == {last: 1}
    on_s3.holds()


def of_range(number: int) -> Callable[[Request], bool]:
    return lambda request: request.headers["Range"] == RANGES[number]


def fetched(faults: Faults, entry: FileEntry) -> dict[str, int]:
    """How often each part of a blob was asked for."""
    return dict(Counter(each.headers["Range"] for each in faults.seen("GET", entry.sha256)))


def test_a_file_in_parts_that_is_damaged_on_the_way_is_fetched_once_more_and_then_told(
    on_s3: Scene, tmp_path: Path
) -> None:
    assert on_s3.faults is not None
    source = large_file(tmp_path, PART_SIZE + 1)
    with on_s3.store.draft(recipe()) as draft:
        entry = draft.add("large.bin", source)
        made = draft.commit(totals={})
    on_s3.faults.add("flipped", "GET", of_range(0))
    assert on_s3.store.file(made, "large.bin").read_bytes() == source.read_bytes()
    assert list(fetched(on_s3.faults, entry).values()) == [2, 2]
    on_s3.faults.clear()
    on_s3.faults.add("flipped", "GET", of_range(0), times=None)
    store = reopened(on_s3.store, cache=tmp_path / "cache")
    with pytest.raises(CorruptArtifact, match=f"large.bin of {made} is corrupt: s3://.*--force` makes it again"):
        store.file(made, "large.bin")
    assert list(fetched(on_s3.faults, entry).values()) == [2, 2]
    assert [path for path in (tmp_path / "cache/blobs").rglob("*") if path.is_file()] == []
    on_s3.holds(made)


# Refusals

ACTS: dict[str, Callable[[Store], Any]] = {
    "list": lambda store: store.versions("vocabulary"),
    "read": lambda store: store.work(recipe()).load("step-1"),
    "look": lambda store: [store.has_blob(each) for each in blobs(store)],
    "commit": lambda store: commit(store, recipe(), {"vocab.txt": "mill"}),
    "transfer": lambda store: store.add_blob(sparse_file(store.settings.home, PART_SIZE + 1), "large.bin", None),
    "remove": lambda store: store.work(recipe()).clear(),
}


def sparse_file(folder: Path, size: int) -> Path:
    path = folder / "large.bin"
    path.touch()
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("act", "method", "where", "action"),
    [
        ("list", "GET", "list-type=2", "ListObjectsV2"),
        ("read", "GET", "snapshot.json", "GetObject"),
        ("look", "HEAD", "/blobs/", "HeadObject"),
        ("commit", "PUT", "/blobs/", "PutObject"),
        ("commit", "PUT", "/artifacts/", "PutObject (If-None-Match)"),
        ("commit", "PUT", "/latest/", "PutObject (If-None-Match)"),
        ("transfer", "POST", "?uploads", "CreateMultipartUpload"),
        ("remove", "DELETE", "snapshot.json", "DeleteObject"),
    ],
)
def test_a_refusal_is_asked_for_once_and_told_with_its_action_bucket_and_key(
    on_s3: Scene, act: str, method: str, where: str, action: str
) -> None:
    assert on_s3.faults is not None
    on_s3.faults.add("denied", method, where, times=None)
    with pytest.raises(StoreError) as error:
        ACTS[act](on_s3.store)
    (refused,) = on_s3.faults.seen(fault="denied")
    path, _, query = refused.target.partition("?")
    place = path.lstrip("/") if action != "ListObjectsV2" else f"{BUCKET}/{parse_qs(query)['prefix'][0]}"
    assert str(error.value) == (
        f"Access denied: {action} on s3://{place}. The credentials in use may not do that; ask for the permission."
    )
    on_s3.faults.clear()
    committed = on_s3.store.find(recipe())
    assert (committed is not None) == (where == "/latest/")
    on_s3.holds(*[committed] if committed is not None else [])


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions bind."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_without_permission_is_told_and_may_still_be_read(past: Any) -> None:
    folder, committed = past
    with tempfile.TemporaryDirectory() as home:  # its parents are open to all, unlike pytest's
        Path(home).chmod(0o755)
        shutil.copytree(folder, f"{home}/store")
        places = [path for path in Path(home).rglob("*") if path.is_dir()]
        store = open_store(Settings.from_environment({"BERTMILL_HOME": home}))
        for place in places:
            place.chmod(0o555)
        with without_privileges():
            with store.draft(recipe()) as draft:
                (draft.folder / "vocab.txt").write_text("mill")
                with pytest.raises(StoreError, match="The store can't write .*/blobs/.*: Permission denied. Mend that"):
                    draft.add("vocab.txt")
            with pytest.raises(StoreError, match="The store can't remove .*snapshot.json: Permission denied"):
                store.work(recipe()).clear()
            assert {str(each) for each in committed} == {f"vocabulary/small@{m.version}" for m in store.versions()}
        for closed in (0o444, 0o000):  # names alone may be seen; not even names
            for place in places:
                place.chmod(closed if any(each.is_file() for each in place.iterdir()) else 0o755)
            with without_privileges(), pytest.raises(StoreError, match="The store can't list .*: Permission denied"):
                store.versions()
            for place in places:
                place.chmod(0o755)
        Scene(store, None, committed).holds()


@contextmanager
def files_bounded(size: int) -> Iterator[None]:
    """As on a full disk: the system refuses to write a file beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_told_and_keeps_no_half_of_a_file(on_disk: Scene) -> None:
    before = keys(on_disk.store)
    with on_disk.store.draft(recipe()) as draft:
        (draft.folder / "large.txt").write_text(LARGE)
        with files_bounded(1000), pytest.raises(StoreError, match="The store can't write .*/blobs/.*: File too large"):
            draft.add("large.txt")
        assert isinstance(on_disk.store.backend, LocalBackend)
        assert sorted(keys(on_disk.store)) == sorted(before)
        assert list(on_disk.store.backend.root.rglob(f"{TEMPORARY}*")) == []
        draft.add("large.txt")
        on_disk.holds(draft.commit(totals={}))


# A service that is busy, or fails now and then


class FirstTry:
    """Whether a request is the first of its kind."""

    def __init__(self) -> None:
        self._met: set[tuple[str, str]] = set()

    def __call__(self, request: Request) -> bool:
        kind = (request.method, request.target)
        first = kind not in self._met
        self._met.add(kind)
        return first


@pytest.mark.parametrize("fault", ["slow_down", "internal_error", "reset", "lost", "truncated", "conflict"])
def test_where_each_request_fails_at_first_all_is_as_if_none_did(
    on_s3: Scene, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_s3.faults is not None
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.01)
    method = {"truncated": "GET", "conflict": "PUT"}.get(fault)
    on_s3.faults.add(fault, method, FirstTry(), times=None)
    store = on_s3.store
    made = commit(store, recipe(), FILES)
    store.aliases.tag(made, "staging")
    work = store.work(recipe())
    work.commit("step-2", [shard(store, 0, "step-2")], {"step": 2})
    work.remove("step-2")
    assert store.find(recipe()) == store.resolve("vocabulary/small@staging") == made
    assert {path: store.file(made, path).read_text() for path in FILES} == FILES
    assert len(alias_log(store, "staging")) == 1
    failed = on_s3.faults.seen(fault=fault)
    assert len(failed) >= 8
    assert all(len(on_s3.faults.seen(each.method, each.target)) > 1 for each in failed)
    on_s3.holds(made)


def test_a_service_that_stays_busy_is_asked_with_growing_random_pauses_until_the_deadline(
    on_s3: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_s3.faults is not None
    drawn: list[tuple[float, float, float]] = []

    class Dice:
        @staticmethod
        def uniform(low: float, high: float) -> float:
            drawn.append((low, high, random.uniform(low, high)))
            return drawn[-1][2]

    monkeypatch.setattr(retrying, "random", Dice)
    on_s3.faults.add("slow_down", "GET", "list-type=2", times=None)
    with pytest.raises(
        StoreError, match="Object storage failed at ListObjectsV2 on s3://.*: 503, SlowDown, after retries"
    ):
        hasty(on_s3.store, 1.5).versions("vocabulary")
    assert len(on_s3.faults.seen()) == len(drawn) >= 3, "the last pause would have been beyond the deadline"
    assert [(low, high) for low, high, _ in drawn] == [
        (0, min(retrying.FIRST_PAUSE_S * 2**turn, retrying.LONGEST_PAUSE_S)) for turn in range(len(drawn))
    ]
    assert sum(pause for *_, pause in drawn[:-1]) <= 1.5
    on_s3.holds()


def test_a_slow_answer_is_waited_for(on_s3: Scene) -> None:
    assert on_s3.faults is not None
    on_s3.faults.add("delay", delay_s=0.5)
    assert len(hasty(on_s3.store, 0.1).versions("vocabulary")) == 2
    assert len(on_s3.faults.seen("GET", "list-type=2")) == 1
    on_s3.holds()


# A service without create-only writes


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that hasn't tested any store yet."""
    monkeypatch.setattr(opening, "_tested", set())


@pytest.mark.usefixtures("untested")
def test_a_service_that_ignores_create_only_writes_is_refused_unless_one_writer_is_declared(on_s3: Scene) -> None:
    assert on_s3.faults is not None
    on_s3.faults.add("silently_ignored", "PUT", is_create_only, times=None)
    with pytest.raises(StoreError, match="ignores create-only writes: 8 of 8 racing.*BERTMILL_STORE_SINGLE_WRITER=1"):
        commit(on_s3.store, recipe(), FILES)
    assert len(on_s3.faults.seen(fault="silently_ignored")) == 8
    on_s3.holds()
    alone = reopened(on_s3.store, store_single_writer=True)
    made = commit(alone, recipe(), FILES)
    assert alone.manifest(made).producer["single_writer"] is True
    forced = commit(alone, recipe(), FILES, force=True)
    assert forced.version == f"{made.version}-2", "what is there is looked for, and never overwritten"
    on_s3.holds(made, forced)


# Several ranks

RANK = """
import os, signal, sys, time
from pathlib import Path
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.store.work import WorkFile
from tests.artifacts import recipe
store, rank, victim = open_store(Settings.model_validate_json(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
work, meeting = store.work(recipe()), Path(sys.argv[4])
source = meeting / f"rank-{rank}"
source.write_text(f"rank {rank} at step-2")
if rank == victim == 1:
    os.kill(os.getpid(), signal.SIGKILL)
entry = work.add(source, f"rank-{rank}", "step-2")
if rank == 1:
    (meeting / "half").write_text(entry.model_dump_json())
    (meeting / "half").rename(meeting / "entry.json")
    sys.exit()
while not (meeting / "entry.json").exists():
    time.sleep(0.02)
if rank == victim:
    os.kill(os.getpid(), signal.SIGKILL)
work.commit("step-2", [entry, WorkFile.model_validate_json((meeting / "entry.json").read_text())], {"step": 2})
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_a_checkpoint_that_lacks_a_rank_is_not_seen_and_the_one_before_it_loads(
    scene: Scene, tmp_path: Path, victim: int
) -> None:
    (tmp_path / "torn").mkdir()
    with ranks(scene.store, victim, tmp_path / "torn") as processes:
        assert processes[victim].wait(60) == -signal.SIGKILL
        if victim == 0:
            assert processes[1].wait(60) == 0, "its shard is stored"
    work = scene.store.work(recipe())
    assert work.names() == ["step-1"]
    with pytest.raises(CorruptArtifact, match="The snapshot step-2 can't be read"):
        work.load("step-2")
    scene.holds()
    work.commit("step-2", [shard(scene.store, rank, "step-2") for rank in range(2)], {"step": 2})
    assert work.names() == ["step-2", "step-1"]
    assert read_snapshot(scene.store, "step-2") == ["rank 0 at step-2", "rank 1 at step-2"]
    scene.holds()


@contextmanager
def ranks(store: Store, victim: int, meeting: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Two ranks that make a snapshot; as a launcher does, what is left of them is killed in the end."""
    arguments = [str(victim), str(meeting)]
    processes = [subprocess.Popen(script(RANK, store, str(rank), *arguments), cwd=ROOT) for rank in range(2)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


# Secrets


def fail(store: Store, faults: Faults, fault: str) -> BertmillError:
    """The error that a fault ends in when it lasts."""
    which: Which = is_create_only if fault in {"conflict", "silently_ignored"} else ""
    faults.add(fault, "GET" if fault in {"flipped", "truncated", "reset_in_body"} else None, which, times=None)
    with pytest.raises(BertmillError) as error:
        store.file(commit(store, recipe()), "vocab.txt")
    assert faults.seen(fault=fault)
    faults.clear()
    return error.value


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize("fault", sorted(FAULTS - {"delay", "late_error"}))
def test_no_error_log_or_object_holds_a_secret_whatever_fails(
    on_s3: Scene, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert on_s3.faults is not None
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    planted = {name: f"{name.lower()}-{secrets.token_hex(16)}" for name in names}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    _session.cache_clear()  # which remembers credentials
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "bertmill")
    store = hasty(on_s3.store, 0.3)
    told = "".join(traceback.format_exception(fail(store, on_s3.faults, fault)))
    made = commit(store, recipe())
    sent = on_s3.faults.seen()
    assert planted["AWS_ACCESS_KEY_ID"] in sent[0].headers["Authorization"], "they are in use"
    stored = b"".join(store.backend.get(key) or b"" for key in keys(store))
    shown = told + caplog.text + "".join(each.target for each in sent) + stored.decode()
    for secret in [*planted.values(), "X-Amz-Signature"]:
        assert secret not in shown
    on_s3.holds(made)
