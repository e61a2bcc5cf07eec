"""A rank's part of a training: begun from nothing, a parent or a checkpoint; trained; its weights left in the store."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.dataset.plan import Plan
from pipeline.errors import TrainingError
from pipeline.pretraining.checkpoints.checkpoint import Checkpoints
from pipeline.pretraining.checkpoints.fragments import whole_weights
from pipeline.pretraining.engine import check_device, initialise, patience
from pipeline.pretraining.job import TRAINED, Job
from pipeline.pretraining.loop import Surroundings, train
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.phases import heldout_of, open_samples, plan_of
from pipeline.pretraining.place import Place
from pipeline.pretraining.planning.memory import check_memory
from pipeline.pretraining.publish import publish_snapshot
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat
from pipeline.pretraining.staying_alive.preemption import Preemption
from pipeline.pretraining.systems import systems_config
from pipeline.pretraining.watching.curve import CURVE, Curve
from pipeline.pretraining.watching.measures import events_of
from pipeline.pretraining.watching.validation import Validation
from pipeline.pretraining.weights.export import save_pretrained
from pipeline.pretraining.weights.initial import start_from
from pipeline.store import Store, Work, open_store


@dataclass(frozen=True)
class Begun:
    """A training that is ready to take its next step."""

    engine: Any
    plan: Plan
    validation: Validation
    start: int
    """Steps that are done."""


def train_job(job: Job, place: Place, folder: Path, heartbeat: Heartbeat, preemption: Preemption) -> None:
    """Train the job, from its newest checkpoint where there is one, and leave the snapshot `trained`.

    `folder` is scratch. Raises Preempted where a rank was asked to stop, and TrainingError.
    """
    store = open_store(job.settings)
    work = store.work(job.recipe, job.epoch)
    where = {"device": _device().type, "world": place.world, "zero_stage": place.zero_stage}
    publish = partial(publish_snapshot, job.recipe, store=store, producer=where)
    checkpoints = Checkpoints(store, work, place, folder, job.config, publish)
    try:
        begun = _begin(job, place, store, checkpoints, folder / CURVE)
        curve = Curve(folder / CURVE)
        with _surroundings(job, begun, checkpoints, curve, heartbeat, preemption) as around:
            if place.rank == 0:
                around.report({"resumed_at": begun.start} | where)
            train(begun.engine, begun.plan, begun.validation, job.config, place, around, start=begun.start)
        heartbeat.beat("finishing", job.config.steps)
        if not curve.write():
            raise TrainingError(
                f"The curve can't be written to {curve.path}: make room there, and run again to finish."
            )
        checkpoints.finish(job.settings.store_deadline_s)
        weights = whole_weights(begun.engine, place)
        if place.rank == 0:
            _leave(weights, job, begun.engine.module.vocabulary_size, work, folder, {"resumed_at": begun.start} | where)
        dist.barrier()
        heartbeat.beat("done", job.config.steps)
    finally:
        checkpoints.close()


def _begin(job: Job, place: Place, store: Store, checkpoints: Checkpoints, curve: Path) -> Begun:
    """The engine as the newest checkpoint left it, or as the job's parent or seed has it.

    ConfigError for what the device, the memory or the dataset can't do.
    """
    config, device, systems = job.config, _device(), systems_config(job.config.deepspeed)
    check_device(config)
    curve.touch()
    model = BertForPreTraining(config, store.manifest(job.dataset).totals["vocabulary_size"])
    resume = checkpoints.load()
    if resume is not None:
        resume.fill(model)
        shutil.copyfile(resume.curve, curve)
    elif job.initial is not None:
        start_from(model, config, job.initial, store.parent(job.dataset, "vocabulary"), store)
    plan = plan_of(config, open_samples(config, job.dataset, store), world=place.world, device=device.type)
    ranks_here = int(os.environ["LOCAL_WORLD_SIZE"])
    check_memory(model, config, plan, systems=systems, world=place.world, ranks_here=ranks_here, device=device)
    validation = Validation(
        heldout_of(config, job.dataset, store),
        limit=config.validation_samples,
        micro_batch_size=config.train_micro_batch_size_per_gpu,
        place=place,
    )
    engine = initialise(model, config, systems, place.world, job.tensorboard)
    if resume is not None:
        resume.restore(engine, place)
    checkpoints.prepare(engine)
    return Begun(engine, plan, validation, resume.step if resume else 0)


@contextmanager
def _surroundings(
    job: Job, begun: Begun, checkpoints: Checkpoints, curve: Curve, heartbeat: Heartbeat, preemption: Preemption
) -> Iterator[Surroundings]:
    """What the loop tells goes to files and TensorBoard, and into checkpoints."""
    deadline_s = job.settings.store_deadline_s
    with job.progress.open("a", encoding="utf-8") as progress:

        def report(record: dict[str, Any]) -> None:
            progress.write(json.dumps(record | checkpoints.status) + "\n")
            progress.flush()
            begun.engine.monitor.write_events(events_of(record))

        def checkpoint(step: int, is_curve_written: bool, is_last_chance: bool) -> bool:
            drained = is_last_chance and checkpoints.drain(deadline_s)  # or it would be put off
            checkpoints.save(begun.engine, step, curve.path, is_curve_written=is_curve_written)
            return drained and checkpoints.drain(deadline_s)

        yield Surroundings(
            curve=curve,
            report=report,
            checkpoint=checkpoint,
            heartbeat=heartbeat,
            preemption=preemption,
            patience=patience(job.settings),
            diagnosis=lambda step: job.log.with_suffix(f".step-{step}.json"),
        )


def _leave(
    weights: dict[str, torch.Tensor], job: Job, vocabulary_size: int, work: Work, folder: Path, where: dict[str, Any]
) -> None:
    """The whole weights and the curve, as the snapshot that the stage publishes, by whichever run."""
    save_pretrained(weights, job.config, vocabulary_size, folder / "model")
    files = [work.add_blob(each, f"model/{each.name}") for each in sorted((folder / "model").iterdir())]
    parameters = sum(parameter.numel() for parameter in weights.values())
    record = {"parameters": parameters, "producer": where}
    work.commit(TRAINED, [*files, work.add_blob(folder / CURVE, CURVE)], record)


def _device() -> torch.device:
    return torch.device(torch.cuda.current_device() if torch.cuda.is_available() else "cpu")
