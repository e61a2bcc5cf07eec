"""Killed and run again, a training ends bit for bit as if nothing had happened; on another cluster, within rounding."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from pipeline.config import PretrainingConfig
from pipeline.pretraining.checkpoints.checkpoint import Checkpoints
from pipeline.pretraining.checkpoints.fragments import KINDS
from pipeline.pretraining.checkpoints.storing import step_of, whole_name
from pipeline.pretraining.job import SCHEMA, TRAINED
from pipeline.pretraining.place import Place
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact, Recipe, Store, Work
from tests.damage import damage_object
from tests.pretraining.test_loop import curve_of, plain_loop
from tests.processes import living_with
from tests.small import Small, store_of, untrained_copy

RUN = """
import logging, sys
from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import open_store
logging.basicConfig(level=logging.INFO)
store = open_store()
pretrain(PretrainingConfig.model_validate_json(sys.argv[1]), store.resolve("dataset/small"), store=store)
"""


@pytest.fixture(scope="module")
def config(tiny: PretrainingConfig) -> PretrainingConfig:
    """With dropout, whose state must come back, and in bf16, where the weights alone are not enough to go on from."""
    changes = {"hidden_dropout_prob": 0.1, "precision": "bf16", "max_steps": 40, "checkpoint_every": 4}
    return tiny.model_copy(update=changes | {"train_micro_batch_size_per_gpu": 4})


def recipe_of(config: PretrainingConfig, small: Small) -> Recipe:
    return Recipe("pretraining", config, SCHEMA, parents=(small.dataset,))


def steps_in(work: Work) -> list[int]:
    """The steps of the whole checkpoints, the newest first."""
    return [step for name in work.names() if (step := step_of(name)) is not None]


class Killed:
    """A training in a process of its own, which ends by SIGKILL, and everything that it has started with it."""

    def __init__(self, config: PretrainingConfig, store: Store, **variables: str) -> None:
        self.mark = f"BERTMILL_HOME={store.settings.home}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, config.model_dump_json()],
            env=os.environ | variables | {"BERTMILL_HOME": str(store.settings.home)},
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> "Killed":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        _, said = self.process.communicate()
        self.said = said.decode()
        assert not living_with(self.mark, within_s=60)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


def killed_after(
    wholes: int,
    config: PretrainingConfig,
    small: Small,
    store: Store,
    newest: int = 0,
    within_s: float = 120,
    **variables: str,
) -> None:
    """Kill a training when so many more checkpoints are whole than the one after `newest` steps."""
    work = store.work(recipe_of(config, small))
    wanted = newest + wholes * config.checkpoint_every
    with Killed(config, store, **variables) as killed:
        deadline = time.monotonic() + within_s
        while not set(steps_in(work)) & set(range(wanted, config.max_steps - 1)) and time.monotonic() < deadline:
            if not killed.is_running:
                break
            time.sleep(0.01)
    assert killed.process.returncode == -signal.SIGKILL, killed.said
    assert TRAINED not in work.names(), "it was killed in mid-training"
    assert not store.versions("pretraining"), "it published nothing"
    assert steps_in(work)[0] >= wanted, killed.said


def bytes_of(store: Store, artifact: Artifact) -> dict[str, str]:
    """sha256 of the loss curve and of every file of the model."""
    return {entry.path: entry.sha256 for entry in store.manifest(artifact).files}


@pytest.fixture(scope="module")
def undisturbed(small: Small, config: PretrainingConfig) -> dict[str, str]:
    return bytes_of(small.store, pretrain(config, small.dataset, store=small.store))


@pytest.fixture(scope="module")
def killed(small: Small, config: PretrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where training was killed after its second checkpoint."""
    store = untrained_copy(small, tmp_path_factory.mktemp("killed") / "home")
    killed_after(2, config, small, store)
    return store.settings.home


@pytest.fixture
def again(killed: Path, tmp_path: Path) -> Store:
    """The killed home's store, in a copy to go on in."""
    return store_of(Path(shutil.copytree(killed, tmp_path / "again")))


def test_killed_and_run_again_it_ends_with_the_same_curve_and_weights(
    again: Store, undisturbed: dict[str, str], small: Small, config: PretrainingConfig
) -> None:
    work = again.work(recipe_of(config, small))
    newest = steps_in(work)[0]
    higher = {"step": 36, "world": 7, "optimizer_step": 36.0, "parameters": {}, "snapshot": False}
    work.commit(whole_name(36), [], higher)  # of another cluster, whose files are gone
    artifact = pretrain(config, small.dataset, store=again)
    assert again.manifest(artifact).producer["resumed_at"] == newest > 0
    assert bytes_of(again, artifact) == undisturbed
    assert not work.names(), "what is published needs no checkpoints"


@pytest.mark.parametrize("path", ["rank-00001.exp_avg.safetensors", "rank-00000.weight.safetensors", "curve.jsonl"])
@pytest.mark.parametrize("damage", ["corrupt", "truncated", "missing"])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    damage: str,
    path: str,
    again: Store,
    small: Small,
    config: PretrainingConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = again.work(recipe_of(config, small))
    newest, before, *_ = steps_in(work)
    files = {entry.path: entry for entry in work.load(whole_name(newest))[0]}
    damage_object(again, work.key(files[path]), damage)
    resume = Checkpoints(again, work, Place(0, 1, 3), tmp_path, config).load()
    assert resume is not None
    assert resume.step == before < newest
    assert f"checkpoint {whole_name(newest)} is passed over: " in caplog.text


def test_where_no_record_can_be_read_it_begins_anew(
    again: Store, small: Small, config: PretrainingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for each in list(again.backend.list("work/")):
        if each.key.endswith("snapshot.json"):
            again.backend.put(each.key, b'{"files": [')
    work = again.work(recipe_of(config, small))
    assert Checkpoints(again, work, Place(0, 1, 3), tmp_path, config).load() is None
    assert "is passed over" in caplog.text


@pytest.mark.long(2, 20)
def test_killed_at_any_moments_it_ends_bit_for_bit_the_same(
    rounds: int, small: Small, config: PretrainingConfig, fresh: Store
) -> None:
    """While it starts, trains, or has a checkpoint half stored: as many lives as rounds, then one to the end."""
    draw = random.Random(17)
    config = config.model_copy(update={"max_steps": max(config.max_steps, 12 * rounds)})
    undisturbed = bytes_of(small.store, pretrain(config, small.dataset, store=small.store))
    config = config.model_copy(update={"checkpoint_every": 1})
    work = fresh.settings.home / "store" / "work"
    for _ in range(rounds):
        seen = set(work.rglob("*.json"))
        with Killed(config, fresh) as life:
            deadline = time.monotonic() + 120
            wanted = draw.choice([0, 3, 4, 5, 6])  # new records: the lease and its heartbeat, parts, wholes
            while len(set(work.rglob("*.json")) - seen) < wanted and time.monotonic() < deadline and life.is_running:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.1))
        assert life.process.returncode == -signal.SIGKILL, life.said
    artifact = pretrain(config, small.dataset, store=fresh)
    assert bytes_of(fresh, artifact) == undisturbed


def test_a_training_moves_through_clusters_of_one_two_four_and_one_ranks_and_every_zero_stage(
    small: Small, tiny: PretrainingConfig, fresh: Store
) -> None:
    """The same samples in the same order, so that each step's loss is the one of a plain loop in one process."""
    config = tiny.model_copy(update={"max_steps": 40, "checkpoint_every": 2, "train_micro_batch_size_per_gpu": 5})
    work = fresh.work(recipe_of(config, small))
    newest = 0
    for stage, ranks in ((2, 1), (0, 2), (3, 4)):
        moved = config.model_copy(update={"deepspeed": f"zero{stage}"})
        killed_after(1, moved, small, fresh, newest, BERTMILL_RANKS=str(ranks))
        newest = steps_in(work)[0]
        assert (work.load(whole_name(newest))[1]["world"], newest) == (ranks, newest)
    fresh = store_of(fresh.settings.home, BERTMILL_RANKS="1")
    artifact = pretrain(config.model_copy(update={"deepspeed": "zero1"}), small.dataset, store=fresh)
    assert fresh.manifest(artifact).producer["resumed_at"] == newest
    curve = curve_of(replace(small, store=fresh), artifact)
    expected = plain_loop(small, config).curve
    assert [line["step"] for line in curve] == list(range(config.max_steps))
    assert [line["loss"] for line in curve] == pytest.approx([line["loss"] for line in expected], rel=1e-5)


def test_a_checkpoint_holds_safetensors_and_json_lines_and_12_bytes_a_parameter(
    killed: Path, small: Small, config: PretrainingConfig
) -> None:
    store = store_of(killed)
    work = store.work(recipe_of(config, small))
    for step in steps_in(work):
        files, record = work.load(whole_name(step))
        assert (record["step"], record["world"], record["zero_stage"]) == (step, 2, 1)
        assert record["optimizer_step"] == step
        names = {f"rank-0000{rank}.{kind}.safetensors" for rank in (0, 1) for kind in KINDS}
        assert {entry.path for entry in files} == names | {"curve.jsonl"}
        numbers = 0
        for entry in files:
            path = work.file(entry)
            if entry.path == "curve.jsonl":
                lines = path.read_text(encoding="utf-8").splitlines()
                assert [json.loads(line)["step"] for line in lines] == list(range(step)), "whole lines, none missing"
                continue
            with safe_open(path, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  (it is no dict)
                    assert tensors.get_slice(key).get_dtype() == "F32"
                    numbers += tensors.get_slice(key).get_shape()[0]
        assert record["parameters"]["layers.0.qkv.weight"] == [96, 32]
        assert numbers == 3 * sum(math.prod(shape) for shape in record["parameters"].values()), (
            "weights and both moments, each once over all ranks"
        )
