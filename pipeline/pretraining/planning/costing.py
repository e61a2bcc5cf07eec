"""What a plan costs on this machine's kind of device: hours by a measured speed, memory by measured passes.

A speed that is known from elsewhere takes the measurement's place: for planning on a laptop what a cluster will do.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.pretraining.planning.flops import flops_per_token
from pipeline.pretraining.planning.forecast import PhasePlan, TrainingPlan
from pipeline.progress import track

if TYPE_CHECKING:
    import torch

HOUR_S = 3_600


@dataclass(frozen=True)
class Costs:
    """Of a plan."""

    device: str
    """What was measured."""
    tokens_per_second: tuple[float, ...]
    """Of a device, in each phase."""
    update_seconds: float
    """Of an optimizer step, as a rank takes it."""
    matrix_rate: float | None
    """FLOP/s of the device at best; None where it wasn't measured."""
    pass_bytes: tuple[float, ...]
    """What the passes of each phase's micro-batches take."""
    fitting: tuple[int, ...]
    """Samples that fit into this device's free memory at once, in each phase."""
    free_bytes: float
    device_type: str
    """`cpu` or `cuda`: whose memory is meant."""

    def hours(self, plan: TrainingPlan) -> tuple[float, ...]:
        """Of each phase."""
        return tuple(
            phase.steps * self._step_seconds(phase, speed, plan.devices) / HOUR_S
            for phase, speed in zip(plan.phases, self.tokens_per_second, strict=True)
        )

    def _step_seconds(self, phase: PhasePlan, tokens_per_second: float, devices: int) -> float:
        return phase.train_batch_size * phase.lengths.mean / tokens_per_second / devices + self.update_seconds

    def share_of_peak(self, plan: TrainingPlan) -> float | None:
        """Over all phases: the time that their FLOPs would take at best, and what the passes take."""
        if self.matrix_rate is None:
            return None
        seconds = sum(phase.tokens / speed for phase, speed in zip(plan.phases, self.tokens_per_second, strict=True))
        return plan.flops / self.matrix_rate / seconds


def costs_of(plan: TrainingPlan, *, tokens_per_second: float | None = None) -> Costs:
    """Measure on this machine's device; with `tokens_per_second` of the first phase, known from elsewhere, memory only.

    Takes some seconds a phase; on a GPU, where the model's regions are compiled for it, a minute.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ranks are launched; read when torch is first loaded
    import torch

    from pipeline.pretraining.planning.memory import available_bytes, largest_micro_batch
    from pipeline.pretraining.planning.rehearsal import (
        matrix_rate,
        needed_memory,
        rehearsed_dtype,
        rehearsed_model,
        release,
    )

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, size, share = plan.config, plan.data.vocabulary_size, plan.predicted_share
    free, state = available_bytes(device, 1), plan.state.on(device.type)
    model = rehearsed_model(config, size, device)
    shown = track(plan.phases, "measuring memory", len(plan.phases))
    needed = [needed_memory(model, phase.lengths, share, device) for phase in shown]
    fitting = tuple(largest_micro_batch(each, state, free) for each in needed)
    del model
    release(device)
    if tokens_per_second is None:
        speeds, update_s = _measured(plan, fitting, device)
        rate = matrix_rate(rehearsed_dtype(config, device), device)
    else:
        first = flops_per_token(config, size, plan.phases[0].lengths, share)
        speeds = [tokens_per_second * first / phase.flops_a_token for phase in plan.phases]
        update_s, rate = 0.0, None
    return Costs(
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        tokens_per_second=tuple(speeds),
        update_seconds=update_s,
        matrix_rate=rate,
        pass_bytes=tuple(each.of(phase.micro_batch_size) for each, phase in zip(needed, plan.phases, strict=True)),
        fitting=fitting,
        free_bytes=free,
        device_type=device.type,
    )


def _measured(plan: TrainingPlan, fitting: Sequence[int], device: "torch.device") -> tuple[list[float], float]:
    """Tokens a second of each phase, and seconds of an update; what doesn't fit is measured on as many as do."""
    from pipeline.pretraining.planning.rehearsal import measured_speed, release

    speeds, updates = list[float](), list[float]()
    shown = track(plan.phases, "measuring speed", len(plan.phases))
    for phase, fits in zip(shown, fitting, strict=True):
        samples = max(1, min(phase.micro_batch_size, fits))
        size, share = plan.data.vocabulary_size, plan.predicted_share
        speed = measured_speed(plan.config, size, phase.lengths, share, samples, device)
        release(device)
        speeds.append(speed.tokens_per_second)
        updates.append(speed.update_seconds / (plan.devices if plan.zero_stage else 1))
    return speeds, max(updates)
