"""One local Prefect server per home: started when a run first needs it, detached, and found again by later commands.

Its database, log and whereabouts are under `<home>/prefect`. A user's own `PREFECT_API_URL` goes before it. Costs 13 to
22 s the first time; without a server of its own every process would start one that ends with it, and no run could be
looked at afterwards.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from pipeline.errors import BertmillError
from pipeline.progress import progress
from pipeline.settings import Settings

STARTING_S = 120.0
STOPPING_S = 20.0


class ServerError(BertmillError):
    """The local Prefect server doesn't start, or doesn't answer."""


class Server(BaseModel):
    """A local server, as `server.json` tells of it."""

    pid: int
    created: float
    """When the process was created, so that another one under the same pid isn't taken for it."""
    api_url: str

    @property
    def address(self) -> str:
        """Where its pages are."""
        return self.api_url.removesuffix("/api")


def use_server(settings: Settings) -> str:
    """Point this process' Prefect at the user's own server, else at the home's, started if need be; returns its API.

    To be called before Prefect is imported.
    """
    defaults = {
        "PREFECT_LOGGING_EXTRA_LOGGERS": "bertmill",  # the library's log shows in the UI
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command line says it in its own words
    }
    if "PREFECT_API_URL" not in os.environ:
        defaults |= {"PREFECT_HOME": str(_folder(settings)), "PREFECT_API_URL": start_server(settings).api_url}
    for name, value in (defaults | _QUIET).items():
        os.environ.setdefault(name, value)
    return os.environ["PREFECT_API_URL"]


def start_server(settings: Settings) -> Server:
    """The home's server: the one that runs, or a new one. Raises ServerError where none comes up."""
    with _one_at_a_time(settings):
        if (running := find_server(settings)) is not None and _answers(running, within_s=STARTING_S):
            return running
        stop_server(settings)
        started = _start(_folder(settings))
        if not _answers(started, within_s=STARTING_S):
            stop_server(settings)
            log = _folder(settings) / "server.log"
            raise ServerError(f"The local Prefect server doesn't answer at {started.api_url}. Its log is {log}.")
        return started


def find_server(settings: Settings) -> Server | None:
    """The home's server, if its process lives."""
    try:
        server = Server.model_validate_json((_folder(settings) / "server.json").read_bytes())
        return server if abs(psutil.Process(server.pid).create_time() - server.created) < 2 else None
    except (OSError, ValidationError, psutil.NoSuchProcess):
        return None


def stop_server(settings: Settings) -> bool:
    """End the home's server with all its processes; False where none ran."""
    server = find_server(settings)
    (_folder(settings) / "server.json").unlink(missing_ok=True)
    if server is None:
        return False
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=STOPPING_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return True


_QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def _start(folder: Path) -> Server:
    port = _free_port()
    # The server needs neither the store's credentials nor this run's settings.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "BERTMILL_"))}
    environment |= _QUIET | {"PREFECT_HOME": str(folder), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(
        pid=process.pid, created=psutil.Process(process.pid).create_time(), api_url=f"http://127.0.0.1:{port}/api"
    )
    new = folder / "server.json.new"
    new.write_text(json.dumps(server.model_dump()), encoding="utf-8")
    new.replace(folder / "server.json")
    return server


def _answers(server: Server, within_s: float) -> bool:
    """Whether its API becomes healthy in that time; a process that ends is not waited for."""
    deadline = time.monotonic() + within_s
    with progress("starting the Prefect server") as advance:
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{server.api_url}/health", timeout=5) as reply:  # noqa: S310
                return bool(reply.status == 200)
            if not psutil.pid_exists(server.pid) or psutil.Process(server.pid).status() == psutil.STATUS_ZOMBIE:
                return False
            time.sleep(0.2)
            advance(0)
    return False


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold the home's lock; the system gives it back however this process ends."""
    with (_folder(settings) / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder(settings: Settings) -> Path:
    folder = settings.home / "prefect"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{folder} can't be made: {error.strerror}. Set BERTMILL_HOME to another folder.") from None
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
