"""Stragglers: a rank that regularly takes much longer than others over its part of a step, so that all wait for it.

Ranks meet in the all-reduces of every step, so each step takes all of them the same time. What tells a slow machine is
how long a rank works before it enters the first one: it waits for its loader and passes over its micro-batches. On a
GPU that is the device's time, between two events in its stream.

At each line of progress the ranks tell each other the medians of their last steps, so that a pause now and then counts
for nothing. One that takes over `SLOW` times the usual is told once, until it is under `RECOVERED`. As batches are
dealt by tokens, equal ranks differ by a few percent, on busy CPUs by a fifth; at 1.5 the others wait a third of the
time. Where a rank has more tokens all the same, for samples are few and long, as much more is its due.

Costs two looks at a clock a step and a message a line of progress; the device isn't waited for. Under ZeRO-2 and 3
ranks meet within the passes, too: there a slow rank isn't told from those that wait for it.
"""

import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the launcher tells of stragglers too, and does without
    import torch

REMEMBERED = 20
"""Steps of which the median is taken."""
SLOW, RECOVERED = 1.5, 1.25
"""Times what the ranks usually take."""


@dataclass(frozen=True)
class Share:
    """A rank's part of a step, as it has been lately."""

    rank: int
    host: str
    seconds: float
    tokens: float


@dataclass(frozen=True)
class _Part:
    """Of one step."""

    waited_s: float
    host_s: float
    tokens: int
    events: "tuple[torch.cuda.Event, torch.cuda.Event] | None"

    @property
    def seconds(self) -> float:
        """To be asked when the device is through with the step."""
        if self.events is None:
            return self.waited_s + self.host_s
        start, end = self.events
        return self.waited_s + float(start.elapsed_time(end)) / 1_000


class Stopwatch:
    """Times this rank's part of each step."""

    def __init__(self, rank: int, device: "torch.device") -> None:
        self._rank, self._has_events = rank, device.type == "cuda"
        self._parts: deque[_Part] = deque(maxlen=REMEMBERED)
        self._began = 0.0
        self._start: torch.cuda.Event | None = None

    def start(self) -> None:
        """The passes over the step's micro-batches begin."""
        self._began = time.monotonic()
        self._start = self._event()

    def stop(self, waited_s: float, tokens: int) -> None:
        """They are over, before any rank is waited for; `waited_s` is what the loader took for these tokens."""
        host_s, end = time.monotonic() - self._began, self._event()
        events = (self._start, end) if self._start is not None and end is not None else None
        self._parts.append(_Part(waited_s, host_s, tokens, events))

    def _event(self) -> "torch.cuda.Event | None":
        """A mark in the device's stream at this place; None where the host does all itself."""
        if not self._has_events:
            return None
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def share(self) -> Share | None:
        """Medians; None before there are enough steps. To be asked when the device is through with all of them."""
        if len(self._parts) < REMEMBERED:
            return None
        seconds, tokens = median(part.seconds for part in self._parts), median(part.tokens for part in self._parts)
        return Share(self._rank, socket.gethostname(), seconds, tokens)


def all_shares(own: Share | None, group: Any) -> list[Share]:
    """Those of all ranks, where each has one. All call, with one that messages between hosts go through."""
    import torch.distributed as dist

    if dist.get_world_size() == 1:
        return []
    shares: list[Share | None] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, own, group=group)
    return [share for share in shares if share is not None]


def lagging(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """Who takes over `RECOVERED` times what is usual, for a line of progress.

    Usual is the middle one of all ranks, of an even number the faster: of two, the other.
    """
    if not shares:
        return []
    usual = sorted(shares, key=lambda share: share.seconds)[(len(shares) - 1) // 2]
    found = []
    for share in shares:
        due_s = usual.seconds * max(1.0, share.tokens / max(1.0, usual.tokens))
        if share.seconds > RECOVERED * due_s:
            found.append({"rank": share.rank, "host": share.host, "seconds": share.seconds, "due_s": due_s})
    return found


class Stragglers:
    """Says once of a rank that it is slow, until it has recovered."""

    def __init__(self) -> None:
        self._told = set[int]()

    def new(self, found: Sequence[Mapping[str, Any]]) -> list[str]:
        """A sentence for each that has become one, of those `lagging` in a line of progress."""
        self._told &= {each["rank"] for each in found}
        fresh = [each for each in found if each["rank"] not in self._told and each["seconds"] > SLOW * each["due_s"]]
        self._told |= {each["rank"] for each in fresh}
        return [_sentence(**each) for each in fresh]


def _sentence(rank: int, host: str, seconds: float, due_s: float) -> str:
    return (
        f"Rank {rank} on {host} is slow, and all wait for it: it takes {seconds:.3g} s for its part of a step, "
        f"{seconds / due_s:.1f} times the {due_s:.3g} s in which others do as much (medians of {REMEMBERED} steps). "
        f"Look on that machine for other work, for heat or a limit that slows its devices, and at the disk that it "
        f"reads samples from."
    )
