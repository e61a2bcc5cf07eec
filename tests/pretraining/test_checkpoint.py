"""Killed and run again, a training ends bit for bit as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from pipeline.config import PretrainingConfig
from pipeline.pretraining.checkpoint import Place, load_checkpoint, snapshot_name
from pipeline.pretraining.job import SCHEMA, TRAINED
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact, Recipe, Store, Work
from pipeline.store.keys import blob_key
from tests.processes import living_with
from tests.small import Small, store_of, untrained_copy

PLACE = Place(rank=0, world=2, zero_stage=1)
ELSEWHERE = Place(rank=0, world=7, zero_stage=1)
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
    """The steps of this world's snapshots, the newest first."""
    records = [work.load(name)[1] for name in work.names()]
    return [record["step"] for record in records if record["world"] == PLACE.world]


def killed_after(snapshots: int, config: PretrainingConfig, small: Small, store: Store) -> None:
    """Train in a process of its own, and kill that when so many more snapshots are there."""
    mark = f"BERTMILL_HOME={store.settings.home}"
    work = store.work(recipe_of(config, small))
    there = len(work.names())
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, config.model_dump_json()],
        env=os.environ | {"BERTMILL_HOME": str(store.settings.home)},
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 120
        while len(work.names()) < there + snapshots and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    assert not living_with(mark, within_s=10)
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert TRAINED not in work.names(), "it was killed in mid-training"
    assert not store.versions("pretraining"), "it published nothing"
    assert len(work.names()) >= there + snapshots, said.decode()


def bytes_of(store: Store, artifact: Artifact) -> dict[str, str]:
    """sha256 of the loss curve and of every file of the model."""
    return {entry.path: entry.sha256 for entry in store.manifest(artifact).files}


@pytest.fixture(scope="module")
def undisturbed(small: Small, config: PretrainingConfig) -> dict[str, str]:
    return bytes_of(small.store, pretrain(config, small.dataset, store=small.store))


@pytest.fixture(scope="module")
def killed(small: Small, config: PretrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where training was killed after its second snapshot, having found a higher one of another world."""
    store = untrained_copy(small, tmp_path_factory.mktemp("killed") / "home")
    work = store.work(recipe_of(config, small))
    work.commit(snapshot_name(36, ELSEWHERE), [], {"step": 36, "world": 7, "zero_stage": 1})
    killed_after(2, config, small, store)
    return store.settings.home


@pytest.fixture
def again(killed: Path, tmp_path: Path) -> Store:
    """The killed home's store, in a copy to go on in."""
    return store_of(Path(shutil.copytree(killed, tmp_path / "again")))


def test_killed_and_run_again_it_ends_with_the_same_curve_and_weights(
    again: Store, undisturbed: dict[str, str], small: Small, config: PretrainingConfig
) -> None:
    newest = steps_in(again.work(recipe_of(config, small)))[0]
    artifact = pretrain(config, small.dataset, store=again)
    assert again.manifest(artifact).producer["resumed_at"] == newest > 0
    assert bytes_of(again, artifact) == undisturbed
    assert not again.work(recipe_of(config, small)).names(), "what is published needs no snapshots"


def test_a_corrupt_newest_snapshot_is_passed_over_for_the_one_before(
    again: Store, undisturbed: dict[str, str], small: Small, config: PretrainingConfig
) -> None:
    work = again.work(recipe_of(config, small))
    newest, before, *_ = steps_in(work)
    files, _ = work.load(snapshot_name(newest, PLACE))
    entry = next(entry for entry in files if entry.path == "rank-00001.safetensors")
    flip_a_byte(again, blob_key(entry.sha256))
    artifact = pretrain(config, small.dataset, store=again)
    assert again.manifest(artifact).producer["resumed_at"] == before < newest
    assert bytes_of(again, artifact) == undisturbed


def flip_a_byte(store: Store, key: str) -> None:
    path = store.settings.home / "store" / key
    data = bytearray(path.read_bytes())
    data[-100] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)


def test_under_zero_3_too_a_killed_run_goes_on_bit_for_bit(
    small: Small, tiny: PretrainingConfig, training: Any, fresh: Store
) -> None:
    """And the undisturbed run made no checkpoints at all: making them changes nothing."""
    stage = {"deepspeed": "zero3", "train_micro_batch_size_per_gpu": 2}
    config = tiny.model_copy(update=stage | {"checkpoint_every": 2})
    killed_after(1, config, small, fresh)
    artifact = pretrain(config, small.dataset, store=fresh)
    assert fresh.manifest(artifact).producer["resumed_at"] > 0
    assert bytes_of(fresh, artifact) == bytes_of(small.store, training(**stage))


def test_a_checkpoint_holds_safetensors_and_json_lines_and_nothing_to_unpickle(
    killed: Path, small: Small, config: PretrainingConfig
) -> None:
    store = store_of(killed)
    work = store.work(recipe_of(config, small))
    for step in steps_in(work):
        files, record = work.load(snapshot_name(step, PLACE))
        assert record == {"step": step, "world": 2, "zero_stage": 1}
        names = ["curve.jsonl", "rank-00000.safetensors", "rank-00001.safetensors", "weights.safetensors"]
        assert sorted(entry.path for entry in files) == names
        for entry in files:
            path = store.blob(entry)
            if entry.path == "curve.jsonl":
                lines = path.read_text(encoding="utf-8").splitlines()
                assert [json.loads(line)["step"] for line in lines] == list(range(step)), "whole lines, none missing"
                continue
            with safe_open(path, "pt") as tensors:
                assert len(tensors.keys()) > 0


def test_ranks_hold_different_parts_with_fp32_masters_and_both_moments(
    killed: Path, small: Small, config: PretrainingConfig
) -> None:
    store = store_of(killed)
    work = store.work(recipe_of(config, small))
    first, second = (load_checkpoint(store, work, Place(rank, 2, 1)) for rank in (0, 1))
    assert first is not None
    assert second is not None
    assert first.step == second.step == steps_in(work)[0]
    assert first.partition.keys() == second.partition.keys()
    assert {name.rpartition(".")[2] for name in first.partition} == {"master", "exp_avg", "exp_avg_sq", "step"}
    assert {tensor.dtype for tensor in first.partition.values()} == {torch.float32}
    assert {tensor.dtype for tensor in first.weights.values()} == {torch.bfloat16}
    parameters = sum(tensor.numel() for tensor in first.weights.values())
    for moment in ("master", "exp_avg", "exp_avg_sq"):
        held = [t for part in (first, second) for name, t in part.partition.items() if name.endswith(f".{moment}")]
        assert parameters <= sum(tensor.numel() for tensor in held) < parameters + 64, "each number once, and padding"
    assert {float(t) for name, t in first.partition.items() if name.endswith(".step")} == {float(first.step)}


@pytest.mark.parametrize("place", [Place(0, 1, 1), Place(0, 3, 1), Place(0, 2, 2)])
def test_another_world_or_stage_begins_anew_and_says_so(
    place: Place, killed: Path, small: Small, config: PretrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(killed)
    assert load_checkpoint(store, store.work(recipe_of(config, small)), place) is None
    assert f"this run of {place.world} under {place.zero_stage}: starting from the first step" in caplog.text


def test_a_snapshot_without_its_record_or_a_blob_is_passed_over(
    again: Store, small: Small, config: PretrainingConfig
) -> None:
    work = again.work(recipe_of(config, small))
    newest, before, *older = steps_in(work)
    files, _ = work.load(snapshot_name(newest, PLACE))
    kept = {entry.sha256 for entry in work.load(snapshot_name(before, PLACE))[0]}
    gone = next(entry for entry in files if entry.sha256 not in kept)
    again.backend.delete(blob_key(gone.sha256))
    resume = load_checkpoint(again, work, PLACE)
    assert resume is not None
    assert resume.step == before
    for key in [each.key for each in again.backend.list("work/") if each.key.endswith("snapshot.json")]:
        if any(snapshot_name(step, PLACE) in key for step in (before, *older)):
            again.backend.put(key, b'{"files": [')
    assert load_checkpoint(again, work, PLACE) is None
