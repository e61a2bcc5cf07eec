"""Stored samples to training batches, masks drawn: beside datasets, torch's loader and transformers' collator.

    python benchmarks/batches.py --text ENGLISH.jsonl --vocabulary vocab.txt --mb 100 --rounds 3

One core, one process for each run, micro-batches of 32 samples of at most 128 tokens. The first epoch begins with
opening the dataset and loading compiled code, and from S3 with nothing in the cache; the second is warm. The server
(tests/s3_server.py) is on loopback and runs on the other core. Tokens are those that aren't padding; the peer reads
the same rows, the first 50,000 of them, from local files.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from dataset import build, medians, prepared, run, store_of, table
from dataset_peers import MICRO_BATCH, Row, loader, timed

TRAIN_BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("side", nargs="?", choices=SIDES, help="of a process that this starts")
    parser.add_argument("--home", type=Path, help="of a process that this starts")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--peer", default=sys.executable, help="Python with transformers, datasets, torch")
    parser.add_argument("--mb", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dupe-factor", type=int, default=1)
    given = parser.parse_args()
    if given.side:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(json.dumps(SIDES[given.side](given)))
        return
    with tempfile.TemporaryDirectory(prefix="bertmill-benchmark-") as folder:
        batches(given, Path(folder))


def ours(given: argparse.Namespace) -> Row:
    store = store_of(given.home)
    dataset = store.resolve("dataset/samples@latest")
    first, tokens = timed(lambda: epoch(store, dataset))
    second, _ = timed(lambda: epoch(store, dataset))
    return second | {"first": first["seconds"], "tokens": tokens}


def epoch(store: Any, dataset: Any) -> int:
    """All whole steps of an epoch, as the training loop asks for them; how many tokens they hold."""
    from pipeline.dataset.batches import step_batches
    from pipeline.dataset.samples import Samples
    from pipeline.dataset.steps import Steps

    samples = Samples(store, dataset)
    steps = Steps([(samples, 1.0)], train_batch_size=TRAIN_BATCH, seed=1)
    how = {"micro_batch_size": MICRO_BATCH, "rank": 0, "world": 1}
    wanted = range(len(samples) // TRAIN_BATCH)
    return sum(batch.tokens for step in wanted for batch in step_batches(steps, step, **how))


SIDES = {"ours": ours, "loader": loader}


def batches(given: argparse.Namespace, folder: Path) -> None:
    from store import BUCKET, places

    local = prepared(given, folder / "local", given.mb)
    store = store_of(local.folder)
    dataset = build(store, given, "each_epoch")
    (local.folder / "rows").mkdir()
    for number, entry in enumerate(store.manifest(dataset).matching("train/")):
        os.link(store.blob(entry), local.folder / "rows" / f"{number:05d}.arrow")
    found = defaultdict(list)
    with places():
        os.environ["BERTMILL_STORE"] = f"s3://{BUCKET}/samples"
        remote = prepared(given, folder / "remote", given.mb)
        build(store_of(remote.folder), given, "each_epoch")
        for _ in range(given.rounds):
            found["S3"].append(run("ours", given, remote, __file__))
            with_s3 = os.environ.pop("BERTMILL_STORE")
            found["local"].append(run("ours", given, local, __file__))
            found["peer"].append(run("loader", given, local, __file__))
            os.environ["BERTMILL_STORE"] = with_s3
        del os.environ["BERTMILL_STORE"]
    show = table(["", "M tokens", "a second, first epoch", "second epoch", "times the peer's", "peak MB"])
    result = {name: medians(rows) for name, rows in found.items()}
    rate = {name: row["tokens"] / row["seconds"] / 1e6 for name, row in result.items()}
    for name, row in result.items():
        first = row["tokens"] / row.get("first", row["seconds"]) / 1e6
        rates = f"{first:.1f}", f"{rate[name]:.1f}", f"{rate[name] / rate['peer']:.1f}"
        show(name, f"{row['tokens'] / 1e6:.1f}", *rates, f"{row['VmHWM']:.0f}")


if __name__ == "__main__":
    main()
