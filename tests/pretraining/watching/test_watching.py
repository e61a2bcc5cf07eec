"""What can be watched of a training: JSON lines, TensorBoard, held-out scores, and whether it can learn at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.config import PhaseConfig, PretrainingConfig
from pipeline.dataset.batches import heldout_rows, rows_batch
from pipeline.dataset.origins import Origins
from pipeline.dataset.samples import Samples
from pipeline.errors import ConfigError, TrainingError
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.overfit import overfit_one_batch
from pipeline.pretraining.phases import open_samples, plan_of, settled
from pipeline.pretraining.place import Place
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.watching.validation import MASKED_LM_PROB, Validation, samples_at_once
from pipeline.pretraining.weights.export import load_pretrained
from pipeline.store import Artifact
from tests.pretraining.test_loop import curve_of
from tests.small import Small, small_home, store_of, untrained_copy


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Of two sources: texts before 1860, and those after, which have other words."""
    return small_home(tmp_path_factory.mktemp("sourced") / "home", names=("old", "new"))


@pytest.fixture(scope="module")
def watched(small: Small, tiny: PretrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """A training with TensorBoard, validated every five steps on 20 samples, and the folder of its events."""
    folder = tmp_path_factory.mktemp("events")
    store = store_of(small.store.settings.home, BERTMILL_TENSORBOARD=str(folder))
    config = tiny.model_copy(update={"validate_every": 5, "validation_samples": 20})
    return pretrain(config, small.dataset, store=store, force=True), folder


def test_lines_of_progress_are_kept_beside_the_log_with_what_depends_on_time(
    watched: tuple[Artifact, Path], small: Small
) -> None:
    fingerprint = small.store.manifest(watched[0]).fingerprint[:12]
    (path,) = (small.store.settings.home / "logs").glob(f"*-{fingerprint}.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line["step"] for line in lines if "step" in line][-3:]
    assert steps == [4, 9, 11], "every five steps, and the last"
    last = lines[-1]
    assert last["tokens_per_second"] > 0
    assert 0 < last["peak_share"] < 1
    assert 0 <= last["loader_wait_share"] < 1


def test_tensorboard_has_losses_and_held_out_scores_by_step(watched: tuple[Artifact, Path], small: Small) -> None:
    artifact, folder = watched
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    curve = curve_of(small, artifact)
    assert [event.step for event in events.Scalars("train/loss")] == [4, 9, 11]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        [curve[step]["loss"] for step in (4, 9, 11)], rel=1e-5
    )
    tags = {"train/peak_share", "validation/masked_lm_loss_by_source/old", "train/learning_rate"}
    assert tags <= set(events.Tags()["scalars"])


def test_held_out_scores_come_every_so_often_and_at_the_end_at_15_percent(
    watched: tuple[Artifact, Path], small: Small, tiny: PretrainingConfig, tmp_path: Path
) -> None:
    artifact, _ = watched
    scores = {line["step"]: line["validation"] for line in curve_of(small, artifact) if "validation" in line}
    assert list(scores) == [4, 9, 11]
    small.store.export(artifact, tmp_path / "exported")
    model = load_pretrained(tmp_path / "exported", tiny)
    for micro_batch_size in (8, 3):
        alone = scored(model, small, micro_batch_size=micro_batch_size)
        assert flat(scores[11]) == pytest.approx(flat(alone), rel=1e-5)


def flat(scores: dict[str, Any]) -> dict[str, float]:
    return dict(
        pair for name, value in scores.items() for pair in (value if isinstance(value, dict) else {name: value}).items()
    )


def scored(model: Any, small: Small, **of: Any) -> dict[str, Any]:
    """What one process says of the exported weights."""

    class Bare:
        device = torch.device("cpu")

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, *arguments: Any, **keywords: Any) -> Any:
            return model(*arguments, **keywords)

    defaults = {"datasets": {"small": heldout(small)}, "limit": 20, "micro_batch_size": 8, "place": Place(0, 1, 0)}
    return Validation(**defaults | of).scores(Bare())


def heldout(small: Small) -> Samples:
    return Samples(small.store, small.dataset, "heldout", masked_lm_prob=MASKED_LM_PROB)


def test_losses_by_source_are_those_of_their_own_samples_and_average_to_the_whole(
    watched: tuple[Artifact, Path], small: Small, tiny: PretrainingConfig, tmp_path: Path
) -> None:
    scores = curve_of(small, watched[0])[-1]["validation"]
    small.store.export(watched[0], tmp_path / "exported")
    model = load_pretrained(tmp_path / "exported", tiny).eval()
    samples = heldout(small)
    rows = heldout_rows(len(samples), 20)
    by_source = {}
    for number, name in enumerate(samples.origins.names):
        batch = rows_batch(samples, rows[samples.origins.of(rows) == number])
        with torch.no_grad():
            by_source[name] = model(TensorBatch.of(batch, torch.device("cpu")), reduction="none").masked_lm
    assert {name: len(losses) > 20 for name, losses in by_source.items()} == {"new": True, "old": True}
    for name, losses in by_source.items():
        assert scores["masked_lm_loss_by_source"][name] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert scores["masked_lm_loss"] == pytest.approx(float(torch.cat(list(by_source.values())).mean()), rel=1e-5)


def test_a_mixture_is_told_by_all_its_sources_unless_one_dataset_cant_say(
    small: Small, tiny: PretrainingConfig
) -> None:
    model = BertForPreTraining(tiny, small.store.manifest(small.dataset).totals["vocabulary_size"])
    several, other, unknown = heldout(small), heldout(small), heldout(small)
    other.origins, unknown.origins = Origins([("new", 1), ("notes", len(other) - 1)]), Origins([])
    mixed = scored(model, small, datasets={"a": several, "b": other}, limit=40)
    assert list(mixed["masked_lm_loss_by_source"]) == ["new", "notes", "old"]
    assert list(mixed["masked_lm_loss_by_dataset"]) == ["a", "b"]
    mixed = scored(model, small, datasets={"a": several, "b": unknown}, limit=40)
    assert "masked_lm_loss_by_source" not in mixed


def test_held_out_samples_are_no_more_tokens_at_once_than_a_micro_batch_of_training(
    small: Small, tiny: PretrainingConfig
) -> None:
    whole = heldout(small)  # of up to 48 tokens

    def at_once(*phases: PhaseConfig) -> int:
        config = settled(tiny.model_copy(update={"phases": phases}), small.dataset, small.store)
        plan = plan_of(config, open_samples(config, small.dataset, small.store), world=2, device="cpu")
        return samples_at_once(plan, [whole], 2)

    assert at_once() == 15
    assert at_once(PhaseConfig(share=1, max_seq_length=16)) == 5
    few = {"share": 0.5, "train_micro_batch_size_per_gpu": 3}
    assert at_once(PhaseConfig(share=0.5, max_seq_length=16), PhaseConfig(**few)) == 5
    assert at_once(PhaseConfig(share=1, max_seq_length=8, train_batch_size=2)) == 1


def test_overfitting_one_batch_learns_the_trainings_first_by_heart_and_publishes_nothing(
    small: Small, tiny: PretrainingConfig
) -> None:
    before = set(small.store.settings.home.rglob("manifest.json"))
    lines: list[str] = []
    phases = (PhaseConfig(share=0.5, max_seq_length=24, train_batch_size=10), PhaseConfig(share=0.5, max_seq_length=32))
    config = tiny.model_copy(update={"phases": phases, "max_position_embeddings": 32, "floor_step": 1_000})
    overfit_one_batch(config, small.dataset, store=small.store, tell=lines.append)
    first, *_, verdict = lines
    config = settled(config, small.dataset, small.store)
    (batch,) = plan_of(config, open_samples(config, small.dataset, small.store), world=1, device="cpu").batches(0, 0)
    assert first == f"one batch: 10 samples of up to 24 tokens, {batch.predictions} predictions"
    assert verdict.startswith("learned by heart")
    assert set(small.store.settings.home.rglob("manifest.json")) == before


def test_a_rate_at_which_nothing_is_learned_ends_in_a_sentence(small: Small, tiny: PretrainingConfig) -> None:
    slow = tiny.model_copy(update={"learning_rate": 1e-7})
    with pytest.raises(TrainingError, match=r"not learned by heart. Try another pretraining.learning_rate \(1e-07"):
        overfit_one_batch(slow, small.dataset, store=small.store, tell=print, steps=12)


def test_a_log_of_overfitting_that_can_not_be_written_is_an_error_in_a_sentence(
    small: Small, tiny: PretrainingConfig, tmp_path: Path
) -> None:
    store = untrained_copy(small, tmp_path / "home")
    (store.settings.home / "logs").write_text("a file where a folder is wanted")
    with pytest.raises(ConfigError, match=r"The log can't be written to .*overfit\.log: .*Set BERTMILL_HOME to"):
        overfit_one_batch(tiny, small.dataset, store=store, tell=print)


def test_another_masking_rate_is_that_of_validation_whatever_the_dataset_has(small: Small) -> None:
    rows = np.arange(50)
    plain = rows_batch(Samples(small.store, small.dataset, "heldout"), rows)
    twice = rows_batch(Samples(small.store, small.dataset, "heldout", masked_lm_prob=0.3), rows)
    assert twice.predictions == pytest.approx(2 * plain.predictions, rel=0.1)
