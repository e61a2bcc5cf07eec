"""What a score is read beside: it must be what a reader would think of."""

import random

import pytest

from pipeline.evaluation.controls import majority, tf_idf
from pipeline.evaluation.metrics import accuracy
from pipeline.evaluation.tasks import Examples, LabelledText


def examples(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> Examples:
    made = [
        tuple(LabelledText(f"{split}-{n}", text, label) for n, (text, label) in enumerate(rows))
        for split, rows in (("train", train), ("test", test))
    ]
    return Examples(*made)


def gold(task: Examples) -> list[str]:
    return [example.label for example in task.test]


def test_the_majority_is_the_train_parts_whatever_the_test_part_holds() -> None:
    task = examples([("x", "b"), ("y", "b"), ("z", "a")], [("x", "a"), ("y", "a"), ("z", "a"), ("x", "b")])
    assert majority(task) == ["b"] * 4


def test_of_equal_classes_the_first_by_name_is_the_majority() -> None:
    assert majority(examples([("x", "b"), ("y", "a")], [("x", "b")])) == ["a"]
    assert majority(examples([("y", "a"), ("x", "b")], [("x", "b")])) == ["a"]


def english(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of common words with one telling word."""
    draw = random.Random(seed)
    common = "the river ran past and where all winter sang".split()
    rows = []
    for number in range(count):
        label, telling = (("old", "horse"), ("new", "engine"))[number % 2]
        words = draw.choices(common, k=12)
        words[draw.randrange(12)] = telling
        rows.append((" ".join(words), label))
    return rows


def test_tf_idf_reads_words() -> None:
    task = examples(english(40, 1), english(40, 2))
    assert accuracy(gold(task), tf_idf(task, "en")) == 1.0


def test_tf_idf_reads_pairs_of_words() -> None:
    """The same words in another order: a bag of single words can't tell them apart."""
    draw = random.Random(3)
    rows = []
    for number in range(120):
        label, pair = (("a", "stone bread"), ("b", "bread stone"))[number % 2]
        before, after = draw.choices(["sang", "ran"], k=4), draw.choices(["sang", "ran"], k=4)
        rows.append((" ".join([*before, *pair.split(), *after]), label))
    task = examples(rows[:60], rows[60:])
    assert accuracy(gold(task), tf_idf(task, "en")) == 1.0


def chinese(count: int, seed: int) -> list[tuple[str, str]]:
    """Unbroken runs of characters with two telling ones side by side."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        label, telling = (("詞", "明月"), ("曲", "長亭"))[number % 2]
        characters = draw.choices("山水風花雪夜春秋人天", k=10)
        characters[draw.randrange(10)] = telling
        rows.append(("".join(characters), label))
    return rows


@pytest.mark.parametrize("lang", ["zh", "ja", "th"])
def test_where_words_are_not_parted_tf_idf_reads_characters(lang: str) -> None:
    task = examples(chinese(40, 1), chinese(40, 2))
    assert accuracy(gold(task), tf_idf(task, lang)) == 1.0
    assert accuracy(gold(task), tf_idf(task, "en")) < 0.8, "as words, each text is one that was never seen"
    assert set(tf_idf(task, lang)) == {"詞", "曲"}


def test_tf_idf_is_the_same_each_time_and_one_prediction_a_test_example() -> None:
    draw = random.Random(4)
    noise = [(" ".join(draw.choices(["aa", "bb", "cc", "dd", "ee"], k=9)), draw.choice("xy")) for _ in range(60)]
    task = examples(noise[:40], noise[40:])
    assert tf_idf(task, "en") == tf_idf(task, "en")
    assert len(tf_idf(task, "en")) == 20
