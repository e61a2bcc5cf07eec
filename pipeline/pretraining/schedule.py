"""The learning rate as a function of the step."""

from pipeline.config import PretrainingConfig


def learning_rate(config: PretrainingConfig, step: int) -> float:
    """Of step `step` (from 0): a linear rise over the warmup to the peak, then a linear fall that would end at zero
    one step after the last.
    """
    done = step + 1
    if done <= config.warmup_steps:
        return config.learning_rate * done / config.warmup_steps
    return config.learning_rate * (config.max_steps - step) / (config.max_steps - config.warmup_steps)
