"""Scores against scikit-learn, against values worked by hand, and against what they promise."""

import math
import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from pipeline.evaluation.metrics import accuracy, bootstrap_interval, has_collapsed, macro_f1, unigram_entropy


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_are_scikit_learns(seed: int) -> None:
    draw = random.Random(seed)
    labels = draw.choices("abc", [6, 3, 1], k=60)
    predictions = [label if draw.random() < 0.6 else draw.choice("abc") for label in labels]
    assert accuracy(labels, predictions) == pytest.approx(accuracy_score(labels, predictions))
    assert macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_macro_f1_counts_a_class_that_is_never_predicted_as_zero() -> None:
    # a: precision 2/3, recall 1, F1 0.8; b: no right one, F1 0.
    assert macro_f1(["a", "a", "b"], ["a", "a", "a"]) == pytest.approx(0.4)


def test_macro_f1_is_a_mean_over_the_classes_that_there_are_to_find() -> None:
    labels, predictions = ["a", "a", "b", "b"], ["a", "c", "b", "b"]
    expected = f1_score(labels, predictions, average="macro", labels=["a", "b"])
    assert macro_f1(labels, predictions) == pytest.approx(expected)


def test_labels_and_predictions_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        accuracy(["a", "b"], ["a"])


def test_the_bootstrap_interval_is_the_same_each_time() -> None:
    right = [number % 3 != 0 for number in range(1_234)]
    assert bootstrap_interval(right) == bootstrap_interval(right)
    assert bootstrap_interval(right) != bootstrap_interval(right, seed=1)


def test_the_bootstrap_interval_is_about_that_of_the_normal_approximation() -> None:
    right = [True] * 280 + [False] * 120
    low, high = bootstrap_interval(right)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 400)
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.01)


def test_the_bootstrap_interval_covers_the_true_accuracy_about_19_times_in_20() -> None:
    draw = np.random.default_rng(5)
    intervals = [bootstrap_interval(list(draw.random(150) < 0.7)) for _ in range(200)]
    covered = sum(low <= 0.7 <= high for low, high in intervals) / 200
    assert 0.89 < covered < 0.99


def test_without_a_mistake_or_without_a_hit_the_interval_is_a_point() -> None:
    assert bootstrap_interval([True] * 20) == (1.0, 1.0)
    assert bootstrap_interval([False] * 20) == (0.0, 0.0)


def test_a_run_has_collapsed_when_99_of_100_predictions_are_one_class() -> None:
    assert has_collapsed(["a"] * 99 + ["b"])
    assert has_collapsed(["a"] * 7)
    assert not has_collapsed(["a"] * 98 + ["b"] * 2)
    assert not has_collapsed(["a", "b"] * 50)


def test_the_unigram_entropy_is_in_nats_and_passes_over_words_that_are_not_there() -> None:
    # 1/2, 1/4, 1/4: half of ln 2, and half of ln 4.
    assert unigram_entropy(np.array([2, 0, 1, 1, 0])) == pytest.approx(1.5 * math.log(2))
    assert unigram_entropy(np.array([0, 9])) == 0.0
    assert unigram_entropy(np.full(64, 3)) == pytest.approx(math.log(64))
