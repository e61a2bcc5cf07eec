"""A training on samples of one segment has one objective; on ordered pairs it learns from their labels."""

import json

import pytest

import pipeline
from pipeline.config import DatasetConfig, PretrainingConfig
from pipeline.dataset.build import build_dataset
from pipeline.dataset.samples import Samples
from pipeline.evaluation.heldout import heldout_scores
from pipeline.pretraining.pretrain import pretrain
from tests.small import Small


@pytest.mark.parametrize("pairs", ["sop", "none"])
def test_other_pairs_train_and_score(
    small: Small,
    tiny: PretrainingConfig,
    pairs: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = DatasetConfig.model_validate({"name": pairs, "max_seq_length": 48, "pairs": pairs})
    dataset = build_dataset(config, small.corpus, small.vocabulary, store=small.store)
    table = tiny.model_copy(update={"name": pairs, "max_steps": 4, "loader_workers": 2})
    made = pretrain(table, dataset, store=small.store)
    curve = [json.loads(line) for line in small.store.file(made, "curve.jsonl").read_text().splitlines()]
    assert len(curve) == 4
    for line in curve:
        assert line["loss"] == pytest.approx(line["masked_lm_loss"] + line["next_sentence_loss"])
        assert (line["next_sentence_loss"] == 0) is (pairs == "none")
    small.store.export(made, folder := small.store.settings.home / f"exported-{pairs}")
    scores = heldout_scores(folder, Samples(small.store, dataset, "heldout"), 50)
    assert ("next_sentence_accuracy" in scores) is (pairs == "sop")
    manifest = small.store.manifest(made)
    assert manifest.totals.get("untrained", []) == ([] if pairs == "sop" else ["next-sentence"])
    assert ("next_sentence_loss" in manifest.metrics) is (pairs == "sop")
    monkeypatch.setenv("BERTMILL_HOME", str(small.store.settings.home))
    pipeline.load(made.reference)
    assert ("has no trained next-sentence" in caplog.text) is (pairs == "none")
