"""What every rank runs: `python -m pipeline.pretraining.worker JOB`, under torchrun."""

import sys
from pathlib import Path

from pipeline.launching.tether import exit_with_launcher


def main(path: Path) -> None:
    """Train the job, from its newest checkpoint where there is one, and leave the snapshot `trained`."""
    import json
    import logging
    import os
    import shutil
    import tempfile
    from functools import partial

    import torch
    import torch.distributed as dist

    from pipeline.dataset.samples import Samples
    from pipeline.errors import BertmillError
    from pipeline.pretraining.checkpoint import Checkpoints, Place
    from pipeline.pretraining.engine import import_deepspeed, initialise, systems_config, zero_stage
    from pipeline.pretraining.export import save_pretrained
    from pipeline.pretraining.fragments import whole_weights
    from pipeline.pretraining.job import TRAINED, Job
    from pipeline.pretraining.loop import train
    from pipeline.pretraining.model import BertForPreTraining
    from pipeline.pretraining.publish import publish_snapshot
    from pipeline.store import open_store

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    job = Job.read(path)
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
    samples = Samples(store, job.dataset)
    vocabulary_size = store.manifest(job.dataset).totals["vocabulary_size"]
    folder = Path(tempfile.mkdtemp(prefix="bertmill-rank-"))
    curve = folder / "curve.jsonl"
    curve.touch()
    producer = {
        "world": world,
        "zero_stage": place.zero_stage,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    checkpoints = Checkpoints(
        store, work, place, folder, config, partial(publish_snapshot, job.recipe, store=store, producer=producer)
    )
    try:
        model = BertForPreTraining(config, vocabulary_size)
        resume = checkpoints.load()
        if resume is not None:
            resume.fill(model)
            shutil.copyfile(resume.curve, curve)
        engine = initialise(model, config, systems, world)
        if resume is not None:
            resume.restore(engine, place)
        checkpoints.prepare(engine)
        with job.progress.open("a", encoding="utf-8") as progress:

            def report(record: dict[str, object]) -> None:
                progress.write(json.dumps(record | checkpoints.status) + "\n")
                progress.flush()

            start = resume.step if resume else 0
            if rank == 0:
                report(
                    {"resumed_at": start, "device": str(engine.device), "world": world, "zero_stage": place.zero_stage}
                )
            train(
                engine,
                samples,
                config,
                place,
                start=start,
                curve=curve,
                report=report,
                checkpoint=lambda step: checkpoints.save(engine, step, curve),
            )
        checkpoints.drain(job.settings.store_deadline_s)
        weights = whole_weights(engine, place)
        if rank == 0:
            save_pretrained(weights, config, vocabulary_size, folder / "model")
            files = [work.add(each, f"model/{each.name}") for each in sorted((folder / "model").iterdir())]
            parameters = sum(parameter.numel() for parameter in weights.values())
            work.commit(TRAINED, [*files, work.add(curve, "curve.jsonl")], {"parameters": parameters})
        dist.barrier()
    except BertmillError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None
    finally:
        checkpoints.close()
        shutil.rmtree(folder, ignore_errors=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    exit_with_launcher()
    main(Path(sys.argv[1]))
