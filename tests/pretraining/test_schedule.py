"""The learning rate, by hand and as what holds for any training."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.pretraining.schedule import SCHEDULES, learning_rate, schedule_of


def config(**values: object) -> PretrainingConfig:
    return PretrainingConfig.model_validate({"name": "t", "learning_rate": 8.0} | values)


def rates(steps: int, **values: object) -> list[float]:
    """Of all steps, and the one after the last."""
    return [learning_rate(config(max_steps=steps, **values), step) for step in range(steps + 1)]


def test_it_rises_to_the_peak_over_the_warmup_and_falls_to_zero_one_step_after_the_last() -> None:
    assert rates(8, warmup_share=0.5) == pytest.approx([2, 4, 6, 8, 8, 6, 4, 2, 0])


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert rates(4, warmup_share=0)[:4] == pytest.approx([8, 6, 4, 2])


def test_no_step_of_a_training_has_a_rate_of_zero_or_above_the_peak() -> None:
    found = rates(100, warmup_share=0.99)[:100]
    assert min(found) > 0
    assert max(found) == 8.0


def test_a_cosine_falls_slowly_at_both_ends_and_is_halfway_at_half_the_peak() -> None:
    assert rates(4, warmup_share=0, schedule={"name": "cosine"}) == pytest.approx(
        [8, 4 + 8**0.5 * 2 / 2, 4, 4 - 8**0.5 * 2 / 2, 0]
    )


def test_warmup_stable_decay_holds_the_peak_and_falls_over_the_last_share_as_one_minus_a_root() -> None:
    schedule = {"name": "warmup_stable_decay", "decay_share": 0.5}
    falling = [8 * (1 - math.sqrt(gone / 4)) for gone in range(5)]
    assert rates(10, warmup_share=0.2, schedule=schedule) == pytest.approx([4, 8, 8, 8, 8, 8, *falling])


def test_a_constant_stays_at_the_peak() -> None:
    assert rates(4, warmup_share=0.5, schedule={"name": "constant"}) == [4, 8, 8, 8, 8]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 10_000),
    share=st.floats(0, 0.99),
    place=st.floats(0, 1),
)
def test_after_the_warmup_no_schedule_rises_or_leaves_the_range_and_those_that_decay_end_at_zero(
    name: str, steps: int, share: float, place: float
) -> None:
    values = config(max_steps=steps, warmup_share=share, schedule={"name": name})
    step = min(steps - 1, values.warmup_steps + int(place * (steps - values.warmup_steps)))
    here, after = (learning_rate(values, each) for each in (step, step + 1))
    assert 0 < here <= 8.0
    assert after <= here
    assert learning_rate(values, steps) == pytest.approx(8.0 if name == "constant" else 0.0, abs=1e-12)


def test_a_schedule_or_keyword_that_is_not_there_is_refused() -> None:
    for schedule, told in (
        ({"name": "cosin"}, "There is no schedule 'cosin'. Did you mean 'cosine'?"),
        ({"name": "linear", "decay_share": 0.1}, "The schedule 'linear' has no keyword 'decay_share'. It takes none."),
        ({"name": "warmup_stable_decay", "decay_share": 0}, "decay_share is 0: Input should be greater than 0"),
    ):
        with pytest.raises(ConfigError) as caught:
            schedule_of(config(schedule=schedule))
        assert told in str(caught.value)
