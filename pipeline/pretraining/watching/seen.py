"""What a training saw at a step: its batch made again, from the names of its samples."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, packed
from pipeline.dataset.dealing import dealt
from pipeline.dataset.plan import EPOCHS_A_PHASE, Plan
from pipeline.dataset.samples import Samples
from pipeline.dataset.showing import batch_samples, check_shown
from pipeline.dataset.steps import Chosen
from pipeline.errors import ConfigError
from pipeline.pretraining.job import job_of
from pipeline.pretraining.phases import open_samples, plan_of
from pipeline.pretraining.watching.lines import NewLines
from pipeline.store import Artifact, Store


def batch_texts(pretraining: Artifact, step: int, shown: int, store: Store) -> Iterator[str]:
    """What a training saw at a step (from 0): the batch's size and digest, how it was dealt, and some of its samples.

    Raises ConfigError for a step that it didn't take, or text that may not be shown.
    """
    manifest, dataset = store.manifest(pretraining), store.parent(pretraining, "dataset")
    config = PretrainingConfig.model_validate(manifest.config)
    if not 0 <= step < manifest.totals["steps"]:
        raise ConfigError(
            f"{pretraining} took {manifest.totals['steps']:,} steps, numbered from 0; step {step} is none of them."
        )
    return _texts(config, dataset, step, shown, store, manifest.producer)


def preset_batch_texts(
    config: PretrainingConfig, dataset: Artifact, step: int, shown: int, store: Store
) -> Iterator[str]:
    """The same of a training that is under way, has failed or has not begun: its preset says all but its ranks.

    These are told by the lines of progress that its runs have left on this machine. Raises as `job_of`, too.
    """
    job = job_of(config, dataset, store)
    if not 0 <= step < job.config.steps:
        raise ConfigError(
            f"pretraining/{config.name} takes {job.config.steps:,} steps, numbered from 0; step {step} is none of them."
        )
    return _texts(job.config, dataset, step, shown, store, _ranks_at(step, job.progress))


def _ranks_at(step: int, progress: Path) -> dict[str, Any]:
    """What the last run to begin before that step said of its ranks; nothing where none has."""
    if not progress.exists():
        return {}
    with progress.open(encoding="utf-8") as file:
        begun = [record for record in NewLines(file) if "resumed_at" in record]
    return next((record for record in reversed(begun) if record["resumed_at"] <= step), {})


def _texts(
    config: PretrainingConfig, dataset: Artifact, step: int, shown: int, store: Store, ran: Mapping[str, Any]
) -> Iterator[str]:
    """`config` is settled; `ran` says on how many ranks, on which devices."""
    world, device = ran.get("world", 1), ran.get("device", "cpu")
    samples = open_samples(config, dataset, store)
    plan = plan_of(config, samples, world=world, device=device)
    number, own = plan.phase_of(step)
    steps = plan.steps[number]
    if shown:
        for each in steps.samples:
            check_shown(each.dataset, store)
    chosen = steps.looked_at(own)
    (batch,) = packed(steps.samples, chosen, [len(chosen.rows)])
    mixed = " and ".join(str(each.dataset) for each in steps.samples)
    yield (
        f"step {step:,} of {mixed}: {len(batch.lengths):,} samples, {len(batch.input_ids):,} tokens, "
        f"{len(batch.masked_positions):,} predictions, sha256 {batch_digest(batch)}"
    )
    if "world" not in ran:
        yield "  no run of it is known here: dealt as to one rank, on a CPU"
    yield from _dealt_lines(plan, number, chosen, world)
    names = zip(batch.datasets[:shown], batch.indices[:shown], chosen.epochs[:shown] % EPOCHS_A_PHASE, strict=True)
    titles = [f"sample {index:,}{_origin(steps.samples, of, index)} in epoch {epoch}" for of, index, epoch in names]
    for text in batch_samples(batch, titles, steps.samples[0], store):
        yield ""
        yield text


def _origin(mixed: Sequence[Samples], dataset: int, index: int) -> str:
    """Of which dataset and source a sample is, where there are several."""
    samples = mixed[dataset]
    named = [str(samples.dataset)] if len(mixed) > 1 else []
    if len(samples.origins.names) > 1:
        named += [samples.origins.names[int(samples.origins.of(np.array([index]))[0])]]
    return f" of {', '.join(named)}" if named else ""


def _dealt_lines(plan: Plan, phase: int, chosen: Chosen, world: int) -> Iterator[str]:
    """A line for each micro-batch that a step of the phase was dealt into."""
    micro, capacity = plan.phases[phase].micro_batch_size, plan.capacities[phase]
    for place, hand in enumerate(dealt(chosen, micro_batch_size=micro, world=world, capacity=capacity)):
        tokens = int(chosen.lengths[hand].sum())
        yield f"  rank {place % world}, micro-batch {place // world}: {len(hand):,} samples, {tokens:,} tokens"


def batch_digest(batch: Batch) -> str:
    """A sha256 over what the model sees and predicts: the same for any number of ranks, micro-batches and workers."""
    digest = hashlib.sha256()
    order = np.argsort(batch.indices, kind="stable")
    ends = np.cumsum(batch.lengths)
    for at in order.tolist():
        start, end = int(ends[at] - batch.lengths[at]), int(ends[at])
        masked = (batch.masked_positions >= start) & (batch.masked_positions < end)
        parts = (
            batch.indices[at : at + 1],
            batch.input_ids[start:end],
            batch.token_type_ids[start:end],
            batch.masked_positions[masked] - start,
            batch.masked_lm_labels[masked],
            batch.next_sentence_label[at : at + 1],
        )
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
