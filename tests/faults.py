"""Faults between boto3 and a real S3 server: a proxy on loopback that does to chosen requests what networks do to them.

A rule says which requests, which fault and how often; all else is forwarded as it came. The server is real, so what
follows is its own doing: a request whose answer is `lost` has been carried out. Requests and answers are held whole, a
part's size each. Services echo what they were sent when they refuse it; so do the refusals that are made here.
"""

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

REFUSALS = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "denied": (403, "AccessDenied"),
}
FAULTS = {
    *REFUSALS,
    "reset",  # half of the request's body is read, none is forwarded
    "reset_in_body",  # after half of the answer's body
    "truncated",  # half of the answer's body, then a clean close
    "flipped",  # one bit, in the middle of the answer's body
    "delay",
    "lost",  # carried out; the connection closes without an answer
    "silently_ignored",  # If-None-Match, as some services ignore it
}
OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Request:
    """A request as it came, and what was done to it."""

    method: str
    target: str
    """Path and query."""
    headers: Message
    fault: str | None = None


Which = str | Callable[[Request], bool]
"""A part of the target, or a condition."""


def is_create_only(request: Request) -> bool:
    """Whether it asks not to overwrite."""
    return "If-None-Match" in request.headers


def matches(request: Request, method: str | None, which: Which) -> bool:
    """Whether a request is of those that are meant; `method` None means any."""
    found = which in request.target if isinstance(which, str) else which(request)
    return found and method in (None, request.method)


@dataclass
class _Rule:
    fault: str
    method: str | None
    which: Which
    left: int | None
    delay_s: float


class Faults:
    """A context in which `address` leads to `server`, but for what the rules do."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.ended = Event()
        self.broken: list[BaseException] = []
        """What failed in the proxy itself: no fault that was asked for."""
        self._rules: list[_Rule] = []
        self._seen: list[Request] = []
        self._lock = Lock()

    def __enter__(self) -> Self:
        self._proxy = _Proxy(self)
        self._thread = Thread(target=self._proxy.serve_forever, args=(0.02,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._proxy.server_port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._proxy.shutdown()
        self._proxy.hang_up()
        self._proxy.server_close()
        self._thread.join()
        if self.broken:
            raise self.broken[0]

    def add(
        self, fault: str, method: str | None = None, which: Which = "", *, times: int | None = 1, delay_s: float = 0
    ) -> None:
        """Do that to the next `times` requests that match, or to all (None). The rule that was added first wins."""
        assert fault in FAULTS
        with self._lock:
            self._rules.append(_Rule(fault, method, which, times, delay_s))

    def clear(self) -> None:
        """Forward everything from now on, and forget what was seen."""
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def seen(self, method: str | None = None, which: Which = "", fault: str | None = None) -> list[Request]:
        """The requests that came, in order; with `fault`, those it was done to."""
        with self._lock:
            return [each for each in self._seen if matches(each, method, which) and fault in (None, each.fault)]

    def meet(self, request: Request) -> tuple[Request, float]:
        """Note a request; what is to be done to it, and the delay in seconds."""
        with self._lock:
            rule = next(
                (each for each in self._rules if each.left != 0 and matches(request, each.method, each.which)), None
            )
            if rule is not None:
                request = replace(request, fault=rule.fault)
                rule.left = None if rule.left is None else rule.left - 1
            self._seen.append(request)
            return request, rule.delay_s if rule is not None else 0


class _Proxy(ThreadingHTTPServer):
    daemon_threads = False  # so that none outlives the context
    request_queue_size = 64

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._connections: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # clients may be killed
            self.faults.broken.append(error)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy

    def _meet(self) -> None:
        request, delay_s = self.server.faults.meet(Request(self.command, self.path, self.headers))
        length = int(self.headers.get("Content-Length", 0))
        if request.fault == "reset":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        self.server.faults.ended.wait(delay_s)
        if request.fault in REFUSALS:
            self._answer(_refusal(request), None)
        elif len(body) == length:
            answer = _forwarded(self.server.faults.server, request, body)
            self._answer(answer, request.fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _meet  # noqa: N815  (the library's names)

    def _answer(self, answer: _Answer, fault: str | None) -> None:
        self.close_connection = fault in {"lost", "truncated"} or self.close_connection
        if fault == "lost":
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        body = answer.body if self.command != "HEAD" else b""
        if fault in {"reset_in_body", "truncated"}:
            body = body[: len(body) // 2]
        self.wfile.write(_flipped(body) if fault == "flipped" else body)
        if fault == "reset_in_body":
            self._reset()

    def _reset(self) -> None:
        """Close so that the other side is told of a reset: without lingering, and before anyone says goodbye."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        pass


def _forwarded(server: str, request: Request, body: bytes) -> _Answer:
    left_out = {"connection", "expect"} | ({"if-none-match"} if request.fault == "silently_ignored" else set())
    headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
    connection = HTTPConnection(urlsplit(server).netloc, timeout=60)
    try:
        connection.request(request.method, request.target, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in OF_ONE_CONNECTION]
        length = answer.headers.get("Content-Length", "0") if request.method == "HEAD" else str(len(data))
        return _Answer(answer.status, [*kept, ("Content-Length", length)], data)
    finally:
        connection.close()


def _refusal(request: Request) -> _Answer:
    status, code = REFUSALS[str(request.fault)]
    sent = "".join(f"{name}: {value}; " for name, value in request.headers.items())
    body = f"<Error><Code>{code}</Code><Message>{code} for {sent}</Message></Error>".encode()
    return _Answer(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body)


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([byte ^ 1 for byte in body[middle : middle + 1]]) + body[middle + 1 :]
