"""When silence is taken for a hang, and what is said of it: on heartbeats written here and a clock set by hand."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PretrainingConfig
from pipeline.errors import TrainingError
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.staying_alive.heartbeat import SIZE, Beat, Heartbeat, read_beats
from pipeline.pretraining.staying_alive.watchdog import LONGEST_LOOK_S, Patience, RanksLost, Watchdog
from pipeline.settings import Settings
from pipeline.store import Store, open_store
from tests.small import Small

SETTINGS = Settings(hang_s=60, hang_steps=20, start_s=900)
RANK = """
import sys, time
from pathlib import Path
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat, stacks_on_request
from pipeline.pretraining.staying_alive.preemption import Preemption

def waiting_for_ever() -> None:
    while not asked.asked:
        time.sleep(0.01)

stacks_on_request()
asked = Preemption()
asked.listen()
heartbeat = Heartbeat(Path(sys.argv[1]), int(sys.argv[2]))
heartbeat.beat("training", 7, int(sys.argv[3]))
print("ready", flush=True)
waiting_for_ever()
"""


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(tmp_path: Path, clock: Clock) -> Watchdog:
    (tmp_path / "log").touch()
    return Watchdog(tmp_path / "beats", tmp_path / "log", SETTINGS, clock)


@pytest.fixture
def rank(tmp_path: Path) -> Iterator[Callable[[int, int], "subprocess.Popen[str]"]]:
    """`rank(number, part)`: a process that gave a sign of life there, and waits."""
    started = list[subprocess.Popen[str]]()

    def start(number: int, part: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", RANK, str(tmp_path / "beats"), str(number), str(part)]
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_out(watchdog: Watchdog, clock: Clock, seconds: float) -> None:
    """Look every second for so long."""
    for _ in range(round(seconds)):
        clock.now += 1
        watchdog.look()


def test_a_heartbeat_is_read_as_it_was_written_and_the_last_one_counts(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "beats", 3)
    heartbeat.beat("checkpointing", 123_456_789, 1_000)
    heartbeat.beat("training", 5, 2)
    assert read_beats(tmp_path / "beats") == [Beat(5, 2, 3, 3, os.getpid(), "training")]
    assert (tmp_path / "beats" / "rank-00003").stat().st_size == SIZE


def test_a_heartbeat_that_is_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    Heartbeat(tmp_path, 0)
    (tmp_path / "rank-00001").write_bytes(b"")
    assert [beat.rank for beat in read_beats(tmp_path)] == [0]


@given(st.floats(0.001, 1_000), st.floats(0.5, 1_000), st.floats(2, 100))
def test_silence_is_borne_for_the_minimum_or_for_so_many_usual_steps_whichever_is_longer(
    usual_s: float, hang_s: float, hang_steps: float
) -> None:
    limit_s, _ = Patience(hang_s, hang_steps, 600).limit(True, usual_s)
    assert limit_s >= hang_s
    assert limit_s >= hang_steps * usual_s
    assert limit_s in (hang_s, hang_steps * usual_s)


def test_ranks_that_start_have_their_own_longer_limit(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    wait_out(watchdog, clock, 800)
    Heartbeat(tmp_path / "beats", 0)
    wait_out(watchdog, clock, 900)
    with pytest.raises(RanksLost, match=r"BERTMILL_START_S allows 900 s"):
        wait_out(watchdog, clock, 10)


def test_ranks_that_never_start_are_told_from_those_that_hang(watchdog: Watchdog, clock: Clock) -> None:
    with pytest.raises(RanksLost, match="None has started"):
        wait_out(watchdog, clock, 1_000)


def test_ranks_that_get_on_are_left_alone_however_long_their_steps_usually_take(
    watchdog: Watchdog, clock: Clock, tmp_path: Path
) -> None:
    heartbeat = Heartbeat(tmp_path / "beats", 0)
    for step in range(10):
        heartbeat.beat("training", step)
        wait_out(watchdog, clock, 30)
    assert watchdog.usual_s == pytest.approx(30, abs=1)
    wait_out(watchdog, clock, 20 * 30 - 40)  # over the minimum of 60 s
    with pytest.raises(RanksLost, match=r"where one usually takes .*BERTMILL_HANG_STEPS allows"):
        wait_out(watchdog, clock, 60)


def test_a_checkpoint_is_no_step_whatever_it_takes(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "beats", 0)
    for step in range(5):
        heartbeat.beat("training", step)
        wait_out(watchdog, clock, 2)
        heartbeat.beat("checkpointing", step + 1)
        wait_out(watchdog, clock, 300)
    assert watchdog.usual_s is None or watchdog.usual_s < 3


def test_ranks_that_wait_for_one_that_stores_a_checkpoint_are_left_alone(
    watchdog: Watchdog, clock: Clock, tmp_path: Path
) -> None:
    ranks = [Heartbeat(tmp_path / "beats", number) for number in range(2)]
    for step in range(5):
        for heartbeat in ranks:
            heartbeat.beat("training", step)
        wait_out(watchdog, clock, 2)
    ranks[0].beat("checkpointing", 4)
    wait_out(watchdog, clock, 10 * SETTINGS.hang_s)


def test_a_launcher_that_has_slept_blames_nobody(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "beats", 0)
    for step in range(5):
        heartbeat.beat("training", step)
        wait_out(watchdog, clock, 2)
    clock.now += 100_000
    watchdog.look()
    wait_out(watchdog, clock, SETTINGS.hang_s - LONGEST_LOOK_S - 2)


def test_the_rank_that_is_behind_is_named_and_the_stacks_of_all_are_in_the_log(
    watchdog: Watchdog, clock: Clock, tmp_path: Path, rank: Callable[[int, int], "subprocess.Popen[str]"]
) -> None:
    ahead, behind = rank(0, 4), rank(1, 2)
    psutil.Process(behind.pid).suspend()
    with pytest.raises(RanksLost) as caught:
        wait_out(watchdog, clock, 1_000)
    said = str(caught.value)
    assert f"Behind the others: rank 1 (process {behind.pid}, training, with 7 steps and 2 micro-batches" in said
    assert "it is stopped" in said
    assert "rank 0" not in said
    assert [ahead.wait(10), behind.wait(10)] == [-9, -9], "both were ended, the stopped one too"
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert f"the stacks of rank 0, process {ahead.pid}" in log
    assert "in waiting_for_ever" in log


def test_ranks_that_are_equally_far_point_to_another_machine_or_the_network(
    watchdog: Watchdog, clock: Clock, tmp_path: Path
) -> None:
    for number in range(3):
        Heartbeat(tmp_path / "beats", number).beat("training", 41, 2)
    with pytest.raises(
        RanksLost, match=r"No rank of this machine is behind another \(training, with 41 steps .* network"
    ):
        wait_out(watchdog, clock, 1_000)


def test_ranks_are_asked_to_stop_once_they_listen(
    watchdog: Watchdog, clock: Clock, rank: Callable[[int, int], "subprocess.Popen[str]"]
) -> None:
    watchdog.ask_to_stop()
    watchdog.look()
    process = rank(0, 0)
    watchdog.look()
    watchdog.look()
    assert process.wait(20) == 0


def test_the_ranks_that_are_left_when_one_has_failed_are_ended_soon(
    watchdog: Watchdog, clock: Clock, rank: Callable[[int, int], "subprocess.Popen[str]"]
) -> None:
    lost, left = rank(0, 1), rank(1, 1)
    watchdog.look()
    lost.kill()
    lost.wait()
    wait_out(watchdog, clock, 10)
    assert left.wait(10) == -9


def test_that_the_ranks_have_trained_is_remembered_as_a_phase_starts_anew(
    watchdog: Watchdog, clock: Clock, tmp_path: Path
) -> None:
    ranks = [Heartbeat(tmp_path / "beats", number) for number in range(2)]
    wait_out(watchdog, clock, 2)
    assert not watchdog.have_trained
    for heartbeat in ranks:
        heartbeat.beat("training", 899)
    wait_out(watchdog, clock, 2)
    for heartbeat in ranks:
        heartbeat.beat("starting", 900)
    wait_out(watchdog, clock, 2)
    assert watchdog.have_trained


@pytest.mark.parametrize("call", ["send_signal", "status"])
def test_a_rank_that_ends_while_it_is_looked_at_disturbs_nothing(
    call: str,
    watchdog: Watchdog,
    clock: Clock,
    rank: Callable[[int, int], "subprocess.Popen[str]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends, stays = rank(0, 2), rank(1, 4)
    of_psutil = getattr(psutil.Process, call)

    def too_late(self: psutil.Process, *given: int) -> object:
        if self.pid == ends.pid:
            ends.kill()
            ends.wait()
        return of_psutil(self, *given)

    monkeypatch.setattr(psutil.Process, call, too_late)
    with pytest.raises(RanksLost, match=r"Behind the others: rank 0"):
        wait_out(watchdog, clock, 1_000)
    assert stays.wait(10) == -9


def test_a_log_that_can_not_be_written_keeps_no_rank_from_being_ended(
    watchdog: Watchdog, clock: Clock, tmp_path: Path, rank: Callable[[int, int], "subprocess.Popen[str]"]
) -> None:
    process = rank(0, 0)
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(RanksLost, match="gave no sign of life"):
        wait_out(watchdog, clock, 1_000)
    assert process.wait(10) == -9


def test_a_process_that_is_none_of_ours_is_never_signalled(watchdog: Watchdog, clock: Clock, tmp_path: Path) -> None:
    Heartbeat(tmp_path / "beats", 0)  # of this very process, as if a pid had been used again
    watchdog.ask_to_stop()
    with pytest.raises(RanksLost):
        wait_out(watchdog, clock, 1_000)


def test_hung_ranks_are_started_again_so_often_and_then_the_training_fails(
    fresh: Store, small: Small, tiny: PretrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    impatient = fresh.settings.model_copy(update={"start_s": 0.1, "restarts": 2})
    with (
        caplog.at_level(logging.WARNING, "bertmill"),
        pytest.raises(TrainingError, match=r"None has started.* run the same"),
    ):
        pretrain(tiny, small.dataset, store=open_store(impatient))
    assert [record.message.endswith("Starting again from the last checkpoint.") for record in caplog.records] == [
        True,
        True,
    ]
    assert not fresh.versions("pretraining")
