"""The pretraining stage: launch the ranks, watch them, and commit what they leave.

The ranks keep their checkpoints in the store, under the recipe's fingerprint; so a killed run is simply run again, and
a training that ended just before its commit is only committed. Of two runs of one recipe, one trains under a lease and
the other waits for its artifact, or goes on from its checkpoints when it dies.
"""

import logging
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.launching import launcher_named
from pipeline.pretraining.job import SCHEMA, TRAINED, job_of
from pipeline.pretraining.publish import publish
from pipeline.pretraining.running import run_ranks, shown_waiting
from pipeline.pretraining.schedule import schedule_of
from pipeline.pretraining.scratch import scratch_folder
from pipeline.pretraining.staying_alive.preemption import Preemption
from pipeline.pretraining.systems import systems_config
from pipeline.pretraining.watching.curve import CURVE, read_curve
from pipeline.pretraining.weights.initial import initial_record, log_start
from pipeline.store import Artifact, Store, Work

__all__ = ["SCHEMA", "pretrain"]
log = logging.getLogger("bertmill")


def pretrain(config: PretrainingConfig, dataset: Artifact, *, store: Store, force: bool = False) -> Artifact:
    """Train an encoder on the dataset, from the seed or from what `init` names.

    Raises ConfigError before any rank starts: a DeepSpeed key of ours, a length over the positions, no such launcher,
    an architecture that isn't the parent's. TrainingError where a rank fails or hangs; Preempted where it was asked to
    stop; LeaseLost where another run has taken this one for dead.
    """
    check_pretraining(config, store)
    preemption = Preemption()
    with ExitStack() as stack:
        stack.enter_context(preemption.listening())
        job = job_of(config, dataset, store, stack.enter_context(scratch_folder()))
        if config.max_tokens is not None:
            log.info("%s tokens of %s are %s steps", f"{config.max_tokens:,}", dataset, f"{job.config.steps:,}")
        if not force and (found := store.find(job.recipe)):
            log.info("found %s", found)
            return found
        with shown_waiting(job, preemption) as waiting:
            lease = stack.enter_context(store.lease(job.recipe, waiting))
        if not force and (found := store.find(job.recipe)):
            log.info("found %s, which another run has made meanwhile", found)
            lease.finish()
            return found
        job = replace(job, epoch=lease.epoch)
        work = store.work(job.recipe, lease.epoch)
        if force:
            _begin_anew(work, store.find(job.recipe))
        warn_of_the_floor(job.config)
        if job.initial is not None:
            log_start(initial_record(job.initial, store.parent(dataset, "vocabulary"), store))
        run = run_ranks(job, store, lease, preemption) if TRAINED not in work.names() else {}
        lease.confirm()
        files, record = work.load(TRAINED)
        curve = next(entry for entry in files if entry.path == CURVE)
        with store.draft(job.recipe, force=force) as draft:
            for entry in files:
                draft.include(entry)
            steps, ran = read_curve(store.blob(curve)), record.get("producer", {}) | run
            made = publish(draft, steps, record["parameters"], job.initial, store=store, producer=ran)
        lease.finish()
    means = store.manifest(made).metrics
    log.info("made %s: at the end %s", made, ", ".join(f"{key.replace('_', ' ')} {means[key]:.3f}" for key in means))
    for step in record.get("unmade_snapshots", ()):
        log.warning(
            "of step %s there is no snapshot: its checkpoint couldn't be stored in time (%s says why). To have it, "
            "train again with --force, where the store answers and scratch (TMPDIR) has room.",
            f"{step:,}",
            job.log,
        )
    return made


def warn_of_the_floor(config: PretrainingConfig) -> None:
    """Say so where `floor_step` comes too late to be asked for, as in a short trial of a long training's preset."""
    if config.floor_step is not None and config.floor_step > config.steps:
        log.warning(
            "pretraining.floor_step is %s and the training has %s steps: whether anything is learned won't be asked. "
            "Set an earlier one where it should be.",
            f"{config.floor_step:,}",
            f"{config.steps:,}",
        )


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


def _begin_anew(work: Work, replaced: Artifact | None) -> None:
    """Forget what other runs left, unless it is of a forced one too that was to stand beside the same version.

    So a forced training that is stopped goes on when the same command is run again.
    """
    mark = f"forced-{replaced.version if replaced else 'nothing'}"
    if mark not in work.names():
        work.clear()
        work.commit(mark, [], {})
