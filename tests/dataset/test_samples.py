"""Samples are read as they are needed: from object storage through a bounded cache, by several threads at once."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import order, samples
from pipeline.dataset.batches import Batch, packed
from pipeline.dataset.loading import steps_ahead
from pipeline.dataset.order import Order
from pipeline.dataset.rows import Rows
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Chosen, Steps
from pipeline.errors import CorruptArtifact, StoreError
from pipeline.settings import Settings
from pipeline.store import FileEntry, Store, cache, open_store
from pipeline.store.keys import blob_key
from pipeline.store.service import _session
from tests.conftest import BUCKET
from tests.damage import damage_blob
from tests.dataset.reading import SEED, step_of_all
from tests.dataset.stored import rows_of, stored

FILES, ROWS = 8, 64
BATCH = 16
ROOM = 2
"""Files that the cache may hold, and as many that it may be over by for a process that uses them."""
A_FILE = ROWS // BATCH
"""Steps; so many are dealt together."""


@pytest.fixture
def windows_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make windows of so many files."""

    def patch(files: int) -> None:
        monkeypatch.setattr(order, "WINDOW", files)
        monkeypatch.setattr(samples, "WINDOW", files)

    return patch


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_for_fetches()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def wait_for_fetches() -> None:
    for thread in threading.enumerate():
        if thread.name == "fetch-ahead":
            thread.join(timeout=60)
            assert not thread.is_alive()


def files_of(count: int = FILES, length: int = 100) -> list[Rows]:
    """Files of as many bytes, no two alike."""
    found = []
    for number in range(count):
        rows = rows_of([length] * ROWS)
        rows.input_ids[1] = 5 + number
        found.append(rows)
    return found


def steps_over(of: Samples) -> Steps:
    steps = Steps([(of, 1)], train_batch_size=BATCH, seed=SEED)
    assert steps.together == A_FILE
    return steps


def read(of: Samples, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Batch:
    return packed([of], Chosen(rows * 0, rows * 0, rows, of.lengths[rows].astype(np.int64), rows * 0), [len(rows)])[0]


def unmasked(batch: Batch) -> list[int]:
    ids = batch.input_ids.copy()
    ids[batch.masked_positions] = batch.masked_lm_labels
    found: list[int] = ids.tolist()
    return found


def test_rows_are_read_from_any_files_empty_ones_among_them(store: Store) -> None:
    files = [rows_of([n + 9 for n in range(count)]) for count in (0, 3, 0, 0, 5, 1, 0)]
    of = Samples(store, stored(store, files))
    assert len(of) == 9
    expected = [file.input_ids[file.starts[row] : file.starts[row + 1]] for file in files for row in range(len(file))]
    assert unmasked(read(of, np.arange(9))) == np.concatenate(expected).tolist()
    for row in range(9):
        assert unmasked(read(of, np.array([row]))) == expected[row].tolist()


# Object storage


@pytest.fixture
def s3_store(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An S3 store whose cache has room for a few files."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    _session.cache_clear()  # which remembers credentials
    monkeypatch.setattr(cache, "HELD", ROOM)
    return open_store(
        Settings.from_environment(
            {
                "BERTMILL_HOME": str(tmp_path / "home"),
                "BERTMILL_STORE": f"s3://{BUCKET}/{tmp_path.name}",
                "BERTMILL_CACHE_GB": str(ROOM * a_files_bytes() / 1e9),
            }
        )
    )


def a_files_bytes() -> int:
    return ROWS * 100 * 2 + 4_000


def cached_bytes(store: Store) -> int:
    assert store.settings.cache is not None
    sizes = []
    for path in (store.settings.cache / "blobs").glob("*/*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_read_through_a_cache_smaller_than_the_dataset(
    s3_store: Store, windows_of: Callable[[int], None], workers: int
) -> None:
    windows_of(2)
    dataset = stored(s3_store, files_of())
    total = sum(entry.size for entry in s3_store.manifest(dataset).files)
    of = Samples(s3_store, dataset)
    seen, most = list[int](), 0
    with closing(steps_ahead(step_of_all(steps_over(of), 1), 0, FILES * A_FILE, workers)) as made:
        for batches in made:
            seen += [int(row) for batch in batches for row in batch.indices]
            most = max(most, cached_bytes(s3_store))
    assert sorted(seen) == list(range(FILES * ROWS))
    assert 0 < most <= 2 * ROOM * a_files_bytes() < 0.6 * total
    assert len(of._open) <= 4, "two windows"


def test_files_are_fetched_before_they_are_needed(s3_store: Store, windows_of: Callable[[int], None]) -> None:
    windows_of(1)
    of = Samples(s3_store, stored(s3_store, files_of()))
    steps, an_order = steps_over(of), Order(of.sizes, SEED)
    steps.step(0)  # the samples of the first file are chosen; the next is to be fetched
    wait_for_fetches()
    (ahead,) = an_order.files_after(0)
    entries = s3_store.manifest(of.dataset).matching("train/")
    for entry in entries:
        s3_store.backend.delete(blob_key(entry.sha256))
    rows = ahead * ROWS + np.arange(ROWS)
    assert len(read(of, rows).indices) == ROWS
    with pytest.raises(CorruptArtifact, match="is missing"):
        read(of, an_order.files_after(2 * ROWS)[0] * ROWS + np.arange(ROWS))


class Losing(Store):
    """A store whose cache gives up the first copies before they can be opened."""

    losses = 3

    def blob(self, entry: FileEntry) -> Path:
        self.losses -= 1
        return super().blob(entry) if self.losses < 0 else self.settings.home / "gone"


def test_a_copy_that_the_cache_gives_up_before_it_is_opened_is_fetched_again(store: Store) -> None:
    files = files_of(1)
    of = Samples(Losing(store.settings), stored(store, files))
    assert unmasked(read(of, np.arange(ROWS))) == files[0].input_ids.tolist()


def test_a_cache_that_is_too_small_to_open_a_file_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Losing, "losses", 1_000)
    of = Samples(Losing(store.settings), stored(store, files_of(1)))
    with pytest.raises(
        StoreError, match=r"^The cache gave up train/00000.arrow of .* too small. Raise BERTMILL_CACHE_GB"
    ):
        read(of, np.arange(ROWS))


# Bytes that are gone or wrong


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt"])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_file_that_is_gone_or_wrong_is_told_at_the_step_that_needs_it(
    store: Store, windows_of: Callable[[int], None], workers: int, damage: str
) -> None:
    windows_of(1)
    of = Samples(store, stored(store, files_of()))
    steps = steps_over(of)
    third = Order(of.sizes, SEED).files_after(ROWS)[0]
    damage_blob(store, store.manifest(of.dataset).matching("train/")[third], damage)
    done = list[int]()
    told = rf"^train/{third:05d}\.arrow is .* It is of dataset/by-hand@\w+; `bertmill dataset PRESET --force` makes"

    def read_all() -> None:
        with closing(steps_ahead(step_of_all(steps, 1), 0, 40, workers)) as made:
            done.extend(step for step, _ in enumerate(made))

    with pytest.raises(CorruptArtifact, match=told):
        read_all()
    assert done == list(range(2 * A_FILE)), "the steps of the first two files"


# Threads


def test_what_is_located_stays_where_it_is_though_its_file_is_closed_and_opened_again(
    store: Store, windows_of: Callable[[int], None]
) -> None:
    windows_of(1)
    files = files_of(8)
    of = Samples(store, stored(store, files))
    located = of.located(np.array([7]))
    address = located.addresses.copy()
    for file in (3, 4, 0, 5, 6, 7):  # the first is closed, opened elsewhere, and closed again
        of.located(np.array([file * ROWS]))
    assert 0 not in of._open
    assert located.addresses.tolist() == address.tolist()
    assert located.addresses[0, 0] == located.held[0].input_ids.__array_interface__["data"][0]
    assert located.held[0].input_ids.tolist() == files[0].input_ids.tolist()


def test_threads_that_read_at_once_while_files_are_closed_see_the_right_rows(
    store: Store, windows_of: Callable[[int], None]
) -> None:
    windows_of(1)
    files = files_of(30)
    of = Samples(store, stored(store, files))
    expected = [file.input_ids.reshape(ROWS, 100) for file in files]
    pause, began = sys.getswitchinterval(), threading.Barrier(4)
    sys.setswitchinterval(1e-5)

    def reader(number: int) -> int:
        draw = np.random.default_rng(number)
        began.wait(timeout=60)
        for _ in range(150):
            rows = draw.integers(0, 30 * ROWS, 12)
            whole = np.concatenate([expected[row // ROWS][row % ROWS] for row in rows])
            assert unmasked(read(of, rows)) == whole.tolist()
        return number

    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(reader, range(4))) == [0, 1, 2, 3]
    finally:
        sys.setswitchinterval(pause)
    assert len(of._open) <= 2
