"""What a training takes on this machine, found out by a short rehearsal: real passes of the real model over made-up
samples of the right lengths, without DeepSpeed and on one device.

Costs `SECONDS` or so for each kind of phase; memory is measured on a few samples, and grows with their number.

Legend: S samples.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import PretrainingConfig
from pipeline.pretraining.engine import dtype_of, is_compiled
from pipeline.pretraining.planning.lengths import Lengths
from pipeline.pretraining.systems import systems_config

if TYPE_CHECKING:
    import torch

    from pipeline.dataset.batches import Batch
    from pipeline.pretraining.model.bert import BertForPreTraining

SECONDS = 5.0
"""A measurement's passes together take about so long."""
PASSES = 4
"""So many are to fit into that, of the micro-batch that is measured."""
MOST_GOES = 100
FEW, MORE = 2, 6
"""Samples of which memory is measured."""
HELD = {"cpu": 1.5, "cuda": 1.1}
"""So many times what its tensors take an allocator holds at most; 1.1 to 1.5 were seen on CPUs."""


@dataclass(frozen=True)
class Speed:
    """What a device does."""

    tokens_per_second: float
    """Forward and backward."""
    update_seconds: float
    """Of the optimizer, over all parameters."""


@dataclass(frozen=True)
class Needed:
    """Bytes that a micro-batch takes beside the model's state, as a line over its samples."""

    always: float
    a_sample: float

    def of(self, samples: float) -> float:
        return self.always + samples * self.a_sample

    def samples_in(self, free: float) -> int:
        """How many fit."""
        return max(0, int((free - self.always) // max(self.a_sample, 1.0)))


def made_up_batch(lengths: Sequence[int], vocabulary_size: int, predicted_share: float) -> "Batch":
    """Samples of those lengths whose tokens mean nothing."""
    from pipeline.dataset.batches import Batch

    draw = np.random.default_rng(0)
    sizes = np.array(lengths, np.int64)
    ids = draw.integers(0, vocabulary_size, int(sizes.sum()))
    positions = np.concatenate([np.arange(size) for size in sizes])
    masked = np.sort(draw.choice(len(ids), max(1, round(predicted_share * len(ids))), replace=False))
    zeros = np.zeros(len(sizes), np.int64)
    types = (positions > np.repeat(sizes // 2, sizes)).astype(np.int64)
    return Batch(ids, types, positions, sizes.astype(np.int32), masked, ids[masked], zeros, zeros, zeros)


def rehearsed_model(config: PretrainingConfig, vocabulary_size: int, device: "torch.device") -> "BertForPreTraining":
    """The model as a rank has it for the passes."""
    from pipeline.pretraining.model.bert import BertForPreTraining

    return as_trained(BertForPreTraining(config, vocabulary_size), config, device)


def as_trained(model: "BertForPreTraining", config: PretrainingConfig, device: "torch.device") -> "BertForPreTraining":
    """The model, moved to where and how the passes are made."""
    dtype = rehearsed_dtype(config, device)
    model = model.to(device, dtype).train()
    if is_compiled(systems_config(config.deepspeed)):
        model.compile_regions(dtype)
    return model


def rehearsed_dtype(config: PretrainingConfig, device: "torch.device") -> "torch.dtype":
    """Of the weights in the passes. A CPU, which isn't trained on in fp16, rehearses it in bf16, which is as wide: most
    multiply matrices in fp16 a hundred times as slowly.
    """
    import torch

    dtype = dtype_of(config)
    return torch.bfloat16 if dtype == torch.float16 and device.type == "cpu" else dtype


def release(device: "torch.device") -> None:
    """Give the device back what a model took that nobody holds any more."""
    import gc

    import torch

    if device.type == "cuda":
        gc.collect()  # compiled regions hold their model in a circle
        torch.cuda.empty_cache()


def needed_memory(
    model: "BertForPreTraining", lengths: Lengths, predicted_share: float, device: "torch.device"
) -> Needed:
    """What micro-batches of samples of that mix need for their passes."""
    mixes = [lengths.evenly(count) for count in (FEW, MORE)]
    few, more = (_pass_bytes(model, mix.tolist(), predicted_share, device) for mix in mixes)
    a_token = max(0.0, (more - few) / int(mixes[1].sum() - mixes[0].sum()))
    return Needed(max(0.0, few - a_token * int(mixes[0].sum())), a_token * lengths.mean)


def _pass_bytes(
    model: "BertForPreTraining", lengths: Sequence[int], predicted_share: float, device: "torch.device"
) -> float:
    """Bytes at the peak of a forward and backward pass, above what there was; gradients count with the state."""
    import torch

    from pipeline.pretraining.model.bert import TensorBatch

    batch = TensorBatch.of(made_up_batch(lengths, model.vocabulary_size, predicted_share), device)
    if device.type == "cuda":
        _backward(model, batch)  # which compiles, and leaves gradients and cuBLAS's workspace
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _backward(model, batch)
        return HELD["cuda"] * (torch.cuda.max_memory_allocated(device) - before)
    held, own = dict[int, int](), {each.untyped_storage().data_ptr() for each in model.parameters()}

    def keep(tensor: "torch.Tensor") -> "torch.Tensor":
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch)
    del losses
    words = model.word_embeddings.weight
    gradient = len(batch.masked_positions) * len(words) * words.element_size()
    return HELD["cpu"] * (sum(held.values()) + gradient)  # of the logits, as the way back begins


def _backward(model: "BertForPreTraining", batch: Any) -> None:
    losses = model(batch)
    (losses.masked_lm + losses.next_sentence).backward()


def measured_speed(
    config: PretrainingConfig,
    vocabulary_size: int,
    lengths: Lengths,
    predicted_share: float,
    micro_batch_size: int,
    device: "torch.device",
) -> Speed:
    """Of passes over micro-batches of samples of that mix, of as many as take no more than the time there is."""
    import torch

    from pipeline.pretraining.model.bert import TensorBatch
    from pipeline.pretraining.optimizer import make_optimizer

    model = rehearsed_model(config, vocabulary_size, device)

    def passes(samples: int, budget_s: float) -> tuple[float, int]:
        made = made_up_batch(lengths.evenly(samples).tolist(), vocabulary_size, predicted_share)
        batch = TensorBatch.of(made, device)
        return seconds_of(lambda: _backward(model, batch), device, budget_s), made.tokens

    samples = min(micro_batch_size, FEW)
    passes(samples, 0)  # the first ever is slower
    while samples < micro_batch_size and (growth := int(SECONDS / PASSES / passes(samples, 0)[0])) > 1:
        samples = min(micro_batch_size, samples * min(growth, 4))
    seconds, tokens = passes(samples, SECONDS)
    master = model.float()
    for parameter in master.parameters():
        parameter.grad = torch.zeros_like(parameter)
    update = seconds_of(make_optimizer(master, config).step, device, SECONDS / 5)
    return Speed(tokens / seconds, update)


def matrix_rate(dtype: "torch.dtype", device: "torch.device", budget_s: float = SECONDS / 5) -> float:
    """FLOP/s of one large matrix product: what a device reaches at best."""
    import torch

    size = 8_192 if device.type == "cuda" else 2_048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: torch.matmul(a, b), device, budget_s, fastest=True)


def seconds_of(work: Callable[[], Any], device: "torch.device", budget_s: float, *, fastest: bool = False) -> float:
    """How long the work takes: the median (or the fastest) of as many goes as there is time for, after a first one."""
    import torch

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    first = once()
    goes = max(1, min(MOST_GOES, int(budget_s / max(first, 1e-6)) - 1))
    taken = [once() for _ in range(goes)] if first < budget_s else [first]
    return min(taken) if fastest else statistics.median(taken)
