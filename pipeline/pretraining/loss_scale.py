"""The loss scale of fp16: the loss is multiplied by it, so that small gradients don't vanish below fp16's smallest.

It starts high and halves at each overflow, whose step updates nothing; after so many steps without one it doubles
(Micikevicius et al. 2018, section 3.2). It is a function of which steps were skipped, and the curve says that: so a
checkpoint, which holds the curve, holds the scale, for any world and ZeRO stage.

DeepSpeed's own (0.19.8) isn't used. Without ZeRO it divides gradients by a scale that it never multiplied the loss by
(its pull request 8393); under ZeRO, where the scale has just doubled, it divides by the new one, so that this step's
gradient is half of what it should be; and at the least scale it ends by a bare Exception.
"""

from collections.abc import Iterable
from dataclasses import dataclass

FIRST = 2.0**16
LEAST = 1.0
"""An overflow here is one of the gradient itself."""
WINDOW = 1_000
"""Steps without an overflow after which it doubles."""


@dataclass
class LossScale:
    """Powers of two alone, so that scaling rounds nothing."""

    value: float
    steps: int = 0
    """Since it last changed."""

    @classmethod
    def after(cls, skipped: Iterable[bool]) -> "LossScale":
        """What steps have left, of which these were skipped."""
        scale = cls(FIRST)
        for each in skipped:
            scale.take(each)
        return scale

    def take(self, is_overflow: bool) -> None:
        """A step's outcome."""
        self.steps += 1
        if is_overflow:
            self.value, self.steps = max(LEAST, self.value / 2), 0
        elif self.steps == WINDOW:
            self.value, self.steps = 2 * self.value, 0
