"""Where a step that was not finite fails: it is made again from the weights before it, and looked at layer by layer.

A step is a function of its number and the weights (guard.py leaves these alone), so nothing has to be kept for this
while all is well. What is found goes into a small JSON file beside the log: which samples, by their indices and never
their text, each micro-batch's loss, its gradient's norm by layer, and the first module whose output was not finite.
Costs one more forward and backward pass, once.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.dataset.batches import Batch
from pipeline.dataset.steps import Chosen
from pipeline.errors import TrainingError

NAMED = 5
"""Samples that the sentence names; the file has all."""


@dataclass(frozen=True)
class MicroBatch:
    """What was seen of a micro-batch, made again."""

    rank: int
    number: int
    loss: float
    gradient_norms: dict[str, float]
    """By layer, of this micro-batch alone."""
    first_not_finite: str | None
    """The module whose output was the first that isn't finite."""
    datasets: list[int]
    """Of each sample, which of the mixed datasets."""
    rows: list[int]

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, (self.loss, *self.gradient_norms.values())))


Again = Callable[[int, Batch], tuple[Tensor, Any]]
"""Makes the loss of micro-batch (number, batch) as the loop does, dropout included, through the bare module."""


def diagnose(module: nn.Module, batches: Sequence[Batch], again: Again, rank: int) -> list[MicroBatch]:
    """Make this rank's micro-batches of the step again; returns what is found on all ranks. Called by all."""
    own = [_looked_at(module, batch, again, rank, number) for number, batch in enumerate(batches)]
    gathered: list[list[MicroBatch]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, own)
    return [each for one in gathered for each in one]


def not_finite(
    step: int, losses: Sequence[float], found: Sequence[MicroBatch], chosen: Chosen, path: Path
) -> TrainingError:
    """The error to raise, on all ranks; rank 0 has written the file."""
    masked_lm, next_sentence = losses
    if all(map(math.isfinite, losses)):
        what = f"The gradient of step {step} is not finite though its loss is ({masked_lm + next_sentence:.4f})"
    else:
        what = f"The loss of step {step} is not finite (masked-LM {masked_lm}, next-sentence {next_sentence})"
    if dist.get_rank() == 0:
        samples = {name: getattr(chosen, name).tolist() for name in ("datasets", "epochs", "rows")}
        body = {"step": step, "masked_lm_loss": masked_lm, "next_sentence_loss": next_sentence, "samples": samples}
        body["micro_batches"] = [asdict(each) for each in found]
        path.write_text(json.dumps(_plain(body)), encoding="utf-8")
    return TrainingError(f"{what}; the weights were not updated. {_seen_again(found, path)}")


def _seen_again(found: Sequence[MicroBatch], path: Path) -> str:
    bad = [each for each in found if not each.is_finite]
    if not bad:
        return (
            f"Made again from the same weights and samples, all of it is finite, so a machine has computed wrongly "
            f"once: run the same command again, and look at the hardware's log if it comes back. The step is in {path}."
        )
    rows = [row for each in bad for row in each.rows]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    first = next((each.first_not_finite for each in bad if each.first_not_finite), None)
    where = f"first in the output of {first}" if first else "in the gradient alone"
    return (
        f"Lower pretraining.learning_rate, or raise warmup_share. Made again, {len(bad)} of its {len(found)} "
        f"micro-batches are not finite, {where}; their samples are rows {', '.join(map(str, rows[:NAMED]))}{more}. All "
        f"samples, and norms by layer, are in {path}."
    )


def _looked_at(module: nn.Module, batch: Batch, again: Again, rank: int, number: int) -> MicroBatch:
    parameters = dict(module.named_parameters())
    compiled_shows_no_parts = torch.compiler.set_stance("force_eager")
    with compiled_shows_no_parts, _first_not_finite(module) as first:
        loss, _ = again(number, batch)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    squares: dict[str, float] = {}
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            layer = layer_of(name)
            squares[layer] = squares.get(layer, 0.0) + float(gradient.double().square().sum())
    real = batch.datasets >= 0
    return MicroBatch(
        rank=rank,
        number=number,
        loss=float(loss.detach()),
        gradient_norms={layer: math.sqrt(square) for layer, square in squares.items()},
        first_not_finite=first[0] if first else None,
        datasets=batch.datasets[real].tolist(),
        rows=batch.indices[real].tolist(),
    )


def layer_of(parameter: str) -> str:
    """`layers.3.qkv.weight` is of `layers.3`, `pooler.bias` of `pooler`."""
    parts = parameter.split(".")
    return ".".join(parts[:2] if parts[0] == "layers" else parts[:1])


@contextmanager
def _first_not_finite(module: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules whose output isn't finite, in the order of their calls."""
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def after(_module: nn.Module, _given: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return after

    hooks = [each.register_forward_hook(watch(name)) for name, each in module.named_modules() if name]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _plain(value: Any) -> Any:
    """JSON knows neither nan nor inf."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
