"""The training loop, read from top to bottom.

The loss is a sum over the whole batch divided by its counts, so it is the same however the batch is dealt to ranks and
micro-batches: each rank's share is scaled by the world, which DeepSpeed's averaging of gradients takes out again.
What the ranks must agree on each step (counts, whether one was asked to stop) is a message between hosts, and what a
step comes to stays on the device until a line of progress is due: nothing here waits for a GPU in between. DeepSpeed
does, once a step, where it looks at the gradient's norm itself (guard.py).
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch
from pipeline.dataset.loading import steps_ahead
from pipeline.dataset.plan import Plan
from pipeline.dataset.randomness import mixed
from pipeline.errors import TrainingError
from pipeline.pretraining.checkpoints.checkpoint import is_due
from pipeline.pretraining.guard import Guard
from pipeline.pretraining.model.bert import Losses, TensorBatch
from pipeline.pretraining.place import Place
from pipeline.pretraining.planning.flops import flops_of
from pipeline.pretraining.planning.rehearsal import matrix_rate, rehearsed_dtype
from pipeline.pretraining.schedule import learning_rate
from pipeline.pretraining.staying_alive.diagnosis import diagnose, not_finite
from pipeline.pretraining.staying_alive.floor import UnigramFloor
from pipeline.pretraining.staying_alive.heartbeat import Doing, Heartbeat
from pipeline.pretraining.staying_alive.preemption import Preemption, preempted
from pipeline.pretraining.staying_alive.stragglers import Stopwatch, all_shares, lagging
from pipeline.pretraining.watching.curve import Curve
from pipeline.pretraining.watching.measures import Measures, Pace, Waited
from pipeline.pretraining.watching.validation import Validation

PEAK_S = 0.3
"""How long the device's rate of matrix products is measured, before the first step."""


class TakeCheckpoint(Protocol):
    """All ranks call it where a checkpoint is due, with the steps that are done."""

    def __call__(self, step: int, *, is_curve_written: bool, is_last_chance: bool) -> bool:
        """Whether it was taken; where it is the last chance, which is waited for, whether it is stored."""


@dataclass(frozen=True)
class Surroundings:
    """What the loop tells and asks of the process around it."""

    curve: Curve
    """Rank 0's, a line for each step; nothing in it depends on time."""
    report: Callable[[dict[str, Any]], None]
    """Takes a line of progress, on rank 0, every `log_every` steps."""
    checkpoint: TakeCheckpoint
    heartbeat: Heartbeat
    preemption: Preemption
    patience: timedelta
    """How long a rank waits for the others."""
    diagnosis: Callable[[int], Path]
    """Where to put what is found of a step that wasn't finite."""


def train(
    engine: Any,
    plan: Plan,
    validation: Validation | None,
    config: PretrainingConfig,
    place: Place,
    around: Surroundings,
    *,
    start: int,
) -> None:
    """Train from step `start` to the plan's end, or until any rank is asked to stop: then raises Preempted.

    Raises TrainingError where the loss or its gradient is not finite, before the weights are updated and that step is
    written anywhere; and where `floor_step` asks for a loss that isn't reached.
    """
    device, has_pairs = engine.device, plan.pairs != "none"
    peak = matrix_rate(rehearsed_dtype(config, device), device, PEAK_S)
    hosts = dist.new_group(backend="gloo", timeout=around.patience) if device.type == "cuda" else None

    def make(step: int) -> list[Batch]:
        return plan.batches(step, place.rank)

    def loss_of(model: Any, step: int, counts: tuple[int, int], micro: int, batch: Batch) -> tuple[Tensor, Losses]:
        if config.hidden_dropout_prob:
            torch.manual_seed(_dropout_seed(config.seed, step, micro, place.rank))
        losses = model(TensorBatch.of(batch, device))
        predictions, sequences = counts
        return losses.masked_lm / predictions + has_pairs * losses.next_sentence / sequences, losses

    size, before = engine.module.vocabulary_size, (line["masked_lm_loss"] for line in around.curve.read())
    floor = UnigramFloor(config.floor_step, make, vocabulary_size=size, device=device, losses=before)
    guard = Guard(engine, config.gradient_clipping, (line.get("skipped", False) for line in around.curve.read()))
    measures, pace, stopwatch = Measures(has_pairs), Pace(), Stopwatch(place.rank, device)
    loader = Waited(steps_ahead(make, start, len(plan), config.loader_workers))
    with closing(loader):
        for step, batches in enumerate(loader, start):
            is_first = step == start or plan.phase_of(step)[1] == 0
            doing: Doing = "starting" if is_first else "training"  # which may compile
            around.heartbeat.beat(doing, step)
            own = [(b.predictions, b.sequences, b.tokens, len(b.input_ids), around.preemption.asked) for b in batches]
            agreed = torch.tensor(own, dtype=torch.int64).sum(0)
            dist.all_reduce(agreed, group=hosts)
            predictions, sequences, tokens, places, is_asked = agreed.tolist()
            counts = predictions, sequences

            rate = learning_rate(config, step)
            for group in engine.optimizer.param_groups:
                group["lr"] = rate
            sums = torch.zeros(4, dtype=torch.float64, device=device)
            stopwatch.start()
            for micro, batch in enumerate(batches):
                loss, losses = loss_of(engine, step, counts, micro, batch)
                engine.backward(guard.scaled(loss * place.world), scale_wrt_gas=False)
                sums += torch.stack([each.detach().double() for each in losses])
                around.heartbeat.beat(doing, step, micro + 1)
            stopwatch.stop(loader.last_s, sum(b.tokens for b in batches))
            dist.all_reduce(sums)
            guard.step(sums[:2])

            done, is_last = step + 1, step + 1 == len(plan)
            known = {"step": step, "learning_rate": rate, "tokens": tokens} | guard.told
            pace.tokens, pace.places = pace.tokens + tokens, pace.places + places
            pace.flops += sum(flops_of(config, size, batch) for batch in batches)
            if validation and (done % config.validate_every == 0 or is_last):
                around.heartbeat.beat("validating", done)
                began = time.monotonic()
                known["validation"] = validation.scores(engine)
                pace.aside_s += time.monotonic() - began
            measures.add(known, sums, guard.norm, predictions=predictions, sequences=sequences)
            is_stopping = bool(is_asked) and not is_last
            is_checkpoint_due = is_stopping or is_due(config, done)
            if is_checkpoint_due or is_last or done % config.log_every == 0:
                for record in measures.fetch():  # of the steps since the last time, this one's at the end
                    if not _is_finite(record):
                        raise _failure(engine, plan, partial(loss_of, engine.module), record, place, around)
                    floor.take(record["step"], record["masked_lm_loss"], predictions)
                    if place.rank == 0:
                        around.curve.add(record)
            if done % config.log_every == 0 or is_last:
                told = pace.told(loader.taken(), peak)
                slow = lagging(all_shares(stopwatch.share(), hosts))
                if place.rank == 0:
                    around.report(record | told | ({"lagging": slow} if slow else {}))
                pace = Pace()
            if is_checkpoint_due:
                around.heartbeat.beat("checkpointing", done)
                began = time.monotonic()
                is_written = around.curve.write()
                is_stored = around.checkpoint(done, is_curve_written=is_written, is_last_chance=is_stopping)
                pace.checkpoint_s += time.monotonic() - began
                if is_stopping:
                    around.heartbeat.beat("preempted" if is_stored else "preempted_unstored", done)
                    raise preempted(config.name, done, len(plan), is_stored=is_stored)


def _failure(
    engine: Any, plan: Plan, loss_of: Callable[..., Any], record: dict[str, Any], place: Place, around: Surroundings
) -> TrainingError:
    """What a step that wasn't finite comes to, made again: the weights are those before it (guard.py)."""
    step = record["step"]
    batches = plan.batches(step, place.rank)
    agreed = torch.tensor([(b.predictions, b.sequences) for b in batches], device=engine.device).sum(0)
    dist.all_reduce(agreed)
    found = diagnose(engine.module, batches, partial(loss_of, step, tuple(agreed.tolist())), place.rank)
    losses = record["masked_lm_loss"], record["next_sentence_loss"]
    return not_finite(step, losses, found, plan.chosen(step), around.diagnosis(step))


def _is_finite(record: dict[str, Any]) -> bool:
    """The gradient of a step that was skipped has no norm."""
    norm = 0.0 if record["gradient_norm"] is None else record["gradient_norm"]
    return math.isfinite(record["loss"]) and math.isfinite(norm)


def _dropout_seed(seed: int, step: int, micro: int, rank: int) -> int:
    """Dropout is a function of these four: exact on the same world."""
    return mixed(mixed(mixed(mixed(seed) ^ step) ^ micro) ^ rank) >> 1
