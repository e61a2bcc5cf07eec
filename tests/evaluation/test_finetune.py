"""Fine-tuning: the same for the same seed, and a prediction for each test example in its place."""

import pytest

from pipeline.config import EvaluationConfig
from pipeline.evaluation.controls import majority
from pipeline.evaluation.finetune import finetune
from pipeline.evaluation.metrics import accuracy
from pipeline.evaluation.tasks import Examples, metadata
from tests.evaluation.conftest import Scored

CONFIG = EvaluationConfig(name="t")


@pytest.fixture(scope="module")
def task(scored: Scored) -> Examples:
    return metadata(
        scored.corpus, scored.store, label="date", boundaries=[1830, 1860], train_examples=40, test_examples=45
    )


@pytest.fixture(scope="module")
def predicted(scored: Scored, task: Examples) -> list[str]:
    return finetune(scored.model, task, CONFIG, seed=1)


def test_there_is_one_prediction_a_test_example_and_it_is_a_label_of_the_train_part(
    predicted: list[str], task: Examples
) -> None:
    assert len(predicted) == len(task.test)
    assert set(predicted) <= {example.label for example in task.train}
    assert len(set(predicted)) > 1, "else the tests below would show little"


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others(
    predicted: list[str], scored: Scored, task: Examples
) -> None:
    assert finetune(scored.model, task, CONFIG, seed=1) == predicted
    assert finetune(scored.model, task, CONFIG, seed=2) != predicted


def test_predictions_stand_in_the_order_of_the_test_examples(
    predicted: list[str], scored: Scored, task: Examples
) -> None:
    lengths = [len(example.text) for example in task.test]
    assert lengths not in (sorted(lengths), sorted(lengths)[::-1]), "an order of lengths would hide a mistake"
    backwards = finetune(scored.model, Examples(task.train, task.test[::-1]), CONFIG, seed=1)
    assert backwards[::-1] == predicted
    assert backwards != predicted


def test_random_weights_are_another_model_and_as_deterministic(
    predicted: list[str], scored: Scored, task: Examples
) -> None:
    first, second = (finetune(scored.model, task, CONFIG, seed=1, random_weights=True) for _ in range(2))
    assert first == second
    assert first != predicted


def test_fine_tuning_learns_what_words_tell(scored: Scored) -> None:
    task = metadata(scored.corpus, scored.store, label="date", boundaries=[1860])
    patient = CONFIG.model_copy(update={"epochs": 8, "learning_rate": 3e-3})
    gold = [example.label for example in task.test]
    assert accuracy(gold, finetune(scored.model, task, patient, seed=1)) > accuracy(gold, majority(task)) + 0.2
