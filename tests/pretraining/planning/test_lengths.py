"""A mix of lengths is counted, cut, mixed and stood for by a few samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import DatasetConfig, PhaseConfig
from pipeline.pretraining.planning.lengths import Lengths, assumed_lengths, counted_lengths, mixed_lengths
from pipeline.store import Store
from tests.dataset.stored import stored_lengths
from tests.small import Small

some = st.lists(st.integers(1, 512), min_size=1, max_size=50).map(np.array)


@given(some, st.integers(1, 512))
def test_what_is_cut_is_what_the_cut_samples_count(lengths: np.ndarray, longest: int) -> None:
    mix, cut = Lengths.of(lengths).cut(longest), np.minimum(lengths, longest)
    assert mix.mean == pytest.approx(cut.mean())
    assert mix.mean_square == pytest.approx((cut**2).mean())
    assert mix.longest == cut.max()


@given(some)
def test_a_few_samples_stand_for_the_mix(lengths: np.ndarray) -> None:
    mix = Lengths.of(lengths)
    assert set(mix.evenly(7).tolist()) <= set(lengths.tolist())
    assert mix.evenly(len(lengths)).tolist() == sorted(lengths.tolist())


def test_they_are_those_of_the_dataset(small: Small) -> None:
    lengths = counted_lengths(small.dataset, small.store)
    totals = small.store.manifest(small.dataset).totals
    assert lengths.mean == pytest.approx(totals["tokens"]["train"] / totals["rows"]["train"])


def test_a_phase_mixes_its_datasets_by_weight_and_cuts_them(store: Store) -> None:
    stored_lengths(store, np.full(10, 60), name="other")
    phase = PhaseConfig.model_validate(
        {"share": 1, "max_seq_length": 100, "datasets": [{"weight": 3}, {"dataset": "dataset/other"}]}
    )
    mix = mixed_lengths(phase, Lengths.of(np.full(5, 200)), store)
    assert {length: share for length, share in enumerate(mix.shares) if share} == {60: 0.25, 100: 0.75}


@pytest.mark.parametrize("longest", [8, 64, 128, 512])
def test_a_dataset_that_is_not_made_is_taken_to_be_as_full_as_those_that_are(longest: int) -> None:
    mix = assumed_lengths(DatasetConfig(name="t", max_seq_length=longest))
    assert mix.shares.sum() == pytest.approx(1)
    assert mix.longest == longest
    assert 0.8 < mix.mean / longest <= 0.9
