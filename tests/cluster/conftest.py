"""Tests that install Debian packages: `make test-cluster` runs them, `make test` leaves them out (pyproject.toml).

Each file starts its servers itself, on loopback and in a folder of its own. Here S3 is a real Ceph: a test of the
store's that asks for `s3_server` or `any_store` runs on that when it is imported here.
"""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from pipeline.settings import Settings
from pipeline.store import Store, open_store
from tests.cluster.ceph import Ceph, running_ceph
from tests.conftest import BUCKET

VERSIONED_BUCKET = "bertmill-tests-versioned"
REUSED = ["test_draft", "test_gc", "test_lease", "test_s3", "test_store", "test_work"]
pytest.register_assert_rewrite(*(f"tests.store.{module}" for module in REUSED))


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A Ceph with two empty buckets, one of them versioned."""
    if shutil.which("radosgw") is None:
        pytest.fail("Ceph isn't installed here. Run `make test-cluster`, which installs it.", pytrace=False)
    with running_ceph(tmp_path_factory.mktemp("ceph"), uuid.uuid4().hex, uuid.uuid4().hex) as ceph:
        with pytest.MonkeyPatch.context() as patch:
            lead_to(ceph.secure, patch)
            client = boto3.client("s3")
        for bucket in (BUCKET, VERSIONED_BUCKET):
            client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=VERSIONED_BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield ceph


@pytest.fixture(scope="session")
def s3_server(ceph: Ceph) -> dict[str, str]:
    """The environment variables that lead boto3 there, through https."""
    return ceph.secure


@pytest.fixture
def any_store(ceph: Ceph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store on the bucket without versions, through https."""
    lead_to(ceph.secure, monkeypatch)
    return store_on(BUCKET, tmp_path)


@pytest.fixture(params=["https", "http"])
def either_store(request: pytest.FixtureRequest, ceph: Ceph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same, then through http, where botocore signs and sends otherwise."""
    lead_to(ceph.secure if request.param == "https" else ceph.plain, monkeypatch)
    return store_on(BUCKET, tmp_path)


@pytest.fixture
def versioned_store(ceph: Ceph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store on the bucket with versions."""
    lead_to(ceph.secure, monkeypatch)
    return store_on(VERSIONED_BUCKET, tmp_path)


def lead_to(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which remembers credentials


def store_on(bucket: str, tmp_path: Path) -> Store:
    environment = {"BERTMILL_HOME": str(tmp_path / "home"), "BERTMILL_STORE": f"s3://{bucket}/{tmp_path.name}"}
    return open_store(Settings.from_environment(environment))
