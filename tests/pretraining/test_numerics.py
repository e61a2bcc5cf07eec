"""The gate for a version of DeepSpeed: each ZeRO stage and precision trains as plain torch does, or is refused.

Its silent faults are a class of their own (wrong gradients under ZeRO-2, a lost optimizer, a leaked micro-batch), so
every stage takes 20 steps on two ranks, with two or more micro-batches each and tied weights, and is held against one
process without it: losses, gradient norms, and where the weights end. test_loop.py has fp32 against transformers.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.config import PretrainingConfig
from pipeline.dataset.samples import Samples
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.optimizer import make_optimizer
from pipeline.pretraining.schedule import learning_rate
from pipeline.pretraining.systems import ZERO
from pipeline.pretraining.weights.export import to_hugging_face
from pipeline.store import Artifact
from tests.dataset.reading import training_batches
from tests.pretraining.test_loop import curve_of
from tests.small import Small

STEPS = 20
MICRO_BATCH = 7
"""Of 30 samples a step: three micro-batches for each of two ranks."""
TAKEN = {"max_steps": STEPS, "train_micro_batch_size_per_gpu": MICRO_BATCH}
CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Plain:
    losses: list[float]
    norms: list[float]
    first: dict[str, Tensor]
    last: dict[str, Tensor]


@pytest.fixture(scope="module", params=["fp32", "bf16", "fp16"])
def plain(request: pytest.FixtureRequest, small: Small, tiny: PretrainingConfig) -> tuple[str, Plain]:
    config = tiny.model_copy(update={"max_steps": STEPS, "precision": request.param})
    return request.param, plain_torch(small, config)


def plain_torch(small: Small, config: PretrainingConfig) -> Plain:
    """One process: fp32 masters, gradients summed in fp32 over the micro-batches of both ranks; in fp16 scaled loss."""
    samples, size = Samples(small.store, small.dataset), small.store.manifest(small.dataset).totals["vocabulary_size"]
    model = BertForPreTraining(config, size)
    optimizer = make_optimizer(model, config)
    masters = {name: each.detach().clone() for name, each in model.named_parameters()}
    by_id = {id(each): masters[name].requires_grad_() for name, each in model.named_parameters()}
    for group in optimizer.param_groups:
        group["params"] = [by_id[id(each)] for each in group["params"]]
    first = {name: each.detach().clone() for name, each in masters.items()}
    model.to(DTYPES[config.precision])
    scale = 2.0**16 if config.precision == "fp16" else 1.0
    losses, norms = [], []
    for step in range(STEPS):
        sums = {name: torch.zeros_like(each) for name, each in masters.items()}
        total = 0.0
        batches = [
            batch
            for rank in range(2)
            for batch in training_batches(
                samples, step, train_batch_size=config.train_batch_size, micro_batch_size=MICRO_BATCH,
                seed=config.seed, rank=rank, world=2,
            )
        ]  # fmt: skip
        predictions, sequences = (sum(getattr(b, name) for b in batches) for name in ("predictions", "sequences"))
        for batch in batches:
            found = model(TensorBatch.of(batch, CPU))
            loss = found.masked_lm / predictions + found.next_sentence / sequences
            total += float(loss.detach())
            names, weights = zip(*model.named_parameters(), strict=True)
            for name, gradient in zip(names, torch.autograd.grad(loss * scale, weights), strict=True):
                sums[name] += gradient.float() / scale
        norm = torch.stack([each.square().sum() for each in sums.values()]).sum().sqrt()
        for name, master in masters.items():
            master.grad = sums[name] * min(1.0, config.gradient_clipping / float(norm))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.step()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(masters[name])
        losses.append(total)
        norms.append(float(norm))
    last = {name: each.detach() for name, each in masters.items()}
    exported = [to_hugging_face(each, config, size) for each in (first, last)]
    return Plain(losses, norms, *exported)


FIRST = 5
"""Steps in which rounding has not yet grown, so that a wrong gradient shows at once."""
LOSS = {"fp32": (1e-5, 1e-5), "bf16": (3e-3, 2e-2), "fp16": (3e-4, 1e-3)}
"""Of the first steps, and of all."""
NORM = {"fp32": (1e-4, 1e-4), "bf16": (2e-2, 0.15), "fp16": (2e-3, 1e-2)}
WEIGHTS = {"fp32": 1e-3, "bf16": 0.15, "fp16": 2e-2}
"""Largest distance of the last weights, as a share of the way that they went."""


OTHERWISE: dict[int, dict[str, Any]] = {
    0: {"allgather_bucket_size": 1_000},
    1: {
        "contiguous_gradients": False,
        "reduce_scatter": False,
        "use_multi_rank_bucket_allreduce": False,
        "parameter_alignment": True,
    },
    2: {"overlap_comm": True, "reduce_bucket_size": 3_000, "allgather_bucket_size": 1_000},
    3: {
        "contiguous_gradients": False,
        "overlap_comm": True,
        "reduce_scatter": False,
        "reduce_bucket_size": 3_000,
        "sub_group_size": 2_000,
        "stage3_prefetch_bucket_size": 0,
        "stage3_param_persistence_threshold": 100,
        "stage3_model_persistence_threshold": 500,
        "stage3_max_live_parameters": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_module_granularity_threshold": 1_000,
        "stage3_use_all_reduce_for_fetch_params": True,
        "stage3_allgather_sequential": True,
    },
}
"""What a file of one's own may say, by its stage, as far as can be from the shipped one."""


@pytest.mark.parametrize("stage", ["zero0", "zero1", "zero2", "zero3"])
def test_a_stage_and_precision_train_as_plain_torch_does(
    stage: str, plain: tuple[str, Plain], training: Any, small: Small
) -> None:
    precision, expected = plain
    artifact = training(deepspeed=stage, precision=precision, **TAKEN)
    assert_trained_alike(artifact, precision, expected, small)


@pytest.mark.parametrize("plain", ["bf16"], indirect=True)
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_a_stage_trains_as_plain_torch_does_where_activations_are_computed_again(
    stage: str, plain: tuple[str, Plain], training: Any, small: Small
) -> None:
    precision, expected = plain
    artifact = training(deepspeed=stage, precision=precision, activation_checkpointing=True, **TAKEN)
    assert_trained_alike(artifact, precision, expected, small)


@pytest.mark.parametrize("plain", ["bf16"], indirect=True)
@pytest.mark.parametrize("stage", OTHERWISE)
def test_a_stage_trains_as_plain_torch_does_under_a_file_that_says_all_otherwise(
    stage: int, plain: tuple[str, Plain], training: Any, small: Small, tmp_path: Path
) -> None:
    precision, expected = plain
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage} | OTHERWISE[stage]}))
    artifact = training(deepspeed=str(path), precision=precision, **TAKEN)
    assert small.store.manifest(artifact).producer["zero_stage"] == stage
    assert_trained_alike(artifact, precision, expected, small)


def test_all_that_a_file_may_change_is_changed_under_some_stage() -> None:
    assert {key for keys in ZERO.values() for key in keys} == {"stage"}.union(*OTHERWISE.values())


def assert_trained_alike(artifact: Artifact, precision: str, expected: Plain, small: Small) -> None:
    """As plain torch did, in losses, gradient norms and weights."""
    curve = curve_of(small, artifact)
    losses, norms = ([line[key] for line in curve] for key in ("loss", "gradient_norm"))
    for count, loss, norm in zip((FIRST, STEPS), LOSS[precision], NORM[precision]):
        assert losses[:count] == pytest.approx(expected.losses[:count], rel=loss)
        assert norms[:count] == pytest.approx(expected.norms[:count], rel=norm)
    weights = load_file(small.store.file(artifact, "model/model.safetensors"))
    apart = sum(float((weights[name] - last).square().sum()) for name, last in expected.last.items())
    way = sum(float((last - expected.first[name]).square().sum()) for name, last in expected.last.items())
    assert (apart / way) ** 0.5 < WEIGHTS[precision]
