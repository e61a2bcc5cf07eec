"""Ranks on this machine: what they are told, how they fail, and that none outlives its launcher."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import psutil
import pytest
import torch

from pipeline.launching import LAUNCHERS
from pipeline.launching.local import launch_local, local_ranks
from pipeline.launching.tether import GONE
from pipeline.settings import Settings
from tests.processes import living_with

RANK = """
import json, os, pathlib, sys, time
from pipeline.launching.tether import exit_with_launcher
exit_with_launcher()
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
(folder / f"rank-{rank}.json").write_text(json.dumps(dict(os.environ)))
"""
SLEEPS = RANK + "time.sleep(120)"
SECONDS = 10.0


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A variable that only processes started from this test carry."""
    monkeypatch.setenv("TEST_MARK", unique := uuid.uuid4().hex)
    return f"TEST_MARK={unique}"


def rank_module(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that ranks can run; returns its name."""
    (folder / "some_rank.py").write_text(textwrap.dedent(code), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "some_rank"


def started(folder: Path, ranks: int = 2) -> bool:
    return len(list(folder.glob("rank-*.json"))) == ranks


def test_every_rank_gets_torchruns_environment_and_the_launcher_is_called_while_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    module = rank_module(tmp_path, RANK + "print('hello from', rank); time.sleep(0.5)", monkeypatch)
    calls = []
    status = launch_local(module, tmp_path, 2, tmp_path / "log", lambda: calls.append(time.monotonic()))
    assert status == 0
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [each["LOCAL_RANK"] for each in seen] == ["0", "1"]
    assert {each["WORLD_SIZE"] for each in seen} == {"2"}
    assert {each["MASTER_ADDR"] for each in seen} == {"127.0.0.1"}, "nothing is asked of a network"
    assert len({each["MASTER_PORT"] for each in seen}) == 1
    assert {each["OMP_NUM_THREADS"] for each in seen} == {str(max(1, (os.cpu_count() or 1) // 2))}
    log = (tmp_path / "log").read_text()
    assert "hello from 0" in log
    assert "hello from 1" in log
    assert len(calls) >= 3


def test_a_rank_that_fails_ends_the_others_and_its_last_words_are_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    code = RANK + "if rank == '1': raise ValueError('the mill has no water')\ntime.sleep(120)"
    began = time.monotonic()
    status = launch_local(rank_module(tmp_path, code, monkeypatch), tmp_path, 2, tmp_path / "log", lambda: None)
    assert status != 0
    assert time.monotonic() - began < 60, "rank 0 would have slept for two minutes"
    assert "ValueError: the mill has no water" in (tmp_path / "log").read_text()
    assert not living_with(mark, within_s=SECONDS)


def test_an_interrupted_launcher_takes_its_ranks_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    def interrupt() -> None:
        if started(tmp_path):
            raise KeyboardInterrupt

    module = rank_module(tmp_path, SLEEPS, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        launch_local(module, tmp_path, 2, tmp_path / "log", interrupt)
    assert started(tmp_path), "they did run"
    assert not living_with(mark, within_s=SECONDS)


def test_a_killed_launcher_takes_its_ranks_with_it_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    module = rank_module(tmp_path, SLEEPS, monkeypatch)
    code = (
        "import pathlib, sys; from pipeline.launching.local import launch_local; folder = pathlib.Path(sys.argv[1]); "
        f"launch_local({module!r}, folder, 2, folder / 'log', lambda: None)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not started(tmp_path) and time.monotonic() < deadline:
            assert launcher.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        assert len(living_with(mark, within_s=0)) >= 4, "the launcher, torchrun, two ranks"
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    assert not living_with(mark, within_s=SECONDS)


def test_torchrun_is_deaf_to_requests_to_stop_and_waits_for_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = RANK + "while not (folder / 'go').exists(): time.sleep(0.05)"

    def ask_torchrun() -> None:
        if started(tmp_path) and not (tmp_path / "go").exists():
            (torchrun,) = (each for each in psutil.Process().children() if "pipeline.launching.agent" in each.cmdline())
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
                torchrun.send_signal(number)
                time.sleep(0.2)
            (tmp_path / "go").touch()

    module = rank_module(tmp_path, code, monkeypatch)
    assert launch_local(module, tmp_path, 2, tmp_path / "log", ask_torchrun) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "go").exists()


def test_a_tethered_process_lives_while_its_input_is_open_and_exits_when_it_is_closed() -> None:
    code = (
        "import time; from pipeline.launching.tether import exit_with_launcher; "
        "exit_with_launcher(); print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout, process.stdin:
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.stdin.close()
        assert process.wait(SECONDS) == GONE


def test_without_gpus_there_are_two_ranks_or_one_on_a_single_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert local_ranks() == 2
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert local_ranks() == 1


def test_there_is_a_rank_for_each_gpu_that_torch_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nfor n in 0 1 2; do echo "GPU $n: RTX 3080 Laptop GPU (UUID: GPU-$n)"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local_ranks() == 1, "the driver lists those that CUDA_VISIBLE_DEVICES hides"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert local_ranks() == 2, "a torch without CUDA"


def test_the_launcher_that_settings_name_by_default_is_there() -> None:
    assert Settings().launcher in LAUNCHERS
