"""A rank's part of a training: begun from nothing, a parent or a checkpoint; trained; its weights left in the store."""

import logging
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
from pipeline.pretraining.watching.lines import Lines
from pipeline.pretraining.watching.measures import events_of
from pipeline.pretraining.watching.validation import Validation, samples_at_once
from pipeline.pretraining.weights.export import save_pretrained
from pipeline.pretraining.weights.initial import start_from
from pipeline.store import Store, Work, open_store

log = logging.getLogger("bertmill")


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
    publish = partial(publish_snapshot, job.recipe, initial=job.initial, scratch=folder, store=store, producer=where)
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
        unmade = checkpoints.finish()
        weights = whole_weights(begun.engine, place)
        if place.rank == 0:
            record = {"parameters": sum(each.numel() for each in weights.values()), "unmade_snapshots": unmade}
            record["producer"] = {"resumed_at": begun.start} | where
            save_pretrained(weights, job.config, begun.engine.module.vocabulary_size, folder / "model")
            _leave(folder, record, work)
        dist.barrier()
        heartbeat.beat("done", job.config.steps)
    finally:
        checkpoints.close()


def _begin(job: Job, place: Place, store: Store, checkpoints: Checkpoints, curve: Path) -> Begun:
    """The engine as the newest checkpoint left it, or as the job's parent or seed has it.

    ConfigError for what the device, the memory or the dataset can't do.
    """
    config = job.config
    check_device(config)
    curve.touch()
    resume = checkpoints.load()
    model = new_model(job, store, is_filled=resume is not None)
    if resume is not None:
        resume.fill(model)
        shutil.copyfile(resume.curve, curve)
    plan = fitting_plan(job, model, place.world, store)
    heldout = heldout_of(config, job.dataset, store)
    at_once = samples_at_once(plan, heldout.values(), place.world)
    validation = Validation(heldout, limit=config.validation_samples, micro_batch_size=at_once, place=place)
    engine = initialise(model, config, systems_config(config.deepspeed), place.world, job.tensorboard)
    if resume is not None:
        resume.restore(engine, place)
    checkpoints.prepare(engine)
    return Begun(engine, plan, validation, resume.step if resume else 0)


def new_model(job: Job, store: Store, *, is_filled: bool = False) -> BertForPreTraining:
    """The model as the job's parent or seed makes it; the seed where it is to be filled from a checkpoint."""
    model = BertForPreTraining(job.config, store.manifest(job.dataset).totals["vocabulary_size"])
    if job.initial is not None and not is_filled:
        start_from(model, job.config, job.initial, store.parent(job.dataset, "vocabulary"), store)
    return model


def fitting_plan(job: Job, model: BertForPreTraining, world: int, store: Store) -> Plan:
    """All steps of a job, whose micro-batches fit on this rank beside the model; ConfigError where they don't."""
    config, device, systems = job.config, _device(), systems_config(job.config.deepspeed)
    plan = plan_of(config, open_samples(config, job.dataset, store), world=world, device=device.type)
    ranks_here = int(os.environ["LOCAL_WORLD_SIZE"])
    check_memory(model, config, plan, systems=systems, world=world, ranks_here=ranks_here, device=device)
    return plan


@contextmanager
def _surroundings(
    job: Job, begun: Begun, checkpoints: Checkpoints, curve: Curve, heartbeat: Heartbeat, preemption: Preemption
) -> Iterator[Surroundings]:
    """What the loop tells goes to files and TensorBoard, and into checkpoints."""
    with Lines(job.progress) as progress:
        _forgive_a_full_disk(begun.engine.monitor)

        def report(record: dict[str, Any]) -> None:
            progress.add(record | checkpoints.status)
            begun.engine.monitor.write_events(events_of(record))

        yield Surroundings(
            curve=curve,
            report=report,
            checkpoint=partial(checkpoints.save, begun.engine, curve=curve.path),
            heartbeat=heartbeat,
            preemption=preemption,
            patience=patience(job.settings),
            diagnosis=lambda step: job.log.with_suffix(f".step-{step}.json"),
        )


def _forgive_a_full_disk(monitor: Any) -> None:
    """Let one end TensorBoard's events, whose thread ends by it, and not the training: DeepSpeed's steps write some."""
    write = monitor.write_events

    def write_or_give_up(events: list[tuple[str, float, int]]) -> None:
        try:
            write(events)
        except OSError as error:
            monitor.tb_monitor.enabled = False
            log.warning("TensorBoard gets no more of this run: %s", error)

    monitor.write_events = write_or_give_up


def _leave(folder: Path, record: dict[str, Any], work: Work) -> None:
    """The whole weights and the curve, as the snapshot that the stage publishes, by whichever run."""
    files = [work.add_blob(each, f"model/{each.name}") for each in sorted((folder / "model").iterdir())]
    work.commit(TRAINED, [*files, work.add_blob(folder / CURVE, CURVE)], record)


def _device() -> torch.device:
    return torch.device(torch.cuda.current_device() if torch.cuda.is_available() else "cpu")
