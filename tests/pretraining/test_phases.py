"""Shares, steps and tokens come to the same plan; what can't be trained is refused before it starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, step_batches
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.errors import ConfigError, UnknownReference
from pipeline.pretraining.job import SCHEMA, Job, pretraining_recipe
from pipeline.pretraining.phases import open_samples, plan_of, settled, steps_for_tokens, steps_of
from pipeline.store import Artifact, Recipe, Store
from tests.dataset.stored import rows_of, stored
from tests.small import Small


def config(**values: Any) -> PretrainingConfig:
    return PretrainingConfig.model_validate({"name": "t", "train_batch_size": 8, "max_steps": 10} | values)


def by_tokens(**values: Any) -> PretrainingConfig:
    return config(**{"max_steps": None} | values)


@pytest.fixture
def short(store: Store) -> Artifact:
    return stored(store, [rows_of([100] * 60 + [50] * 60)], name="short")


@pytest.fixture
def long(store: Store) -> Artifact:
    return stored(store, [rows_of([400] * 40 + [200] * 40)], name="long", max_seq_length=512)


def lengths(batches: list[Batch]) -> set[int]:
    return {int(length) for batch in batches for length in batch.lengths}


def test_without_phases_the_recipe_and_each_batch_are_those_of_one_dataset_and_its_steps(small: Small) -> None:
    plain = config(max_steps=5)
    assert settled(plain, small.dataset, small.store) == plain
    recipe = pretraining_recipe(plain, small.dataset, small.store)
    assert recipe == Recipe("pretraining", plain, SCHEMA, parents=(small.dataset,))
    plan = plan_of(plain, open_samples(plain, small.dataset, small.store), world=2, device="cpu")
    steps = Steps([(Samples(small.store, small.dataset), 1.0)], train_batch_size=8, seed=plain.seed)
    assert len(plan) == 5
    for step in range(5):
        ours = plan.batches(step, 1)
        theirs = step_batches(
            steps, step, micro_batch_size=plain.train_micro_batch_size_per_gpu, rank=1, world=2, capacity=None
        )
        for one, other in zip(ours, theirs, strict=True):
            assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_shares_and_the_steps_that_they_make_are_one_training(long: Artifact, store: Store) -> None:
    shares = [{"share": 0.9, "max_seq_length": 128}, {"share": 0.1, "train_micro_batch_size_per_gpu": 2}]
    steps = [{"steps": 9, "max_seq_length": 128}, {"steps": 1}]
    one, other = (pretraining_recipe(config(phases=phases), long, store) for phases in (shares, steps))
    assert one.fingerprint == other.fingerprint
    assert pretraining_recipe(config(), long, store).fingerprint != one.fingerprint


def test_a_budget_of_tokens_is_the_training_of_as_many_steps_as_it_pays_for(short: Artifact, store: Store) -> None:
    one_step = 8 * 75
    tokens = settled(by_tokens(max_tokens=7 * one_step + one_step // 2), short, store)
    assert tokens == config(max_steps=7)
    assert pretraining_recipe(by_tokens(max_tokens=7 * one_step), short, store) == pretraining_recipe(
        config(max_steps=7), short, store
    )


def test_tokens_of_a_phase_are_counted_as_it_cuts_and_mixes_them(short: Artifact, long: Artifact, store: Store) -> None:
    phases = [
        {"share": 0.5, "max_seq_length": 128},  # all are cut: 128 tokens
        {"share": 0.25, "train_batch_size": 4},  # 300
        {"share": 0.25, "datasets": [{"weight": 3}, {"dataset": "dataset/short"}]},  # (3 · 300 + 75) / 4
    ]
    made = settled(by_tokens(max_tokens=100_000, phases=phases), long, store)
    assert [phase.steps for phase in made.phases] == [50_000 // (8 * 128), 25_000 // (4 * 300), 25_000 // (8 * 243.75)]
    assert made.steps == sum(steps_of(made))


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=6).map(lambda parts: [part / sum(parts) for part in parts]),
    st.integers(600, 1_000_000),
)
def test_steps_of_shares_add_up_to_the_budget_and_each_is_within_one_of_its_share(
    shares: list[float], budget: int
) -> None:
    made = steps_of(config(max_steps=budget, phases=[{"share": share} for share in shares]))
    assert sum(made) == budget
    assert all(abs(steps - share * budget) <= 1 for steps, share in zip(made, shares, strict=True))


@given(
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(lambda parts: [part / sum(parts) for part in parts]),
    means=st.lists(st.floats(5, 512), min_size=4, max_size=4),
    tokens=st.integers(200_000, 10**12),
)
def test_a_budget_of_tokens_is_never_overspent_and_less_than_a_step_of_each_phase_is_left(
    shares: list[float], means: list[float], tokens: int
) -> None:
    made = by_tokens(max_tokens=tokens, phases=[{"share": share} for share in shares])
    costs = [8 * mean for mean in means[: len(shares)]]
    spent = sum(steps * cost for steps, cost in zip(steps_for_tokens(made, means[: len(shares)]), costs, strict=True))
    assert tokens * (1 + 1e-9) >= spent > tokens - sum(costs) - 1


def test_datasets_that_phases_name_become_parents_and_which_phase_has_which_counts(
    short: Artifact, long: Artifact, store: Store
) -> None:
    both = {"steps": 5, "datasets": [{}, {"dataset": "dataset/short@latest"}]}
    own, other = {"steps": 5, "datasets": [{}]}, {"steps": 5, "datasets": [{"dataset": str(short)}]}
    recipes = [pretraining_recipe(config(phases=phases), long, store) for phases in ([both, own], [both, other])]
    assert [recipe.parents for recipe in recipes] == [(long, short)] * 2
    assert recipes[0].fingerprint != recipes[1].fingerprint
    again = {"steps": 5, "datasets": [{"dataset": str(long)}]}  # the own one by its name
    assert pretraining_recipe(config(phases=[both, again]), long, store).fingerprint == recipes[0].fingerprint


def test_the_ranks_are_told_of_all_datasets_and_train_the_same_recipe(
    short: Artifact, long: Artifact, store: Store, tmp_path: Path
) -> None:
    given = config(phases=[{"steps": 10, "datasets": [{}, {"dataset": "dataset/short"}]}])
    job = Job(settled(given, long, store), long, store.settings, tmp_path, others=(short,))
    read = Job.read(job.write())
    assert read == job
    assert read.recipe == pretraining_recipe(given, long, store)
    assert read.recipe.parents == (long, short)


def test_a_phase_has_the_datasets_the_lengths_and_the_batch_that_it_says(
    short: Artifact, long: Artifact, store: Store
) -> None:
    phases = [
        {"steps": 2, "datasets": [{"dataset": "dataset/short"}]},
        {"steps": 3, "max_seq_length": 150, "train_batch_size": 4, "train_micro_batch_size_per_gpu": 1},
        {"steps": 5},
    ]
    made = settled(config(phases=phases), long, store)
    plan = plan_of(made, open_samples(made, long, store), world=1, device="cpu")
    steps = [plan.batches(step, 0) for step in range(10)]
    assert [sum(batch.sequences for batch in step) for step in steps] == [8, 8, 4, 4, 4, 8, 8, 8, 8, 8]
    assert set().union(*map(lengths, steps[:2])) == {100, 50}
    assert set().union(*map(lengths, steps[2:5])) == {150}
    assert set().union(*map(lengths, steps[5:])) == {400, 200}
    assert [len(step) for step in steps] == [1, 1, 4, 4, 4, 1, 1, 1, 1, 1]


def test_what_can_not_be_trained_is_refused_in_a_sentence(short: Artifact, long: Artifact, store: Store) -> None:
    named = [{"share": 1, "datasets": [{"dataset": "dataset/short"}], "max_seq_length": 256}]
    twice = [{"share": 1, "datasets": [{"dataset": "dataset/short"}, {"dataset": str(short)}]}]
    for wrong, dataset, told in (
        (config(max_position_embeddings=256), long, "has samples of up to 512 tokens, over pretraining.max_position_"),
        (
            config(phases=[{"share": 1, "max_seq_length": 256}]),
            short,
            "phase 1 has max_seq_length 256, and dataset/short",
        ),
        (config(phases=named), long, "phase 1 has max_seq_length 256, and dataset/short"),
        (
            config(phases=[{"share": 0.99}, {"share": 0.01}]),
            long,
            "phase 2 has the share 0.01 of 10 steps, which is no",
        ),
        (by_tokens(max_tokens=500), short, "is 500, less than one step of 8 samples of 75.0 tokens (600)"),
        (
            by_tokens(max_tokens=1_100, phases=[{"share": 0.5}, {"share": 0.5}]),
            short,
            "is 1,100, of which phase 1 has 550, less than one step of 8 samples",
        ),
        (config(phases=twice), long, f"a phase names {short} twice"),
    ):
        with pytest.raises(ConfigError) as caught:
            settled(wrong, dataset, store)
        assert told in str(caught.value)


def test_datasets_of_other_pairs_or_words_are_refused_before_anything_starts(
    short: Artifact, small: Small, store: Store
) -> None:
    stored(store, [rows_of([50] * 30, pairs="none")], name="single", pairs="none")
    with pytest.raises(ConfigError, match=r"^dataset/single@\w+ has pairs = 'none', dataset/short@\w+ 'nsp'"):
        settled(config(phases=[{"share": 1, "datasets": [{}, {"dataset": "dataset/single"}]}]), short, store)
    stored(small.store, [rows_of([50] * 30)], name="of-no-vocabulary")
    phases = [{"share": 0.5}, {"share": 0.5, "datasets": [{"dataset": "dataset/of-no-vocabulary"}]}]
    with pytest.raises(ConfigError, match=r"^dataset/of-no-vocabulary@\w+ was made with another vocabulary than"):
        settled(config(phases=phases), small.dataset, small.store)


def test_a_phase_of_what_is_no_dataset_is_refused(small: Small) -> None:
    phases = [{"share": 1, "datasets": [{"dataset": "corpus/small"}]}]
    with pytest.raises(UnknownReference, match="names corpus/small, a corpus, where a dataset is wanted"):
        settled(config(phases=phases), small.dataset, small.store)
