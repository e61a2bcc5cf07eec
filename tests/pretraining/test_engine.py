"""What DeepSpeed is given beside its JSON, and what a device can't do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, TrainingError
from pipeline.pretraining.engine import check_device, whole_config
from pipeline.pretraining.overfit import overfit_one_batch
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.systems import OWNED, systems_config
from pipeline.store import Store
from tests.conftest import free_port
from tests.small import Small

SHIPPED = ("zero0", "zero1", "zero2", "zero3")


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
def test_precision_comes_from_the_preset_and_clipping_is_left_to_the_optimizers_kernel(name: str) -> None:
    config = PretrainingConfig(name="t", gradient_clipping=0.75, precision="bf16")
    whole = whole_config(config, systems_config(name), world=3)
    assert whole["gradient_clipping"] == 0.0
    assert whole["bf16"] == {"enabled": True, "check_grad_overflow": False}
    assert whole["fp16"] == {"enabled": False}
    assert whole["train_batch_size"] == 3 * whole["train_micro_batch_size_per_gpu"]


def test_deepspeed_never_waits_for_the_device_to_tell_its_own_pace(tmp_path: Path) -> None:
    code = """
import sys, torch
from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import import_deepspeed, initialise
from pipeline.pretraining.systems import systems_config
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
