"""A store that can't be reached for longer than a lease lasts delays a training's checkpoints, and not the training."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.settings import Settings
from pipeline.store import Store, open_store
from tests.conftest import BUCKET
from tests.faults import Faults
from tests.pretraining.checkpoints.waiting import eventually
from tests.small import Small

STEPS, WITHIN_S = 1_000, 100.0


@pytest.fixture
def faults(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """What stands between this process, with the ranks that it starts, and the S3 server."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    with Faults(s3_server["AWS_ENDPOINT_URL_S3"]) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.address)
        yield between


@pytest.fixture
def remote(small: Small, faults: Faults, tmp_path: Path) -> Store:
    """The small store, on S3."""
    settings = {
        "BERTMILL_HOME": str(tmp_path / "home"),
        "BERTMILL_STORE": f"s3://{BUCKET}/{tmp_path.name}",
        "BERTMILL_LEASE_S": "1",
        "BERTMILL_RANKS": "1",
        "BERTMILL_STORE_DEADLINE_S": "3",
    }
    store, root = open_store(Settings.from_environment(settings)), small.store.settings.home / "store"
    for path in sorted(root.rglob("*")):
        key = path.relative_to(root).as_posix()
        if path.is_file() and not key.startswith(("artifacts/pretraining/", "aliases/pretraining/", "work/")):
            store.backend.put(key, path.read_bytes())
    return store


def test_while_the_store_is_away_steps_go_on_and_the_artifact_is_made_when_it_is_back(
    remote: Store, small: Small, tiny: PretrainingConfig, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny.model_copy(update={"max_steps": STEPS, "checkpoint_every": 100, "train_batch_size": 8})
    logs = remote.settings.home / "logs"

    def last_step() -> int:
        lines = [line for path in logs.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
        return max((json.loads(line).get("step", 0) for line in lines), default=0)

    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING, "bertmill"):
        training = pool.submit(pretrain, config, small.dataset, store=remote)
        try:
            assert eventually(lambda: last_step() > 0 or training.done(), WITHIN_S)
            faults.add("reset", times=None)
            assert eventually(lambda: "couldn't be told" in caplog.text or training.done(), WITHIN_S)
            said_at = last_step()
            assert eventually(lambda: last_step() > said_at or training.done(), WITHIN_S)
            assert not training.done()
            assert faults.seen(fault="reset")
        finally:
            faults.clear()
        made = training.result(WITHIN_S)
    assert "This run goes on, and stops where it finds that another has taken over" in caplog.text
    curve = remote.file(made, "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve] == list(range(STEPS))
    assert remote.manifest(made).producer["resumed_at"] == 0, "no rank was started again"
