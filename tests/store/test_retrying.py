"""What may yet succeed is tried again until the deadline; what can't is told at once. Against answers made by hand."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.store.cache import Cache
from pipeline.store.s3 import S3Backend
from pipeline.store.service import _session

SLOW_DOWN = (503, b"<Error><Code>SlowDown</Code></Error>", 0)
INTERNAL = (500, b"<Error><Code>InternalError</Code></Error>", 0)
NAMELESS = (502, b"", 0)
CONFLICT = (409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", 0)
DENIED = (403, b"<Error><Code>AccessDenied</Code></Error>", 0)
TRUNCATED = (200, b"half", 4)
EMPTY = (200, b"", 0)
WHOLE = (200, b"the whole", 0)


class Server(ThreadingHTTPServer):
    """Gives its answers in turn, the last one for ever: (status, body, bytes that are promised and never come)."""

    answers: list[tuple[int, bytes, int]]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.command)
        answers = self.server.answers
        status, body, lacking = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + lacking))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = _answer  # noqa: N815  (the library's names)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [WHOLE], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def backend(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Backend:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    _session.cache_clear()  # which remembers credentials
    return S3Backend("bucket", "x", Cache(tmp_path / "cache", 1 << 20), deadline_s=3)


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL, NAMELESS, CONFLICT, TRUNCATED])
def test_what_passes_is_tried_again(server: Server, backend: S3Backend, fault: tuple[int, bytes, int]) -> None:
    server.answers = [fault, fault, WHOLE]
    assert backend.get("a") == b"the whole"
    assert server.asked == ["GET"] * 3


def test_a_create_that_meets_another_is_tried_again(server: Server, backend: S3Backend) -> None:
    server.answers = [CONFLICT, SLOW_DOWN, EMPTY]
    assert backend.create("a", b"mine")
    assert server.asked == ["PUT"] * 3


def test_access_denied_is_told_at_once_with_the_action_and_the_key(server: Server, backend: S3Backend) -> None:
    server.answers = [DENIED]
    with pytest.raises(StoreError, match=r"Access denied: PutObject on s3://bucket/x/a\."):
        backend.put("a", b"")
    assert server.asked == ["PUT"]


@pytest.mark.parametrize(("fault", "told"), [(SLOW_DOWN, "503, SlowDown"), (TRUNCATED, "IncompleteRead|Streaming")])
def test_one_deadline_ends_all_retries(
    server: Server, backend: S3Backend, fault: tuple[int, bytes, int], told: str
) -> None:
    server.answers = [fault]
    started = time.monotonic()
    with pytest.raises(
        StoreError, match=rf"Object storage failed at GetObject on s3://bucket/x/a: .*({told}).*after retries"
    ):
        backend.get("a")
    assert time.monotonic() - started < 30, "far from the five minutes of the default"
    assert 3 <= len(server.asked) < 60, "with pauses that grow"
