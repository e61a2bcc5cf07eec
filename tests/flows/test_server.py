"""One server a home: found again, never started twice, bound to loopback, and gone with all its processes."""

import os
import subprocess
import sys
import urllib.request

import psutil
import pytest

from flows.server import Server, ServerError, find_server, start_server, stop_server, use_server
from pipeline.settings import Settings
from tests.flows.conftest import Started, User
from tests.processes import living_with
from tests.texts import write


def test_two_that_start_at_once_get_one_server(started: Started) -> None:
    assert started.said == (f"{started.server.address}\n",) * 2
    servers = [each for each in living_with(mark(started.user), within_s=0) if is_a_server(each)]
    assert servers == [started.server.pid]


def test_a_server_file_of_an_ended_process_is_replaced(started: Started) -> None:
    assert started.server.pid != started.stale.pid
    assert started.server.api_url != started.stale.api_url
    assert urllib.request.urlopen(f"{started.server.api_url}/health").read() == b"true"


def test_a_second_up_finds_the_same_server(started: Started) -> None:
    assert started.user.call("up") == (0, f"{started.server.address}\n", "")
    assert find_server(started.user.settings) == start_server(started.user.settings) == started.server


def test_the_server_is_reached_from_this_machine_only(started: Started) -> None:
    processes = [psutil.Process(pid) for pid in living_with(mark(started.user), within_s=0)]
    listening = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_the_server_knows_neither_the_stores_credentials_nor_the_settings(started: Started) -> None:
    assert "AWS_SECRET_ACCESS_KEY" in started.user.environment
    environment = psutil.Process(started.server.pid).environ()
    assert not [key for key in environment if key.startswith(("AWS_", "BERTMILL_"))]


def test_a_users_own_server_goes_before_the_homes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "http://prefect.example.org/api"
    monkeypatch.setattr(os, "environ", os.environ | {"PREFECT_API_URL": own})
    assert use_server(settings) == own
    assert not settings.home.exists()


def test_down_ends_a_server_with_its_processes_and_twice_is_fine(settings: Settings) -> None:
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    tell(settings, Server(pid=process.pid, created=processes[0].create_time(), api_url="http://127.0.0.1:9/api"))
    assert stop_server(settings)
    process.communicate()
    assert len(processes) == 2
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert not stop_server(settings)


def test_down_without_a_server_says_so_and_succeeds(user: User) -> None:
    assert user.call("down") == (0, "no server was running\n", "")


def test_down_leaves_another_process_under_the_same_pid_alone(settings: Settings) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        tell(settings, Server(pid=process.pid, created=1.0, api_url="http://127.0.0.1:9/api"))
        assert find_server(settings) is None
        assert not stop_server(settings)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_an_unreadable_server_file_is_no_server(settings: Settings, text: str) -> None:
    write(settings.home / "prefect/server.json", text)
    assert find_server(settings) is None


def test_a_home_that_can_not_be_made_is_told_in_a_sentence(settings: Settings) -> None:
    write(settings.home, "in the way")
    with pytest.raises(ServerError, match="home/prefect can't be made: Not a directory. Set BERTMILL_HOME"):
        start_server(settings)


@pytest.fixture
def settings() -> Settings:
    """Those of a home without a server."""
    return Settings.from_environment()


def tell(settings: Settings, server: Server) -> None:
    """Have the home's server.json name that server."""
    write(settings.home / "prefect/server.json", server.model_dump_json())


def mark(user: User) -> str:
    """What the environment of the home's server has, and no other's."""
    return f"PREFECT_HOME={user.home / 'prefect'}"


def is_a_server(pid: int) -> bool:
    return psutil.Process(pid).cmdline()[1:5] == ["-m", "prefect", "server", "start"]
