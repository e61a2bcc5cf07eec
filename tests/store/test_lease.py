"""Of two runs of one recipe one works; the other waits, and takes over when the first is dead or silent."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, LeaseLost, StoreError
from pipeline.settings import Settings
from pipeline.store import Holder, Store, open_store
from pipeline.store.artifact import canonical_json
from pipeline.store.lease import _boot_id, _started
from tests.artifacts import keys, recipe

ROOT = f"work/vocabulary/{recipe().fingerprint}/"
OWNER = """
import sys, time
from pathlib import Path
from pipeline.settings import Settings
from pipeline.errors import LeaseLost
from pipeline.store import open_store
from tests.artifacts import recipe
store = open_store(Settings.model_validate_json(sys.argv[1]))
with store.lease(recipe()) as lease:
    work = store.work(recipe(), lease.epoch)
    lease.note({"step": 7, "of": 9})
    print(lease.epoch, flush=True)
    try:
        while True:
            lease.check()
            time.sleep(0.05)
    except LeaseLost as error:
        Path(sys.argv[2]).write_text("late")
        work.commit("step-1", [work.add(Path(sys.argv[2]), "state", "step-1")], {"by": "the first"})
        work.commit("step-3", [work.add(Path(sys.argv[2]), "state", "step-3")], {"by": "the first"})
        work.clear()
        print(error, flush=True)
"""


@pytest.fixture
def quick(any_store: Store) -> Store:
    """A store whose leases expire within seconds; object storage tells an age in whole ones."""
    return with_lease(any_store, 1.5)


def with_lease(store: Store, lease_s: float) -> Store:
    return open_store(store.settings.model_copy(update={"lease_s": lease_s}))


@contextmanager
def owner(store: Store, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease until it loses it, and then, late, commits and clears all the same."""
    command = [sys.executable, "-c", OWNER, store.settings.model_dump_json(), str(tmp_path / "late")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def lease_of_another(store: Store, epoch: int, **changes: Any) -> None:
    """The lease of a run on a machine that nothing is known of."""
    there = {"nonce": "n", "host": "elsewhere", "pid": 1, "process_start": "1", "boot_id": "b"}
    body = there | {"epoch": epoch, "user": "ada", "at": "2026-01-01T00:00:00+00:00"} | changes
    assert store.backend.create(f"{ROOT}{epoch:010d}/lease.json", canonical_json(body))


def until(true: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it came to be in time"
        time.sleep(0.02)


def test_the_second_sees_who_is_first_and_how_far_and_goes_on_soon_after_the_release(
    quick: Store, tmp_path: Path
) -> None:
    seen: list[Holder] = []
    released = 0.0
    first = open_store(quick.settings).lease(recipe())
    entered = threading.Event()

    def second() -> tuple[int, float]:
        with quick.lease(recipe(), lambda holder: (seen.append(holder), entered.set())) as lease:
            return lease.epoch, time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        with first as lease:
            lease.note({"step": 3, "of": 10})
            result = pool.submit(second)
            assert entered.wait(10)
            until(lambda: seen[-1].note == {"step": 3, "of": 10})
            time.sleep(2 * quick.settings.lease_s)
            lease.check()
            assert not result.done(), "a heartbeat keeps it, however long the work takes"
            released = time.monotonic()
        epoch, at = result.result(10)
    assert (lease.epoch, epoch) == (1, 2)
    assert at - released < 4, "a poll later"
    assert (seen[-1].pid, seen[-1].process_start) == (os.getpid(), _started(os.getpid()))
    assert str(seen[-1]).startswith(f"process {os.getpid()} on ")


def test_a_run_that_fails_releases_the_lease_and_keeps_its_snapshots(quick: Store) -> None:
    quick.work(recipe(), 1).commit("step-1", [], {"by": "the first"})
    with pytest.raises(ZeroDivisionError), quick.lease(recipe()):
        raise ZeroDivisionError
    with quick.lease(recipe(), pytest.fail) as lease:
        assert lease.epoch == 3
        assert quick.work(recipe(), lease.epoch).load("step-1") == ([], {"by": "the first"})


def test_a_silent_owner_elsewhere_is_waited_for_and_then_taken_over(quick: Store) -> None:
    lease_of_another(quick, 4)
    seen: list[Holder] = []
    began = time.monotonic()
    with quick.lease(recipe(), seen.append) as lease:
        assert lease.epoch == 5
    assert time.monotonic() - began > quick.settings.lease_s - 1
    assert str(seen[0]) == "process 1 on elsewhere (ada, since 2026-01-01T00:00:00+00:00)"


@pytest.mark.parametrize("body", [b"", b'{"pid"', b"[]", b"{}", b'{"surprise": 1}'])
def test_a_lease_that_can_not_be_read_is_held_by_nobody_known_until_it_is_old(any_store: Store, body: bytes) -> None:
    store = with_lease(any_store, 0.5)
    store.backend.put(f"{ROOT}1/lease.json", body)
    store.backend.put(f"{ROOT}1/heartbeat.json", body)
    with store.lease(recipe()) as lease:
        assert lease.epoch > 1


def test_a_killed_owner_on_this_machine_is_taken_over_at_once(any_store: Store, tmp_path: Path) -> None:
    store = with_lease(any_store, 600)
    with owner(store, tmp_path) as process:
        assert said(process) == "1"
        process.send_signal(signal.SIGKILL)
        until(lambda: _started(process.pid) is None)  # it is a zombie now: nobody has waited for it
        with store.lease(recipe(), pytest.fail) as lease:
            assert lease.epoch == 2


def test_a_pid_that_another_process_has_now_or_of_another_boot_is_told_apart(any_store: Store) -> None:
    store, here = with_lease(any_store, 600), {"host": socket.gethostname(), "boot_id": _boot_id()}
    lease_of_another(store, 1, **here, pid=os.getpid(), process_start="1")
    with store.lease(recipe(), pytest.fail) as lease:
        assert lease.epoch == 2
        lease.finish()
    for unknown in ({"host": "elsewhere"}, {"boot_id": "another"}):
        lease_of_another(store, 1, **(here | unknown), pid=2**22 - 1, process_start="1")
        with pytest.raises(InterruptedError), store.lease(recipe(), interrupt):
            pass
        store.backend.delete(f"{ROOT}{1:010d}/lease.json")


def interrupt(holder: Holder) -> None:
    raise InterruptedError


def test_an_owner_that_was_stopped_notices_and_its_late_snapshots_disturb_nobody(quick: Store, tmp_path: Path) -> None:
    with owner(quick, tmp_path) as process:
        assert said(process) == "1"
        until(lambda: b'"step"' in (quick.backend.get(f"{ROOT}{1:010d}/heartbeat.json") or b""))
        process.send_signal(signal.SIGSTOP)
        seen: list[Holder] = []
        with quick.lease(recipe(), seen.append) as lease:
            assert lease.epoch == 2
            assert seen
            assert seen[-1].note == {"step": 7, "of": 9}
            work = quick.work(recipe(), lease.epoch)
            work.commit("step-1", [], {"by": "the second"})
            work.commit("step-2", [], {"by": "the second"})
            process.send_signal(signal.SIGCONT)
            sentence = said(process)
            assert sentence.startswith(f"The work on vocabulary/small ({recipe().fingerprint[:12]}) was taken over by ")
            assert f"process {os.getpid()} on " in sentence
            assert "the checkpoints are kept" in sentence
            assert process.wait(20) == 0
            lease.check()
            assert work.names() == ["step-2", "step-1"]
            assert work.load("step-1")[1] == {"by": "the second"}
            assert work.load("step-2")[1] == {"by": "the second"}
            lease.finish()
    assert keys(quick, "work/") == []


def test_an_owner_that_was_stopped_goes_on_where_nobody_came(quick: Store, tmp_path: Path) -> None:
    with owner(quick, tmp_path) as process:
        assert said(process) == "1"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2 * quick.settings.lease_s)
        process.send_signal(signal.SIGCONT)
        time.sleep(2 * quick.settings.lease_s)
        assert process.poll() is None
        with pytest.raises(InterruptedError), quick.lease(recipe(), interrupt):
            pass


def test_an_owner_that_can_not_write_its_heartbeat_counts_itself_as_lost(
    quick: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(key: str, data: bytes) -> None:
        raise StoreError("The store is away.")

    with quick.lease(recipe()) as lease:
        lease.check()
        monkeypatch.setattr(quick.backend, "put", refuse)
        lease.check()
        time.sleep(quick.settings.lease_s + 0.5)
        with pytest.raises(LeaseLost, match=r"couldn't be told for more than 1.5 s .*the checkpoints are kept"):
            lease.check()


def test_an_owner_whose_lease_has_vanished_has_lost_it(quick: Store) -> None:
    with quick.lease(recipe()) as lease:
        until(lambda: f"{ROOT}{1:010d}/heartbeat.json" in keys(quick, ROOT))
        quick.backend.delete(f"{ROOT}{1:010d}/lease.json")
        time.sleep(quick.settings.lease_s / 2)
        with pytest.raises(LeaseLost, match="taken over by a run that has ended since"):
            lease.check()


def test_the_second_resumes_from_the_firsts_snapshots_and_removes_those_it_has_overtaken(any_store: Store) -> None:
    first, second = (any_store.work(recipe(), epoch) for epoch in (1, 2))
    for step in (1, 2):
        first.commit(f"step-{step}", [], {"by": "the first"})
    assert second.names() == ["step-2", "step-1"]
    second.commit("step-2", [], {"by": "the second"})
    second.commit("step-3", [], {"by": "the second"})
    assert [second.load(f"step-{step}")[1]["by"][4:] for step in (1, 2, 3)] == ["first", "second", "second"]
    assert first.load("step-2") == second.load("step-2"), "the highest epoch's counts, whoever asks"
    first.remove("step-3")
    first.clear()
    assert any_store.work(recipe()).names() == ["step-3", "step-2"], "a late owner removes its own only"
    second.remove("step-2")
    assert second.names() == ["step-3"]


def test_finished_work_leaves_nothing_neither_its_own_nor_an_earlier_owners(quick: Store) -> None:
    lease_of_another(quick, 1, boot_id="b")
    quick.work(recipe(), 1).commit("step-1", [], {})
    quick.backend.put(f"{ROOT}{1:010d}/heartbeat.json", b"{}")
    with quick.lease(recipe()) as lease:
        quick.work(recipe(), lease.epoch).commit("step-2", [], {})
        assert [key for key in keys(quick, ROOT) if f"{1:010d}/" in key] == [f"{ROOT}{1:010d}/step-1/snapshot.json"]
        lease.finish()
    assert keys(quick, "work/") == []


def test_a_lease_names_no_more_than_who_and_where(any_store: Store) -> None:
    with any_store.lease(recipe()):
        body = any_store.backend.get(f"{ROOT}{1:010d}/lease.json") or b""
    said = {"epoch", "nonce", "host", "pid", "process_start", "boot_id", "user", "at"}
    assert json.loads(body).keys() == said


def test_an_expiry_too_short_to_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match="BERTMILL_LEASE_S is '0.1'"):
        Settings.from_environment({"BERTMILL_LEASE_S": "0.1"})
