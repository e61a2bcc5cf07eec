"""What a training waits for beside its steps: samples, and checkpoints; as shares of its time, from its own lines.

    python benchmarks/overheads.py --steps 300 --set pretraining.hidden_size=256

A preset is really trained, through the launcher, on all ranks that the machine has. What a checkpoint holds training up
is told at the interval of this run, and as it is at the default one.
"""

import argparse
import json
import tempfile
from typing import Any

from pipeline.config import PretrainingConfig
from pipeline.mapping import process_map
from pipeline.preset import load_preset
from pipeline.pretraining.job import job_of
from pipeline.pretraining.pretrain import pretrain
from pipeline.settings import Settings
from pipeline.stages import run_stage
from pipeline.store import open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="table.key=value")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=50, help="steps between two lines, and between two checkpoints")
    given = parser.parse_args()
    overrides = [f"pretraining.max_steps={given.steps}", f"pretraining.log_every={given.every}"]
    overrides += [f"pretraining.checkpoint_every={given.every}", "pretraining.validation_samples=0", *given.set]
    with tempfile.TemporaryDirectory(prefix="bertmill-benchmark-") as home:
        store = open_store(Settings.from_environment({"BERTMILL_HOME": home}))
        preset = load_preset(given.preset, overrides, "overheads")
        with process_map(2) as mapped:
            *_, dataset = (run_stage(stage, preset, store, map=mapped) for stage in ("corpus", "vocabulary", "dataset"))
        pretrain(preset.pretraining, dataset, store=store)
        told = job_of(preset.pretraining, dataset, store).progress.read_text(encoding="utf-8").splitlines()
    report([line for line in map(json.loads, told) if "seconds" in line], given.every)


def report(lines: list[dict[str, Any]], every: int) -> None:
    """The first line apart: in it the loader begins, and memory is touched for the first time."""
    default = PretrainingConfig.model_fields["checkpoint_every"].default
    print(f"{'steps':>12} {'a step':>10} {'tokens/s':>10} {'loader':>9} {'checkpoint':>11} {f'at {default:,}':>9}")
    for name, some in (("first", lines[:1]), ("all after", lines[1:])):
        seconds, steps = sum(line["seconds"] for line in some), every * len(some)
        tokens, loader, stored = (
            sum(line[key] * line["seconds"] for line in some) / seconds
            for key in ("tokens_per_second", "loader_wait_share", "checkpoint_share")
        )
        at_default = stored * every / default
        print(f"{name:>12} {seconds / steps:9.3f}s {tokens:10,.0f} {loader:9.3%} {stored:11.3%} {at_default:9.4%}")


if __name__ == "__main__":
    main()
