"""The S3 server of the tests: ministack, but that it carries out no request whose body never came whole.

By itself it takes for the whole body what had come when the sender was killed, and stores it; S3 does not.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import ministack.app

Receive = Callable[[], Awaitable[dict[str, Any]]]
answer = ministack.app.app


async def answer_whole_requests(scope: dict[str, Any], receive: Receive, send: Any) -> None:
    """The ASGI application; a request that breaks off ends here."""

    async def receive_whole() -> dict[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the sender has gone")
        return message

    await answer(scope, receive_whole if scope["type"] == "http" else receive, send)


if __name__ == "__main__":
    ministack.app.app = answer_whole_requests
    ministack.app.main()
