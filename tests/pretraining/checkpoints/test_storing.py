"""A snapshot reaches the store in the background, whatever fails meanwhile; a whole is the parts of one run."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config import PretrainingConfig
from pipeline.errors import StoreError
from pipeline.pretraining.checkpoints.fragments import KINDS, Fragment
from pipeline.pretraining.checkpoints.storing import Snapshot, Storing, step_of, whole_name
from pipeline.pretraining.place import Place
from pipeline.settings import Settings
from pipeline.store import Recipe, Store, Work, open_store
from tests.conftest import BUCKET
from tests.faults import Faults
from tests.pretraining.checkpoints.waiting import eventually

RECIPE = Recipe("pretraining", PretrainingConfig(name="small"), 1)
FRAGMENTS = [Fragment("a", 0, 3), Fragment("b", 10, 5)]
SIZE = 8


@pytest.fixture
def work(store: Store) -> Work:
    return store.work(RECIPE)


def snapshot_of(folder: Path, step: int, numbers: float = 0.0) -> Snapshot:
    curve = folder / "curve.jsonl"
    curve.write_text('{"step": 0}\n')
    tensors = {kind: torch.arange(SIZE) + numbers + place for place, kind in enumerate(KINDS)}
    return Snapshot(step, FRAGMENTS, tensors, curve, curve.stat().st_size, {"step": step})


@contextmanager
def storing(
    snapshot: Snapshot,
    work: Work,
    rank: int,
    world: int,
    run: str = "run",
    committed: Callable[[], None] = lambda: None,
) -> Iterator[Storing]:
    found = Storing(snapshot, work, Place(rank, world, 1), run, snapshot.curve.parent, committed)
    try:
        yield found
    finally:
        found.stop(0)


def test_a_checkpoint_is_whole_when_the_parts_of_all_ranks_are_there(tmp_path: Path, work: Work) -> None:
    snapshot, told = snapshot_of(tmp_path, 7), list[bool]()
    with storing(snapshot, work, 0, 2, committed=lambda: told.append(True)) as first:
        assert eventually(lambda: first.trouble == "the checkpoint of step 7 waits for rank 1")
        assert whole_name(7) not in work.names()
        assert not told
        with storing(snapshot_of(tmp_path, 7, 100.0), work, 1, 2) as second:
            assert second.wait(20)
            assert first.wait(20)
    files, record = work.load(whole_name(7))
    assert record == {"step": 7}
    assert told == [True]
    assert first.trouble == ""
    named = {entry.path: work.file(entry) for entry in files}
    expected = {f"rank-0000{rank}.{kind}.safetensors" for rank in (0, 1) for kind in KINDS}
    assert named.keys() == expected | {"curve.jsonl"}
    for number, kind in enumerate(KINDS):
        tensors = load_file(named[f"rank-00001.{kind}.safetensors"])
        assert tensors.keys() == {"a@0", "b@10"}
        assert tensors["b@10"].tolist() == [100.0 + number + each for each in range(3, SIZE)]


def test_what_another_run_left_is_not_taken_for_a_missing_rank(tmp_path: Path, work: Work) -> None:
    with storing(snapshot_of(tmp_path, 7, 100.0), work, 1, 2, run="killed") as left:
        assert left.wait(20)
    with storing(snapshot_of(tmp_path, 7), work, 0, 2, run="again") as first:
        assert eventually(lambda: "waits for rank 1" in first.trouble)
        assert not first.wait(0.3)
    assert whole_name(7) not in work.names()


def test_only_the_curve_of_its_step_is_stored_though_the_file_has_grown(tmp_path: Path, work: Work) -> None:
    snapshot = snapshot_of(tmp_path, 1)
    with snapshot.curve.open("a") as lines:
        lines.write('{"step": 1}\n')
    with storing(snapshot, work, 0, 1) as one:
        assert one.wait(20)
    entry = next(entry for entry in work.load(whole_name(1))[0] if entry.path == "curve.jsonl")
    assert work.file(entry).read_text() == '{"step": 0}\n'
    assert len(snapshot.curve.read_text().splitlines()) == 2, "the curve itself is left alone"


def test_a_full_disk_is_said_once_and_the_checkpoint_stored_when_there_is_room(
    tmp_path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """A process may write no larger files than the limit: what a full disk gives too, but for its number."""
    snapshot = snapshot_of(tmp_path, 7)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with storing(snapshot, work, 0, 1) as one:
            assert eventually(lambda: bool(one.trouble))
            assert not one.wait(1.5), "tried again by then"
            assert "the checkpoint of step 7 isn't stored yet" in one.trouble
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert one.wait(20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert whole_name(7) in work.names()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].endswith("Training goes on, and it is tried again.")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["curve.jsonl"], "scratch is clean"


def test_room_is_left_on_the_scratch_disk_for_what_must_go_on(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.pretraining.checkpoints.storing.SPARE_BYTES", 1 << 60)
    with storing(snapshot_of(tmp_path, 7), work, 0, 1) as one:
        assert eventually(lambda: "or set TMPDIR to a larger disk" in one.trouble)
    assert not work.names()


def test_a_store_that_fails_for_a_while_delays_the_checkpoint_and_no_more(
    tmp_path: Path, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    with Faults(s3_server["AWS_ENDPOINT_URL_S3"]) as faults:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faults.address)
        settings = {"BERTMILL_HOME": str(tmp_path / "home"), "BERTMILL_STORE": f"s3://{BUCKET}/{tmp_path.name}"}
        work = open_store(Settings.from_environment(settings | {"BERTMILL_STORE_DEADLINE_S": "0.2"})).work(RECIPE)
        assert not work.names()
        faults.add("internal_error", "PUT", times=None)
        with storing(snapshot_of(tmp_path, 7), work, 0, 1) as one:
            assert eventually(lambda: bool(one.trouble))
            assert not one.wait(0.5)
            faults.clear()
            assert one.wait(30)
        assert whole_name(7) in work.names()
    assert "isn't stored yet" in caplog.text


def test_what_follows_the_whole_is_tried_again_though_the_parts_are_gone(tmp_path: Path, work: Work) -> None:
    calls = list[int]()

    def committed() -> None:
        work.remove(*(name for name in work.names() if name.startswith("part-")))
        calls.append(1)
        if len(calls) == 1:
            raise StoreError("nobody answers")

    with storing(snapshot_of(tmp_path, 7), work, 0, 2, committed=committed) as first:
        with storing(snapshot_of(tmp_path, 7), work, 1, 2) as second:
            assert second.wait(20)
        assert first.wait(20)
    assert work.names() == [whole_name(7)]
    assert len(calls) == 2


def test_a_thread_that_is_told_to_stop_ends_though_it_waits_for_a_rank_that_died(tmp_path: Path, work: Work) -> None:
    with storing(snapshot_of(tmp_path, 7), work, 0, 2) as first:
        assert eventually(lambda: "waits for rank 1" in first.trouble)
        first.stop(0)
        assert first.is_done()


def test_a_fault_of_our_own_is_raised_where_training_sees_it(tmp_path: Path, work: Work) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with storing(snapshot_of(tmp_path, 7), work, 0, 1, committed=broken) as one, pytest.raises(ZeroDivisionError):
        one.wait(20)


@pytest.mark.parametrize(
    ("name", "step"), [("step-000000040", 40), ("part-000000040-run-00001", None), ("trained", None)]
)
def test_a_whole_checkpoint_is_told_by_its_name(name: str, step: int | None) -> None:
    assert step_of(name) == step
