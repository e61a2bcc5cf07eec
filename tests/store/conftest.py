"""A store on a bucket that keeps older versions of objects."""

import uuid
from pathlib import Path

import boto3
import pytest

from pipeline.settings import Settings
from pipeline.store import Store, open_store
from pipeline.store.service import _session


@pytest.fixture
def versioned_store(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store on a bucket of its own, whose versioning is enabled."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    _session.cache_clear()  # which remembers credentials
    bucket, client = f"versioned-{uuid.uuid4().hex}", boto3.Session().client("s3")
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return open_store(
        Settings.from_environment({"BERTMILL_HOME": str(tmp_path / "home"), "BERTMILL_STORE": f"s3://{bucket}/x"})
    )
