"""The training loop, read from top to bottom.

The loss is a sum over the whole batch divided by its counts, so it is the same however the batch is dealt to ranks and
micro-batches: each rank's share is scaled by the world, which DeepSpeed's averaging of gradients takes out again.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.config import PretrainingConfig
from pipeline.dataset.batches import Batch, step_batches
from pipeline.dataset.dealing import fixed_capacity
from pipeline.dataset.loading import steps_ahead
from pipeline.dataset.randomness import mixed
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.pretraining.checkpoint import Place, is_due
from pipeline.pretraining.diagnosis import diagnose, not_finite
from pipeline.pretraining.floor import UnigramFloor
from pipeline.pretraining.guard import Guard
from pipeline.pretraining.heartbeat import Doing, Heartbeat
from pipeline.pretraining.model import Losses, TensorBatch
from pipeline.pretraining.preemption import Preemption, preempted
from pipeline.pretraining.schedule import learning_rate

Report = Callable[[dict[str, Any]], None]


def train(
    engine: Any,
    samples: Samples,
    config: PretrainingConfig,
    place: Place,
    *,
    start: int,
    curve: Path,
    report: Report,
    checkpoint: Callable[[int], None],
    heartbeat: Heartbeat,
    preemption: Preemption,
    diagnosis: Callable[[int], Path],
) -> None:
    """Train from step `start` to `max_steps`, or until `preemption` is asked of any rank: then raises Preempted.

    Rank 0 appends a line to `curve` for each step (nothing in it depends on time) and calls `report` every `log_every`
    steps; all ranks call `checkpoint` where one is due. Raises TrainingError where the loss or its
    gradient is not finite, before the weights are updated and that step is written anywhere, with what is found of it
    in the file `diagnosis(step)`; and where `floor_step` asks for a loss that isn't reached.
    """
    device = engine.device
    micro_batch_size = config.train_micro_batch_size_per_gpu
    steps = Steps([(samples, 1.0)], train_batch_size=config.train_batch_size, seed=config.seed)
    capacity = fixed_capacity(steps, micro_batch_size=micro_batch_size, world=place.world, device=device.type)
    has_pairs = samples.config.pairs != "none"
    tokens_seen, since = 0, time.monotonic()

    def make(step: int) -> list[Batch]:
        where = {"rank": place.rank, "world": place.world}
        return step_batches(steps, step, micro_batch_size=micro_batch_size, **where, capacity=capacity)

    def loss_of(
        model: Any, step: int, predictions: int, sequences: int, micro: int, batch: Batch
    ) -> tuple[Tensor, Losses]:
        if config.hidden_dropout_prob:
            torch.manual_seed(_dropout_seed(config.seed, step, micro, place.rank))
        losses = model(TensorBatch.of(batch, device))
        return losses.masked_lm / predictions + has_pairs * losses.next_sentence / sequences, losses

    guard = Guard(engine, config.gradient_clipping)
    floor = UnigramFloor(
        config.floor_step,
        make,
        vocabulary_size=engine.module.vocabulary_size,
        device=device,
        losses=[json.loads(line)["masked_lm_loss"] for line in curve.read_text(encoding="utf-8").splitlines()],
    )
    loader = closing(steps_ahead(make, start, config.max_steps, config.loader_workers))
    with curve.open("a", encoding="utf-8") as lines, loader as made:
        for step, batches in enumerate(made, start):
            doing: Doing = "training" if step > start else "starting"  # the first step may compile
            heartbeat.beat(doing, step)
            own = [(b.predictions, b.sequences, b.tokens, preemption.asked) for b in batches]
            counts = torch.tensor(own, dtype=torch.int64, device=device).sum(0)
            dist.all_reduce(counts)
            predictions, sequences, tokens, asked = counts.tolist()

            rate = learning_rate(config, step)
            for group in engine.optimizer.param_groups:
                group["lr"] = rate
            sums = torch.zeros(4, dtype=torch.float64, device=device)
            for micro, batch in enumerate(batches):
                loss, losses = loss_of(engine, step, predictions, sequences, micro, batch)
                engine.backward(loss * place.world, scale_wrt_gas=False)
                sums += torch.stack([each.detach().double() for each in losses])
                heartbeat.beat(doing, step, micro + 1)

            dist.all_reduce(sums)
            guard.step(sums[:2])
            masked_lm, next_sentence, masked_lm_correct, next_sentence_correct = sums.tolist()
            masked_lm, next_sentence = masked_lm / predictions, has_pairs * next_sentence / sequences
            if guard.failed:
                again = partial(loss_of, engine.module, step, predictions, sequences)
                found = diagnose(engine.module, batches, again, place.rank)
                raise not_finite(step, (masked_lm, next_sentence), found, steps.looked_at(step), diagnosis(step))
            floor.take(step, masked_lm, predictions)

            tokens_seen += tokens
            if place.rank == 0:
                record = {
                    "step": step,
                    "loss": masked_lm + next_sentence,
                    "masked_lm_loss": masked_lm,
                    "masked_lm_accuracy": masked_lm_correct / predictions,
                    "next_sentence_loss": next_sentence,
                    "next_sentence_accuracy": next_sentence_correct / sequences,
                    "gradient_norm": float(guard.norm),
                    "learning_rate": rate,
                    "tokens": tokens,
                }
                _append(lines, record)
                if (step + 1) % config.log_every == 0:
                    now = time.monotonic()
                    report(record | {"tokens_per_second": tokens_seen / (now - since)})
                    tokens_seen, since = 0, now
            is_last = step + 1 == config.max_steps
            if (asked and not is_last) or is_due(config, step + 1):
                heartbeat.beat("checkpointing", step + 1)
                lines.flush()
                checkpoint(step + 1)
            if asked and not is_last:
                heartbeat.beat("preempted", step + 1)
                raise preempted(config.name, step + 1, config.max_steps)


def _append(lines: TextIO, record: dict[str, Any]) -> None:
    lines.write(json.dumps(record) + "\n")


def _dropout_seed(seed: int, step: int, micro: int, rank: int) -> int:
    """Dropout is a function of these four: exact on the same world."""
    return mixed(mixed(mixed(mixed(seed) ^ step) ^ micro) ^ rank) >> 1
