"""The pretraining stage: launch the ranks, watch them, and commit what they leave.

The ranks keep their checkpoints in the store, under the recipe's fingerprint; so a killed run is simply run again, and
a training that ended just before its commit is only committed. Of two runs of one recipe, one trains under a lease and
the other waits for its artifact, or goes on from its checkpoints when it dies.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from pipeline.config import PretrainingConfig
from pipeline.errors import TrainingError
from pipeline.launching import launcher_named
from pipeline.launching.local import local_ranks
from pipeline.pretraining.engine import systems_config
from pipeline.pretraining.job import SCHEMA, TRAINED, Job
from pipeline.pretraining.phases import named_datasets, settled
from pipeline.pretraining.schedule import schedule_of
from pipeline.progress import Advance, progress
from pipeline.store import Artifact, Holder, Lease, Store
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES

__all__ = ["SCHEMA", "pretrain"]
LAST_STEPS = 100
log = logging.getLogger("bertmill")


def pretrain(config: PretrainingConfig, dataset: Artifact, *, store: Store, force: bool = False) -> Artifact:
    """Train an encoder on the dataset.

    Raises ConfigError before any rank starts: a DeepSpeed key of ours, a length over the positions, no such launcher.
    TrainingError where a rank fails; LeaseLost where another run has taken this one for dead.
    """
    check_pretraining(config, store)
    tokens, config = config.max_tokens, settled(config, dataset, store)
    if tokens is not None:
        log.info("a budget of %s tokens of %s is %s steps", f"{tokens:,}", dataset, f"{config.steps:,}")
    with ExitStack() as stack:
        job = stack.enter_context(_job(config, dataset, store))
        if not force and (found := store.find(job.recipe)):
            log.info("found %s", found)
            return found
        with _shown_waiting(job) as waiting:
            lease = stack.enter_context(store.lease(job.recipe, waiting))
        if not force and (found := store.find(job.recipe)):
            log.info("found %s, which another run has made meanwhile", found)
            lease.finish()
            return found
        job = replace(job, epoch=lease.epoch)
        work = store.work(job.recipe, lease.epoch)
        if force:
            work.clear()
        run = _launch(job, store, lease) if TRAINED not in work.names() else {}
        lease.check()
        files, record = work.load(TRAINED)
        curve = [json.loads(line) for line in _curve(files, store)]
        with store.draft(job.recipe, force=force) as draft:
            for entry in files:
                draft.include(entry)
            vocabulary = store.parent(dataset, "vocabulary")
            for name in TOKENIZER_FILES:
                draft.include(store.manifest(vocabulary).file(name), f"model/{name}")
            made = draft.commit(
                totals={
                    "steps": len(curve),
                    "tokens": sum(line["tokens"] for line in curve),
                    "parameters": record["parameters"],
                },
                metrics=_last(curve),
                producer=run,
            )
        lease.finish()
    last = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in _last(curve).items())
    log.info("made %s: at the end %s", made, last)
    return made


def check_pretraining(config: PretrainingConfig, store: Store) -> None:
    """ConfigError for whatever would fail later; costs nothing."""
    systems_config(config.deepspeed)
    schedule_of(config)
    launcher_named(store.settings.launcher)


@contextmanager
def _job(config: PretrainingConfig, dataset: Artifact, store: Store) -> Iterator[Job]:
    folder = Path(tempfile.mkdtemp(prefix="bertmill-job-"))
    try:
        yield Job(config, dataset, store.settings, folder, others=named_datasets(config, store))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _shown_waiting(job: Job) -> Iterator[Callable[[Holder], None]]:
    """Shows, while it is called, who trains that recipe already and how far they have come."""
    with ExitStack() as stack:
        advance: Advance | None = None
        done = 0

        def show(holder: Holder) -> None:
            nonlocal advance, done
            if advance is None:
                log.info("%s is trained by %s already: waiting for it", job.recipe.name, holder)
                bar = progress(f"waiting for pretraining {job.recipe.name}", job.config.steps)
                advance = stack.enter_context(bar)
            step = holder.note.get("step", done)
            advance(step - done, f"{holder}, heard of {holder.age_s:.0f} s ago")
            done = step

        yield show


def _launch(job: Job, store: Store, lease: Lease) -> dict[str, Any]:
    """Run the ranks to their end, or until the lease is lost; returns what ran where."""
    ranks = job.settings.ranks or local_ranks()
    log_file = job.settings.home / "logs" / f"{job.recipe.name}-{job.recipe.fingerprint[:12]}.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    launcher = launcher_named(job.settings.launcher)
    started, where, speeds = time.monotonic(), dict[str, Any](), list[float]()
    log.info("training %s on %d rank(s); their output: %s", job.recipe.name, ranks, log_file)
    store.check_before_commit()
    with progress(f"pretraining {job.recipe.name}", job.config.steps) as advance:
        done = 0

        def show(record: dict[str, Any]) -> None:
            nonlocal done
            if "resumed_at" in record:
                where.update({key: record[key] for key in ("device", "world", "zero_stage", "resumed_at")})
                advance(record["resumed_at"])
                done = record["resumed_at"]
                lease.note({"step": done, "of": job.config.steps})
                return
            speeds.append(record["tokens_per_second"])
            note = f"loss {record['loss']:.3f}, {record['tokens_per_second']:,.0f} tokens/s"
            advance(record["step"] + 1 - done, note)
            done = record["step"] + 1
            lease.note({"step": done, "of": job.config.steps})

        def poll() -> None:
            follow()
            lease.check()

        job.progress.touch()
        with job.progress.open(encoding="utf-8") as lines:
            follow = _follower(lines, show)
            status = launcher("pipeline.pretraining.worker", job.write(), ranks, log_file, poll)
            follow()
    if status != 0:
        raise TrainingError(_failure(job, log_file, status))
    return where | {
        "torch": version("torch"),
        "deepspeed": version("deepspeed"),
        "training_seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": round(sum(speeds) / len(speeds)) if speeds else None,
    }


def _follower(lines: IO[str], show: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Show each whole line that has come since the last call."""
    rest = ""

    def follow() -> None:
        nonlocal rest
        *whole, rest = (rest + lines.read()).split("\n")
        for line in whole:
            show(json.loads(line))

    return follow


def _failure(job: Job, log_file: Path, status: int) -> str:
    if job.error.exists():
        return job.error.read_text(encoding="utf-8")
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.strip() for line in lines if "Error" in line and "ChildFailedError" not in line]
    what = errors[-1] if errors else f"exit status {status}"
    return f"A training rank failed: {what}. The whole output is in {log_file}; checkpoints are kept, so run again."


def _curve(files: list[Any], store: Store) -> Iterator[str]:
    entry = next(entry for entry in files if entry.path == "curve.jsonl")
    yield from store.blob(entry).read_text(encoding="utf-8").splitlines()


def _last(curve: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the last steps."""
    last = curve[-LAST_STEPS:]
    names = ("loss", "masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss", "next_sentence_accuracy")
    return {name: sum(line[name] for line in last) / len(last) for name in names}
