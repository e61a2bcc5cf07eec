"""The learning rate as a function of the step: a linear rise, then one of four courses. Nothing is kept between steps.

A course is given the steps that are left, the present one included, so that one that falls to zero is there one step
after the last. A new one is a function here and a line in `SCHEDULES`; its keywords are what a preset may set:
`schedule = { name = "warmup_stable_decay", decay_share = 0.2 }`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from pipeline.config import PretrainingConfig, bound

Schedule = Callable[[float, int, int], float]
"""(the peak, steps that are left, steps after the warmup) -> the rate."""


def learning_rate(config: PretrainingConfig, step: int) -> float:
    """Of step `step` (from 0): a linear rise over the warmup to the peak, then as `config.schedule` has it."""
    done, warmup = step + 1, config.warmup_steps
    if done <= warmup:
        return config.learning_rate * done / warmup
    return schedule_of(config)(config.learning_rate, config.steps - step, config.steps - warmup)


def schedule_of(config: PretrainingConfig) -> Schedule:
    """The course after the warmup. ConfigError: no such schedule, or a keyword that it doesn't take."""
    return bound(config.schedule, SCHEDULES, "schedule")


def linear(peak: float, left: int, steps: int) -> float:
    """A straight fall to zero (Devlin et al. 2019)."""
    return peak * left / steps


def cosine(peak: float, left: int, steps: int) -> float:
    """Half a cosine down to zero (Loshchilov and Hutter 2017, without restarts)."""
    return peak * (1 - math.cos(math.pi * left / steps)) / 2


def warmup_stable_decay(
    peak: float, left: int, steps: int, *, decay_share: Annotated[float, Field(gt=0, le=1)] = 0.1
) -> float:
    """The peak, and over the last `decay_share` of the steps a fall to zero as 1 - sqrt (Hägele et al. 2024).

    Any snapshot of the plateau can be trained on, with a longer budget or a fall of its own.
    """
    falling = decay_share * steps
    return peak * (1 - math.sqrt(1 - min(1.0, left / falling)))


def constant(peak: float, *_: int) -> float:
    """The peak to the end."""
    return peak


SCHEDULES: Mapping[str, Callable[..., float]] = {
    "linear": linear,
    "cosine": cosine,
    "warmup_stable_decay": warmup_stable_decay,
    "constant": constant,
}
