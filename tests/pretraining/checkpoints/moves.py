"""Run on several ranks by test_fragments.py: trainings under each ZeRO stage, each gone on with under some stages.

`python -m tests.pretraining.checkpoints.moves FOLDER STAGES`: reads `home` and `config.json` there, and writes
`curves.json`; from each training's checkpoint it goes on under so many stages, the training's own first.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pipeline.config import PretrainingConfig
from pipeline.pretraining.checkpoints.checkpoint import Checkpoints
from pipeline.pretraining.checkpoints.fragments import whole_weights
from pipeline.pretraining.engine import import_deepspeed, initialise
from pipeline.pretraining.loop import Surroundings, train
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.phases import open_samples, plan_of
from pipeline.pretraining.place import Place
from pipeline.pretraining.staying_alive.heartbeat import Heartbeat
from pipeline.pretraining.staying_alive.preemption import Preemption
from pipeline.pretraining.systems import systems_config
from pipeline.pretraining.watching.curve import Curve
from pipeline.store import Recipe
from tests.pretraining.fp16_worker import let_this_cpu_train_in_fp16
from tests.small import store_of

STAGES = (0, 1, 2, 3)


class Mover:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = PretrainingConfig.model_validate_json((folder / "config.json").read_text())
        self.store = store_of(folder / "home")
        self.dataset = self.store.resolve("dataset/small")
        self.samples = open_samples(self.config, self.dataset, self.store)
        self.size = self.store.manifest(self.dataset).totals["vocabulary_size"]
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def trained(self, number: int, stage: int) -> list[dict[str, Any]]:
        """The curve of a training under that stage: anew where recipe `number` has no checkpoint, else from there."""
        place = Place(self.rank, self.world, stage)
        work = self.store.work(Recipe("pretraining", self.config, 1_000 + number, (self.dataset,)))
        scratch = self.folder / f"rank-{self.rank}"
        scratch.mkdir(exist_ok=True)
        curve = scratch / "curve.jsonl"
        curve.write_bytes(b"")
        checkpoints = Checkpoints(self.store, work, place, scratch, self.config)
        model = BertForPreTraining(self.config, self.size)
        resume = checkpoints.load()
        if resume is not None:
            resume.fill(model)
        engine = initialise(model, self.config, systems_config(f"zero{stage}"), self.world)
        if resume is not None:
            resume.restore(engine, place)
        start = resume.step if resume else 0

        def checkpoint(step: int, *, is_curve_written: bool, is_last_chance: bool) -> bool:
            if resume is None:
                checkpoints.save(engine, step, curve, is_curve_written=is_curve_written)
                assert checkpoints.drain(60)
            return True

        lines = Curve(curve)
        around = Surroundings(
            curve=lines,
            report=lambda _: None,
            checkpoint=checkpoint,
            heartbeat=Heartbeat(scratch / "beats", self.rank),
            preemption=Preemption(),
            patience=timedelta(minutes=5),
            diagnosis=lambda step: scratch / f"step-{step}.json",
        )
        plan = plan_of(self.config, self.samples, world=self.world, device="cpu")
        train(engine, plan, None, self.config, place, around, start=start)
        assert lines.write()
        weights = whole_weights(engine, place)
        engine.destroy()
        if self.rank:
            return []
        return [*lines.read(), {"norm": {name: float(each.double().norm()) for name, each in weights.items()}}]


def main(folder: Path, stages: int) -> None:
    import_deepspeed().init_distributed(dist_backend="gloo", verbose=False)
    let_this_cpu_train_in_fp16()
    mover = Mover(folder)
    curves = {}
    for begun in STAGES:
        curves[f"{begun}"] = mover.trained(begun, begun)
        for stage in (*STAGES[begun:], *STAGES[:begun])[:stages]:
            curves[f"{begun}->{stage}"] = mover.trained(begun, stage)
    if mover.rank == 0:
        (folder / "curves.json").write_text(json.dumps(curves))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
