"""Clipping, and no update by a step that is not finite: both decided on the device, inside the optimizer's kernel.

Torch's fused optimizers take what its GradScaler gives them: `grad_scale`, by which gradients are divided as they are
read, and `found_inf`, which makes the kernel leave weights, moments and its count of steps alone. Set from the global
norm before each update, they cost neither a pass over the gradients nor a wait for the device, which DeepSpeed's own
clipping does: that is off. Once a step has failed no later one updates, so the weights are still those before it when
the loop fetches `failed` with its metrics, and the step can be made again to see where it fails (diagnosis.py).

DeepSpeed's ZeRO-1 and 2 in fp32, ZeRO-3 and its bf16 optimizer look at the norm themselves, wait for it, and skip the
update too. In fp16 all of its optimizers do; there a gradient that overflows is no failure: the step is skipped, and
the loss scale falls (loss_scale.py). Gradient clipping: Pascanu et al. 2013, with the 1e-6 of torch and DeepSpeed.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.pretraining.loss_scale import LEAST, LossScale


class Guard:
    """Over an engine whose optimizer is one of torch's fused ones, and which doesn't clip itself."""

    def __init__(self, engine: Any, max_norm: float, skipped: Iterable[bool] = ()) -> None:
        """`skipped`, for fp16: which of the steps before were, where a run goes on."""
        self.norm = torch.zeros((), device=engine.device)
        """Of the last step's gradient, over all ranks, before it was clipped; infinite where it wasn't finite."""
        self.failed = torch.zeros((), device=engine.device)
        """1 since a step whose loss or gradient was not finite, else 0; the same on all ranks."""
        self.told: dict[str, Any] = {}
        """What the curve says of the last step beside its norm: in fp16 its loss scale, and whether it was skipped."""
        self._engine, self._max_norm = engine, max_norm
        self._scale = LossScale.after(skipped) if engine.fp16_enabled() else None
        torch_optimizer(engine).register_step_pre_hook(self._before_update)

    def scaled(self, loss: Tensor) -> Tensor:
        """What to go backward from: in fp16 the loss times its scale, else the loss."""
        return loss if self._scale is None else loss * self._scale.value

    def step(self, losses: Tensor) -> None:
        """`engine.step()`; it updates nothing where `losses`, summed over the ranks, or the gradient aren't finite."""
        self._note(losses.isfinite().all())
        self._engine.step()
        if self._scale is not None:
            self._take_overflow(self._scale)
        elif (norm := self._engine.get_global_grad_norm()) is not None:  # an update may have been skipped without us
            self._take(norm)

    def _take_overflow(self, scale: LossScale) -> None:
        """Tell what the step came to under its loss scale, and set the next one's."""
        is_overflow = bool(self._engine.optimizer.overflow)  # on any rank; DeepSpeed has waited for it
        is_skipped = is_overflow and scale.value > LEAST
        self.told = {"loss_scale": scale.value, "skipped": is_skipped} | ({"gradient_norm": None} if is_skipped else {})
        if is_skipped:
            self.norm = torch.full_like(self.norm, torch.inf)
        elif is_overflow:
            self._take(torch.inf)
        scale.take(is_overflow)

    def _before_update(self, optimizer: Any, *_: Any) -> None:
        norm = getattr(self._engine.optimizer, "_global_grad_norm", None)
        norm = _norm_of(optimizer) if norm is None else norm
        self._take(norm if self._scale is None else norm / self._scale.value)
        optimizer.grad_scale = ((self.norm + 1e-6) / self._max_norm).clamp(min=1.0)
        if self._scale is not None:
            optimizer.grad_scale *= self._scale.value
        optimizer.found_inf = self.failed

    def _take(self, norm: Tensor | float) -> None:
        """A norm that is not finite DeepSpeed tells as infinite, or in some places as -1."""
        norm = torch.as_tensor(norm, dtype=torch.float32, device=self.failed.device)
        fine = norm.isfinite() & (norm >= 0)
        self.norm = torch.where(fine, norm, torch.inf)
        self._note(fine)

    def _note(self, fine: Tensor) -> None:
        self.failed = torch.maximum(self.failed, (~fine).float())


def torch_optimizer(engine: Any) -> torch.optim.Optimizer:
    """Torch's optimizer, under whatever DeepSpeed wraps it in."""
    optimizer = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def _norm_of(optimizer: torch.optim.Optimizer) -> Tensor:
    """Without ZeRO each rank has the whole gradient."""
    parameters = [each for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
    return torch.nn.utils.get_total_norm([each.grad for each in parameters])
