"""The S3 server of the tests and benchmarks: ministack, given whole requests only, each in one piece.

By itself it takes for the whole body what had come when the sender was killed, and stores it; S3 does not. And it puts
a body together in time that grows with the square of its size, so that large parts would look slow.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import ministack.app

Receive = Callable[[], Awaitable[dict[str, Any]]]
answer = ministack.app.app


async def answer_whole_requests(scope: dict[str, Any], receive: Receive, send: Any) -> None:
    """The ASGI application; a request that breaks off ends here."""

    async def receive_whole() -> dict[str, Any]:
        pieces = []
        while (message := await receive())["type"] == "http.request":
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                return {"type": "http.request", "body": b"".join(pieces), "more_body": False}
        raise ConnectionResetError("the sender has gone")

    await answer(scope, receive_whole if scope["type"] == "http" else receive, send)


if __name__ == "__main__":
    ministack.app.app = answer_whole_requests
    ministack.app.main()
