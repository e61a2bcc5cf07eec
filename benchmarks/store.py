"""What the store costs beside its peers, on a real S3 server that runs on loopback meanwhile: one table.

    python benchmarks/store.py [transfers] [blobs] [ls] [lineage] [--rounds N] [--mib N] [--blobs N] [--versions N]

Times are medians over interleaved rounds, ratios the median of each round's. Client and server share this machine's
cores, so only ratios mean something elsewhere. `delayed` goes through a proxy that holds each request back by 10 ms,
about what object storage takes.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from pipeline.config import VocabularyConfig
from pipeline.settings import Settings
from pipeline.store import FileEntry, Manifest, Recipe, open_store
from pipeline.store.artifact import KINDS, Parent, canonical_json, fingerprint, tree_digest
from pipeline.store.keys import alias_key, blob_key, manifest_key

ROOT = Path(__file__).parent.parent
BUCKET = "bertmill-benchmark"
DELAY_S = 0.010
BLOB_BYTES = 2_000
MIB = 1 << 20
SPAWN = multiprocessing.get_context("spawn")
Row = tuple[str, str, str, str]


# Transfers: our blobs beside boto3's own transfers


def transfers(places: "Places", rounds: int, mib: int) -> Iterator[Row]:
    """Upload and download of one large file, with what each takes of memory while it does."""
    source = places.folder / "large.bin"
    with source.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    sides: tuple[Callable[..., dict[str, float]], ...] = (our_transfer, boto3_transfer)
    done: list[list[dict[str, float]]] = []
    for number in range(rounds):
        url = f"s3://{BUCKET}/transfers-{number}"
        done.append([alone(side, places.s3, url, source, places.folder / f"copy-{number}") for side in sides])
        places.clear("transfers")
    for what in ("upload", "download"):
        ours, theirs = ([pair[side][what] for pair in done] for side in (0, 1))
        peaks = [f"{statistics.median(pair[side][f'{what} peak'] for pair in done):.0f} MiB" for side in (0, 1)]
        yield (
            f"{what} {mib} MiB, ours (hashed), boto3",
            f"{mib / statistics.median(ours):.0f} MiB/s, {peaks[0]}",
            f"{mib / statistics.median(theirs):.0f} MiB/s, {peaks[1]}",
            f"{ratio(ours, theirs):.2f}",
        )


def alone(fn: Callable[..., Any], variables: dict[str, str], *arguments: Any) -> Any:
    """What `fn` returns in a process of its own, whose memory nothing else has touched."""
    with SPAWN.Pool(1, lead_to, (variables,)) as pool:
        return pool.apply(fn, arguments)


def lead_to(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def our_transfer(url: str, source: Path, copy: Path) -> dict[str, float]:
    """Hash and store a file, then fetch and verify it."""
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(copy), "BERTMILL_STORE": url}))
    store.backend.get("nothing")
    entries: list[FileEntry] = []
    told = measured("upload", lambda: entries.append(store.add_blob(source, "large.bin", None)))
    key, entry = blob_key(entries[0].sha256), entries[0]
    return told | measured("download", lambda: store.backend.download(key, entry.sha256, entry.size, "large.bin"))


def boto3_transfer(url: str, source: Path, copy: Path) -> dict[str, float]:
    """The same bytes by boto3's managed transfers as they come, which hash nothing that we keep."""
    key = f"{url.removeprefix(f's3://{BUCKET}/')}/large.bin"
    client = boto3.client("s3")
    client.list_objects_v2(Bucket=BUCKET, Prefix="nothing")
    told = measured("upload", lambda: client.upload_file(str(source), BUCKET, key))
    copy.mkdir(exist_ok=True)
    return told | measured("download", lambda: client.download_file(BUCKET, key, str(copy / "large.bin")))


def measured(what: str, act: Callable[[], object]) -> dict[str, float]:
    """Seconds that it took, and MiB of memory at its peak above what was in use before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before, began = resident("VmRSS"), time.perf_counter()
    act()
    return {what: time.perf_counter() - began, f"{what} peak": resident("VmHWM") - before}


def resident(field: str) -> float:
    """A line of this process' status, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


# Many small blobs: one by one beside all at once


def blobs(places: "Places", rounds: int, number: int) -> Iterator[Row]:
    """A version of many small files, directly and delayed."""
    for where, variables in places.servers.items():
        done = []
        for each in range(rounds):
            url = f"s3://{BUCKET}/blobs-{where}-{each}"
            done.append([alone(published, variables, f"{url}-{how}", number, how) for how in ("add", "add_all")])
            places.clear("blobs")
        single, together = ([pair[side][0] for pair in done] for side in (0, 1))
        commits = [took for pair in done for _, took in pair]
        what = f"{number:,} blobs, {where}:"
        yield f"{what} add_all, add in a loop", seconds(together), seconds(single), f"{ratio(together, single):.2f}"
        yield f"{what} commit", seconds(commits), "", ""


def published(url: str, number: int, how: str) -> tuple[float, float]:
    """Seconds to store the files, and to commit them."""
    with tempfile.TemporaryDirectory() as home:
        store = open_store(Settings.from_environment({"BERTMILL_HOME": home, "BERTMILL_STORE": url}))
        store.check_before_commit()
        with store.draft(Recipe("vocabulary", VocabularyConfig(name="many"), 1)) as draft:
            paths = [f"{each:06d}.bin" for each in range(number)]
            for path in paths:
                (draft.folder / path).write_bytes(os.urandom(BLOB_BYTES))
            began = time.perf_counter()
            if how == "add_all":
                draft.add_all(paths)
            else:
                for path in paths:
                    draft.add(path)
            stored = time.perf_counter()
            draft.commit(totals={})
            return stored - began, time.perf_counter() - stored


# Commands over a store of many versions


def ls(places: "Places", rounds: int, versions: int) -> Iterator[Row]:
    yield from commands(places, rounds, versions, "ls")


def lineage(places: "Places", rounds: int, versions: int) -> Iterator[Row]:
    yield from commands(places, rounds, versions, "lineage", "evaluation/name-0")
    yield from commands(places, rounds, versions, "lineage", "corpus/name-0")


def commands(places: "Places", rounds: int, versions: int, *words: str) -> Iterator[Row]:
    """Wall time of the command, its start included, on a folder, on the server and delayed."""
    urls = {where: filled(places, versions, where) for where in ("file", "s3")}
    for where, url, variables in (
        ("file", urls["file"], {}),
        *((where, urls["s3"], variables) for where, variables in places.servers.items()),
    ):
        environment = os.environ | variables | {"BERTMILL_HOME": str(places.folder / "home"), "BERTMILL_STORE": url}
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "pipeline", *words],
                env=environment,
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            took.append(time.perf_counter() - began)
        yield f"`{' '.join(words)}` over {versions:,} versions, {where}", seconds(took), "", ""


@cache
def filled(places: "Places", versions: int, where: str) -> str:
    """The URL of a store whose manifests were written past all checks: their blobs aren't there."""
    url = f"s3://{BUCKET}/filled" if where == "s3" else f"file://{places.folder}/filled"
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(places.folder), "BERTMILL_STORE": url}))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.backend.put(*item), objects(versions)))
    return url


def objects(versions: int) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of a store as years leave it: few corpora, many trainings, more evaluations; ten names each."""
    shares = dict(zip(KINDS, (5, 5, 10, 30, 50), strict=True))
    made: dict[str, list[Parent]] = {kind: [] for kind in KINDS}
    chosen = random.Random(1)
    for number in range(versions):
        kind = chosen.choices(KINDS, weights=list(shares.values()))[0] if number >= 5 * 10 else KINDS[number // 10]
        parents = tuple(chosen.choice(made[each]) for each in PARENTS[kind])
        manifest = a_manifest(kind, f"name-{number % 10}", number, parents)
        data = canonical_json(manifest.model_dump(mode="json"))
        reference = f"{kind}/{manifest.name}@{manifest.version}"
        made[kind].append(
            Parent(reference=reference, digest=manifest.digest, manifest_sha256=hashlib.sha256(data).hexdigest())
        )
        yield manifest_key(kind, manifest.name, manifest.version), data
        if number < 5 * 10:
            move = {"version": manifest.version, "reason": "", "at": manifest.created_at, "by": "", "rollback": False}
            yield alias_key(kind, manifest.name, "latest", 1), canonical_json(move)


PARENTS = {
    "corpus": (),
    "vocabulary": ("corpus",),
    "dataset": ("corpus", "vocabulary"),
    "pretraining": ("dataset",),
    "evaluation": ("pretraining",),
}


def a_manifest(kind: str, name: str, number: int, parents: tuple[Parent, ...]) -> Manifest:
    """One of ten files and a config of ten values."""
    files = [
        FileEntry(path=f"part/{each:05d}.bin", size=1000 + each, sha256=fingerprint([number, each]), rows=each)
        for each in range(10)
    ]
    recipe = fingerprint([kind, number])
    day, second = divmod(number, 86_400)
    return Manifest(
        kind=kind,
        name=name,
        version=recipe[:12],
        schema_number=1,
        fingerprint=recipe,
        digest=tree_digest(files),
        created_at=f"2026-01-{day + 1:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000000+00:00",
        nonce=f"{number:032x}",
        producer={"bertmill": "0", "user": "benchmark"},
        config={f"setting_{each}": each for each in range(10)},
        parents=parents,
        inputs=(),
        files=tuple(files),
        totals={"rows": number},
        metrics={},
    )


# The server, and the way to it


class Places:
    """A folder, an S3 server, and a proxy before it: each as the environment variables that lead there."""

    def __init__(self, folder: Path, address: str, delayed: str) -> None:
        self.folder = folder
        self.s3 = variables_of(address)
        self.servers = {"direct": self.s3, "delayed": variables_of(delayed)}

    def clear(self, prefix: str) -> None:
        """Forget what lies under a prefix: the server keeps it in memory."""
        boto3.resource("s3").Bucket(BUCKET).objects.filter(Prefix=prefix).delete()


def variables_of(address: str) -> dict[str, str]:
    access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    return access | {"AWS_ENDPOINT_URL_S3": address}


@contextmanager
def places() -> Iterator[Places]:
    """A server and a proxy of our own on free ports, and scratch, until the benchmark ends."""
    with tempfile.TemporaryDirectory(prefix="bertmill-benchmark-") as folder:
        port, delayed_port = free_port(), free_port()
        bound_to = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "s3"}
        with Path(folder, "server.log").open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "s3_server.py")],
                env=os.environ | bound_to,
                stdout=output,
                stderr=output,
                cwd=folder,
            )
        proxy = SPAWN.Process(target=delay_requests, args=(delayed_port, port), daemon=True)
        try:
            proxy.start()
            for each in (port, delayed_port):
                wait_for(f"http://127.0.0.1:{each}", server)
            found = Places(Path(folder), f"http://127.0.0.1:{port}", f"http://127.0.0.1:{delayed_port}")
            os.environ.update(found.s3 | {"TMPDIR": folder})
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield found
        finally:
            proxy.terminate()
            server.terminate()
            server.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(address: str, server: subprocess.Popen[bytes], within_s: float = 60) -> None:
    """Return when the address answers."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{address} didn't answer within {within_s:g} s.")


def delay_requests(port: int, upstream: int) -> None:
    """Forward connections to `upstream`; hold each request's first bytes back for DELAY_S."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool) -> None:
        try:
            while data := await reader.read(MIB):
                if requests and data.partition(b" ")[0] in {b"GET", b"PUT", b"HEAD", b"POST", b"DELETE"}:
                    await asyncio.sleep(DELAY_S)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(
            forward(reader, to_them, requests=True), forward(theirs, writer, requests=False), return_exceptions=True
        )

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


# The table


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios of time: below 1 we are faster."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def seconds(took: list[float]) -> str:
    return f"{statistics.median(took):.2f} s"


PARTS: dict[str, tuple[Callable[..., Iterator[Row]], str]] = {
    "transfers": (transfers, "mib"),
    "blobs": (blobs, "blobs"),
    "ls": (ls, "versions"),
    "lineage": (lineage, "versions"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256, help="of the file that is transferred")
    parser.add_argument("--blobs", type=int, default=10_000, help="in a version of many")
    parser.add_argument("--versions", type=int, default=10_000, help="in the store that is listed")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server and the others end too
    print("| what | this | beside | time, this / beside |\n|---|---|---|---|")
    with places() as found:
        for name in asked.parts or PARTS:
            measure, size = PARTS[name]
            for row in measure(found, asked.rounds, getattr(asked, size)):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
