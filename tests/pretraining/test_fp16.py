"""A training in fp16 skips steps until its loss scale fits, and goes on after a kill with the scale that it had."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PretrainingConfig
from pipeline.errors import TrainingError
from pipeline.launching import LAUNCHERS
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Store
from tests.pretraining.checkpoints.test_checkpoint import bytes_of, recipe_of, steps_in
from tests.pretraining.fp16_worker import DIES_AFTER, FIRST_SCALE, launch_in_fp16
from tests.small import Small, store_of, untrained_copy

FIRST, KILLED_AFTER = 2.0**22, 6


@pytest.fixture(scope="module")
def config(tiny: PretrainingConfig) -> PretrainingConfig:
    changes = {"hidden_dropout_prob": 0.1, "precision": "fp16", "max_steps": 14, "checkpoint_every": 3}
    return tiny.model_copy(update=changes | {"train_micro_batch_size_per_gpu": 7})


@pytest.fixture(scope="module", autouse=True)
def in_fp16() -> Any:
    """From a scale that is too large for the first steps' gradients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAUNCHERS, "local", launch_in_fp16)
        patch.setenv(FIRST_SCALE, str(FIRST))
        yield


@pytest.fixture(scope="module")
def undisturbed(small: Small, config: PretrainingConfig) -> Store:
    pretrain(config, small.dataset, store=small.store)
    return small.store


@pytest.fixture(scope="module")
def killed(small: Small, config: PretrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where the ranks were killed after a checkpoint, and weren't started again."""
    home = untrained_copy(small, tmp_path_factory.mktemp("killed") / "home").settings.home
    store = store_of(home, BERTMILL_RESTARTS="0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DIES_AFTER, str(KILLED_AFTER))
        with pytest.raises(TrainingError, match="SIGKILL"):
            pretrain(config, small.dataset, store=store)
    assert steps_in(store.work(recipe_of(config, small)))[0] == KILLED_AFTER
    return home


def curve_in(store: Store) -> list[dict[str, Any]]:
    path = store.file(store.resolve("pretraining/tiny"), "curve.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_steps_are_skipped_at_half_the_scale_each_until_one_fits_and_the_loss_falls_from_there(
    undisturbed: Store, config: PretrainingConfig
) -> None:
    curve = curve_in(undisturbed)
    skips = sum(line["skipped"] for line in curve)
    assert config.checkpoint_every <= skips < KILLED_AFTER, "one checkpoint is taken before Adam has stepped at all"
    assert [line["skipped"] for line in curve[:skips]] == [True] * skips
    assert [line["loss_scale"] for line in curve] == [FIRST / 2 ** min(step, skips) for step in range(len(curve))]
    assert [line["gradient_norm"] is None for line in curve] == [line["skipped"] for line in curve]
    assert all(0 < line["gradient_norm"] < 10 for line in curve[skips:])
    assert curve[-1]["loss"] < curve[0]["loss"] - 0.3


def test_killed_and_run_again_it_ends_bit_for_bit_the_same(
    killed: Path, undisturbed: Store, config: PretrainingConfig, small: Small, tmp_path: Path
) -> None:
    store = store_of(Path(shutil.copytree(killed, tmp_path / "again")))
    artifact = pretrain(config, small.dataset, store=store)
    assert store.manifest(artifact).producer["resumed_at"] == KILLED_AFTER
    assert bytes_of(store, artifact) == bytes_of(undisturbed, undisturbed.resolve("pretraining/tiny"))


def test_gone_on_with_on_another_world_and_zero_stage_it_keeps_its_scale(
    killed: Path, undisturbed: Store, config: PretrainingConfig, small: Small, tmp_path: Path
) -> None:
    store = store_of(Path(shutil.copytree(killed, tmp_path / "again")), BERTMILL_RANKS="1")
    pretrain(config.model_copy(update={"deepspeed": "zero3"}), small.dataset, store=store)
    curve, expected = curve_in(store), curve_in(undisturbed)
    assert [line["loss_scale"] for line in curve] == [line["loss_scale"] for line in expected]
    assert [line["loss"] for line in curve] == pytest.approx([line["loss"] for line in expected], rel=0.02)
