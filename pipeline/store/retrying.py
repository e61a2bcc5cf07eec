"""Retries of what may yet succeed, with full jitter, under one deadline for the whole call.

Failures are told apart by HTTP status and S3 error code, never by a message, which may be absent. A service that has
never answered this process is most likely a wrong address, and is given up sooner.
"""

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
UNREACHABLE_S = 10.0
"""For how long a service is tried that has never answered."""
DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
"""On its way."""
PASSING = DAMAGED | {
    "408", "429", "500", "502", "503", "504",
    "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException",
    "ConditionalRequestConflict", "OperationAborted",  # another writer is at the same key
}  # fmt: skip


class Retrier:
    """Calls until an answer, a failure that stays, or the deadline."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._answered = False

    def call(self, attempt: Callable[[], T], deadline_s: float | None = None) -> T:
        """What `attempt` returns; what it raised last, where trying again is no use or no longer allowed.

        `deadline_s` is for this call alone; 0: it isn't tried again.
        """
        started, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                result = attempt()
            except Exception as error:
                self._answered = self._answered or bool(codes_of(error))
                if not is_passing(error):
                    raise
                wait = random.uniform(0, pause)  # noqa: S311  (nothing rests on it)
                if time.monotonic() - started + wait > (self._allowed_s() if deadline_s is None else deadline_s):
                    raise
                time.sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._answered = True
                return result

    def _allowed_s(self) -> float:
        return self.deadline_s if self._answered else min(UNREACHABLE_S, self.deadline_s)


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later: throttled, a fault of the service, a connection lost or damaged."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    if codes := codes_of(error):
        return bool(codes & PASSING)
    return isinstance(error, HTTPClientError | IncompleteReadError | FlexibleChecksumError | NoConnection)


def codes_of(error: Exception) -> set[str]:
    """A failure's HTTP status and S3 error code, as text; an empty set where it is no answer of the service."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = answer.get("Error", {}).get("Code")
    return {str(each) for each in (status, code) if each}
