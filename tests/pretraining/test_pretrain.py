"""The stage as a whole: what it publishes, that it is found again, and how it fails."""

import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.errors import ConfigError, LeaseLost, TrainingError
from pipeline.launching import LAUNCHERS
from pipeline.pretraining import pretrain as pretrain_module
from pipeline.pretraining.job import SCHEMA, TRAINED
from pipeline.pretraining.model.bert import TensorBatch
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.watching.seen import preset_batch_texts
from pipeline.pretraining.weights.export import load_pretrained
from pipeline.settings import Settings
from pipeline.store import Artifact, Recipe, Store, Work, open_store
from pipeline.vocabulary.tokenizer import load_tokenizer
from tests.pretraining.fp16_worker import launch_in_fp16
from tests.processes import living_with
from tests.small import Small

RUN = """
import logging, sys
from pipeline.config import PretrainingConfig
from pipeline.settings import Settings
from pipeline.pretraining import pretrain as pretrain_module
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import open_store
logging.basicConfig(level=logging.INFO)
store = open_store(Settings.model_validate_json(sys.argv[2]))
config = PretrainingConfig.model_validate_json(sys.argv[1])
print(pretrain(config, store.resolve("dataset/small"), store=store).reference)
"""
MODEL = ("model/config.json", "model/model.safetensors")
TEXTS = ["The river ran past a stone mill.", "Bread!", "where winter sang to her brother and a rocket"]


@pytest.fixture
def trained(training: Any) -> Artifact:
    """A training that other tests have asked for, too."""
    artifact: Artifact = training(deepspeed="zero1", train_micro_batch_size_per_gpu=4)
    return artifact


@pytest.fixture
def exported(trained: Artifact, small: Small, tmp_path: Path) -> Path:
    small.store.export(trained, tmp_path / "exported")
    return tmp_path / "exported"


def packed(rows: list[list[int]]) -> TensorBatch:
    """Token ids end to end, nothing masked."""
    ids = np.concatenate([np.array(row, np.int64) for row in rows])
    lengths = np.array([len(row) for row in rows], np.int32)
    positions = np.concatenate([np.arange(length) for length in lengths])
    none = np.empty(0, np.int64)
    batch = Batch(ids, np.zeros_like(ids), positions, lengths, none, none, none, none, none)
    return TensorBatch.of(batch, torch.device("cpu"))


@torch.no_grad()
def test_the_exported_folder_gives_transformers_the_encoder_that_was_trained(
    exported: Path, tiny: PretrainingConfig
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    whole = transformers.BertForPreTraining.from_pretrained(exported).eval()
    encoder = transformers.AutoModel.from_pretrained(exported).eval()
    ours = load_pretrained(exported, tiny).eval()
    padded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch = packed([tokenizer(text)["input_ids"] for text in TEXTS])
    real = padded["attention_mask"].bool()
    hidden = ours.encode(batch)
    theirs = whole(**padded)
    size = whole.config.vocab_size
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(encoder(**padded).last_hidden_state[real], hidden, **close)
    torch.testing.assert_close(theirs.prediction_logits[real], ours.masked_lm_logits(hidden)[:, :size], **close)
    torch.testing.assert_close(theirs.seq_relationship_logits, ours.next_sentence_logits(hidden, batch.layout), **close)


def test_the_exported_tokenizer_is_the_vocabularys(exported: Path, small: Small) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    own = load_tokenizer(small.store, small.vocabulary)
    assert tokenizer(TEXTS)["input_ids"] == [encoding.ids for encoding in own.encode_batch(TEXTS)]
    assert len(tokenizer) == own.get_vocab_size()


def test_the_curve_has_each_step_once_and_the_manifest_its_totals(trained: Artifact, small: Small) -> None:
    manifest = small.store.manifest(trained)
    lines = small.store.file(trained, "curve.jsonl").read_text(encoding="utf-8").splitlines()
    curve = [json.loads(line) for line in lines]
    steps = manifest.config["max_steps"]
    assert [line["step"] for line in curve] == list(range(steps))
    assert manifest.totals["steps"] == steps
    assert manifest.totals["tokens"] == sum(line["tokens"] for line in curve)
    assert manifest.metrics["loss"] == pytest.approx(np.mean([line["loss"] for line in curve]))
    assert [parent.reference for parent in manifest.parents] == [small.dataset.reference]
    assert manifest.producer["resumed_at"] == 0
    assert manifest.producer["training_seconds"] > 0


def test_a_training_is_found_again_whatever_says_only_where_and_how_it_runs(
    trained: Artifact, small: Small, tiny: PretrainingConfig
) -> None:
    logs = {path: path.stat().st_mtime_ns for path in (small.store.settings.home / "logs").iterdir()}
    versions = len(small.store.versions("pretraining"))
    other = {"deepspeed": "zero2", "train_micro_batch_size_per_gpu": 9, "checkpoint_every": 3, "log_every": 1}
    found = [pretrain(tiny.model_copy(update=each), small.dataset, store=small.store) for each in ({}, other)]
    assert found[0] == found[1]
    assert found[0].version.partition("-")[0] == trained.version.partition("-")[0]
    assert len(small.store.versions("pretraining")) == versions
    assert {path: path.stat().st_mtime_ns for path in (small.store.settings.home / "logs").iterdir()} == logs


def test_a_training_that_ended_just_before_its_commit_is_only_committed_and_says_where_it_ran(
    trained: Artifact, fresh: Store, small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.model_copy(update={"train_micro_batch_size_per_gpu": 4})
    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module, "publish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(config, small.dataset, store=fresh)
    work = fresh.work(Recipe("pretraining", config, SCHEMA, parents=(small.dataset,)))
    assert TRAINED in work.names()
    (log,) = (fresh.settings.home / "logs").glob("*.log")
    log.unlink()
    made = pretrain(config, small.dataset, store=fresh)
    assert not log.exists(), "no rank was started"
    assert made.digest == trained.digest
    assert not work.names()
    expected, told = (store.manifest(each).producer for store, each in ((small.store, trained), (fresh, made)))
    for key in ("device", "world", "zero_stage", "resumed_at"):
        assert told[key] == expected[key]


def left_by_ranks(trained: Artifact, small: Small, store: Store, config: PretrainingConfig, **record: Any) -> Work:
    """The work of a training whose ranks have ended, with what they left."""
    manifest = small.store.manifest(trained)
    left = [entry for entry in manifest.files if entry.path in ("curve.jsonl", *MODEL)]
    work = store.work(Recipe("pretraining", config, SCHEMA, parents=(small.dataset,)))
    work.commit(TRAINED, left, {"parameters": manifest.totals["parameters"]} | record)
    return work


def test_a_snapshot_that_wasnt_made_and_a_floor_that_wont_be_asked_for_are_said(
    trained: Artifact, small: Small, fresh: Store, tiny: PretrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    left_by_ranks(trained, small, fresh, tiny, unmade_snapshots=[11])
    pretrain(tiny.model_copy(update={"floor_step": 1_000}), small.dataset, store=fresh)
    assert "of step 11 there is no snapshot: its checkpoint couldn't be stored in time" in caplog.text
    assert "pretraining.floor_step is 1,000 and the training has 12 steps" in caplog.text


def test_two_runs_of_one_training_at_once_train_once_and_return_the_same_artifact(
    fresh: Store, small: Small, tiny: PretrainingConfig
) -> None:
    store = open_store(fresh.settings.model_copy(update={"lease_s": 2.0}))
    command = [sys.executable, "-c", RUN, tiny.model_dump_json(), store.settings.model_dump_json()]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    (manifest,) = store.versions("pretraining")
    made = store.resolve(f"pretraining/tiny@{manifest.version}")
    assert [out.strip() for out, _ in ended] == [made.reference] * 2
    trained, waited = sorted((err for _, err in ended), key=lambda err: "waiting for it" in err)
    assert "training tiny on" in trained
    assert "training tiny on" not in waited
    assert "tiny is trained by process" in waited
    assert f"found {made.reference}, which another run has made meanwhile" in waited
    assert not list(store.backend.list(f"work/pretraining/{manifest.fingerprint}/"))


def test_a_run_that_was_taken_for_dead_stops_its_ranks_and_publishes_nothing(
    fresh: Store, small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MARK", mark := uuid.uuid4().hex)
    store = open_store(fresh.settings.model_copy(update={"lease_s": 2.0}))
    config = tiny.model_copy(update={"max_steps": 100_000, "checkpoint_every": 5})
    recipe = Recipe("pretraining", config, SCHEMA, parents=(small.dataset,))
    root = f"work/pretraining/{recipe.fingerprint}/"

    def take_over() -> None:
        while not store.work(recipe).names():
            time.sleep(0.1)
        assert store.backend.create(f"{root}{2:010d}/lease.json", b"{}")

    with ThreadPoolExecutor(1) as pool:
        taker = pool.submit(take_over)
        with pytest.raises(LeaseLost, match="taken over by .* the checkpoints are kept"):
            pretrain(config, small.dataset, store=store)
        taker.result(5)
    assert not living_with(f"TEST_MARK={mark}", within_s=10)
    assert store.work(recipe, 2).names()
    assert {each.key[len(root) :].split("/")[0] for each in store.backend.list(root)} == {f"{1:010d}", f"{2:010d}"}
    assert not store.versions("pretraining")


@pytest.mark.parametrize(("stage", "precision"), [("zero1", "fp32"), ("zero3", "bf16"), ("zero1", "fp16")])
def test_a_loss_that_is_not_finite_ends_the_training_in_a_sentence_and_publishes_nothing(
    stage: str, precision: str, fresh: Store, small: Small, tiny: PretrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MARK", mark := uuid.uuid4().hex)
    changes = {"learning_rate": 1e38, "warmup_share": 0.0, "deepspeed": stage, "precision": precision}
    config = tiny.model_copy(update=changes)
    if precision == "fp16":
        monkeypatch.setitem(LAUNCHERS, "local", launch_in_fp16)
    with pytest.raises(TrainingError) as caught:
        pretrain(config, small.dataset, store=fresh)
    assert str(caught.value).startswith("The loss of step 1 is not finite (masked-LM nan")
    assert "the weights were not updated. Lower pretraining.learning_rate, or raise warmup_share." in str(caught.value)
    (found,) = (fresh.settings.home / "logs").glob("*.step-1.json")
    assert f"in {found}" in str(caught.value)
    step = json.loads(found.read_text(encoding="utf-8"))
    assert step["masked_lm_loss"] == "nan"
    samples = step["samples"]
    assert {len(samples[name]) for name in ("datasets", "epochs", "rows")} == {config.train_batch_size}
    assert sorted(row for each in step["micro_batches"] for row in each["rows"]) == sorted(samples["rows"])
    assert {"layers.0", "layers.1", "word_embeddings"} < step["micro_batches"][0]["gradient_norms"].keys()
    assert {each["first_not_finite"] for each in step["micro_batches"]} != {None}
    assert not fresh.versions("pretraining")
    head, *dealt = preset_batch_texts(config, small.dataset, 1, 0, fresh)
    assert head.startswith(f"step 1 of {small.dataset}: {config.train_batch_size} samples, ")
    assert [line.partition(":")[0] for line in dealt] == ["  rank 0, micro-batch 0", "  rank 1, micro-batch 0"]
    assert TRAINED not in fresh.work(Recipe("pretraining", config, SCHEMA, parents=(small.dataset,))).names()
    assert not living_with(f"TEST_MARK={mark}", within_s=10)


def test_a_failing_ranks_last_words_are_in_the_sentence_with_the_log_and_what_to_do(
    fresh: Store, small: Small, tiny: PretrainingConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    monitor = {"enabled": True, "output_path": f"{broken}/told"}  # a file is no folder, which DeepSpeed finds out late
    broken.write_text(json.dumps({"zero_optimization": {"stage": 1}, "csv_monitor": monitor}), encoding="utf-8")
    config = tiny.model_copy(update={"deepspeed": str(broken)})
    with pytest.raises(TrainingError) as caught:
        pretrain(config, small.dataset, store=fresh)
    (log,) = (fresh.settings.home / "logs").glob("*.log")
    assert str(caught.value).startswith("A training rank failed: ")
    assert "NotADirectoryError" in str(caught.value)
    assert f"The whole output is in {log}" in str(caught.value)
    assert f"{broken}/told" in log.read_text(encoding="utf-8")
    assert not fresh.versions("pretraining")


def test_samples_longer_than_the_positions_are_an_error_before_any_rank_starts(
    fresh: Store, small: Small, tiny: PretrainingConfig
) -> None:
    config = tiny.model_copy(update={"max_position_embeddings": 32})
    with pytest.raises(ConfigError, match=r"up to 48 tokens, over pretraining.max_position_embeddings 32"):
        pretrain(config, small.dataset, store=fresh)
    assert not (fresh.settings.home / "logs").exists()


def test_a_home_that_can_not_be_written_is_an_error_in_a_sentence(
    fresh: Store, small: Small, tiny: PretrainingConfig
) -> None:
    (fresh.settings.home / "logs").write_text("a file where a folder is wanted")
    with pytest.raises(ConfigError, match=r"The log can't be written to .*/logs/tiny-\w+.log: .*Set BERTMILL_HOME to"):
        pretrain(tiny, small.dataset, store=fresh)


def test_an_unknown_launcher_suggests_the_nearest(fresh: Store, small: Small, tiny: PretrainingConfig) -> None:
    settings = Settings.model_validate(fresh.settings.model_dump() | {"launcher": "lokal"})
    with pytest.raises(ConfigError, match=r"BERTMILL_LAUNCHER is 'lokal'. Did you mean 'local'\?"):
        pretrain(tiny, small.dataset, store=open_store(settings))
    assert not (fresh.settings.home / "logs").exists()
