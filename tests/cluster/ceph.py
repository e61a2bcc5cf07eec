"""A real Ceph in a folder: one monitor, one disk in memory, one S3 gateway, all of them child processes on loopback.

Up in some seconds with about 200 MB. It has no manager, which only keeps statistics here and would bring a third more
packages, and no keys of its own: nothing but this machine can reach it.
"""

import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port

WITHIN_S = 60
CERTIFICATE = "rgw.pem"
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
ms_bind_msgr1 = false
# No keys. The gateway would ask for an encrypted way to the monitor, which without keys there isn't.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc

# Nothing outside the folder.
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}/rgw
run_dir = {folder}
crash_dir = {folder}/crash
log_file = {folder}/$name.log
mon_cluster_log_file = {folder}/cluster.log
admin_socket =

osd_objectstore = memstore
memstore_device_bytes = 512M
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
paxos_propose_interval = 0.05

rgw_frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{secure_port} ssl_certificate={folder}/rgw.pem
rgw_thread_pool_size = 32
"""


@dataclass(frozen=True)
class Ceph:
    """A running one."""

    folder: Path
    port: int
    secure_port: int
    access_key: str
    secret_key: str

    @property
    def plain(self) -> dict[str, str]:
        """The environment variables that lead boto3 there, through http."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def secure(self) -> dict[str, str]:
        """The same, through https."""
        address = f"https://127.0.0.1:{self.secure_port}"
        return self.plain | {"AWS_ENDPOINT_URL_S3": address, "AWS_CA_BUNDLE": str(self.folder / CERTIFICATE)}

    def run(self, *command: str) -> None:
        """Run one of Ceph's commands. RuntimeError, with the ends of all logs, where it fails."""
        try:
            done = subprocess.run(
                [*command, "--conf", "ceph.conf"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=WITHIN_S,
            )
        except subprocess.TimeoutExpired:
            raise self.failed(f"`{' '.join(command)}` didn't end within {WITHIN_S} s") from None
        if done.returncode != 0:
            raise self.failed(f"`{' '.join(command)}` failed: {done.stderr.strip()}")

    def failed(self, what: str) -> RuntimeError:
        """`what`, and the ends of all logs."""
        logs = [path for path in sorted(self.folder.glob("*.log")) if path.stat().st_size]
        ends = [f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in logs]
        return RuntimeError("\n".join([f"Ceph didn't come up: {what}.", *ends]))

    @contextmanager
    def daemon(self, *command: str) -> Iterator[None]:
        """A process in the foreground, ended with the context; by the kernel where this process is killed."""
        with (self.folder / f"{command[0]}.out.log").open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command, "-f", "--conf", "ceph.conf"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for_s3(self) -> None:
        """Return when the gateway answers."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise self.failed(f"its S3 gateway didn't answer within {WITHIN_S} s")


@contextmanager
def running_ceph(folder: Path, access_key: str, secret_key: str) -> Iterator[Ceph]:
    """A Ceph with one S3 user, of these keys."""
    fsid, disk = str(uuid.uuid4()), str(uuid.uuid4())
    mon_port, port, secure_port = free_port(), free_port(), free_port()
    ceph = Ceph(folder, port, secure_port, access_key, secret_key)
    for name in ("mon", "osd", "rgw", "crash"):
        (folder / name).mkdir()
    (folder / "keyring").touch()
    (folder / "ceph.conf").write_text(
        CONFIGURATION.format(fsid=fsid, folder=folder, mon_port=mon_port, port=port, secure_port=secure_port)
    )
    certify("127.0.0.1", folder / CERTIFICATE)
    ceph.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "monmap")
    ceph.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap")
    with ceph.daemon("ceph-mon", "-i", "a"):
        ceph.run("ceph", "osd", "new", disk)
        ceph.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        with ceph.daemon("ceph-osd", "-i", "0"):
            keys = [f"--access-key={access_key}", f"--secret-key={secret_key}"]
            ceph.run("radosgw-admin", "user", "create", "--uid=bertmill", "--display-name=bertmill", *keys)
            with ceph.daemon("radosgw", "-n", "client.rgw.a"):
                ceph.wait_for_s3()
                yield ceph


def certify(address: str, path: Path) -> None:
    """Write a key and its self-signed certificate for an IP address to one file."""
    subject = ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    command = ["openssl", "req", "-x509", "-days", "2", *subject, *key]
    made = subprocess.run(command, cwd=path.parent, check=True, capture_output=True)
    path.write_bytes((path.parent / "key.pem").read_bytes() + made.stdout)
