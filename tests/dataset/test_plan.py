"""A step's number says its phase, its samples and their length; what can't be trained together is refused."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.dataset.batches import Batch
from pipeline.dataset.plan import Phase, Plan
from pipeline.dataset.samples import Samples
from pipeline.errors import ConfigError
from pipeline.store import Store
from pipeline.vocabulary.tokenizer import SPECIALS
from tests.dataset.byhand import vocabulary_of
from tests.dataset.stored import rows_of, stored


def samples_of(store: Store, lengths: Sequence[int], name: str = "by-hand", **config: object) -> Samples:
    return Samples(store, stored(store, [rows_of(lengths)], name=name, **config))


def phase(*mixed: Samples, steps: int, batch: int = 8, max_seq_length: int | None = None) -> Phase:
    return Phase(tuple((each, 1) for each in mixed), steps, batch, 4, max_seq_length)


def plan_of(*phases: Phase, has_fixed_buffers: bool = False, world: int = 1) -> Plan:
    return Plan(phases, seed=5, has_fixed_buffers=has_fixed_buffers, world=world)


def step(plan: Plan, number: int, world: int = 1) -> list[Batch]:
    return [batch for rank in range(world) for batch in plan.batches(number, rank)]


def names(batches: list[Batch]) -> list[tuple[int, int]]:
    """Which samples they have, whoever has them."""
    return sorted(
        (int(dataset), int(index))
        for batch in batches
        for dataset, index in zip(batch.datasets, batch.indices)
        if dataset >= 0
    )


def test_short_then_long_samples_come_from_one_dataset_cut_for_the_first(store: Store) -> None:
    samples = samples_of(store, [512] * 60 + [100] * 60, max_seq_length=512)
    plan = plan_of(phase(samples, steps=9, max_seq_length=128), phase(samples, steps=1, batch=4))
    assert len(plan) == 10
    for number in range(9):
        lengths = np.concatenate([batch.lengths for batch in step(plan, number)])
        assert len(lengths) == 8
        assert set(lengths.tolist()) <= {100, 128}
    last = np.concatenate([batch.lengths for batch in step(plan, 9)])
    assert len(last) == 4
    assert set(last.tolist()) <= {100, 512}


def test_short_then_long_samples_come_from_two_datasets(store: Store) -> None:
    short = samples_of(store, [120] * 40, name="short")
    long = samples_of(store, [400] * 40, name="long", max_seq_length=512)
    plan = plan_of(phase(short, steps=3), phase(long, steps=2))
    lengths = [set(np.concatenate([batch.lengths for batch in step(plan, number)]).tolist()) for number in range(5)]
    assert lengths == [{120}] * 3 + [{400}] * 2


def test_a_phase_has_an_order_and_masks_of_its_own(store: Store) -> None:
    samples = samples_of(store, [50] * 64)
    plan = plan_of(phase(samples, steps=8), phase(samples, steps=8))
    seen = [[names(step(plan, number)) for number in range(first, first + 8)] for first in (0, 8)]
    for each in seen:  # an epoch each
        assert sorted(sample for batch in each for sample in batch) == [(0, row) for row in range(64)]
    assert seen[0] != seen[1]
    masked = []
    for first in (0, 8):
        batches = [batch for number in range(first, first + 8) for batch in step(plan, number)]
        sample = {}
        for batch in batches:
            positions = batch.masked_positions
            sample |= {
                int(row): (positions[positions // 50 == at] % 50).tolist() for at, row in enumerate(batch.indices)
            }
        masked.append(sample)
    assert sum(masked[0][row] == masked[1][row] for row in range(64)) < 5


@pytest.mark.parametrize("world", [2, 3, 4, 8])
def test_each_step_of_a_plan_is_the_same_for_any_number_of_ranks(store: Store, world: int) -> None:
    a, b = (samples_of(store, [30 + n % 90 for n in range(100)], name=name) for name in "ab")
    phases = phase(a, b, steps=3, max_seq_length=64), phase(a, steps=2, batch=5)
    for has_fixed_buffers in (False, True):
        alone, ranks = (plan_of(*phases, has_fixed_buffers=has_fixed_buffers, world=each) for each in (1, world))
        for number in range(5):
            assert names(step(ranks, number, world)) == names(step(alone, number))


def test_a_phase_has_one_shape_of_buffers_and_the_next_its_own(store: Store) -> None:
    samples = samples_of(store, [30 + n % 400 for n in range(300)], max_seq_length=512)
    plan = plan_of(phase(samples, steps=4, max_seq_length=128), phase(samples, steps=4), has_fixed_buffers=True)
    shapes = [{len(batch.input_ids) for batch in step(plan, number)} for number in range(8)]
    assert len(set(map(tuple, shapes[:4]))) == len(set(map(tuple, shapes[4:]))) == 1
    assert max(shapes[0]) < max(shapes[4])


@pytest.mark.parametrize("number", [-1, 5, 500])
def test_a_step_beyond_the_last_is_none(store: Store, number: int) -> None:
    plan = plan_of(phase(samples_of(store, [20] * 30), steps=5))
    with pytest.raises(IndexError, match=f"^The plan has 5 steps; step {number} is none of them"):
        plan.batches(number, 0)


def test_a_length_without_room_for_a_pair_is_refused(store: Store) -> None:
    samples = samples_of(store, [20] * 30)
    with pytest.raises(ConfigError, match="^A phase has max_seq_length 7: too short for a pair. Give 8 or more"):
        plan_of(phase(samples, steps=5, max_seq_length=7))
    assert len(plan_of(phase(samples, steps=5, max_seq_length=8))) == 5


def test_a_plan_of_nothing_is_refused(store: Store) -> None:
    samples = samples_of(store, [20] * 30)
    for phases, told in (
        ((), "A plan needs a phase; there is none."),
        ((phase(samples, steps=0),), "A phase has 0 steps of 8 samples: give 1 or more of both."),
        ((phase(samples, steps=3, batch=0),), "A phase has 3 steps of 0 samples: give 1 or more of both."),
        ((phase(steps=3),), "A phase needs a dataset; there is none."),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(told)}"):
            plan_of(*phases)


def test_phases_of_different_vocabularies_or_weights_not_positive_are_refused(store: Store) -> None:
    first, other = (
        samples_of(
            store, [20] * 30, name=f"of-{size}", vocabulary=vocabulary_of(store, [*SPECIALS, *map(str, range(size))])
        )
        for size in (30, 31)
    )
    with pytest.raises(ConfigError, match=r"^dataset/of-31@\w+ was made with another vocabulary than dataset/of-30@"):
        plan_of(phase(first, steps=5), phase(other, steps=5))
    with pytest.raises(ConfigError, match=r"^dataset/of-30@\w+ is mixed in with the weight -1"):
        plan_of(phase(first, steps=5), Phase(((first, -1),), 5, 8, 4))
