"""The learning rate, by hand."""

import pytest

from pipeline.config import PretrainingConfig
from pipeline.pretraining.schedule import learning_rate


def config(**values: float) -> PretrainingConfig:
    return PretrainingConfig.model_validate({"name": "t", "learning_rate": 8.0} | values)


def test_it_rises_to_the_peak_over_the_warmup_and_falls_to_zero_one_step_after_the_last() -> None:
    rates = [learning_rate(config(warmup_share=0.5, max_steps=8), step) for step in range(9)]
    assert rates == pytest.approx([2, 4, 6, 8, 8, 6, 4, 2, 0])


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert [learning_rate(config(warmup_share=0, max_steps=4), step) for step in range(4)] == pytest.approx(
        [8, 6, 4, 2]
    )


def test_no_step_of_a_training_has_a_rate_of_zero_or_above_the_peak() -> None:
    rates = [learning_rate(config(warmup_share=0.99, max_steps=100), step) for step in range(100)]
    assert min(rates) > 0
    assert max(rates) == 8.0
