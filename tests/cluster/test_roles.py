"""Each role of infra/iam can do what it is there for and nothing else, on a server that checks signatures and policies.

That server is a newer ministack than the other tests' one: it needs libraries that don't go with ours, and so has an
environment of its own, which `make test-cluster` makes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline.errors import StoreError
from pipeline.settings import Settings
from pipeline.store import PartDraft, Store, open_store
from pipeline.store.doctor import BAD, examine_store
from pipeline.store.gc import collect
from pipeline.store.keys import blob_key, manifest_key, tombstone_key
from pipeline.store.lineage import lineage_of
from pipeline.store.retraction import retract
from pipeline.store.s3 import PART_SIZE, S3Backend
from pipeline.store.service import _session
from pipeline.store.verify import verify_store
from tests.artifacts import commit, keys, recipe
from tests.conftest import free_port, wait_for

POLICIES = Path(__file__).parents[2] / "infra" / "iam"
SERVER = Path(sys.prefix) / "ministack" / "bin" / "ministack"
BUCKET = "shared-with-others"
ROOT = ("test", "test")
As = Callable[[str], Store]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the server, with a bucket."""
    if not SERVER.exists():
        pytest.fail("The server isn't installed here. Run `make test-cluster`, which installs it.", pytrace=False)
    port, log = free_port(), tmp_path_factory.mktemp("roles") / "server.log"
    variables = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3,iam,sts", "AUTH": "true"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [SERVER], env=os.environ | variables, stdout=output, stderr=output, cwd=log.parent, stdin=subprocess.DEVNULL
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/_ministack/health", server, log)
        client(f"http://127.0.0.1:{port}", "s3").create_bucket(Bucket=BUCKET)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def client(address: str, service: str) -> Any:
    identity, secret = ROOT
    return boto3.client(
        service,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=identity,
        aws_secret_access_key=secret,
    )


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return tmp_path.name


@pytest.fixture
def as_role(address: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """The store as a user of that role sees it; as `root`, without bounds."""
    iam = client(address, "iam")
    credentials = {"root": ROOT}

    def opened(role: str, where: str = prefix) -> Store:
        if role not in credentials:
            user = f"{prefix}-{role}"
            policy = (POLICIES / f"{role}.json").read_text().replace("BUCKET", BUCKET).replace("PREFIX", prefix)
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="bertmill", PolicyDocument=policy)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            credentials[role] = (key["AccessKeyId"], key["SecretAccessKey"])
        identity, secret = credentials[role]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        _session.cache_clear()
        home = {"BERTMILL_HOME": str(tmp_path / role), "BERTMILL_STORE": f"s3://{BUCKET}/{where}"}
        return open_store(Settings.from_environment(home))

    return opened


def denied(act: Callable[[], object]) -> None:
    with pytest.raises(StoreError, match="Access denied: .* on s3://shared-with-others/"):
        act()


def shard(draft: PartDraft) -> dict[str, Any]:
    (draft.folder / "shard").write_text("shard")
    draft.add("shard")
    return {}


def later(store: Store, days: float) -> Store:
    assert isinstance(store.backend, S3Backend)
    store.backend._ahead_s = days * 86_400
    return store


@pytest.mark.parametrize("role", [path.stem for path in sorted(POLICIES.glob("*.json"))])
def test_a_policy_allows_no_action_on_all_there_is(role: str) -> None:
    for statement in json.loads((POLICIES / f"{role}.json").read_text())["Statement"]:
        assert all("*" not in action for action in statement["Action"])
        assert all(resource.startswith("arn:aws:s3:::BUCKET") for resource in statement["Resource"])


def test_a_worker_publishes_and_trains_and_cleans_up_after_itself(as_role: As, tmp_path: Path) -> None:
    store = as_role("worker")
    parent = commit(store, recipe())
    large = tmp_path / "large"
    large.write_bytes(os.urandom(PART_SIZE + 1))
    with store.draft(recipe(1, parents=(parent,))) as draft:
        draft.add("large", large)
        draft.include(store.part("vocabulary", "shard", shard).files[0])
        made = draft.commit(totals={})
    assert store.find(recipe(1, parents=(parent,))) == store.resolve("vocabulary/small") == made
    with store.lease(recipe(2)) as lease:
        work = store.work(recipe(2), lease.epoch)
        work.commit("step-1", [work.add(large, "state", "step-1")], {})
        lease.finish()
    assert keys(store, "work/") == []
    assert all(store.backend.refresh(key) for key in keys(store, "blobs/"))
    store.aliases.tag(made, "staging")
    assert not [finding for finding in examine_store(store) if finding.state == BAD]
    assert verify_store(store, deep=True) == []


def test_a_worker_moves_no_protected_alias_and_takes_nothing_back(as_role: As) -> None:
    store = as_role("worker")
    made = commit(store, recipe())
    denied(lambda: store.aliases.tag(made, "production"))
    denied(lambda: retract(store, store.version(str(made)), "a mistake"))
    for key in (manifest_key("vocabulary", "small", made.version), *keys(store, "blobs/"), *keys(store, "aliases/")):
        denied(lambda key=key: store.backend.delete(key))
    assert verify_store(as_role("root"), deep=True) == []


def test_a_reader_reads_and_writes_nothing(as_role: As) -> None:
    parent = commit(as_role("worker"), recipe())
    made = commit(as_role("worker"), recipe(1, "child", parents=(parent,)))
    before = keys(as_role("root"))
    store = as_role("reader")
    assert store.find(recipe(1, "child", parents=(parent,))) == store.resolve("vocabulary/child") == made
    assert store.file(made, "vocab.txt").read_text() == "[PAD]\nmill\n"
    assert verify_store(store, deep=True) == []
    assert lineage_of(store, parent).children == {str(parent): (str(made),)}
    assert collect(store).blobs == [], "it may look what would be collected"
    for prefix in ("blobs/sha256/00/", "artifacts/a/b/c/", "aliases/a/b/c/", "lineage/", "parts/", "work/"):
        denied(lambda prefix=prefix: store.backend.put(f"{prefix}0", b""))
        denied(lambda prefix=prefix: store.backend.create(f"{prefix}0", b""))
    for key in before:
        denied(lambda key=key: store.backend.delete(key))
    denied(lambda: commit(store, recipe(2)))
    denied(store.check_writable)
    assert keys(as_role("root")) == before


def test_a_promoter_moves_aliases_and_takes_back_and_publishes_nothing(as_role: As) -> None:
    first, second = commit(as_role("worker"), recipe(0)), commit(as_role("worker"), recipe(1))
    store = as_role("promoter")
    store.aliases.tag(first, "production")
    store.aliases.tag(second, "production")
    store.aliases.rollback("vocabulary", "small", "production")
    assert store.resolve("vocabulary/small@production") == first
    retract(store, store.version(str(second)), "a mistake")
    assert store.resolve("vocabulary/small") == first
    denied(lambda: commit(store, recipe(2)))
    denied(lambda: store.backend.delete(tombstone_key("vocabulary", "small", second.version)))


def test_a_collector_removes_and_publishes_nothing(as_role: As) -> None:
    worker = as_role("worker")
    nights = [commit(worker, recipe(number), {"own": f"night {number}"}) for number in range(3)]
    worker.part("vocabulary", "shard", shard)
    retract(as_role("promoter"), worker.version(str(nights[0])), "a mistake")
    store = later(as_role("gc"), 8)
    found = collect(store, keep=1, delete=True)
    assert (found.versions, len(found.parts), len(found.blobs)) == ([nights[1].reference], 1, 2)
    assert len(collect(store, purge=True, delete=True).blobs) == 1
    assert keys(store, "blobs/") == [blob_key(store.manifest(nights[2]).files[0].sha256)]
    denied(lambda: store.backend.put("blobs/sha256/00/0", b""))
    denied(lambda: store.backend.put(manifest_key("vocabulary", "small", nights[2].version), b""))
    denied(lambda: store.backend.delete(manifest_key("vocabulary", "small", nights[2].version)))
    denied(lambda: store.aliases.tag(nights[2], "production"))


@pytest.mark.parametrize("role", ["worker", "reader", "promoter", "gc"])
def test_another_prefix_of_the_bucket_is_another_world(as_role: As, prefix: str, role: str) -> None:
    made = commit(as_role("root"), recipe())
    key = manifest_key("vocabulary", "small", made.version)
    role_store = as_role(role)
    assert role_store.backend.get(key)
    other = open_store(role_store.settings.model_copy(update={"store": f"s3://{BUCKET}/{prefix}-other"}))
    denied(lambda: other.backend.get(key))
    denied(lambda: list(other.backend.list("artifacts/")))
    denied(lambda: other.backend.put(key, b""))
    denied(lambda: other.backend.delete(key))


def test_a_wrong_secret_is_refused_and_not_told(as_role: As, monkeypatch: pytest.MonkeyPatch) -> None:
    as_role("reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := "wrong-and-not-to-be-told")
    _session.cache_clear()
    store = open_store(Settings.from_environment({"BERTMILL_STORE": f"s3://{BUCKET}/x"}))
    with pytest.raises(StoreError, match="Access denied: ListObjectsV2 on s3://") as error:
        store.listing()
    assert secret not in str(error.value)
