"""What steps come to, gathered on the device and fetched together, so that training doesn't wait for its own numbers.

Figures of the mathematics (losses, norms, counts) are a function of the run and go into the curve; those of the machine
(tokens a second, waiting, memory) go into the lines of progress alone.
"""

import resource
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Measures:
    """Of the steps since the last fetch. A step costs two tensors of a few numbers."""

    def __init__(self, has_pairs: bool) -> None:
        self._has_pairs = has_pairs
        self._records: list[dict[str, Any]] = []
        self._counts: list[tuple[int, int]] = []
        self._found: list[Tensor] = []

    def add(self, record: dict[str, Any], sums: Tensor, norm: Tensor, *, predictions: int, sequences: int) -> None:
        """A step: what is known of it on the host, its `Losses` summed over all ranks [4], its gradient's norm."""
        self._records.append(record)
        self._counts.append((predictions, sequences))
        self._found.append(torch.cat([sums, norm.reshape(1).to(sums.dtype)]))

    def fetch(self) -> Iterator[dict[str, Any]]:
        """The steps' records, in order; waits for the device."""
        found = torch.stack(self._found).tolist() if self._found else []
        for record, (predictions, sequences), figures in zip(self._records, self._counts, found, strict=True):
            masked_lm, next_sentence, masked_lm_correct, next_sentence_correct, norm = figures
            masked_lm, next_sentence = masked_lm / predictions, self._has_pairs * next_sentence / sequences
            yield {
                "step": record["step"],
                "loss": masked_lm + next_sentence,
                "masked_lm_loss": masked_lm,
                "masked_lm_accuracy": masked_lm_correct / predictions,
                "next_sentence_loss": next_sentence,
                "next_sentence_accuracy": next_sentence_correct / sequences,
                "gradient_norm": norm,
            } | record
        self._records, self._counts, self._found = [], [], []


@dataclass
class Pace:
    """How fast it goes, since the last line of progress, on this rank."""

    tokens: int = 0
    """Real ones, of all ranks."""
    places: int = 0
    """What buffers of all ranks hold, padding included."""
    checkpoint_s: float = 0.0
    """What checkpoints held training up."""
    flops: float = 0.0
    """Of this rank's model, forward and backward, for real tokens."""
    aside_s: float = 0.0
    """What isn't training: validation."""
    since: float = field(default_factory=time.monotonic)

    def told(self, loader_wait_s: float, peak: float) -> dict[str, float]:
        """Figures for a line of progress; `peak` is the device's rate of large matrix products, in FLOP/s."""
        seconds = max(1e-9, time.monotonic() - self.since - self.aside_s)
        return {
            "seconds": seconds,
            "tokens_per_second": self.tokens / seconds,
            "peak_share": self.flops / seconds / peak,
            "padding_share": 1 - self.tokens / max(1, self.places),
            "loader_wait_share": loader_wait_s / seconds,
            "checkpoint_share": self.checkpoint_s / seconds,
            "memory_gb": memory_gb(),
        }


class Waited(Generic[T]):
    """An iterator that knows how long it was waited for."""

    def __init__(self, items: Generator[T]) -> None:
        self._items = items
        self.seconds = self.last_s = 0.0

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        began = time.monotonic()
        try:
            return next(self._items)
        finally:
            self.last_s = time.monotonic() - began
            self.seconds += self.last_s

    def close(self) -> None:
        """Have the one underneath end."""
        self._items.close()

    def taken(self) -> float:
        """Seconds since this was last asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def events_of(record: Mapping[str, Any], under: str = "train") -> list[tuple[str, float, int]]:
    """A line of progress as TensorBoard takes it: (tag, value, step); those in a table of the line under its name."""
    step, events = record.get("step"), list[tuple[str, float, int]]()
    if step is None:
        return events
    for key, value in record.items():
        if isinstance(value, Mapping):
            events += events_of({**value, "step": step}, f"{under}/{key}" if under != "train" else key)
        elif key != "step" and isinstance(value, int | float):
            events.append((f"{under}/{key}", float(value), step))
    return events


def memory_gb() -> float:
    """The most that this rank has held, in units of 1e9 bytes: of the GPU's memory, or of the host's without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
