"""What the tests stand on: stores on a folder and on a real S3 server, which runs on loopback while they do."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.settings import Settings
from pipeline.store import Store, open_store
from pipeline.store.service import _session

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

BUCKET = "bertmill-tests"


@pytest.fixture(autouse=True)
def no_settings_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see neither the user's home nor the user's store."""
    for name in [name for name in os.environ if name.startswith(("BERTMILL_", "AWS_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BERTMILL_HOME", str(tmp_path / "home"))
    _session.cache_clear()  # which remembers credentials


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store on a folder."""
    return open_store(Settings.from_environment({"BERTMILL_HOME": str(tmp_path / "home")}))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables that lead boto3 to a real S3 server process with an empty bucket."""
    import boto3

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("s3") / "server.log"
    bound_to = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("s3_server.py"))],
            env=os.environ | bound_to,
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )
    variables = {
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": uuid.uuid4().hex,
        "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        wait_for(address, server, log)
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield variables
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(params=["file", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store on a folder, then one on the S3 server: what holds for one holds for the other."""
    environment = {"BERTMILL_HOME": str(tmp_path / "home")}
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3_server").items():
            monkeypatch.setenv(name, value)
        environment["BERTMILL_STORE"] = f"s3://{BUCKET}/{tmp_path.name}"
    return open_store(Settings.from_environment(environment))


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path, within_s: float = 60) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server didn't answer: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a test marked `long(sample, full)` does what it does: the sample, or with --long the full number."""
    sample: int
    full: int
    sample, full = request.node.get_closest_marker("long").args
    return full if request.config.getoption("long") else sample


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="tests marked `long` do their full number of rounds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: _place(item.nodeid)[0] not in ("pretraining", "test_end_to_end.py"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    """Deals tests out to workers by `_dealt_with`: pytest-xdist 3.8 doesn't see groups under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _dealt_with(nodeid)

    return ByPlace(config, log)


def _dealt_with(nodeid: str) -> str:
    """One worker takes a whole folder, or a file that stands alone, so that what it has started serves all of it.

    What store/ and cluster/ start is up within seconds: there a worker takes a file, or in cluster/ a test; and so in
    pretraining/, which would keep one busy after all else is done.
    """
    folder, *rest = _place(nodeid)
    if folder == "cluster":
        return nodeid
    return "/".join([folder, *rest]) if folder in ("store", "pretraining") else folder


def _place(nodeid: str) -> tuple[str, ...]:
    """Its file's path under tests/."""
    return Path(nodeid.split("::")[0]).parts[1:]
