"""What every rank runs: `python -m pipeline.pretraining.worker JOB`, under torchrun."""

import sys
from pathlib import Path

from pipeline.launching.tether import exit_with_launcher
from pipeline.pretraining.heartbeat import Heartbeat, stacks_on_request
from pipeline.pretraining.preemption import Preemption


def main(path: Path, preemption: Preemption) -> None:
    """Train the job, from its newest checkpoint where there is one, and leave the snapshot `trained`.

    Where this or another rank is asked to stop before, it leaves a checkpoint and ends as if all were well: torchrun
    would take any other status for a failure, and end the ranks that still store theirs.
    """
    import json
    import logging
    import os
    import shutil
    import tempfile

    import torch
    import torch.distributed as dist

    from pipeline.errors import BertmillError, Preempted
    from pipeline.pretraining.checkpoint import Checkpoints, Place
    from pipeline.pretraining.engine import import_deepspeed, initialise, systems_config, zero_stage
    from pipeline.pretraining.export import save_pretrained
    from pipeline.pretraining.fragments import whole_weights
    from pipeline.pretraining.initial import start_from
    from pipeline.pretraining.job import TRAINED, Job
    from pipeline.pretraining.loop import Surroundings, train
    from pipeline.pretraining.model import BertForPreTraining
    from pipeline.pretraining.phases import heldout_of, open_samples, plan_of
    from pipeline.pretraining.validation import Validation
    from pipeline.store import open_store

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    job = Job.read(path)
    heartbeat = Heartbeat(job.beats, int(os.environ["RANK"]))
    config = job.config
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    deepspeed = import_deepspeed()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)

    store = open_store(job.settings)
    work = store.work(job.recipe, job.epoch)
    systems = systems_config(config.deepspeed)
    place = Place(rank, world, zero_stage(systems))
    vocabulary_size = store.manifest(job.dataset).totals["vocabulary_size"]
    folder = Path(tempfile.mkdtemp(prefix="bertmill-rank-"))
    curve = folder / "curve.jsonl"
    curve.touch()
    checkpoints = Checkpoints(store, work, place, folder, config)
    try:
        model = BertForPreTraining(config, vocabulary_size)
        resume = checkpoints.load()
        if resume is not None:
            resume.fill(model)
            shutil.copyfile(resume.curve, curve)
        elif job.initial is not None:
            start_from(model, config, job.initial, store.parent(job.dataset, "vocabulary"), store)
        samples = open_samples(config, job.dataset, store)
        validation = Validation(
            heldout_of(config, job.dataset, store),
            limit=config.validation_samples,
            micro_batch_size=config.train_micro_batch_size_per_gpu,
            place=place,
        )
        engine = initialise(model, config, systems, world)
        if resume is not None:
            resume.restore(engine, place)
        with job.progress.open("a", encoding="utf-8") as progress:

            def report(record: dict[str, object]) -> None:
                progress.write(json.dumps(record | checkpoints.status) + "\n")
                progress.flush()

            def checkpoint(step: int, is_last_chance: bool) -> bool:
                drained = is_last_chance and checkpoints.drain(job.settings.store_deadline_s)  # or it would be put off
                checkpoints.save(engine, step, curve)
                return drained and checkpoints.drain(job.settings.store_deadline_s)

            start = resume.step if resume else 0
            if rank == 0:
                report(
                    {"resumed_at": start, "device": str(engine.device), "world": world, "zero_stage": place.zero_stage}
                )
            around = Surroundings(
                curve=curve,
                report=report,
                checkpoint=checkpoint,
                heartbeat=heartbeat,
                preemption=preemption,
                diagnosis=lambda step: job.log.with_suffix(f".step-{step}.json"),
            )
            plan = plan_of(config, samples, world=world, device=str(engine.device))
            train(engine, plan, validation, config, place, around, start=start)
        heartbeat.beat("finishing", config.steps)
        checkpoints.drain(job.settings.store_deadline_s)
        weights = whole_weights(engine, place)
        if rank == 0:
            save_pretrained(weights, config, vocabulary_size, folder / "model")
            files = [work.add(each, f"model/{each.name}") for each in sorted((folder / "model").iterdir())]
            parameters = sum(parameter.numel() for parameter in weights.values())
            work.commit(TRAINED, [*files, work.add(curve, "curve.jsonl")], {"parameters": parameters})
        dist.barrier()
        heartbeat.beat("done", config.steps)
    except Preempted:
        pass
    except BertmillError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None
    finally:
        checkpoints.close()
        shutil.rmtree(folder, ignore_errors=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    exit_with_launcher()
    stacks_on_request()
    asked = Preemption()
    asked.listen()
    main(Path(sys.argv[1]), asked)
