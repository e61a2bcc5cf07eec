"""Scores of predictions, each a plain function of labels and predictions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

COLLAPSED = 0.99
RESAMPLES = 1_000


def accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Share of predictions that are right."""
    return sum(bool(a == b) for a, b in zip(labels, predictions, strict=True)) / len(labels)


def macro_f1(labels: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Mean over the classes of the labels of the harmonic mean of precision and recall."""
    scores = list[float]()
    for label in sorted(set(labels)):
        right = sum(bool(a == b == label) for a, b in zip(labels, predictions, strict=True))
        either = list(labels).count(label) + list(predictions).count(label)
        scores.append(2 * right / either)
    return sum(scores) / len(scores)


def has_collapsed(predictions: Sequence[Any]) -> bool:
    """Whether nearly all predictions are one class: a failed run, not a score."""
    return Counter(predictions).most_common(1)[0][1] >= COLLAPSED * len(predictions)


def bootstrap_interval(right: Sequence[bool], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of an accuracy, from resampling the examples (percentile bootstrap)."""
    values = np.asarray(right, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def unigram_entropy(counts: npt.NDArray[np.int64]) -> float:
    """Entropy in nats of the distribution that `counts` [V] make: what a model of frequencies alone would score."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
