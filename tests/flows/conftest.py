"""One real Prefect server for all tests of the flows, started and stopped by the command, and a user beside it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.server import Server, find_server
from pipeline.settings import Settings
from tests.processes import living_with
from tests.texts import lines, rows, write

OTHERS = ("BERTMILL_", "PREFECT_", "AWS_")
PRESET = """
extends = "tiny"

[corpus]
name = "mine"
heldout_share = 0.3
documents_per_shard = 5
sources = [{{ path = "{source}", format = "jsonl", name = "mine", licence = "own" }}]

[vocabulary]
name = "mine"
size = 60
"""


@dataclass(frozen=True)
class User:
    """A home, and the command in it."""

    home: Path
    variables: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith(OTHERS)}
        return own | {"BERTMILL_HOME": str(self.home)} | self.variables

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def start(self, *words: str, module: str = "flows.cli") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, module: str = "flows.cli") -> tuple[int, str, str]:
        """Exit status, standard output and standard error of the command."""
        process = self.start(*words, module=module)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


@dataclass(frozen=True)
class Started:
    """A home with a running server, and how it came to run."""

    user: User
    server: Server
    said: tuple[str, ...]
    """What each of the two first `bertmill up` printed."""
    stale: Server
    """What its server.json said before: a process that had ended."""


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Two `bertmill up` at once, in a home whose server.json names a process that has ended; `bertmill down` after."""
    user = User(tmp_path_factory.mktemp("flows") / "home", {"AWS_SECRET_ACCESS_KEY": "secret"})
    stale = Server(pid=ended_process(), created=1.0, api_url="http://127.0.0.1:9/api")
    write(user.home / "prefect/server.json", stale.model_dump_json())
    try:
        both = [user.start("up"), user.start("up")]
        said = tuple(each.communicate(timeout=180)[0] for each in both)
        server = find_server(user.settings)
        assert server is not None, (user.home / "prefect/server.log").read_text(errors="replace")[-2000:]
        yield Started(user, server, said, stale)
    finally:
        drain()
        down = user.call("down")
    assert down == (0, "stopped\n", "")
    assert not living_with(f"PREFECT_HOME={user.home / 'prefect'}", within_s=10), "the server ends with its processes"


def drain() -> None:
    """Let this process' Prefect send what it still holds, for it would wait a minute for a server that is gone."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)


@pytest.fixture
def user(started: Started, tmp_path: Path) -> User:
    """A user with an empty store, whose runs the server shows."""
    folder = str(started.user.home / "prefect")
    return User(tmp_path / "home", {"PREFECT_API_URL": started.server.api_url, "PREFECT_HOME": folder})


@pytest.fixture
def here(user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    """The same user, as this process."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    monkeypatch.setenv("BERTMILL_WORKERS", "2")
    updates = {PREFECT_API_URL: user.variables["PREFECT_API_URL"], PREFECT_HOME: user.variables["PREFECT_HOME"]}
    with temporary_settings(updates):
        yield user


@pytest.fixture
def preset(tmp_path: Path) -> str:
    """The path of a preset whose corpus is read, and its vocabulary learned, in no time."""
    source = write(tmp_path / "mine.jsonl", lines(rows(30)))
    return str(write(tmp_path / "mine.toml", PRESET.format(source=source)))


def ended_process() -> int:
    """The pid of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
