"""What a training saw at a step is made again, and is what its loop was given."""

import json
import math
import re

import numpy as np
import pytest

from pipeline.config import MixedDataset, PhaseConfig, Plug, PretrainingConfig
from pipeline.dataset.batches import packed
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.errors import ConfigError
from pipeline.pretraining.job import job_of
from pipeline.pretraining.watching.seen import batch_digest, batch_texts, preset_batch_texts
from pipeline.store import Artifact
from tests.dataset.reading import training_batches
from tests.pretraining.conftest import Training
from tests.small import Small


@pytest.fixture
def trained(training: Training) -> Artifact:
    return training()


def test_the_batch_is_told_with_how_it_was_dealt_and_its_samples(
    trained: Artifact, small: Small, tiny: PretrainingConfig
) -> None:
    world = small.store.manifest(trained).producer["world"]
    head, *rest = batch_texts(trained, 1, 4, small.store)
    micro = [
        training_batches(
            Samples(small.store, small.dataset),
            1,
            train_batch_size=tiny.train_batch_size,
            micro_batch_size=tiny.train_micro_batch_size_per_gpu,
            seed=tiny.seed,
            rank=rank,
            world=world,
        )
        for rank in range(world)
    ]
    tokens = sum(len(batch.input_ids) for batches in micro for batch in batches)
    assert head.startswith(
        f"step 1 of {small.dataset.reference}: {tiny.train_batch_size:,} samples, {tokens:,} tokens, "
    )
    dealt = [line for line in rest if line.startswith("  rank ")]
    assert dealt == [
        f"  rank {rank}, micro-batch {number}: {len(micro[rank][number].lengths):,} samples, "
        f"{len(micro[rank][number].input_ids):,} tokens"
        for number in range(len(micro[0]))
        for rank in range(world)
    ]
    samples = [text for text in rest if text.startswith("sample ")]
    assert len(samples) == 4
    indices = {index for batches in micro for batch in batches for index in batch.indices.tolist()}
    assert {int(re.findall(r"[\d,]+", text)[0].replace(",", "")) for text in samples} <= indices


def test_the_digest_is_the_same_however_the_step_is_dealt_and_another_steps_is_another(small: Small) -> None:
    samples = Samples(small.store, small.dataset)
    chosen = Steps([(samples, 1.0)], train_batch_size=30, seed=1).step(0)
    shuffled = chosen.at(np.random.default_rng(0).permutation(30))
    (batch,), (other,) = (packed([samples], each, [30]) for each in (chosen, shuffled))
    assert batch_digest(batch) == batch_digest(other)
    following = Steps([(samples, 1.0)], train_batch_size=30, seed=1).step(1)
    assert batch_digest(packed([samples], following, [30])[0]) != batch_digest(batch)


def test_a_training_in_phases_takes_the_steps_that_its_plan_has_and_each_is_told_as_it_was(
    training: Training, small: Small
) -> None:
    phases = (
        PhaseConfig(share=0.5, max_seq_length=24, train_batch_size=20),
        PhaseConfig(share=0.5, train_micro_batch_size_per_gpu=3, datasets=(MixedDataset(dataset="dataset/small"),)),
    )
    trained = training(phases=phases, max_steps=6, schedule=Plug(name="cosine"))
    manifest = small.store.manifest(trained)
    assert [phase["steps"] for phase in manifest.config["phases"]] == [3, 3]
    curve = [json.loads(line) for line in small.store.file(trained, "curve.jsonl").read_text().splitlines()]
    told = [next(batch_texts(trained, step, 0, small.store)) for step in range(6)]
    for step, (head, line) in enumerate(zip(told, curve, strict=True)):
        assert head.startswith(f"step {step} of {small.dataset}: {20 if step < 3 else 30} samples, {line['tokens']:,} ")
    assert [line["learning_rate"] for line in curve] == pytest.approx(
        [2.5e-3, 5e-3, *(5e-3 * (1 + math.cos(math.pi * gone / 4)) / 2 for gone in range(4))]
    )
    assert len([line for line in batch_texts(trained, 5, 0, small.store) if line.startswith("  rank ")]) == 10


def test_a_step_that_was_not_taken_is_refused(trained: Artifact, small: Small) -> None:
    steps = small.store.manifest(trained).totals["steps"]
    with pytest.raises(ConfigError, match=f"took {steps:,} steps, numbered from 0; step {steps} is none of them"):
        list(batch_texts(trained, steps, 0, small.store))


def test_a_preset_tells_the_same_as_its_training_and_its_runs_how_each_step_was_dealt(
    trained: Artifact, small: Small, tiny: PretrainingConfig
) -> None:
    whole = list(batch_texts(trained, 4, 2, small.store))
    assert list(preset_batch_texts(tiny, small.dataset, 4, 2, small.store)) == whole
    progress = job_of(tiny, small.dataset, small.store).progress
    kept = progress.read_text(encoding="utf-8")
    try:
        begun = json.dumps({"resumed_at": 5, "device": "cpu", "world": 3})
        progress.write_text(f'{kept}{{"cut by a full di\n{begun}\n{{"step":')
        for step, world in ((4, 2), (5, 3)):
            texts = preset_batch_texts(tiny, small.dataset, step, 0, small.store)
            assert len({line.split(",")[0] for line in texts if line.startswith("  rank ")}) == world
    finally:
        progress.write_text(kept)
    with pytest.raises(ConfigError, match="pretraining/tiny takes 12 steps, numbered from 0; step 12 is none of them"):
        preset_batch_texts(tiny, small.dataset, 12, 0, small.store)
