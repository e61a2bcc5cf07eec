"""The training loop, read from top to bottom.

The loss is a sum over the whole batch divided by its counts, so it is the same however the batch is dealt to ranks and
micro-batches: each rank's share is scaled by the world, which DeepSpeed's averaging of gradients takes out again.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist

from pipeline.config import PretrainingConfig
from pipeline.dataset.loading import steps_ahead
from pipeline.dataset.plan import Plan
from pipeline.dataset.randomness import mixed
from pipeline.errors import TrainingError
from pipeline.pretraining.checkpoint import Place
from pipeline.pretraining.model import TensorBatch
from pipeline.pretraining.schedule import learning_rate

Report = Callable[[dict[str, Any]], None]


def train(
    engine: Any,
    plan: Plan,
    config: PretrainingConfig,
    place: Place,
    *,
    start: int,
    curve: Path,
    report: Report,
    checkpoint: Callable[[int], None],
) -> None:
    """Train from step `start` to the plan's end.

    Rank 0 appends a line to `curve` for each step (nothing in it depends on time) and calls `report` every `log_every`
    steps; all ranks call `checkpoint` every `checkpoint_every` steps. Raises TrainingError where the loss or its
    gradient is not finite: before that step is written anywhere.
    """
    device = engine.device
    has_pairs = plan.pairs != "none"
    tokens_seen, since = 0, time.monotonic()

    loader = closing(steps_ahead(lambda step: plan.batches(step, place.rank), start, len(plan), config.loader_workers))
    with curve.open("a", encoding="utf-8") as lines, loader as made:
        for step, batches in enumerate(made, start):
            own = [(b.predictions, b.sequences, b.tokens) for b in batches]
            counts = torch.tensor(own, dtype=torch.int64, device=device).sum(0)
            dist.all_reduce(counts)
            predictions, sequences, tokens = counts.tolist()

            rate = learning_rate(config, step)
            for group in engine.optimizer.param_groups:
                group["lr"] = rate
            sums = torch.zeros(4, dtype=torch.float64, device=device)
            for micro, batch in enumerate(batches):
                if config.hidden_dropout_prob:
                    torch.manual_seed(_dropout_seed(config.seed, step, micro, place.rank))
                losses = engine(TensorBatch.of(batch, device))
                loss = losses.masked_lm / predictions + has_pairs * losses.next_sentence / sequences
                engine.backward(loss * place.world, scale_wrt_gas=False)
                sums += torch.stack([each.detach().double() for each in losses])

            dist.all_reduce(sums)
            masked_lm, next_sentence, masked_lm_correct, next_sentence_correct = sums.tolist()
            masked_lm, next_sentence = masked_lm / predictions, has_pairs * next_sentence / sequences
            if not math.isfinite(masked_lm + next_sentence):
                raise TrainingError(
                    f"The loss of step {step} is not finite (masked-LM {masked_lm}, next-sentence {next_sentence}); "
                    f"the weights were not updated. Lower pretraining.learning_rate, or raise warmup_share."
                )
            engine.step()
            norm = engine.get_global_grad_norm()
            if not _finite(engine, norm):
                raise TrainingError(
                    f"The gradient of step {step} is not finite though its loss is ({masked_lm + next_sentence:.4f}). "
                    f"Nothing of this step is kept: the last checkpoint stands. Lower pretraining.learning_rate, or "
                    f"raise warmup_share."
                )

            tokens_seen += tokens
            if place.rank == 0:
                record = {
                    "step": step,
                    "loss": masked_lm + next_sentence,
                    "masked_lm_loss": masked_lm,
                    "masked_lm_accuracy": masked_lm_correct / predictions,
                    "next_sentence_loss": next_sentence,
                    "next_sentence_accuracy": next_sentence_correct / sequences,
                    "gradient_norm": None if norm is None else float(norm),
                    "learning_rate": rate,
                    "tokens": tokens,
                }
                _append(lines, record)
                if (step + 1) % config.log_every == 0:
                    now = time.monotonic()
                    report(record | {"tokens_per_second": tokens_seen / (now - since)})
                    tokens_seen, since = 0, now
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < len(plan):
                lines.flush()
                checkpoint(step + 1)


def _finite(engine: Any, norm: Any) -> bool:
    """Whether a step's gradients were finite; by the weights that they made where DeepSpeed has no norm (ZeRO-0)."""
    if norm is not None:
        return math.isfinite(norm)
    return all(bool(each.isfinite().all()) for each in engine.module.parameters())


def _append(lines: TextIO, record: dict[str, Any]) -> None:
    lines.write(json.dumps(record) + "\n")


def _dropout_seed(seed: int, step: int, micro: int, rank: int) -> int:
    """Dropout is a function of these four: exact on the same world."""
    return mixed(mixed(mixed(mixed(seed) ^ step) ^ micro) ^ rank) >> 1
