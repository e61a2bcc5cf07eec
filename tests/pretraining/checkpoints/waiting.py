"""Waiting for what another thread does."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], within_s: float = 20) -> bool:
    """Whether it comes to be so within that time."""
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
