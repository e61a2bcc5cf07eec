"""The share of equal samples is exact while few are distinct, near when many are, and the same however it is split."""

import numpy as np
import pytest

from pipeline.dataset.rows import Rows
from pipeline.dataset.sketch import KEPT, Sketch, sample_hashes


def samples(numbers: np.ndarray) -> Rows:  # type: ignore[type-arg]
    """A sample of two tokens for each number."""
    ids = np.stack((numbers // 50_000, numbers % 50_000), 1).reshape(-1).astype(np.uint16)
    count = len(numbers)
    empty = np.zeros(count, np.uint8)
    return Rows(ids, empty, (2 * np.arange(count + 1)).astype(np.int32), empty.astype(np.uint16), empty)


def test_equal_samples_worked_by_hand() -> None:
    sketch = Sketch.empty().with_samples(samples(np.array([1, 2, 1, 3]))).with_samples(samples(np.array([3, 3, 4, 5])))
    assert sketch.duplicate_share == pytest.approx(3 / 8)


@pytest.mark.parametrize("distinct", [KEPT // 2, 20 * KEPT])
def test_the_share_is_near_and_the_same_however_it_is_split(distinct: int) -> None:
    numbers = np.random.default_rng(5).permutation(np.concatenate((np.arange(distinct), np.arange(distinct // 4))))
    whole = Sketch.empty().with_samples(samples(numbers))
    halves = [Sketch.empty().with_samples(samples(half)) for half in np.split(numbers, [distinct // 3])]
    merged = Sketch.of_array(halves[1].array()).merged(halves[0])
    assert merged.array().tolist() == whole.array().tolist()
    assert whole.duplicate_share == pytest.approx(0.2, abs=1e-9 if distinct < KEPT else 0.02)


def test_samples_with_other_tokens_or_lengths_have_other_hashes() -> None:
    ids = np.array([1, 2, 3, 1, 2, 3, 0, 1, 2, 2, 1], np.uint16)
    starts = np.array([0, 3, 6, 7, 9, 11], np.int32)  # 123 123 0 12 21
    hashes = sample_hashes(ids, starts).tolist()
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
