"""The ranks of a training: launched, shown while they run, started again where they are lost, until they are done."""

import logging
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ConfigError, Preempted, TrainingError
from pipeline.launching import launcher_named
from pipeline.launching.local import local_ranks
from pipeline.pretraining.job import Job
from pipeline.pretraining.staying_alive.preemption import Preemption, preempted
from pipeline.pretraining.staying_alive.stragglers import Stragglers
from pipeline.pretraining.staying_alive.watchdog import RanksLost, Watchdog
from pipeline.pretraining.watching.lines import NewLines
from pipeline.progress import Advance, progress
from pipeline.settings import Settings
from pipeline.store import Holder, Lease, Store

OFTEN = {"SIGKILL": ", which is what the kernel does where memory runs out", "SIGBUS": ", often for want of /dev/shm"}
log = logging.getLogger("bertmill")


def run_ranks(job: Job, store: Store, lease: Lease, preemption: Preemption) -> dict[str, Any]:
    """Run the ranks to their end, or until the lease is lost; returns what ran where.

    Ranks that hang or die are started again from the last checkpoint. Raises Preempted where they were asked to stop,
    in whatever way they ended then.
    """
    ranks = job.settings.ranks or local_ranks()
    begin_log(job.log)
    started = time.monotonic()
    log.info("training %s on %d rank(s); their output: %s", job.recipe.name, ranks, job.log)
    warn_of_crowding(job.settings, ranks)
    store.check_before_commit()
    with (
        progress(f"pretraining {job.recipe.name}", job.config.steps) as advance,
        job.progress.open("a+", encoding="utf-8") as lines,
    ):
        lines.seek(0, 2)  # what earlier runs of it told stays
        shown = Shown(lines, advance, lease, job.config.steps)
        _run_until_done(job, ranks, lease, shown, preemption)
    return shown.where | {
        "torch": version("torch"),
        "deepspeed": version("deepspeed"),
        "training_seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": round(statistics.mean(shown.speeds)) if shown.speeds else None,
    }


def begin_log(path: Path) -> None:
    """Make it an empty file, beside which that of the run before is kept. ConfigError where it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        path.touch()
    except OSError as error:
        raise ConfigError(
            f"The log can't be written to {path}: {error.strerror}. Set BERTMILL_HOME to a folder that can be written."
        ) from None


def _run_until_done(job: Job, ranks: int, lease: Lease, shown: "Shown", preemption: Preemption) -> None:
    """Run the ranks, and again where they are lost, so often as is allowed."""
    for restarts in range(job.settings.restarts + 1):
        preemption.check(job.recipe.name)
        try:
            _watched(job, ranks, lease, shown, preemption)
            return
        except TrainingError as failed:
            if preemption.asked:
                raise Preempted(
                    f"{failed} The training had been asked to stop: run the same command again to go on."
                ) from None
            if not isinstance(failed, RanksLost):
                raise
            if restarts == job.settings.restarts:
                raise TrainingError(f"{failed} Checkpoints are kept: run the same command again to go on.") from None
            log.warning("%s Starting again from the last checkpoint.", failed)


def _watched(job: Job, ranks: int, lease: Lease, shown: "Shown", preemption: Preemption) -> None:
    """Run the ranks once, under the watchdog."""
    watchdog = Watchdog(job.beats, job.log, job.settings)
    shutil.rmtree(job.beats, ignore_errors=True)
    job.error.unlink(missing_ok=True)

    def poll() -> None:
        shown.follow()
        lease.check()
        if preemption.asked:
            watchdog.ask_to_stop()
        watchdog.look()

    launcher = launcher_named(job.settings.launcher)
    status = launcher("pipeline.pretraining.worker", job.write(), ranks, job.log, poll)
    shown.follow()
    if status != 0:
        is_worth_another_try = watchdog.have_trained and not job.error.exists()
        raise (RanksLost if is_worth_another_try else TrainingError)(failure_of(job, status, job.log))
    if (beat := watchdog.preempted) is not None:
        raise preempted(job.recipe.name, beat.step, job.config.steps, is_stored=beat.doing == "preempted")


def warn_of_crowding(settings: Settings, ranks: int) -> None:
    """Say so where ranks of this machine are more than its cores: each waits for one that has none."""
    cores = os.cpu_count() or 1
    if settings.launcher == "local" and ranks > cores:
        log.warning("%d ranks share %d core(s) and wait for each other: set BERTMILL_RANKS to fewer", ranks, cores)


def failure_of(job: Job, status: int, log_file: Path) -> str:
    """Its own sentence, or what the log says of the rank that failed first; the others' errors follow from that."""
    if job.error.exists():
        return job.error.read_text(encoding="utf-8")
    text = log_file.read_text(encoding="utf-8", errors="replace")
    root = text.rpartition("Root Cause (first observed failure):")[2]
    rank = found[1] if (found := re.search(r"rank +: (\d+)", root)) else ""
    errors = [line.strip() for line in text.splitlines() if "Error" in line and "ChildFailedError" not in line]
    errors = [line for line in errors if line.startswith(f"[rank{rank}]")] or errors
    what = errors[-1] if errors else f"exit status {status}"
    if ended := re.search(r"Signal \d+ \((\w+)\) received", root):
        what = f"rank {rank} was ended by {ended[1]}{OFTEN.get(ended[1], '')}"
    return f"A training rank failed: {what}. The whole output is in {log_file}."


class Shown:
    """Rank 0's lines of progress as a live line, and in the lease for whoever waits."""

    def __init__(self, lines: IO[str], advance: Advance, lease: Lease, steps: int) -> None:
        self.where: dict[str, Any] = {}
        """What ran where."""
        self.speeds: list[float] = []
        """Tokens a second, of each line."""
        self._lines, self._advance, self._lease, self._steps = NewLines(lines), advance, lease, steps
        self._done, self._snapshot = 0, ""
        self._stragglers = Stragglers()

    def follow(self) -> None:
        """Show each line that has come since the last call."""
        for record in self._lines:
            self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        if self._snapshot != (snapshot := record.get("snapshot", self._snapshot)):
            log.info("made %s", snapshot)
            self._snapshot = snapshot
        if "resumed_at" in record:
            self.where.update({key: record[key] for key in ("device", "world", "zero_stage", "resumed_at")})
            self._take(record["resumed_at"], "")
            return
        for sentence in self._stragglers.new(record.get("lagging", ())):
            log.warning(sentence)
        self.speeds.append(record["tokens_per_second"])
        self._take(record["step"] + 1, note_of(record))

    def _take(self, done: int, note: str) -> None:
        self._advance(done - self._done, note)
        self._done = done
        self._lease.note({"step": done, "of": self._steps})


def note_of(record: dict[str, Any]) -> str:
    """A line of progress in a few words."""
    parts = [
        f"loss {record['loss']:.3f}",
        f"{record['tokens_per_second']:,.0f} tokens/s",
        f"{record['peak_share']:.0%} of peak",
    ]
    if validation := record.get("validation"):
        parts.insert(1, f"held-out masked-LM {validation['masked_lm_loss']:.3f}")
    if trouble := record.get("checkpoint_trouble"):
        parts.append(f"checkpoint: {trouble}")
    return ", ".join(parts)


@contextmanager
def shown_waiting(job: Job, preemption: Preemption) -> Iterator[Callable[[Holder], None]]:
    """Shows, while it is called, who trains that recipe already and how far they have come; Preempted where asked."""
    with ExitStack() as stack:
        advance: Advance | None = None
        done = 0

        def show(holder: Holder) -> None:
            nonlocal advance, done
            preemption.check(job.recipe.name)
            if advance is None:
                log.info("%s is trained by %s already: waiting for it", job.recipe.name, holder)
                bar = progress(f"waiting for pretraining {job.recipe.name}", job.config.steps)
                advance = stack.enter_context(bar)
            step = holder.note.get("step", done)
            advance(step - done, f"{holder}, heard of {holder.age_s:.0f} s ago")
            done = step

        yield show
