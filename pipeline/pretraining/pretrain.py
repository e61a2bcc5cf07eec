"""The pretraining stage: launch the ranks, watch them, and commit what they leave.

The ranks keep their checkpoints in the store, under the recipe's fingerprint; so a killed run is simply run again, and
a training that ended just before its commit is only committed. Of two runs of one recipe, one trains under a lease and
the other waits for its artifact, or goes on from its checkpoints when it dies.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.launching import launcher_named
from pipeline.pretraining.job import SCHEMA, TRAINED, Job, job_of
from pipeline.pretraining.publish import last_means, publish
from pipeline.pretraining.running import run_ranks, shown_waiting
from pipeline.pretraining.schedule import schedule_of
from pipeline.pretraining.systems import systems_config
from pipeline.pretraining.watching.curve import CURVE
from pipeline.pretraining.weights.initial import initial_record, log_start
from pipeline.store import Artifact, Store

__all__ = ["SCHEMA", "pretrain"]
log = logging.getLogger("bertmill")


def pretrain(config: PretrainingConfig, dataset: Artifact, *, store: Store, force: bool = False) -> Artifact:
    """Train an encoder on the dataset, from the seed or from what `init` names.

    Raises ConfigError before any rank starts: a DeepSpeed key of ours, a length over the positions, no such launcher,
    an architecture that isn't the parent's. TrainingError where a rank fails or hangs; Preempted where it was asked to
    stop; LeaseLost where another run has taken this one for dead.
    """
    check_pretraining(config, store)
    with ExitStack() as stack:
        job = stack.enter_context(_job(config, dataset, store))
        if config.max_tokens is not None:
            log.info("%s tokens of %s are %s steps", f"{config.max_tokens:,}", dataset, f"{job.config.steps:,}")
        if not force and (found := store.find(job.recipe)):
            log.info("found %s", found)
            return found
        with shown_waiting(job) as waiting:
            lease = stack.enter_context(store.lease(job.recipe, waiting))
        if not force and (found := store.find(job.recipe)):
            log.info("found %s, which another run has made meanwhile", found)
            lease.finish()
            return found
        job = replace(job, epoch=lease.epoch)
        work = store.work(job.recipe, lease.epoch)
        if force:
            work.clear()
        vocabulary = store.parent(dataset, "vocabulary")
        start = {"init": initial_record(job.initial, vocabulary, store)} if job.initial else {}
        for record in start.values():
            log_start(record)
        run = run_ranks(job, store, lease) if TRAINED not in work.names() else {}
        lease.check()
        files, record = work.load(TRAINED)
        curve = [json.loads(line) for line in _curve(files, store)]
        with store.draft(job.recipe, force=force) as draft:
            for entry in files:
                draft.include(entry)
            totals = {"parameters": record["parameters"]} | start
            made = publish(draft, curve, totals, store=store, producer=record.get("producer", {}) | run)
        lease.finish()
    last = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in last_means(curve).items())
    log.info("made %s: at the end %s", made, last)
    return made


def check_pretraining(config: PretrainingConfig, store: Store) -> None:
    """ConfigError for whatever would fail later; costs nothing."""
    systems_config(config.deepspeed)
    schedule_of(config)
    if store.settings.tensorboard is not None and find_spec("tensorboard") is None:
        raise ConfigError(
            "BERTMILL_TENSORBOARD is set, but the package tensorboard isn't there: pip install "
            "'bertmill[tensorboard]', or unset it."
        )
    launcher_named(store.settings.launcher)


@contextmanager
def _job(config: PretrainingConfig, dataset: Artifact, store: Store) -> Iterator[Job]:
    folder = Path(tempfile.mkdtemp(prefix="bertmill-job-"))
    try:
        yield job_of(config, dataset, store, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _curve(files: list[Any], store: Store) -> Iterator[str]:
    entry = next(entry for entry in files if entry.path == CURVE)
    yield from store.blob(entry).read_text(encoding="utf-8").splitlines()
