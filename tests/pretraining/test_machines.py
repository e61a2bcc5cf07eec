"""Training over several machines: to the ranks, two that run an agent each are two agents on one."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PretrainingConfig
from pipeline.launching import LAUNCHERS
from pipeline.launching.local import _environment
from pipeline.pretraining.pretrain import pretrain
from pipeline.settings import Settings
from pipeline.store import Artifact, open_store
from tests.conftest import free_port
from tests.pretraining.test_loop import curve_of
from tests.small import Small

SECONDS = 300.0


def launch_on_two(module: str, argument: Path, ranks: int, log: Path, poll: Callable[[], None]) -> int:
    """As `launch_local`, by two agents that meet at an address, as agents of two machines do."""
    rendezvous = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    processes = "--max-restarts", "0", "--nproc-per-node", str(ranks // 2)
    with log.open("ab") as output:
        agents = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "pipeline.launching.agent", *rendezvous, "--node-rank", str(node)),
                    *(*processes, "-m", module, str(argument)),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(ranks),
            )
            for node in range(2)
        ]
        ends = time.monotonic() + SECONDS
        try:
            while any(agent.poll() is None for agent in agents) and time.monotonic() < ends:
                poll()
                time.sleep(0.2)
            return max(agent.wait(1) for agent in agents)
        finally:
            for agent in agents:
                agent.kill()
                agent.communicate()


def test_two_machines_train_as_one_does(
    training: Callable[..., Artifact], small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"deepspeed": "zero1", "train_micro_batch_size_per_gpu": 4}
    one = curve_of(small, training(**changes))
    monkeypatch.setitem(LAUNCHERS, "two", launch_on_two)  # type: ignore[misc]
    environment = {"BERTMILL_HOME": str(small.store.settings.home), "BERTMILL_LAUNCHER": "two", "BERTMILL_RANKS": "2"}
    store = open_store(Settings.from_environment(environment))
    made = pretrain(tiny.model_copy(update=changes), small.dataset, store=store, force=True)
    assert store.manifest(made).producer["world"] == 2
    assert curve_of(small, made) == one
