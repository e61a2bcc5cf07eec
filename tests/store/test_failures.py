"""The failures that a store survives: none loses a committed byte, none shows an uncommitted one.

Faults are real: processes kill themselves, files on disk are damaged, and a proxy (tests/faults.py) stands before a
real S3 server. After each, every file of what was committed before is read back from the store, past all caches.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.errors import BertmillError, CorruptArtifact, StoreError
from pipeline.store import Artifact, FileEntry, PartDraft, Store, open_store
from pipeline.store.keys import blob_key
from pipeline.store.local import LocalBackend
from pipeline.store.s3 import PART_SIZE
from tests.artifacts import commit, keys, recipe
from tests.conftest import BUCKET
from tests.faults import Faults

ROOT = Path(__file__).parents[2]
LARGE = "mill " * 300_000
"""Above the size from which object storage is asked for a blob before it is sent."""
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
        with pytest.MonkeyPatch.context() as patch:
            if self.faults is not None:
                patch.setenv("AWS_ENDPOINT_URL_S3", self.faults.server)
            store = reopened(self.store, cache=Path(tempfile.mkdtemp(dir=self.store.settings.home)))
        for artifact, files in self.past.items():
            assert {each.path: store.blob(each).read_text() for each in store.manifest(artifact).files} == files
        known = [*self.past, *later]
        assert sorted(f"{each.kind}/{each.name}@{each.version}" for each in store.versions()) == sorted(map(str, known))
        assert store.resolve("vocabulary/small@production") == known[0]
        assert store.resolve("vocabulary/small@latest") in known[1:]
        assert read_snapshot(store, "step-1") == ["rank 0 at step-1", "rank 1 at step-1"]


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
    return store.work(recipe()).add(source, f"rank-{rank}")


def read_snapshot(store: Store, name: str) -> list[str]:
    return [store.blob(entry).read_text() for entry in store.work(recipe()).load(name)[0]]


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
import os, signal, sys
from pipeline.config import Settings
from pipeline.store import open_store
from tests.artifacts import commit, recipe
from tests.store.test_failures import FILES
store, start, when = open_store(Settings.model_validate_json(sys.argv[1])), sys.argv[2], sys.argv[3]
create = store.backend.create
def crash(key, data):
    if not key.startswith(start):
        return create(key, data)
    if when == "after":
        create(key, data)
    os.kill(os.getpid(), signal.SIGKILL)
store.backend.create = crash
commit(store, recipe(), FILES)
"""


def crash(store: Store, key: str, when: str) -> None:
    """Commit in a process that kills itself before or after it creates an object under `key`."""
    ended = subprocess.run(script(CRASH, store, key, when), cwd=ROOT, timeout=60)
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


@pytest.mark.parametrize(("key", "when"), [("artifacts/", "after"), ("aliases/", "before"), ("aliases/", "after")])
def test_a_crash_after_the_manifest_is_completed_by_the_rerun(scene: Scene, key: str, when: str) -> None:
    crash(scene.store, key, when)
    (version,) = {each.version for each in scene.store.versions()} - {each.version for each in scene.past}
    latest = scene.store.resolve("vocabulary/small@latest")
    assert (latest.version == version) == ((key, when) == ("aliases/", "after"))
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
from pipeline.config import Settings
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
    entry = on_s3.store.add_blob(source, "large.bin", None)
    assert on_s3.store.blob(entry).read_bytes() == source.read_bytes()


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
    with pytest.raises(StoreError, match=r"The store failed at PutObject \(If-None-Match\) on .*manifest.json.*again"):
        commit(hasty(on_s3.store), recipe(), FILES)
    assert len(on_s3.faults.seen(fault="lost")) > 1
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
    assert (reopened(scene.store).find(recipe()) is None) == (how != "flipped"), (
        "bytes are looked at when they are read"
    )
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


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_damaged_snapshot_is_not_loaded(scene: Scene, how: str) -> None:
    work = scene.store.work(recipe())
    work.commit("step-2", [entry := shard(scene.store, 0, "step-2")], {"step": 2})
    damage(scene.store, blob_key(entry.sha256), how)
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
    made = commit(on_s3.store, recipe(), FILES)
    entry = on_s3.store.manifest(made).file("large.txt")
    on_s3.faults.add(fault, "GET", entry.sha256)
    assert on_s3.store.file(made, "large.txt").read_text() == LARGE
    assert [each.fault for each in on_s3.faults.seen("GET", entry.sha256)] == [fault, None]
    on_s3.holds(made)


def test_bytes_that_stay_damaged_are_told_after_the_second_time(on_s3: Scene) -> None:
    assert on_s3.faults is not None
    made = commit(on_s3.store, recipe(), FILES)
    entry = on_s3.store.manifest(made).file("large.txt")
    on_s3.faults.add("flipped", "GET", entry.sha256, times=None)
    with pytest.raises(CorruptArtifact, match=f"large.txt of {made} is corrupt: s3://.*--force` makes it again"):
        on_s3.store.file(made, "large.txt")
    assert len(on_s3.faults.seen("GET", entry.sha256)) == 2
    on_s3.holds(made)
