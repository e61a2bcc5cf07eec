"""The unigram floor: what it is, and that a training that doesn't pass it ends."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import IGNORED, Batch
from pipeline.errors import TrainingError
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.staying_alive.floor import LAST_STEPS, UnigramFloor, entropy_of
from pipeline.store import Store
from tests.small import Small

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def batch_of(labels: npt.NDArray[np.int64]) -> Batch:
    """A batch of which only the labels matter, with one of no weight."""
    none = np.empty(0, np.int64)
    return Batch(none, none, none, none.astype(np.int32), none, np.append(labels, IGNORED), none, none, none)


def floor_at(step: int | None, *, labels_a_step: int = 5_000, losses: tuple[float, ...] = ()) -> UnigramFloor:
    """Over steps whose labels are drawn evenly from a quarter of the vocabulary."""

    def make(number: int) -> list[Batch]:
        drawn = np.random.default_rng(number).integers(0, SIZE // 4, labels_a_step)
        return [batch_of(half) for half in np.split(drawn, 2)]

    return UnigramFloor(step, make, vocabulary_size=SIZE, device=torch.device("cpu"), losses=losses)


@given(arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 1_000)).filter(lambda counts: counts.any()))
def test_the_entropy_lies_between_none_and_that_of_an_even_choice_but_for_the_correction(
    counts: npt.NDArray[np.int64],
) -> None:
    kinds = np.count_nonzero(counts)
    correction = (kinds - 1) / (2 * counts.sum())
    assert -1e-9 <= entropy_of(counts) - correction <= math.log(kinds) + 1e-9


def test_the_correction_brings_a_small_sample_near_the_truth() -> None:
    generator = np.random.default_rng(1)
    share = generator.dirichlet(np.full(1_000, 0.5))
    truth = float(-(share * np.log(share)).sum())
    drawn = [np.bincount(generator.choice(1_000, 3_000, p=share), minlength=1_000) for _ in range(20)]
    plain = [float(-(c[c > 0] / 3_000 * np.log(c[c > 0] / 3_000)).sum()) for c in drawn]
    corrected = [entropy_of(counts) for counts in drawn]
    assert abs(np.mean(corrected) - truth) < abs(np.mean(plain) - truth) / 3


def test_a_loss_above_the_floor_at_its_step_ends_the_training_with_both_figures_and_what_to_try() -> None:
    floor = floor_at(10)
    for step in range(9):
        floor.take(step, 4.0, 5_000)
    with pytest.raises(TrainingError) as caught:
        floor.take(9, 4.0, 5_000)
    assert "After 10 steps the masked-LM loss is 4.000 (the mean of the last 10)" in str(caught.value)
    assert f"the entropy of the masked tokens' frequencies {math.log(SIZE // 4):.3f}" in str(caught.value)
    assert "pretraining.warmup_share" in str(caught.value)
    assert "a later pretraining.floor_step" in str(caught.value)


def test_a_loss_that_is_not_a_number_has_not_passed_the_floor() -> None:
    with pytest.raises(TrainingError):
        floor_at(1).take(0, float("nan"), 5_000)


def test_a_loss_under_the_floor_goes_on_and_is_never_asked_for_again() -> None:
    floor = floor_at(10)
    for step in range(10):
        floor.take(step, 2.0, 5_000)
    floor.take(10, 100.0, 5_000)


def test_without_a_floor_step_any_loss_goes_on() -> None:
    floor = floor_at(None)
    for step in range(20):
        floor.take(step, 100.0, 5_000)


def test_the_last_steps_count_those_before_a_resume_among_them() -> None:
    good = (1.0,) * LAST_STEPS
    floor_at(300, losses=good).take(299, 100.0, 5_000)
    with pytest.raises(TrainingError, match=f"the mean of the last {LAST_STEPS}"):
        floor_at(300, losses=(*good, *((100.0,) * LAST_STEPS))).take(299, 1.0, 5_000)


def test_a_training_that_learns_nothing_ends_at_its_floor_step_and_publishes_nothing(
    fresh: Store, small: Small, tiny: PretrainingConfig
) -> None:
    config = tiny.model_copy(update={"learning_rate": 1e-9, "floor_step": 6})
    with pytest.raises(TrainingError, match="After 6 steps the masked-LM loss is 5"):
        pretrain(config, small.dataset, store=fresh)
    assert not fresh.versions("pretraining")
