"""A cache that processes share: filled once, gone on with, bounded, and never trusted unread."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from pipeline.errors import StoreError
from pipeline.store import cache as caching
from pipeline.store.cache import HELD, Cache


class Blob:
    """Bytes that come from elsewhere, and count how often they are asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.offsets: list[int] = []

    def fill(self, file: IO[bytes], digest: Any, offset: int) -> None:
        self.offsets.append(offset)
        file.write(self.data[offset:])
        digest.update(self.data[offset:])

    def copy(self, cache: Cache) -> Path:
        path, found = cache.copy(self.sha256, self.fill)
        assert found == self.sha256
        return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 30)


def size_of(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.root.glob("blobs/*/*"))


def test_a_blob_is_filled_once_and_its_copy_is_read_only(cache: Cache) -> None:
    blob = Blob(b"mill" * 1000)
    for _ in range(3):
        assert blob.copy(cache).read_bytes() == blob.data
    assert blob.offsets == [0]
    assert blob.copy(cache).stat().st_mode & 0o222 == 0


def test_many_that_want_one_blob_at_once_fill_it_once(tmp_path: Path) -> None:
    blob = Blob(os.urandom(100_000))

    def slow(file: IO[bytes], digest: Any, offset: int) -> None:
        time.sleep(0.2)
        blob.fill(file, digest, offset)

    caches = [Cache(tmp_path, 1 << 30) for _ in range(8)]  # as in as many processes: the locks are the files'
    with ThreadPoolExecutor(8) as pool:
        copies = list(pool.map(lambda each: each.copy(blob.sha256, slow), caches))
    assert {path.read_bytes() for path, _ in copies} == {blob.data}
    assert blob.offsets == [0]


def test_a_fill_that_was_killed_is_gone_on_with_by_the_next_process(tmp_path: Path) -> None:
    blob = Blob(os.urandom(1000))
    code = (
        "import sys, time; from pathlib import Path; from pipeline.store.cache import Cache\n"
        "def fill(file, digest, offset):\n"
        "    file.write(bytes.fromhex(sys.argv[3])); file.flush(); print('half', flush=True); time.sleep(60)\n"
        "Cache(Path(sys.argv[1]), 1 << 30).copy(sys.argv[2], fill)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), blob.sha256, blob.data[:400].hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as filler:
        assert filler.stdout is not None
        assert filler.stdout.readline() == b"half\n"
        filler.send_signal(signal.SIGKILL)
    assert blob.copy(Cache(tmp_path, 1 << 30)).read_bytes() == blob.data
    assert blob.offsets == [400]


@pytest.mark.parametrize("left", [b"wrong" * 10, b"longer than the blob" * 100])
def test_what_was_left_half_done_and_is_wrong_is_filled_anew(cache: Cache, left: bytes) -> None:
    blob = Blob(os.urandom(1000))
    partial = cache.root / "blobs" / blob.sha256[:2] / f"{blob.sha256}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(left)
    assert blob.copy(cache).read_bytes() == blob.data
    assert blob.offsets == [len(left), 0]


def test_a_copy_that_rotted_is_filled_again_in_this_process_and_in_another(cache: Cache) -> None:
    blob = Blob(b"mill" * 1000)
    for reader in (cache, Cache(cache.root, 1 << 30)):
        path = blob.copy(cache)
        path.chmod(0o644)
        path.write_bytes(b"rust" * 1000)
        assert blob.copy(reader).read_bytes() == blob.data
    assert blob.offsets == [0, 0, 0]


def test_bytes_that_are_not_the_blobs_leave_no_copy(cache: Cache) -> None:
    blob, other = Blob(b"mill"), Blob(b"rust")
    path, found = cache.copy(blob.sha256, other.fill)
    assert found == other.sha256
    assert not path.exists()
    assert size_of(cache) == 0


def test_a_copy_that_is_released_goes_with_the_last_process_that_holds_it(cache: Cache) -> None:
    blob, kept, another = Blob(b"mill"), Blob(b"rust"), Cache(cache.root, 1 << 30)
    for each in (cache, another):
        path = blob.copy(each)
        kept.copy(each)
    cache.release(blob.sha256)
    cache.release(blob.sha256)
    assert path.read_bytes() == b"mill"
    another.release(blob.sha256)
    assert size_of(cache) == len(b"rust")
    assert blob.copy(cache).read_bytes() == b"mill"
    assert blob.offsets == [0, 0]


def test_the_bound_holds_and_what_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "HELD", 2)
    cache = Cache(tmp_path, 100_000)
    blobs = [Blob(os.urandom(10_000)) for _ in range(30)]
    for blob in blobs:
        blob.copy(cache)
        blobs[0].copy(cache)
        assert size_of(cache) <= 100_000
    assert blobs[0].offsets == [0], "used all the time"
    blobs[-2].copy(cache)
    assert blobs[-2].offsets == [0], "used lately"
    blobs[1].copy(cache)
    assert blobs[1].offsets == [0, 0], "went, and came again"


def test_a_copy_that_another_process_holds_is_not_removed(tmp_path: Path) -> None:
    held, other = Blob(os.urandom(10_000)), Cache(tmp_path, 30_000)
    path = held.copy(other)
    cache = Cache(tmp_path, 30_000)
    for _ in range(HELD + 10):
        Blob(os.urandom(10_000)).copy(cache)
    assert path.read_bytes() == held.data


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"The cache can't use .*: Not a directory. Set BERTMILL_CACHE to a folder"):
        Blob(b"mill").copy(Cache(tmp_path / "file", 1 << 30))
