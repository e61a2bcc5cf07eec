"""A full disk under the home, where the log, lines of progress and here TensorBoard's events are, ends no training."""

import json
import logging
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Store
from tests.pretraining.checkpoints.waiting import eventually
from tests.small import Small, store_of

STEPS, WITHIN_S = 400, 100.0


@pytest.fixture
def logs(fresh: Store) -> Iterator[Path]:
    """The folder of the logs, a disk of 64 KB."""
    folder = fresh.settings.home / "logs"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        for _ in range(1_000):
            filler.write(b"x" * 512)


def test_a_training_goes_on_to_its_end_whose_logs_disk_fills_up(
    logs: Path, fresh: Store, small: Small, tiny: PretrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    variables = {"BERTMILL_TENSORBOARD": str(logs / "events"), "BERTMILL_RANKS": "1"}
    store = store_of(fresh.settings.home, **variables)
    config = tiny.model_copy(update={"max_steps": STEPS, "train_batch_size": 8})
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING, "bertmill"):
        training = pool.submit(pretrain, config, small.dataset, store=store)
        assert eventually(
            lambda: training.done() or any("loss" in p.read_text() for p in logs.glob("*.jsonl")), WITHIN_S
        )
        fill(logs)
        made = training.result(WITHIN_S)
    (lines,) = logs.glob("*.jsonl")
    assert f'"step": {STEPS - 1}' not in lines.read_text(), "it was full"
    assert "Starting again" not in caplog.text
    curve = store.file(made, "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve] == list(range(STEPS))
