"""A rank's state is what DeepSpeed holds of it; a micro-batch that doesn't fit is refused, with one that does."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import PhaseConfig, PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.launching.local import launch_local
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.phases import open_samples, plan_of, settled
from pipeline.pretraining.planning import memory
from pipeline.pretraining.planning.memory import check_memory, dealt_size, parameter_count, state_bytes
from pipeline.pretraining.systems import systems_config
from tests.pretraining.planning.state_bytes import VOCABULARY, config_of, systems_of
from tests.small import Small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Bytes that each of two ranks holds, by precision and stage."""
    log = tmp_path_factory.mktemp("state") / "log"
    status = launch_local("tests.pretraining.planning.state_bytes", Path(), 2, log, lambda: None)
    assert status == 0, log.read_text(encoding="utf-8")
    found: dict[str, int] = json.loads(re.findall(r"^\{.*\}$", log.read_text(encoding="utf-8"), re.MULTILINE)[-1])
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stage", range(4))
def test_a_ranks_state_is_what_deepspeed_holds_with_buckets_or_without(
    precision: str, stage: int, held: dict[str, int]
) -> None:
    config = config_of(precision)
    state = state_bytes(parameter_count(config, VOCABULARY), config, systems_of(stage), 2)
    assert 0.98 * (state.total - state.buckets) <= held[f"{precision} {stage}"] <= 1.05 * state.total


def test_a_checkpoints_copy_is_12_bytes_of_each_number_that_a_rank_owns_and_lies_on_the_host() -> None:
    config = config_of("bf16")
    for stage in range(4):
        state = state_bytes(1_000, config, systems_of(stage), 2)
        assert state.checkpoint == 12 * 500
        assert state.on("cuda") == state.total == state.on("cpu") - state.checkpoint


def test_parameters_are_counted_without_a_model(tiny: PretrainingConfig) -> None:
    for config in (tiny, PretrainingConfig(name="t", hidden_size=96, num_hidden_layers=3, intermediate_size=100)):
        model = BertForPreTraining(config, 150)
        assert parameter_count(config, 150) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("batch", "micro", "world", "size"), [(30, 32, 2, 15), (30, 4, 2, 4), (256, 64, 8, 32), (1, 9, 4, 1)]
)
def test_a_micro_batch_is_as_large_as_a_step_is_dealt(batch: int, micro: int, world: int, size: int) -> None:
    assert dealt_size(batch, micro, world) == size


def test_a_micro_batch_that_fits_only_while_no_checkpoint_is_taken_does_not_fit(
    small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refused(small, tiny, 1e3, monkeypatch)
    assert told is not None
    held = float(re.findall(r"([\d.]+) of them for the model's state", told)[0]) * 1e9
    parameters = parameter_count(tiny, 150)
    assert held == pytest.approx((4 + 8 + 12) * parameters, rel=0.01), "gradients, moments and the checkpoint's copy"


def refused(small: Small, config: PretrainingConfig, free: float, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What is said on a device with so many free bytes."""
    monkeypatch.setattr(memory, "available_bytes", lambda *_: free)
    config = settled(config, small.dataset, small.store)
    samples = open_samples(config, small.dataset, small.store)
    plan = plan_of(config, samples, world=1, device="cpu")
    model = BertForPreTraining(config, 150)
    state = torch.random.get_rng_state()
    where: dict[str, Any] = {"systems": systems_config("zero0"), "world": 1, "ranks_here": 1, "device": CPU}
    try:
        check_memory(model, config, plan, **where)
    except ConfigError as error:
        return str(error)
    finally:
        assert torch.equal(torch.random.get_rng_state(), state)
    return None


def test_a_micro_batch_that_does_not_fit_is_refused_with_the_largest_that_does(
    small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.model_copy(update={"train_batch_size": 64, "train_micro_batch_size_per_gpu": 64})
    told = refused(small, config, 3e6, monkeypatch)
    assert told is not None
    assert told.startswith("A micro-batch takes about 0.01")
    assert ": 64 samples of up to 48 tokens are too many." in told
    fitting = int(re.findall(r"per_gpu to (\d+), which fits", told)[0])
    assert 0 < fitting < 64
    sizes = 64 // -(-64 // fitting), 2 * fitting  # a step is dealt into equal ones
    fits, larger = (config.model_copy(update={"train_micro_batch_size_per_gpu": size}) for size in sizes)
    assert refused(small, fits, 3e6, monkeypatch) is None
    assert refused(small, larger, 3e6, monkeypatch) is not None


def test_the_phase_that_does_not_fit_is_named_and_where_no_sample_fits_what_else_to_do(
    small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = (PhaseConfig(share=0.5, max_seq_length=8, train_micro_batch_size_per_gpu=1), PhaseConfig(share=0.5))
    told = refused(small, tiny.model_copy(update={"phases": phases}), 1.3e6, monkeypatch)
    assert told is not None
    assert told.startswith("pretraining.phases: a micro-batch of phase 2 takes about ")
    told = refused(small, tiny, 1e3, monkeypatch)
    assert told is not None
    assert "Not one sample fits: take a higher ZeRO stage (pretraining.deepspeed), more machines, a smaller" in told


def test_a_container_leaves_what_its_limit_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 < memory.available_bytes(CPU, 4) * 4 < 1e15
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.available_bytes(CPU, 2) == 1_500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU, 2) > 1_500


def test_importing_it_loads_no_torch() -> None:
    modules = "pipeline.pretraining.planning.forecast, pipeline.pretraining.planning.summary"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
