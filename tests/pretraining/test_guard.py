"""A step that is not finite updates nothing, under every ZeRO stage, and clipping is what it should be; in fp16 one
whose scaled gradient overflows is skipped, and the next one has half the scale.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ENGINES = [
    ("zero0", "fp32"),
    ("zero1", "fp32"),
    ("zero2", "fp32"),
    ("zero3", "fp32"),
    ("zero1", "bf16"),
    ("zero3", "bf16"),
    ("zero0", "fp16"),
    ("zero1", "fp16"),
    ("zero2", "fp16"),
    ("zero3", "fp16"),
]
STEPS = """
import json, sys, torch
from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import import_deepspeed, initialise
from pipeline.pretraining.systems import systems_config
from pipeline.pretraining import loss_scale
from pipeline.pretraining.guard import Guard, torch_optimizer
from tests.pretraining.fp16_worker import let_this_cpu_train_in_fp16

import_deepspeed().init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
from deepspeed.utils import safe_get_full_fp32_param

class Cubic(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        self.bias = torch.nn.Parameter(torch.ones(3))

    def compile_regions(self, dtype):
        pass

    def forward(self, inputs):
        return (torch.nn.functional.linear(inputs, self.weight, self.bias).float() ** 3).sum()

def state(engine, stage):
    weights = [safe_get_full_fp32_param(each) if stage != "zero0" else each for each in engine.module.parameters()]
    adam = [[float(each["step"]), each["exp_avg"].sum().item()] for each in torch_optimizer(engine).state.values()]
    return [[each.detach().flatten().tolist() for each in weights], adam]

CASES = {  # whether the guard is told the losses, the first scale of fp16, what the steps' losses are multiplied by
    "nan": (True, 2.0**10, (1, float("nan"), 1)),
    "nan untold": (False, 2.0**10, (1, float("nan"), 1)),
    "overflow": (True, 2.0**12, (1, 1, 1, 1)),
    "overflow at the least scale": (True, 2.0, (1, 1e6, 1e6, 1)),
}

def steps(stage, precision, case):
    tells_losses, loss_scale.FIRST, factors = CASES[case]
    if precision == "fp16":
        let_this_cpu_train_in_fp16()
    config = PretrainingConfig(name="guarded", learning_rate=0.01, gradient_clipping=0.5, precision=precision)
    engine = initialise(Cubic(), config, systems_config(stage), 1)
    guard = Guard(engine, config.gradient_clipping)
    for factor in factors:
        inputs = torch.full((2, 4), 0.5, dtype=next(engine.module.parameters()).dtype, device=engine.device)
        loss = engine(inputs) * factor
        engine.backward(guard.scaled(loss), scale_wrt_gas=False)
        guard.step(loss.detach() if tells_losses else torch.zeros_like(loss.detach()))
        found = {"failed": float(guard.failed), "norm": str(float(guard.norm)), "told": guard.told}
        yield found | {"state": state(engine, stage)}

print(json.dumps([list(steps(*each)) for each in json.loads(sys.argv[1])]))
"""
Steps = list[dict[str, Any]]
Ran = dict[tuple[str, str, str], Steps]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """By stage, precision and case, what each step left. Of the nan's: a good one, the nan's, and another good one."""
    asked = [(*each, "nan") for each in ENGINES] + [("zero1", "bf16", "nan untold")]
    in_fp16 = [stage for stage, precision in ENGINES if precision == "fp16"]
    asked += [(stage, "fp16", case) for stage in in_fp16 for case in ("overflow", "overflow at the least scale")]
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEPS, json.dumps(asked)],
        env=os.environ | alone | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path_factory.mktemp("guarded"),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(asked, json.loads(done.stdout.splitlines()[-1])))


@pytest.mark.parametrize(("stage", "precision"), ENGINES)
def test_a_step_that_is_not_finite_and_all_after_it_leave_weights_and_optimizer_alone(
    stage: str, precision: str, steps: Ran
) -> None:
    good, bad, after = steps[stage, precision, "nan"]
    assert [each["failed"] for each in (good, bad, after)] == [0, 1, 1]
    assert bad["norm"] == "inf"
    assert {step for step, _ in good["state"][1]} == {1.0}
    assert bad["state"] == good["state"]
    assert after["state"] == good["state"], "what the first bad step was made with is still there to look at it"


def test_a_gradient_that_is_not_finite_is_seen_by_itself(steps: Ran) -> None:
    good, bad, _ = steps["zero1", "bf16", "nan untold"]
    assert [good["failed"], bad["failed"]] == [0, 1]
    assert bad["state"] == good["state"]


def test_gradients_are_clipped_in_the_optimizers_kernel_as_torch_clips_them(
    steps: Ran,
) -> None:
    good = steps["zero0", "fp32", "nan"][0]
    weight = torch.linspace(-1, 1, 12).reshape(3, 4).requires_grad_()
    bias = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": 0.01}, {"params": [bias], "weight_decay": 0.0}], lr=0.01, eps=1e-6
    )
    (torch.nn.functional.linear(torch.full((2, 4), 0.5), weight, bias) ** 3).sum().backward()
    norm = torch.nn.utils.clip_grad_norm_([weight, bias], 0.5)
    optimizer.step()
    assert norm > 5, "else clipping would not show"
    assert float(good["norm"]) == pytest.approx(float(norm))
    assert good["state"][0][0] == pytest.approx(weight.detach().flatten().tolist(), abs=1e-6)
    assert [moment for _, moment in good["state"][1]] == pytest.approx(
        [optimizer.state[each]["exp_avg"].sum().item() for each in (weight, bias)], rel=1e-5
    )


@pytest.mark.parametrize("stage", ["zero0", "zero1", "zero2", "zero3"])
def test_in_fp16_steps_whose_gradient_overflows_are_skipped_at_ever_half_the_scale_until_one_fits(
    stage: str, steps: Ran
) -> None:
    *skipped, good, next_one = steps[stage, "fp16", "overflow"]
    for step, scale in zip(skipped, (4_096, 2_048), strict=True):
        assert step["told"] == {"loss_scale": scale, "skipped": True, "gradient_norm": None}
        assert step["state"][1] == [], "Adam has taken no step"
    for step in (good, next_one):
        assert step["told"] == {"loss_scale": 1_024, "skipped": False}
    assert [step["failed"] for step in (*skipped, good, next_one)] == [0, 0, 0, 0]
    assert {count for count, _ in good["state"][1]} == {1.0}
    exact = steps["zero0", "fp32", "nan"][0]
    assert float(good["norm"]) == pytest.approx(float(exact["norm"]), rel=1e-3), "of the gradient without its scale"
    assert [moment for _, moment in good["state"][1]] == pytest.approx(
        [moment for _, moment in exact["state"][1]], rel=1e-3
    )


@pytest.mark.parametrize("stage", ["zero0", "zero1", "zero2", "zero3"])
def test_in_fp16_an_overflow_at_the_least_scale_is_a_failure(stage: str, steps: Ran) -> None:
    good, skipped, failed, after = steps[stage, "fp16", "overflow at the least scale"]
    assert [step["told"]["loss_scale"] for step in (good, skipped, failed, after)] == [2, 2, 1, 1]
    assert [step["told"]["skipped"] for step in (good, skipped, failed, after)] == [False, True, False, False]
    assert [step["failed"] for step in (good, skipped, failed, after)] == [0, 0, 1, 1]
    assert failed["norm"] == "inf"
    assert skipped["state"] == failed["state"] == after["state"] == good["state"]
