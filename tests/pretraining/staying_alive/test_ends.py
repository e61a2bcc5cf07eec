"""What the stage makes of the ways in which ranks end, and of requests that come when none runs.

The ranks are a launcher's of the test's own, which leaves what they would leave.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.config import PretrainingConfig
from pipeline.errors import Preempted, TrainingError
from pipeline.launching import LAUNCHERS
from pipeline.pretraining.job import TRAINED, Job, pretraining_recipe
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat
from pipeline.pretraining.staying_alive.preemption import SIGNALS
from pipeline.store import Artifact, Store, open_store
from tests.small import Small, untrained_copy

CHECKPOINT = "step-000000005"
Poll = Callable[[], None]
Ranks = Callable[[Job, Poll], int]
Launched = Callable[..., list[list[str]]]


@pytest.fixture
def trained(training: Callable[..., Artifact]) -> Artifact:
    """A training that other tests have asked for, too."""
    return training(deepspeed="zero1", train_micro_batch_size_per_gpu=4)


@pytest.fixture
def store(trained: Artifact, small: Small, tmp_path: Path) -> Store:
    """Nothing is trained in it; the bytes of that training are there all the same."""
    return untrained_copy(small, tmp_path / "home")


@pytest.fixture
def launched(store: Store, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """`launched(ranks…)`: what runs as the ranks, one after the other; fills in what each finds of earlier runs."""

    def use(*runs: Ranks) -> list[list[str]]:
        left, found = iter(runs), list[list[str]]()

        def launch(_module: str, argument: Path, _ranks: int, _log: Path, poll: Poll) -> int:
            job = Job.read(argument)
            found.append([name for name in store.work(job.recipe).names() if name.startswith("step-")])
            return next(left)(job, poll)

        monkeypatch.setitem(LAUNCHERS, "local", launch)
        return found

    return use


@pytest.fixture
def train(trained: Artifact, small: Small, store: Store) -> Ranks:
    """Ranks that leave what those of the other training left."""

    def run(job: Job, _: Poll) -> int:
        manifest = small.store.manifest(trained)
        left = [entry for entry in manifest.files if entry.path.startswith(("curve", "model/config", "model/model"))]
        parameters = manifest.totals["parameters"]
        store.work(job.recipe, job.epoch).commit(TRAINED, left, {"parameters": parameters})
        return 0

    return run


def end_with_a_checkpoint(job: Job, _: Poll) -> int:
    open_store(job.settings).work(job.recipe, job.epoch).commit(CHECKPOINT, [], {})
    return 1


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def asked_when(said: str) -> Iterator[None]:
    """This process is asked to stop as soon as that is logged."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if said in record.getMessage():
                ask_to_stop()

    log, listener = logging.getLogger("bertmill"), Listener()
    before = log.level, [signal.getsignal(each) for each in SIGNALS]
    log.addHandler(listener)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.setLevel(before[0])
    assert [signal.getsignal(each) for each in SIGNALS] == before[1]


def test_a_rank_that_is_lost_as_a_phase_begins_is_started_again_as_in_mid_training(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched, train: Ranks
) -> None:
    def lose_a_rank(job: Job, poll: Poll) -> int:
        heartbeat = Heartbeat(job.beats, 0)
        heartbeat.beat("training", 899)
        poll()
        heartbeat.beat("starting", 900)
        poll()
        return 1

    found = launched(lose_a_rank, train)
    pretrain(tiny, small.dataset, store=store)
    assert len(found) == 2


def test_whatever_ends_ranks_that_were_asked_to_stop_the_same_command_goes_on(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched
) -> None:
    def die_before_they_listen(_job: Job, poll: Poll) -> int:
        ask_to_stop()
        poll()
        return 1

    launched(die_before_they_listen)
    with pytest.raises(Preempted, match=r"A training rank failed: .* had been asked to stop: run the same command"):
        pretrain(tiny, small.dataset, store=store)


def test_asked_while_it_waits_for_another_run_it_stops(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched
) -> None:
    launched()
    with (
        open_store(store.settings).lease(pretraining_recipe(tiny, small.dataset, store)),
        asked_when("waiting for it"),
        pytest.raises(Preempted, match="asked to stop while none of its ranks ran"),
    ):
        pretrain(tiny, small.dataset, store=store)


def test_asked_before_its_ranks_run_it_starts_none(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched
) -> None:
    found = launched()
    with asked_when("training tiny on"), pytest.raises(Preempted, match="asked to stop while none of its ranks ran"):
        pretrain(tiny, small.dataset, store=store)
    assert not found


def test_asked_when_its_ranks_are_done_it_publishes(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched, train: Ranks
) -> None:
    def train_to_the_end(job: Job, poll: Poll) -> int:
        status = train(job, poll)
        ask_to_stop()
        return status

    launched(train_to_the_end)
    made = pretrain(tiny, small.dataset, store=store)
    assert store.find(pretraining_recipe(tiny, small.dataset, store)) == made


def test_a_forced_training_that_was_stopped_goes_on_and_the_next_one_is_made_anew(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched, train: Ranks
) -> None:
    stop = end_with_a_checkpoint
    found = launched(train, stop, stop, train, stop, train)

    def forced(stops: int) -> Artifact:
        for _ in range(stops):
            with pytest.raises(TrainingError):
                pretrain(tiny, small.dataset, store=store, force=True)
        return pretrain(tiny, small.dataset, store=store, force=True)

    made = [pretrain(tiny, small.dataset, store=store), forced(2), forced(1)]
    assert found == [[], [], [CHECKPOINT], [CHECKPOINT], [], [CHECKPOINT]]
    first = made[0].version
    assert [each.version for each in made] == [first, f"{first}-2", f"{first}-3"]
    assert not store.work(pretraining_recipe(tiny, small.dataset, store)).names()


def test_forced_where_nothing_was_made_a_training_takes_nothing_of_one_that_was_not(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched, train: Ranks
) -> None:
    found = launched(end_with_a_checkpoint, end_with_a_checkpoint, train)
    for force in (False, True):
        with pytest.raises(TrainingError):
            pretrain(tiny, small.dataset, store=store, force=force)
    pretrain(tiny, small.dataset, store=store, force=True)
    assert found == [[], [], [CHECKPOINT]]


def test_the_log_of_the_run_before_is_kept(
    store: Store, small: Small, tiny: PretrainingConfig, launched: Launched
) -> None:
    def said(words: str) -> Ranks:
        def run(job: Job, _: Poll) -> int:
            with job.log.open("a", encoding="utf-8") as log:
                log.write(words)
            return 1

        return run

    launched(*(said(f"{number} Error") for number in ("first", "second", "third")))
    for number in ("first", "second", "third"):
        with pytest.raises(TrainingError, match=f"A training rank failed: {number} Error"):
            pretrain(tiny, small.dataset, store=store)
    logs = store.settings.home / "logs"
    assert {path.read_text() for path in logs.glob("*.log")} == {"third Error"}
    assert {path.read_text() for path in logs.glob("*.log.1")} == {"second Error"}
