"""A plan counts what the training will do, measures what it can, and says what it assumes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.config import Preset, PretrainingConfig
from pipeline.dataset.steps import Steps
from pipeline.errors import ConfigError
from pipeline.preset import load_preset
from pipeline.pretraining.phases import open_samples, plan_of, settled
from pipeline.pretraining.planning import rehearsal
from pipeline.pretraining.planning.costing import Costs, costs_of
from pipeline.pretraining.planning.forecast import TrainingPlan, plan_training
from pipeline.pretraining.planning.lengths import Lengths
from pipeline.pretraining.planning.rehearsal import (
    Needed,
    made_up_batch,
    measured_speed,
    needed_memory,
    rehearsed_model,
)
from pipeline.pretraining.planning.summary import phase_rows, plan_rows, short
from tests.small import Small

CPU = torch.device("cpu")


def preset_of(config: PretrainingConfig, *overrides: str) -> Preset:
    """The shipped tiny one, with another training."""
    return load_preset("tiny", overrides).model_copy(update={"pretraining": config})


def told(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    return {row["measure"]: row["value"] for row in rows}


PHASES = [
    {"share": 0.75, "max_seq_length": 24, "train_micro_batch_size_per_gpu": 4},
    {"share": 0.25, "train_batch_size": 10},
]


@pytest.fixture
def planned(small: Small, tiny: PretrainingConfig) -> TrainingPlan:
    config = PretrainingConfig.model_validate(tiny.model_dump() | {"phases": PHASES})
    return plan_training(preset_of(config), small.store, dataset=small.dataset, devices=2)


COSTS = Costs("a made-up device", (1_000.0, 500.0), 0.5, 1e9, (2e9, 3e9), (7, 8), 5e9, "cpu")


def test_it_counts_the_steps_samples_tokens_and_epochs_that_the_training_takes(
    planned: TrainingPlan, small: Small
) -> None:
    config = settled(planned.config, small.dataset, small.store)
    plan = plan_of(config, open_samples(config, small.dataset, small.store), world=2, device="cpu")
    assert [phase.steps for phase in planned.phases] == [9, 3]
    assert planned.steps == len(plan) == 12
    assert planned.samples == 9 * 30 + 3 * 10
    assert planned.epochs == pytest.approx(300 / small.store.manifest(small.dataset).totals["rows"]["train"])
    for number, phase in enumerate(planned.phases):
        steps: Steps = plan.steps[number]
        rows = np.concatenate([steps.looked_at(step).lengths for step in range(40)])
        assert phase.lengths.mean == pytest.approx(rows.mean(), rel=0.02)
    assert [phase.micro_batch_size for phase in planned.phases] == [4, 5]


def test_checkpoints_that_are_kept_for_good_take_room_too(planned: TrainingPlan) -> None:
    assert planned.checkpoints == 3
    every = planned.config.model_copy(update={"checkpoint_every": 2, "keep_every": 3})
    assert replace(planned, config=every).checkpoints == 3 + 2, "after steps 6 and 12"


def test_hours_and_cost_follow_from_the_speed_the_update_and_the_devices(planned: TrainingPlan) -> None:
    means = [phase.lengths.mean for phase in planned.phases]
    seconds = [9 * (30 * means[0] / 1_000 / 2 + 0.5), 3 * (10 * means[1] / 500 / 2 + 0.5)]
    assert COSTS.hours(planned) == pytest.approx([each / 3_600 for each in seconds])
    figures = told(plan_rows(planned, COSTS, price=7_200.0))
    assert float(figures["cost"].replace(",", "")) == pytest.approx(sum(seconds) * 2 * 2, rel=1e-3)
    assert figures["memory a device, passes"] == "3 GB"
    assert figures["steps"] == "12"
    assert [row["hours"] for row in phase_rows(planned, COSTS)] == [f"{each / 3_600:,.2f}" for each in seconds]


def test_a_checkpoints_copy_counts_with_the_rest_on_a_cpu_and_on_a_gpus_host_beside_it(planned: TrainingPlan) -> None:
    state, gb = planned.state, 1e9
    on_cpu = told(plan_rows(planned, COSTS, None))
    on_gpu = told(plan_rows(planned, replace(COSTS, device_type="cuda"), None))
    assert on_cpu["memory a device, checkpoint"] == on_gpu["memory of its host, checkpoint"]
    assert on_cpu["memory a device, checkpoint"] == f"{state.checkpoint / gb:.3g} GB"
    assert on_cpu["memory a device, together"] == f"{(state.total + state.checkpoint + 3e9) / gb:.3g} GB"
    assert on_gpu["memory a device, together"] == f"{(state.total + 3e9) / gb:.3g} GB"


def test_a_speed_from_elsewhere_is_scaled_by_the_flops_of_the_other_phases(planned: TrainingPlan) -> None:
    costs = costs_of(planned, tokens_per_second=1_000)
    flops = [phase.flops_a_token for phase in planned.phases]
    assert costs.tokens_per_second == pytest.approx([1_000, 1_000 * flops[0] / flops[1]])
    assert costs.share_of_peak(planned) is None
    assert "share of the peak" not in told(plan_rows(planned, costs, None))


def test_without_a_dataset_it_says_what_it_assumes_and_of_a_corpus_how_much_there_will_be(
    small: Small, tiny: PretrainingConfig
) -> None:
    preset = preset_of(tiny, "dataset.max_seq_length=48", "vocabulary.size=150")
    alone = plan_training(preset, small.store, dataset=None)
    assert alone.epochs is None
    costs = Costs("a made-up device", (1_000.0,), 0.5, 1e9, (2e9,), (7,), 5e9, "cpu")
    assert told(plan_rows(alone, costs, None))["disk, dataset"] == "unknown"
    assumed = plan_training(preset, small.store, dataset=None, corpus=small.corpus)
    assert assumed.data.known_from.startswith(f"assumed of {small.corpus}: 4.5 characters a token, samples ")
    assert assumed.data.rows is not None
    assert assumed.data.rows > 0


def test_a_budget_of_tokens_is_planned_with_and_without_a_dataset(small: Small, tiny: PretrainingConfig) -> None:
    config = PretrainingConfig.model_validate(tiny.model_dump() | {"max_steps": None, "max_tokens": 50_000})
    for dataset in (small.dataset, None):
        plan = plan_training(preset_of(config, "dataset.max_seq_length=48"), small.store, dataset=dataset)
        assert 50_000 - 30 * 48 < plan.tokens <= 50_000


def test_what_the_training_would_refuse_is_refused(small: Small, tiny: PretrainingConfig) -> None:
    few_positions = preset_of(tiny.model_copy(update={"max_position_embeddings": 32}))
    with pytest.raises(ConfigError, match="up to 48 tokens, over pretraining.max_position_embeddings 32"):
        plan_training(few_positions, small.store, dataset=small.dataset)
    misspelt = load_preset("tiny", ["pretraining.schedule={ name = 'linaer' }"])
    with pytest.raises(ConfigError, match="There is no schedule 'linaer'. Did you mean 'linear'"):
        plan_training(misspelt, small.store, dataset=None)


def test_a_rehearsal_measures_speed_and_what_samples_need_beside_the_model(
    tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.1)
    lengths = Lengths.of(np.array([16, 32, 48]))
    speed = measured_speed(tiny, 150, lengths, 0.15, 8, CPU)
    assert speed.tokens_per_second > 0
    assert speed.update_seconds > 0
    wide = tiny.model_copy(update={"num_hidden_layers": 4})
    needed, twice = (needed_memory(rehearsed_model(each, 150, CPU), lengths, 0.15, CPU) for each in (tiny, wide))
    assert needed.a_sample < twice.a_sample < 2 * needed.a_sample
    assert needed.samples_in(needed.of(10) + 1) == 10
    assert needed.samples_in(0) == 0
    assert Needed(always=10.0, a_sample=0.0).samples_in(free=1e9) > 0, "a measurement may find nothing"


def test_a_made_up_batch_has_the_lengths_and_predictions_that_were_asked_for() -> None:
    batch = made_up_batch([5, 9, 6], 40, 0.2)
    assert batch.lengths.tolist() == [5, 9, 6]
    assert batch.position_ids.tolist() == [*range(5), *range(9), *range(6)]
    assert batch.predictions == 4
    assert (batch.masked_lm_labels == batch.input_ids[batch.masked_positions]).all()
    assert batch.input_ids.max() < 40


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (975_362, "975,362"), (1_820_000, "1.82 M"), (40.7e9, "40.7 G"), (2.3e16, "23,000 T")],
)
def test_large_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text
