"""What every rank runs: `python -m pipeline.pretraining.worker JOB`, under torchrun."""

import json
import logging
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.launching.tether import exit_with_launcher
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat, stacks_on_request
from pipeline.pretraining.staying_alive.preemption import Preemption

if TYPE_CHECKING:
    from pipeline.pretraining.checkpoints.checkpoint import Place
    from pipeline.pretraining.job import Job


def main(path: Path, preemption: Preemption) -> None:
    """Train the job, from its newest checkpoint where there is one, and leave the snapshot `trained`.

    Where this or another rank is asked to stop before, it leaves a checkpoint and ends as if all were well: torchrun
    would take any other status for a failure, and end the ranks that still store theirs.
    """
    import torch.distributed as dist

    from pipeline.errors import BertmillError, Preempted
    from pipeline.pretraining.checkpoints.checkpoint import Place
    from pipeline.pretraining.engine import join, systems_config, zero_stage
    from pipeline.pretraining.job import Job

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    job = Job.read(path)
    heartbeat = Heartbeat(job.beats, int(os.environ["RANK"]))
    join()
    stage = zero_stage(systems_config(job.config.deepspeed))
    place = Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), stage)
    folder = Path(tempfile.mkdtemp(prefix="bertmill-rank-"))
    try:
        train_job(job, place, folder, heartbeat, preemption)
    except Preempted:
        pass
    except BertmillError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    dist.destroy_process_group()


def train_job(job: "Job", place: "Place", folder: Path, heartbeat: Heartbeat, preemption: Preemption) -> None:
    """The rank's part of the training; `folder` is scratch."""
    import torch
    import torch.distributed as dist

    from pipeline.errors import TrainingError
    from pipeline.pretraining.checkpoints.checkpoint import Checkpoints
    from pipeline.pretraining.checkpoints.fragments import whole_weights
    from pipeline.pretraining.engine import check_device, initialise, systems_config
    from pipeline.pretraining.job import TRAINED
    from pipeline.pretraining.loop import Surroundings, train
    from pipeline.pretraining.model import BertForPreTraining
    from pipeline.pretraining.phases import heldout_of, open_samples, plan_of
    from pipeline.pretraining.planning.memory import check_memory
    from pipeline.pretraining.publish import publish_snapshot
    from pipeline.pretraining.watching.curve import Curve
    from pipeline.pretraining.watching.measures import events_of
    from pipeline.pretraining.watching.validation import Validation
    from pipeline.pretraining.weights.export import save_pretrained
    from pipeline.pretraining.weights.initial import start_from
    from pipeline.store import open_store

    config, store, deadline_s = job.config, open_store(job.settings), job.settings.store_deadline_s
    work = store.work(job.recipe, job.epoch)
    systems = systems_config(config.deepspeed)
    vocabulary_size = store.manifest(job.dataset).totals["vocabulary_size"]
    device = torch.device(torch.cuda.current_device() if torch.cuda.is_available() else "cpu")
    where = {"device": device.type, "world": place.world, "zero_stage": place.zero_stage}
    curve = folder / "curve.jsonl"
    curve.touch()
    publish = partial(publish_snapshot, job.recipe, store=store, producer=where)
    checkpoints = Checkpoints(store, work, place, folder, config, publish)
    try:
        check_device(config)
        model = BertForPreTraining(config, vocabulary_size)
        resume = checkpoints.load()
        if resume is not None:
            resume.fill(model)
            shutil.copyfile(resume.curve, curve)
        elif job.initial is not None:
            start_from(model, config, job.initial, store.parent(job.dataset, "vocabulary"), store)
        plan = plan_of(config, open_samples(config, job.dataset, store), world=place.world, device=device.type)
        check_memory(model, config, plan, systems=systems, world=place.world, ranks_here=_ranks_here(), device=device)
        micro = config.train_micro_batch_size_per_gpu
        heldout = heldout_of(config, job.dataset, store)
        validation = Validation(heldout, limit=config.validation_samples, micro_batch_size=micro, place=place)
        engine = initialise(model, config, systems, place.world, job.tensorboard)
        if resume is not None:
            resume.restore(engine, place)
        checkpoints.prepare(engine)
        with job.progress.open("a", encoding="utf-8") as progress:

            def report(record: dict[str, Any]) -> None:
                progress.write(json.dumps(record | checkpoints.status) + "\n")
                progress.flush()
                engine.monitor.write_events(events_of(record))

            def checkpoint(step: int, is_curve_written: bool, is_last_chance: bool) -> bool:
                drained = is_last_chance and checkpoints.drain(deadline_s)  # or it would be put off
                checkpoints.save(engine, step, curve, is_curve_written=is_curve_written)
                return drained and checkpoints.drain(deadline_s)

            lines = Curve(curve)
            around = Surroundings(
                curve=lines,
                report=report,
                checkpoint=checkpoint,
                heartbeat=heartbeat,
                preemption=preemption,
                diagnosis=lambda step: job.log.with_suffix(f".step-{step}.json"),
            )
            start = resume.step if resume else 0
            if place.rank == 0:
                report({"resumed_at": start} | where)
            train(engine, plan, validation, config, place, around, start=start)
        heartbeat.beat("finishing", config.steps)
        if not lines.write():
            raise TrainingError(f"The curve can't be written to {curve}: make room there, and run again to finish.")
        checkpoints.drain(deadline_s)
        weights = whole_weights(engine, place)
        if place.rank == 0:
            save_pretrained(weights, config, vocabulary_size, folder / "model")
            files = [work.add(each, f"model/{each.name}") for each in sorted((folder / "model").iterdir())]
            parameters = sum(parameter.numel() for parameter in weights.values())
            work.commit(TRAINED, [*files, work.add(curve, "curve.jsonl")], {"parameters": parameters})
        dist.barrier()
        heartbeat.beat("done", config.steps)
    finally:
        checkpoints.close()


def _ranks_here() -> int:
    return int(os.environ["LOCAL_WORLD_SIZE"])


if __name__ == "__main__":
    exit_with_launcher()
    stacks_on_request()
    asked = Preemption()
    asked.listen()
    main(Path(sys.argv[1]), asked)
