"""The stage as a whole: every score beside its controls, every prediction kept, no text."""

import json
import logging
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import DatasetConfig, EvaluationConfig, Plug, VocabularyConfig
from pipeline.corpus.document import read_documents
from pipeline.dataset.batches import Samples
from pipeline.dataset.build import build_dataset
from pipeline.errors import ConfigError, InputError
from pipeline.evaluation.evaluate import evaluate, task_names
from pipeline.evaluation.heldout import THROUGH, heldout_scores
from pipeline.evaluation.summary import score_rows
from pipeline.evaluation.tasks import Examples, metadata
from pipeline.pretraining.weights.export import HEADS
from pipeline.pretraining.weights.importing import import_folder
from pipeline.store import Artifact
from pipeline.vocabulary.build import build_vocabulary
from tests.bert_folders import LAYOUTS, foreign, write_folder
from tests.evaluation.conftest import Scored

KEYWORDS: dict[str, Any] = {"label": "date", "boundaries": [1860], "train_examples": 40, "test_examples": 30}
CONFIG = EvaluationConfig(
    name="small",
    heldout_samples=30,
    seeds=(1, 2, 3),
    tasks=(Plug.model_validate({"name": "metadata"} | KEYWORDS),),
)
RUNS = {"pretrained": 3, "random_weights": 3, "tf_idf": 1, "majority": 1}


@pytest.fixture(scope="module")
def evaluation(scored: Scored) -> Artifact:
    return evaluate(CONFIG, scored.checkpoint, scored.dataset, scored.corpus, store=scored.store)


@pytest.fixture(scope="module")
def task(scored: Scored) -> Examples:
    return metadata(scored.corpus, scored.store, **KEYWORDS)


def predictions(scored: Scored, evaluation: Artifact) -> dict[str, list[dict[str, str]]]:
    """The rows of each file of predictions."""
    return {
        entry.path: [json.loads(line) for line in scored.store.blob(entry).read_text(encoding="utf-8").splitlines()]
        for entry in scored.store.manifest(evaluation).matching("predictions/")
    }


def test_a_task_is_scored_beside_random_weights_words_and_the_majority(scored: Scored, evaluation: Artifact) -> None:
    (task,) = scored.store.manifest(evaluation).metrics["tasks"].values()
    for kind, runs in RUNS.items():
        assert len(task[kind]["accuracies"]) == runs
        assert task[kind]["accuracy"] == statistics.median(task[kind]["accuracies"])
        low, high = task[kind]["interval"]
        assert low <= statistics.median_low(task[kind]["accuracies"]) <= high
    assert task["tf_idf"]["accuracy"] > task["majority"]["accuracy"] + 0.2, "old and new have other words"
    assert task["majority"]["collapsed_runs"] == 1


def test_predictions_of_every_seed_are_kept_by_the_ids_of_the_test_examples(
    scored: Scored, evaluation: Artifact, task: Examples
) -> None:
    kept = predictions(scored, evaluation)
    assert len(kept) == sum(RUNS.values())
    for kind, runs in RUNS.items():
        assert sum(f"-{kind}-" in path for path in kept) == runs
    for rows in kept.values():
        assert [(row["id"], row["label"]) for row in rows] == [(example.id, example.label) for example in task.test]


def test_every_seed_is_a_fine_tuning_of_its_own(scored: Scored, evaluation: Artifact) -> None:
    for kind in ("pretrained", "random_weights"):
        runs = [rows for path, rows in predictions(scored, evaluation).items() if f"-{kind}-" in path]
        assert len({tuple(row["prediction"] for row in rows) for rows in runs}) == len(CONFIG.seeds), kind


def test_the_scores_follow_from_the_predictions_that_are_kept(scored: Scored, evaluation: Artifact) -> None:
    (scores,) = scored.store.manifest(evaluation).metrics["tasks"].values()
    for kind in RUNS:
        rows = [rows for path, rows in predictions(scored, evaluation).items() if f"-{kind}-" in path]
        shares = [sum(row["label"] == row["prediction"] for row in each) / len(each) for each in rows]
        assert scores[kind]["accuracies"] == pytest.approx(shares)


def test_predictions_are_of_held_out_documents_only(scored: Scored, evaluation: Artifact) -> None:
    entries = scored.store.manifest(scored.corpus).matching("heldout/")
    held_out = {document.id for entry in entries for document in read_documents(scored.store.blob(entry))}
    for rows in predictions(scored, evaluation).values():
        assert {row["id"].rpartition("#")[0] for row in rows} <= held_out


def test_no_sentence_of_the_corpus_is_in_any_file(scored: Scored, evaluation: Artifact) -> None:
    entries = scored.store.manifest(scored.corpus).matching("heldout/")
    sentences = {
        sentence
        for entry in entries
        for document in read_documents(scored.store.blob(entry))
        for sentence in document.text.split("\n")
    }
    assert len(sentences) > 100
    for entry in scored.store.manifest(evaluation).files:
        content = scored.store.blob(entry).read_text(encoding="utf-8")
        assert not [sentence for sentence in sentences if sentence.rstrip(".") in content], entry.path


def test_held_out_scores_and_the_file_of_scores_are_the_manifests(scored: Scored, evaluation: Artifact) -> None:
    metrics = scored.store.manifest(evaluation).metrics
    samples = Samples(scored.store, scored.dataset, "heldout")
    assert metrics["heldout"] == pytest.approx(heldout_scores(scored.model, samples, 30))
    assert json.loads(scored.store.file(evaluation, "scores.json").read_text(encoding="utf-8")) == metrics


def test_the_summary_has_each_number_beside_the_one_it_is_read_with(scored: Scored, evaluation: Artifact) -> None:
    metrics = scored.store.manifest(evaluation).metrics
    (task,) = metrics["tasks"].values()
    rows = score_rows(metrics)
    assert rows[0]["score"] == f"{metrics['heldout']['masked_lm_loss']:.3f}"
    assert f"{metrics['heldout']['unigram_entropy']:.3f}" in rows[0]["beside"]
    assert rows[-1]["score"].startswith(f"{task['pretrained']['accuracy']:.3f} [")
    for kind in ("random weights", "majority", "tf idf"):
        assert f"{kind} {task[kind.replace(' ', '_')]['accuracy']:.3f}" in rows[-1]["beside"]


def test_an_evaluation_is_found_again_and_other_seeds_are_another(scored: Scored, evaluation: Artifact) -> None:
    again = evaluate(CONFIG, scored.checkpoint, scored.dataset, scored.corpus, store=scored.store)
    assert again == evaluation
    assert len(scored.store.versions("evaluation")) == 1
    none = CONFIG.model_copy(update={"tasks": (), "heldout_samples": 2})
    other = evaluate(none, scored.checkpoint, scored.dataset, scored.corpus, store=scored.store)
    assert other.version != evaluation.version


def test_its_parents_are_the_checkpoint_the_dataset_and_the_corpus(scored: Scored, evaluation: Artifact) -> None:
    parents = [parent.reference for parent in scored.store.manifest(evaluation).parents]
    assert parents == [each.reference for each in (scored.checkpoint, scored.dataset, scored.corpus)]


def test_an_unknown_task_suggests_the_nearest_before_any_scoring(scored: Scored) -> None:
    config = CONFIG.model_copy(update={"name": "wrong", "tasks": (Plug(name="metadta"),)})
    with pytest.raises(ConfigError, match=r"There is no task 'metadta'. Did you mean 'metadata'\?"):
        evaluate(config, scored.checkpoint, scored.dataset, scored.corpus, store=scored.store)
    assert not scored.store.versions("evaluation", "wrong")


def test_a_task_of_one_class_is_an_error_and_publishes_nothing(scored: Scored) -> None:
    plug = Plug.model_validate({"name": "metadata", "label": "lang"})
    config = CONFIG.model_copy(update={"name": "one-class", "tasks": (plug,)})
    with pytest.raises(InputError, match="it needs 2"):
        evaluate(config, scored.checkpoint, scored.dataset, scored.corpus, store=scored.store)
    assert not scored.store.versions("evaluation", "one-class")


def test_tasks_of_one_name_are_told_apart() -> None:
    plugs = [{"name": "metadata", "label": label} for label in ("date", "lang", "date")]
    config = EvaluationConfig(name="t", tasks=tuple(Plug.model_validate(each) for each in plugs))
    assert task_names(config) == ["metadata-date", "metadata-lang", "metadata-date.2"]


def test_a_dataset_of_another_vocabulary_is_refused(scored: Scored) -> None:
    store, seen = scored.store, len(scored.store.versions("evaluation"))
    other = build_vocabulary(VocabularyConfig(name="other", size=120), scored.corpus, store=store)
    samples = build_dataset(DatasetConfig(name="other", max_seq_length=48), scored.corpus, other, store=store)
    with pytest.raises(ConfigError) as caught:
        evaluate(CONFIG, scored.checkpoint, samples, scored.corpus, store=store)
    assert str(caught.value).startswith(f"{scored.checkpoint} was trained with another vocabulary than {other}")
    assert len(store.versions("evaluation")) == seen


# Models that came without heads


@pytest.fixture(scope="module")
def imported(scored: Scored, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """`imported(layout)`: a model from elsewhere, of the same vocabulary."""

    @cache
    def make(layout: str) -> Artifact:
        entries = scored.store.file(scored.vocabulary, "vocab.txt").read_text(encoding="utf-8").splitlines()
        folder = tmp_path_factory.mktemp("hub") / layout.lower()
        return import_folder(write_folder(folder, LAYOUTS[layout], foreign(len(entries)), entries), store=scored.store)

    return make


def test_an_encoder_without_heads_is_fine_tuned_and_no_prediction_of_a_new_head_is_scored(
    scored: Scored, imported: Callable[[str], Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.model_copy(update={"name": "headless", "seeds": (1,)})
    with caplog.at_level(logging.WARNING, "bertmill"):
        made = evaluate(config, imported("encoder-alone"), scored.dataset, scored.corpus, store=scored.store)
    metrics = scored.store.manifest(made).metrics
    assert (metrics["heldout"], metrics["left_out"]) == ({}, ["masked-LM", "next-sentence"])
    (task,) = metrics["tasks"].values()
    assert len(task["pretrained"]["accuracies"]) == 1
    assert [record.message for record in caplog.records] == [
        f"{imported('encoder-alone')} has no trained masked-LM transform, masked-LM bias, next-sentence: held-out "
        f"masked-LM and next-sentence scores are left out, for such a head has learned nothing"
    ]
    rows = [(row["what"], row["score"]) for row in score_rows(metrics)]
    assert rows[:2] == [("held-out masked-LM scores", "left out"), ("held-out next-sentence scores", "left out")]
    assert len(rows) == 3


def test_without_a_next_sentence_head_the_masked_lm_is_scored_alone(
    scored: Scored, imported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    parent = imported("chinese-roberta-wwm-ext")
    config = CONFIG.model_copy(update={"name": "unpaired", "tasks": ()})
    metrics = scored.store.manifest(evaluate(config, parent, scored.dataset, scored.corpus, store=scored.store)).metrics
    scored.store.export(parent, tmp_path / "exported")
    whole = heldout_scores(tmp_path / "exported", Samples(scored.store, scored.dataset, "heldout"), 30)
    expected = {name: value for name, value in whole.items() if not name.startswith("next_sentence")}
    assert metrics["heldout"] == pytest.approx(expected)
    assert metrics["left_out"] == ["next-sentence"]
    assert [row["score"] for row in score_rows(metrics)][2:] == ["left out"]


def test_where_nothing_is_left_to_score_it_is_refused(scored: Scored, imported: Callable[[str], Artifact]) -> None:
    config = CONFIG.model_copy(update={"name": "nothing", "tasks": ()})
    with pytest.raises(
        ConfigError, match=r"predicts nothing of held-out text, and evaluation.tasks names nothing else"
    ):
        evaluate(config, imported("classifier"), scored.dataset, scored.corpus, store=scored.store)
    assert not scored.store.versions("evaluation", "nothing")


def test_a_head_that_is_asked_for_is_one_that_an_import_may_lack() -> None:
    assert set().union(*THROUGH.values()) == set(HEADS)
