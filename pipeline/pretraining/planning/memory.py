"""Whether a rank has the memory that a training takes, said before the first step, with the micro-batch that fits.

What the model, its gradients and the optimizer take is known (`state_bytes`: counted from the tensors that DeepSpeed
0.19 holds), and so is a checkpoint's copy, in host memory; what the passes take is measured on a few samples
(rehearsal.py), so that nothing has to run out of memory to know.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError
from pipeline.pretraining.model.sizes import padded_rows
from pipeline.pretraining.planning.lengths import Lengths
from pipeline.pretraining.systems import ZERO_KEY, zero_stage

if TYPE_CHECKING:
    import torch

    from pipeline.dataset.plan import Plan
    from pipeline.pretraining.model.bert import BertForPreTraining
    from pipeline.pretraining.planning.rehearsal import Needed

GB = 1e9
CONTAINER = Path("/sys/fs/cgroup")
"""Where a container's limits stand (cgroup v2)."""
CHECKPOINT_BYTES = 12
"""Of a parameter: its fp32 weight and both moments."""


@dataclass(frozen=True)
class State:
    """Bytes that a rank holds whatever its micro-batch."""

    weights: float
    gradients: float
    optimizer: float
    """The fp32 weights that it updates, and its moments."""
    buckets: float
    """In which gradients travel."""
    checkpoint: float
    """A checkpoint's copy, in host memory."""

    @property
    def total(self) -> float:
        """On the device, but for what a CPU has in host memory."""
        return self.weights + self.gradients + self.optimizer + self.buckets

    def on(self, device_type: str) -> float:
        """In the memory in which the passes are made: a CPU's is the host's."""
        return self.total + (self.checkpoint if device_type == "cpu" else 0.0)


def parameter_count(config: PretrainingConfig, vocabulary_size: int) -> int:
    """Of the model as it is trained, with the rows that fill its vocabulary up."""
    h, i = config.hidden_size, config.intermediate_size
    rows = padded_rows(vocabulary_size)
    embeddings = (rows + config.max_position_embeddings + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * h * i + i + h + 4 * h
    heads = (h * h + h) + (2 * h + 2) + (h * h + h) + 2 * h + rows
    return embeddings + config.num_hidden_layers * layer + heads


def state_bytes(parameters: int, config: PretrainingConfig, systems: dict[str, Any], world: int) -> State:
    """What a rank of `world` holds under a DeepSpeed config, by its ZeRO stage and the precision."""
    stage, half, bf16 = zero_stage(systems), config.precision != "fp32", config.precision == "bf16"
    owned = parameters / world if stage else float(parameters)
    width = 2 if half else 4
    weights = width * (parameters / world if stage == 3 else parameters)
    gradients = width * (parameters / world if stage >= 2 else parameters)
    if bf16 and stage == 1:
        gradients += 4 * parameters  # they are summed in fp32
    moments, masters = 8 * owned, 4 * owned if half or stage else 0.0
    in_buckets = stage >= 2 or (stage == 1 and not bf16)
    buckets = 4.0 * systems[ZERO_KEY]["reduce_bucket_size"] if in_buckets else 0.0
    copy = CHECKPOINT_BYTES * parameters / world  # of any stage: without ZeRO a rank copies its share all the same
    return State(weights, gradients, moments + masters, buckets, copy)


def available_bytes(device: "torch.device", ranks_here: int) -> float:
    """Free on the device; on a CPU a rank's part of what the machine or the container has."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(min(psutil.virtual_memory().available, _container_bytes())) / ranks_here


def _container_bytes() -> float:
    """What a container's limit leaves."""
    try:
        most, used = ((CONTAINER / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return float("inf")
    return float("inf") if most == "max" else float(most) - float(used)


def dealt_size(train_batch_size: int, micro_batch_size: int, world: int) -> int:
    """Samples of the largest micro-batch that a step is dealt into."""
    hands = max(1, -(-train_batch_size // (micro_batch_size * world))) * world
    return -(-train_batch_size // hands)


def check_memory(
    model: "BertForPreTraining",
    config: PretrainingConfig,
    plan: "Plan",
    *,
    systems: dict[str, Any],
    world: int,
    ranks_here: int,
    device: "torch.device",
) -> None:
    """ConfigError where a phase's micro-batch doesn't fit beside the state, with the largest that does.

    Each rank calls it, on its own device, before there is an engine.
    """
    free = available_bytes(device, ranks_here)
    state = state_bytes(parameter_count(config, model.vocabulary_size), config, systems, world)
    held = state.on(device.type) - (state.weights if device.type == "cpu" else 0)  # where these stand already
    for number, (phase, steps) in enumerate(zip(plan.phases, plan.steps, strict=True), 1):
        samples = dealt_size(phase.train_batch_size, phase.micro_batch_size, world)
        lengths = Lengths.of(steps.looked_at(0).lengths)
        needed = needed_here(model, config, lengths, steps.samples[0].config.masked_lm_prob, device)
        if held + needed.of(samples) > free:
            many, are = (f"{samples} samples", "are") if samples > 1 else ("a sample", "is")
            which = f"pretraining.phases: a micro-batch of phase {number}" if config.phases else "A micro-batch"
            raise ConfigError(
                f"{which} takes about {(held + needed.of(samples)) / GB:.3g} GB, {held / GB:.3g} of them for the "
                f"model's state, where {free / GB:.3g} GB are free on this rank's {device.type}: {many} of "
                f"up to {lengths.longest} tokens {are} too many. {_advice(largest_micro_batch(needed, held, free))}"
            )


def largest_micro_batch(needed: "Needed", held: float, free: float) -> int:
    """Samples that fit at once beside what is held."""
    return needed.samples_in(free - held)


def _advice(fitting: int) -> str:
    if fitting:
        return f"Set train_micro_batch_size_per_gpu to {fitting}, which fits; the training stays the same."
    return (
        "Not one sample fits: take a higher ZeRO stage (pretraining.deepspeed), more machines, a smaller model, or on "
        "a CPU fewer ranks, which share its memory (BERTMILL_RANKS)."
    )


def needed_here(
    model: "BertForPreTraining",
    config: PretrainingConfig,
    lengths: Lengths,
    predicted_share: float,
    device: "torch.device",
) -> "Needed":
    """What micro-batches need on the device, by a copy of the model as it will be there; no random state is moved."""
    import copy

    import torch

    from pipeline.pretraining.planning.rehearsal import as_trained, needed_memory, release

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trained = as_trained(copy.deepcopy(model), config, device)
        needed = needed_memory(trained, lengths, predicted_share, device)
    del trained
    release(device)
    return needed
