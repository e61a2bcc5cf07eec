"""A step that is not finite updates nothing, under every ZeRO stage, and clipping is what it should be."""

import json
import os
import subprocess
import sys
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
]
STEPS = """
import json, sys, torch
from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import import_deepspeed, initialise, systems_config
from pipeline.pretraining.guard import Guard, torch_optimizer

import_deepspeed().init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)
from deepspeed.utils import safe_get_full_fp32_param

class Cubic(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        self.bias = torch.nn.Parameter(torch.ones(3))

    def forward(self, inputs):
        return (torch.nn.functional.linear(inputs, self.weight, self.bias).float() ** 3).sum()

def state(engine, stage):
    weights = [safe_get_full_fp32_param(each) if stage != "zero0" else each for each in engine.module.parameters()]
    adam = [[float(each["step"]), each["exp_avg"].sum().item()] for each in torch_optimizer(engine).state.values()]
    return [[each.detach().flatten().tolist() for each in weights], adam]

def steps(stage, precision, tells_losses):
    config = PretrainingConfig(name="guarded", learning_rate=0.01, gradient_clipping=0.5, precision=precision)
    engine = initialise(Cubic(), config, systems_config(stage), 1)
    guard = Guard(engine, config.gradient_clipping)
    for scale in (1.0, float("nan"), 1.0):
        inputs = torch.full((2, 4), 0.5, dtype=next(engine.module.parameters()).dtype, device=engine.device)
        loss = engine(inputs) * scale
        engine.backward(loss, scale_wrt_gas=False)
        guard.step(loss.detach() if tells_losses else torch.zeros_like(loss.detach()))
        yield {"failed": float(guard.failed), "norm": str(float(guard.norm)), "state": state(engine, stage)}

print(json.dumps([list(steps(*each)) for each in json.loads(sys.argv[1])]))
"""
Steps = list[dict[str, Any]]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, bool], Steps]:
    """By stage, precision and whether the guard is told the losses: what a good step, one whose loss is nan, and
    another good one each left.
    """
    asked = [(*each, True) for each in ENGINES] + [("zero1", "bf16", False)]
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEPS, json.dumps(asked)],
        env=os.environ | alone,
        cwd=tmp_path_factory.mktemp("guarded"),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(asked, json.loads(done.stdout.splitlines()[-1])))


@pytest.mark.parametrize(("stage", "precision"), ENGINES)
def test_a_step_that_is_not_finite_and_all_after_it_leave_weights_and_optimizer_alone(
    stage: str, precision: str, steps: dict[tuple[str, str, bool], Steps]
) -> None:
    good, bad, after = steps[stage, precision, True]
    assert [each["failed"] for each in (good, bad, after)] == [0, 1, 1]
    assert bad["norm"] == "inf"
    assert {step for step, _ in good["state"][1]} == {1.0}
    assert bad["state"] == good["state"]
    assert after["state"] == good["state"], "what the first bad step was made with is still there to look at it"


def test_a_gradient_that_is_not_finite_is_seen_by_itself(steps: dict[tuple[str, str, bool], Steps]) -> None:
    good, bad, _ = steps["zero1", "bf16", False]
    assert [good["failed"], bad["failed"]] == [0, 1]
    assert bad["state"] == good["state"]


def test_gradients_are_clipped_in_the_optimizers_kernel_as_torch_clips_them(
    steps: dict[tuple[str, str, bool], Steps],
) -> None:
    good = steps["zero0", "fp32", True][0]
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
