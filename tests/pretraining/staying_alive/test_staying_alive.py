"""One training that is asked to stop, twice, loses a rank and has one frozen: it ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.staying_alive.heartbeat import Beat, read_beats
from pipeline.store import Artifact, Store
from tests.processes import living_with
from tests.small import Small, untrained_copy

COMMAND = """
import sys, typer
from pipeline.cli import main
from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import open_store

application = typer.Typer()

@application.command()
def train(config: str) -> None:
    store, config = open_store(), PretrainingConfig.model_validate_json(config)
    print(pretrain(config, store.resolve("dataset/small"), store=store).reference)

main(application)
"""
WITHIN_S = 120.0


@dataclass(frozen=True)
class Run:
    """One run of the command, and what was done to it."""

    status: int
    said: str
    done_to: list[Beat]
    """Where rank 1 was each time."""


@dataclass(frozen=True)
class Disturbed:
    """What the runs said that it took, and what they made."""

    store: Store
    told_launcher: Run
    told_rank: Run
    killed_and_frozen: Run

    @property
    def made(self) -> Artifact:
        return self.store.resolve(self.killed_and_frozen.said.splitlines()[-1])


@pytest.fixture(scope="module")
def config(tiny: PretrainingConfig) -> PretrainingConfig:
    changes = {"max_steps": 150, "checkpoint_every": 20, "train_micro_batch_size_per_gpu": 4}
    return tiny.model_copy(update=changes | {"hidden_dropout_prob": 0.1})


@pytest.fixture(scope="module")
def disturbed(small: Small, config: PretrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    store = untrained_copy(small, tmp_path_factory.mktemp("disturbed") / "home")

    def run(*disturbances: tuple[int, Callable[[subprocess.Popen[str], Beat], None]]) -> Run:
        scratch = tmp_path_factory.mktemp("scratch")
        environment = {"BERTMILL_HOME": str(store.settings.home), "TMPDIR": str(scratch), "BERTMILL_HANG_S": "8"}
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, config.model_dump_json()],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            beats = []
            for from_step, disturb in disturbances:
                beats.append(beat_of_rank_1(scratch, process, from_step))
                disturb(process, beats[-1])
            said, _ = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
            process.communicate()
        assert not living_with(f"TMPDIR={scratch}", within_s=10)
        assert not list(scratch.glob("bertmill-*")), "however the ranks ended"
        return Run(process.returncode, said, beats)

    return Disturbed(
        store,
        told_launcher=run((5, lambda process, _: process.send_signal(signal.SIGTERM))),
        told_rank=run((5, lambda _, rank: os.kill(rank.pid, signal.SIGUSR1))),
        killed_and_frozen=run(
            (45, lambda _, rank: os.kill(rank.pid, signal.SIGKILL)),
            (85, lambda _, rank: os.kill(rank.pid, signal.SIGSTOP)),
        ),
    )


def beat_of_rank_1(scratch: Path, process: "subprocess.Popen[str]", from_step: int) -> Beat:
    """Its first sign of life that is seen in that step or a later one."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        for folder in scratch.glob("bertmill-run-*/beats"):
            for beat in read_beats(folder):
                if beat.rank == 1 and beat.step >= from_step and beat.doing == "training":
                    return beat
        time.sleep(0.01)
    raise AssertionError(f"rank 1 didn't get to step {from_step}: {process.communicate()[0]}")


@pytest.mark.parametrize("run", ["told_launcher", "told_rank"])
def test_asked_to_stop_the_command_ends_with_75_and_says_what_goes_on_from_there(
    run: str, disturbed: Disturbed, config: PretrainingConfig
) -> None:
    told: Run = getattr(disturbed, run)
    assert told.status == 75, told.said
    last = told.said.splitlines()[-1]
    assert last.startswith("bertmill: The training of tiny was asked to stop, and did so after ")
    assert last.endswith("of 150 steps, with a checkpoint. Run the same command again to go on from there.")
    assert told.done_to[0].step < stopped_after(told) < config.max_steps


def stopped_after(told: Run) -> int:
    return int(told.said.split("did so after ")[1].split()[0])


def test_the_next_run_goes_on_at_the_step_at_which_the_last_one_stopped(disturbed: Disturbed) -> None:
    assert stopped_after(disturbed.told_rank) > stopped_after(disturbed.told_launcher)
    assert disturbed.told_rank.done_to[0].step >= stopped_after(disturbed.told_launcher)


def test_when_a_rank_is_killed_all_are_started_again_by_the_same_command(disturbed: Disturbed) -> None:
    run = disturbed.killed_and_frozen
    assert run.status == 0, run.said
    assert "A training rank failed: rank 1 was ended by SIGKILL" in run.said
    assert run.said.count("Starting again from the last checkpoint.") == 2
    assert run.done_to[0].pid != run.done_to[1].pid


def test_a_frozen_rank_is_noticed_and_named_and_all_are_started_again(disturbed: Disturbed) -> None:
    said = disturbed.killed_and_frozen.said
    assert "The ranks gave no sign of life for 8 s" in said
    assert f"Behind the others: rank 1 (process {disturbed.killed_and_frozen.done_to[1].pid}, training" in said
    assert "it is stopped" in said


def test_the_stacks_of_the_ranks_that_waited_for_it_are_in_the_log(disturbed: Disturbed) -> None:
    (log,) = (disturbed.store.settings.home / "logs").glob("*.log")
    said = log.read_text(encoding="utf-8")
    assert "-- the stacks of rank 0, process " in said
    assert "pipeline/pretraining/loop.py" in said.split("-- the stacks of rank 0")[1]


def test_after_all_that_curve_and_weights_are_those_of_a_training_that_nothing_happened_to(
    disturbed: Disturbed, small: Small, config: PretrainingConfig
) -> None:
    undisturbed = pretrain(config, small.dataset, store=small.store)
    digests = [
        {entry.path: entry.sha256 for entry in store.manifest(artifact).files}
        for store, artifact in ((small.store, undisturbed), (disturbed.store, disturbed.made))
    ]
    assert digests[0] == digests[1]
    curve = disturbed.store.file(disturbed.made, "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve] == list(range(config.max_steps))
