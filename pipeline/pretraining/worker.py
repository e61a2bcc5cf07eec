"""What every rank runs: `python -m pipeline.pretraining.worker JOB`, under torchrun.

It listens to requests, and ends with its launcher, before it loads what takes seconds (rank.py).
"""

import logging
import os
import shutil
import sys
from pathlib import Path

from pipeline.launching.tether import exit_with_launcher
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat, stacks_on_request
from pipeline.pretraining.staying_alive.preemption import Preemption


def main(path: Path, preemption: Preemption) -> None:
    """Join the other ranks and train the job with them.

    Where any of them is asked to stop, it ends as if all were well, leaving a checkpoint: torchrun would take any other
    status for a failure, and end the ranks that still store theirs.
    """
    import torch.distributed as dist

    from pipeline.errors import BertmillError, Preempted
    from pipeline.pretraining.engine import join
    from pipeline.pretraining.job import Job
    from pipeline.pretraining.place import Place
    from pipeline.pretraining.rank import train_job
    from pipeline.pretraining.systems import systems_config, zero_stage

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    job = Job.read(path)
    heartbeat = Heartbeat(job.beats, int(os.environ["RANK"]))
    stage = zero_stage(systems_config(job.config.deepspeed))
    place = Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), stage)
    folder = job.scratch(place.rank)
    shutil.rmtree(folder, ignore_errors=True)  # of ranks that were ended, in whose place these are
    folder.mkdir()
    try:
        join(job.settings)
        train_job(job, place, folder, heartbeat, preemption)
    except Preempted:
        pass
    except BertmillError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None
    dist.destroy_process_group()


if __name__ == "__main__":
    exit_with_launcher()
    stacks_on_request()
    asked = Preemption()
    asked.listen()
    main(Path(sys.argv[1]), asked)
