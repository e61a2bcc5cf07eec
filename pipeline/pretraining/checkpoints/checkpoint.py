"""Checkpoints through the store: taken in passing, resumed on any world and ZeRO stage, found whole or not at all.

At a step's end each rank copies what its optimizer owns to host memory (fragments.py), which is all that training waits
for; a thread does the rest (storing.py). One is under way at a time: another that is due meanwhile is put off to the
next time, and said. A run goes on from the newest that is whole, whatever cluster made it, having read every byte that
it will use; it is bit for bit the same on the same world and stage, and within rounding on another.
Costs 12 bytes a parameter over all ranks, in the store and in host memory, and 4 of scratch.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, CorruptArtifact
from pipeline.pretraining.checkpoints.fragments import (
    KINDS,
    numbers_of,
    optimizer_step,
    owned_fragments,
    parameter_shapes,
    parted,
    restore_fragments,
)
from pipeline.pretraining.checkpoints.stored import StoredFragments, file_name
from pipeline.pretraining.checkpoints.storing import Snapshot, Storing, step_of, whole_name
from pipeline.pretraining.place import Place
from pipeline.pretraining.watching.curve import CURVE
from pipeline.store import Artifact, FileEntry, Store, Work

__all__ = ["Checkpoints", "Publish", "Resume", "is_due"]
PATIENCE_S = 10.0
"""How long a run that ends otherwise than by `drain` lets its last checkpoint come to its end."""
Publish = Callable[[int, dict[str, Tensor], Path], Artifact]
"""(step, whole fp32 weights, curve): makes an artifact of a step, unless it is there."""
T = TypeVar("T")
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Resume:
    """What a run goes on from."""

    step: int
    """Steps that are done."""
    curve: Path
    stored: StoredFragments
    optimizer_step: float

    @torch.no_grad()
    def fill(self, module: nn.Module) -> None:
        """Put the fp32 weights into the module, before the engine is made of it.

        Raises ConfigError where it is of another architecture.
        """
        parameters = dict(module.named_parameters())
        theirs = {name: tuple(shape) for name, shape in self.stored.shapes.items()}
        ours = {name: tuple(each.shape) for name, each in parameters.items()}
        for name in theirs.keys() | ours.keys():
            if theirs.get(name) != ours.get(name):
                raise ConfigError(
                    f"The checkpoint of step {self.step:,} is of another architecture: {name} is {theirs.get(name)} "
                    f"there and {ours.get(name)} here. Train anew with --force, or with the bertmill that made it."
                )
        for name, weights in self.stored.weights():
            parameters[name].copy_(weights)

    def restore(self, engine: Any, place: Place) -> None:
        """Put weights and moments into the engine's optimizer."""
        restore_fragments(engine, place, self.stored.read, self.optimizer_step)


class Checkpoints:
    """A run's checkpoints. All ranks call `load`, `save` and `drain` together, and `load` first."""

    def __init__(
        self,
        store: Store,
        work: Work,
        place: Place,
        folder: Path,
        config: PretrainingConfig,
        publish: Publish | None = None,
    ) -> None:
        """`folder` is scratch; `publish` is called in a thread of rank 0, for `config.snapshots`."""
        self._store, self._work, self._place, self._folder, self._config = store, work, place, folder, config
        self._publish = publish
        self._run = ""
        self._snapshots = config.snapshot_steps if publish is not None else ()
        self._taken = 0
        self._host: dict[str, Tensor] = {}
        """Of each kind, this rank's numbers; pinned, where a GPU copies them there."""
        self._storing: Storing | None = None
        self._status: dict[str, Any] = {}
        self._snapshot: dict[str, str] = {}
        self._read: list[FileEntry] = []
        """What `load` may have copies of on this machine."""

    @property
    def status(self) -> dict[str, Any]:
        """For a line of progress: the last checkpoint's step, its stall in seconds, what it waits for, a snapshot."""
        trouble = self._storing.trouble if self._storing is not None else ""
        return self._status | self._snapshot | ({"checkpoint_trouble": trouble} if trouble else {})

    # Going on

    def load(self) -> Resume | None:
        """The newest checkpoint that is whole; a corrupt one is passed over, with a warning, for the one before.

        Rank 0 chooses for all, since an owner that has lost the lease may still add and remove while they look. Each
        rank reads all the weights, and its share of the rest.
        """
        self._run = self._from_first(secrets.token_hex(8))
        proposals = self._whole_ones() if self._place.rank == 0 else iter(())
        while (proposed := self._from_first(next(proposals, None))) is not None:
            name, files, record = proposed
            self._read += files
            resume: Resume | None = None
            try:
                resume = self._checked(files, record)
            except CorruptArtifact as error:
                log.warning("checkpoint %s is passed over: %s", name, error)
            if not self._any(resume is None):
                assert resume is not None, "or else this rank had said so"
                self._taken = resume.step
                self._publish_snapshot(files, record)  # which the run may have been killed before
                return resume
        return None

    def _whole_ones(self) -> Iterator[tuple[str, list[FileEntry], dict[str, Any]]]:
        """Each time the newest that wasn't offered yet: one may be retired while it is read, for a newer one."""
        offered = set[str]()
        while left := [name for name in self._work.names() if step_of(name) is not None and name not in offered]:
            offered.add(name := left[0])
            try:
                yield name, *self._work.load(name)
            except CorruptArtifact as error:
                log.warning("checkpoint %s is passed over: %s", name, error)

    def _checked(self, files: list[FileEntry], record: dict[str, Any]) -> Resume:
        """Read this rank's share of the files. CorruptArtifact where one isn't what it should be."""
        for number, entry in enumerate(sorted(files, key=lambda each: each.path)):
            if number % self._place.world == self._place.rank:
                self._work.file(entry)
        return self._resume(files, record)

    def _resume(self, files: list[FileEntry], record: dict[str, Any]) -> Resume:
        entries = {entry.path: entry for entry in files}

        def path(name: str) -> Path:
            if name not in entries:
                raise CorruptArtifact(f"It has no file {name}.")
            return self._work.file(entries[name])

        stored = StoredFragments(lambda kind, rank: path(file_name(kind, rank)), record["world"], record["parameters"])
        return Resume(record["step"], path(CURVE), stored, record["optimizer_step"])

    # Saving

    def prepare(self, engine: Any) -> None:
        """Make room for what is saved before training begins, or the first `save` takes some ten times as long.

        That is host memory; and the local cache, of what was gone on from: it isn't read again.
        """
        while self._read:
            self._work.release(self._read.pop())
        owned = owned_fragments(engine, self._place)
        count = sum(each.fragment.count for each in owned)
        self._host = {kind: torch.zeros(count, pin_memory=torch.cuda.is_available()) for kind in KINDS}

    def save(self, engine: Any, step: int, curve: Path, *, is_curve_written: bool = True) -> None:
        """Copy what this rank owns, after `step` steps, and store it in the background.

        It is put off while one is under way, or where the curve isn't written on any rank.
        """
        began = time.monotonic()
        if self._any(not is_curve_written):
            return  # curve.py has said it
        if self._any(self._storing is not None and not self._storing.is_done()):
            if self._place.rank == 0 and self._storing is not None:
                reason = self._storing.trouble or f"that of step {self._storing.step:,} is still being stored"
                log.warning("the checkpoint of step %s is put off: %s", f"{step:,}", reason)
            return
        snapshot = self._copied(engine, step, curve)
        self._taken = step
        self._storing = Storing(
            snapshot, self._work, self._place, self._run, self._folder, lambda: self._committed(step)
        )
        self._status = {"checkpoint_step": step, "checkpoint_stall_s": round(time.monotonic() - began, 4)}

    def drain(self, within_s: float | None = None) -> bool:
        """Wait until what is under way is whole. False on all ranks: it isn't, within that time."""
        return not self._any(self._storing is not None and not self._storing.wait(within_s))

    def finish(self, within_s: float) -> None:
        """The weights are about to be left whole: what is under way is needed where a snapshot is to be made of it."""
        if self._storing is not None and self._storing.is_snapshot:
            self.drain(within_s)
        else:
            self.close()

    def close(self) -> None:
        """Leave what is under way, unless it ends soon; parts without a whole are nothing. Each rank for itself."""
        if self._storing is not None:
            self._storing.stop(PATIENCE_S)

    @torch.no_grad()
    def _copied(self, engine: Any, step: int, curve: Path) -> Snapshot:
        if not self._host:
            self.prepare(engine)
        owned = owned_fragments(engine, self._place)
        fragments = [each.fragment for each in owned]
        for kind, numbers in self._host.items():
            for each, (_, part) in zip(owned, parted(numbers, fragments), strict=True):
                part.copy_(numbers_of(engine, each, kind), non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        record = {
            "step": step,
            "world": self._place.world,
            "zero_stage": self._place.zero_stage,
            "optimizer_step": optimizer_step(engine),
            "parameters": {name: list(shape) for name, shape in parameter_shapes(engine).items()},
            "snapshot": any(self._taken < each <= step for each in self._snapshots),
        }
        size = curve.stat().st_size
        return Snapshot(step, fragments, self._host, curve, size, record)

    # When one is whole, on rank 0

    def _committed(self, step: int) -> None:
        self._publish_snapshot(*self._work.load(whole_name(step)))
        self._retire(step)

    def _publish_snapshot(self, files: list[FileEntry], record: dict[str, Any]) -> None:
        """Make an artifact of it where the run's snapshots ask for one: from the store, so that nothing is gathered."""
        if self._place.rank == 0 and self._publish is not None and record["snapshot"]:
            resume = self._resume(files, record)
            made = self._publish(resume.step, dict(resume.stored.weights()), resume.curve)
            self._snapshot = {"snapshot": made.reference}

    def _retire(self, newest: int) -> None:
        """Remove checkpoints that are no longer kept, what was passed over on load, and the parts of all.

        So too what ranks that were killed had begun to store; what may be on its way lies ahead of the newest.
        """
        names = self._work.names()
        left = [name for name in self._work.begun() if (step := step_of(name)) is not None and step < newest]
        steps = sorted(step for name in names if (step := step_of(name)) is not None and step <= newest)
        every = self._config.keep_every
        kept = {step for step in steps if every and step % every == 0} | set(steps[-self._config.keep_checkpoints :])
        kept_names = {whole_name(step) for step in kept}
        gone = [name for name in names if name.startswith(("step-", "part-")) and name not in kept_names]
        self._work.remove(*gone, *left)

    # Among the ranks

    def _any(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        if not dist.is_initialized():
            return mine
        flag = torch.tensor(int(mine), device="cuda" if torch.cuda.is_available() else "cpu")
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def _from_first(self, value: T) -> T:
        """Rank 0's value, on all."""
        values = [value]
        if dist.is_initialized():
            dist.broadcast_object_list(values)
        return values[0]


def is_due(config: PretrainingConfig, step: int) -> bool:
    """Whether a checkpoint is to be taken when `step` steps are done; the last one ends in the artifact instead."""
    return step < config.steps and (step % config.checkpoint_every == 0 or step in config.snapshot_steps)
