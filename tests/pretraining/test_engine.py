"""Who owns which DeepSpeed key: a key set on both sides is an error that says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, TrainingError
from pipeline.pretraining.engine import OWNED, check_device, systems_config, whole_config, zero_stage
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.watching.overfit import overfit_one_batch
from pipeline.store import Store
from tests.conftest import free_port
from tests.small import Small

SHIPPED = ("zero0", "zero1", "zero2", "zero3")


def written(folder: Path, content: object) -> str:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("optimizer", "pretraining.learning_rate"),
        ("train_batch_size", "pretraining.train_batch_size"),
        ("gradient_clipping", "pretraining.gradient_clipping"),
        ("bf16", "pretraining.precision"),
        ("fp16", "pretraining.precision"),
        ("data_types", "pretraining.precision"),
        ("scheduler", "pretraining.warmup_share"),
        ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu"),
    ],
)
def test_a_key_that_the_preset_owns_is_refused_with_what_to_set_instead(key: str, instead: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"zero_optimization": {"stage": 1}, key: {}})
    with pytest.raises(ConfigError) as caught:
        systems_config(path)
    assert f"{path} sets {key!r}, which the preset owns. Remove it there; set " in str(caught.value)
    assert instead in str(caught.value)


def test_a_refused_key_ends_pretraining_before_any_rank_starts(
    small: Small, tiny: PretrainingConfig, fresh: Store, tmp_path: Path
) -> None:
    home = fresh.settings.home
    before = sorted(home.rglob("*"))
    config = tiny.model_copy(update={"deepspeed": written(tmp_path, {"optimizer": {"type": "Lamb"}})})
    with pytest.raises(ConfigError, match="'optimizer', which the preset owns"):
        pretrain(config, small.dataset, store=fresh)
    assert sorted(home.rglob("*")) == before, "no log, no work, nothing"


def test_everything_that_is_ours_in_the_whole_config_is_owned() -> None:
    tiny = PretrainingConfig(name="t", precision="bf16")
    for name in SHIPPED:
        systems = systems_config(name)
        ours = {
            key for key, value in whole_config(tiny, systems, 2).items() if key not in systems or systems[key] != value
        }
        assert ours <= OWNED.keys(), "a key that we set and they may set too would be decided silently"
        assert not OWNED.keys() & systems.keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_found_by_its_name_and_holds_the_stage_that_it_is_called_by(name: str) -> None:
    assert f"zero{zero_stage(systems_config(name))}" == name


@pytest.mark.parametrize("name", SHIPPED)
def test_precision_comes_from_the_preset_and_clipping_is_left_to_the_optimizers_kernel(name: str) -> None:
    config = PretrainingConfig(name="t", gradient_clipping=0.75, precision="bf16")
    whole = whole_config(config, systems_config(name), world=3)
    assert whole["gradient_clipping"] == 0.0
    assert whole["bf16"] == {"enabled": True, "check_grad_overflow": False}
    assert whole["fp16"] == {"enabled": False}
    assert whole["train_batch_size"] == 3 * whole["train_micro_batch_size_per_gpu"]


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"pretraining.deepspeed is 'zero_3': no config .* Did you mean 'zero3'\?"):
        systems_config("zero_3")


def test_a_name_like_none_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="Known: zero0, zero1, zero2, zero3"):
        systems_config("qqq")


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "{'stage': 1}")
    with pytest.raises(ConfigError, match=r"mine.json can't be read as JSON"):
        systems_config(path)


def test_a_file_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold one JSON object"):
        systems_config(written(tmp_path, ["zero1"]))


@pytest.mark.parametrize(
    ("zero", "told"),
    [
        ({"stage": "two"}, "zero_optimization.stage to 'two': it must be a whole number from 0 to 3."),
        ({"stage": 4}, "zero_optimization.stage to 4: it must be a whole number from 0 to 3."),
        ({"stage": True}, "zero_optimization.stage to True: it must be a whole number from 0 to 3."),
        (
            {"reduce_bucket_size": "5e8"},
            "zero_optimization.reduce_bucket_size to '5e8': it must be a whole number of 0 or more.",
        ),
        ({"reduce_bucket_size": float("inf")}, "zero_optimization.reduce_bucket_size to inf: it must be a whole"),
        ("on", "zero_optimization to 'on': it must be an object."),
    ],
)
def test_a_number_that_the_plan_reads_is_checked_before_deepspeed_does(zero: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        systems_config(written(tmp_path, {"zero_optimization": zero}))
    assert f"mine.json sets {told}" in str(caught.value)


def test_a_key_that_deepspeed_would_pass_over_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'zero_optimisation', which means nothing here. Did you mean 'zero_optimiz"):
        systems_config(written(tmp_path, {"zero_optimisation": {"stage": 1}}))


@pytest.mark.parametrize("key", ["offload_optimizer", "offload_param"])
def test_offload_is_refused_with_the_reason(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"zero_optimization": {"stage": 3, key: {"device": "cpu"}}})
    with pytest.raises(
        ConfigError, match=f"sets zero_optimization.{key}, which DeepSpeed allows with its own optimizers"
    ):
        systems_config(path)


def test_deepspeed_never_waits_for_the_device_to_tell_its_own_pace(tmp_path: Path) -> None:
    code = """
import sys, torch
from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import import_deepspeed, initialise, systems_config
deepspeed = import_deepspeed()
deepspeed.init_distributed(dist_backend="gloo", verbose=False)
from deepspeed.accelerator import get_accelerator
waits = []
get_accelerator().synchronize = lambda *_: waits.append(1)
engine = initialise(torch.nn.Linear(4, 1), PretrainingConfig(name="t", precision="bf16"), systems_config("zero1"), 1)
waits.clear()
for _ in range(6):
    for _ in range(3):
        engine.backward(engine(torch.ones(2, 4, dtype=torch.bfloat16)).float().sum(), scale_wrt_gas=False)
    engine.step()
print("waits:", len(waits))
"""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "RANK": "0", "WORLD_SIZE": "1"}
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | variables | {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "waits: 0"


def test_a_bucket_may_be_written_as_json_writes_large_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, '{"zero_optimization": {"stage": 1, "reduce_bucket_size": 5e8}}')
    assert zero_stage(systems_config(path)) == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_in_fp16_deepspeeds_own_loss_scale_is_one(name: str) -> None:
    whole = whole_config(PretrainingConfig(name="t", precision="fp16"), systems_config(name), world=2)
    assert whole["fp16"] == {
        "enabled": True,
        "auto_cast": False,
        "loss_scale": 1.0,
        "fp16_master_weights_and_grads": False,
    }
    assert not whole["bf16"]["enabled"]
    assert "data_types" not in whole


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in fp16")
def test_fp16_is_refused_on_a_cpu_before_the_first_step(fresh: Store, small: Small, tiny: PretrainingConfig) -> None:
    config = tiny.model_copy(update={"precision": "fp16"})
    told = 'is "fp16", in which GPUs train, and this rank runs on a CPU. Set it to "bf16" or "fp32", or take a GPU.'
    with pytest.raises(TrainingError, match=told):
        pretrain(config, small.dataset, store=fresh)
    with pytest.raises(TrainingError, match=told):
        overfit_one_batch(config, small.dataset, store=fresh, tell=print)


def test_bf16_is_refused_on_a_gpu_that_only_imitates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: including_emulation)
    with pytest.raises(ConfigError, match='is "bf16", which a Tesla T4 lacks; .* Set it to "fp16" or "fp32"'):
        check_device(PretrainingConfig(name="t", precision="bf16"))
    check_device(PretrainingConfig(name="t", precision="fp16"))
