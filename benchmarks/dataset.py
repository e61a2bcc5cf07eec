"""Cleaned documents to stored samples beside other pipelines.

    python benchmarks/dataset.py speed --text ENGLISH.jsonl --vocabulary vocab.txt --google DIR --lddl DIR
    python benchmarks/dataset.py workers --text ENGLISH.jsonl --vocabulary vocab.txt
    python benchmarks/dataset.py memory --text ENGLISH.jsonl --vocabulary vocab.txt

Text is JSON lines with a member `text`; DIR are checkouts of google-research/bert and NVIDIA/LDDL. Sequences hold 128
tokens. Each run is a process of its own on one core, with a store of its own in which no shard's tokens are remembered
yet; runs take turns. `seconds` are from the corpus to the last sample, `process` those of the whole process; `times`
by the processor's time is what to look at where others use the machine too. Of several workers that is their mean
and, as they wait for each other, the parent's.

Where sides differ, the peers are favoured:
- Google's script and LDDL's functions are given sentences, parted by our splitter. Ours parts the documents itself.
- They store nothing: in place of TensorFlow stands what does nothing, so that the script's examples are neither
  serialised nor written, and LDDL's pairs aren't made parquet. Ours writes Arrow files, hashes and commits them.
- LDDL's functions run without dask and on all text as one partition, with masks.
- `datasets.map` with run_mlm's grouping makes rows of ids without pairs and without masks.

`memory` is the peak of a worker (resident, and the part of it that is no file) with two workers, while the corpus
grows; in the last row half of the text stands in documents of 5 MB.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

from dataset_peers import PEERS, Row, timed

MB: dict[str, list[float]] = {"speed": [100], "workers": [1000], "memory": [100, 500, 3000]}
LONG = 5_000_000
"""Bytes of a long document."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=[*TABLES, *SIDES])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--google", type=Path, help="a checkout of google-research/bert")
    parser.add_argument("--lddl", type=Path, help="a checkout of NVIDIA/LDDL")
    parser.add_argument("--peer", default=sys.executable, help="Python with transformers, datasets, torch, six")
    parser.add_argument("--mb", type=float, nargs="+", help=f"text for ours; by default {MB}")
    parser.add_argument("--peer-mb", type=float, default=20, help="text for all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dupe-factor", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="little text, one round: whether it works")
    parser.add_argument("--workers", type=int, default=1, help="of a process that a table starts")
    parser.add_argument("--home", type=Path, help="of a process that a table starts")
    given = parser.parse_args()
    if given.table in SIDES:
        if given.workers == 1:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(json.dumps(SIDES[given.table](given)))
        return
    given.mb = given.mb or MB[given.table]
    if given.quick:
        given.mb, given.peer_mb, given.rounds = [mb / 50 for mb in given.mb], 1, 1
    with tempfile.TemporaryDirectory(prefix="bertmill-benchmark-") as folder:
        TABLES[given.table](given, Path(folder))


# The text, once for all sides


@dataclass(frozen=True)
class Text:
    """What all sides read: the home of a store with a corpus and a vocabulary, and beside it the same text as files."""

    folder: Path
    mb: float


def prepared(given: argparse.Namespace, folder: Path, mb: float, *, long: bool = False) -> Text:
    """The corpus and the vocabulary in a store under `folder`, and the text as the peers read it."""
    from pipeline.config import BaseVocabulary, CorpusConfig, Deduplication, Source, VocabularyConfig
    from pipeline.corpus.ingest import ingest_corpus
    from pipeline.dataset.text.sentences import split_sentences
    from pipeline.vocabulary.build import build_vocabulary

    folder.mkdir()
    texts = read_texts(given.text, mb)
    if long:
        texts = with_long_documents(texts)
    with (folder / "text.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    with (folder / "sentences.txt").open("w", encoding="utf-8") as lines:
        for text in texts:
            lines.writelines(sentence + "\n" for part in split_sentences(text) if (sentence := " ".join(part.split())))
            lines.write("\n")
    store = store_of(folder)
    corpus = CorpusConfig(
        name="text",
        sources=(Source(path=str(folder / "text.jsonl"), format="jsonl", name="text", licence="own"),),
        filters=(),
        deduplication=Deduplication(exact=False),
        documents_per_shard=10_000,
    )
    made = ingest_corpus(corpus, store=store)
    base = BaseVocabulary(vocabulary=str(given.vocabulary.resolve()))
    build_vocabulary(VocabularyConfig(name="given", base=base), made, store=store)
    return Text(folder, sum(len(text.encode()) for text in texts) / 1e6)


def read_texts(path: Path, mb: float) -> list[str]:
    """So much of it, drawn from everywhere; over and over, in another order each time, where there isn't as much."""
    with path.open(encoding="utf-8") as lines:
        every = [json.loads(line)["text"] for line in lines]
    draw, texts, left = random.Random(1), list[str](), mb * 1e6
    while left > 0 and every:
        for text in draw.sample(every, len(every)):
            if left > 0:
                texts.append(text)
                left -= len(text.encode())
    return texts


def with_long_documents(texts: Sequence[str]) -> list[str]:
    """The first half of them as documents of some 5 MB, among the others."""
    half = len(texts) // 2
    found, some, size = list[str](), list[str](), 0
    for text in texts[:half]:
        some.append(text)
        size += len(text.encode())
        if size >= LONG:
            found.append("\n".join(some))
            some, size = [], 0
    found += [*some, *texts[half:]]
    return random.Random(2).sample(found, len(found))


def store_of(folder: Path) -> Any:
    """Of the environment's URL, or in the folder."""
    from pipeline.settings import Settings
    from pipeline.store import open_store

    given = {"BERTMILL_HOME": str(folder / "home")}
    return open_store(Settings.from_environment(given | {k: v for k, v in os.environ.items() if k == "BERTMILL_STORE"}))


# One side, in a process of its own


def ours(given: argparse.Namespace) -> Row:
    """The clock starts when the workers are there: to start them takes as long for any text."""
    from pipeline.mapping import process_map

    store = store_of(given.home)
    with process_map(given.workers) as mapped:
        load_stage(1)  # here too: with several workers nothing has done so yet
        before = dict(mapped(load_stage, [given.workers] * given.workers))
        row, made = timed(lambda: build(store, given, "stored", map=mapped))
        after = dict(mapped(load_stage, [given.workers] * given.workers))
    if given.workers > 1:
        row["processor"] += statistics.fmean(after[worker] - before[worker] for worker in after)
    return row | {"tokens": sum(store.manifest(made).totals["tokens"].values())}


def build(store: Any, given: argparse.Namespace, masks: Any, **more: Any) -> Any:
    from pipeline.config import DatasetConfig, Gates
    from pipeline.dataset.build import build_dataset

    gates = Gates(max_duplicate_share=1)  # text may stand twice
    config = DatasetConfig(name="samples", dupe_factor=given.dupe_factor, masks=masks, gates=gates)
    parents = (store.resolve(f"{reference}@latest") for reference in ("corpus/text", "vocabulary/given"))
    return build_dataset(config, *parents, store=store, **more)


def load_stage(workers: int) -> tuple[int, float]:
    """Which worker this is, and for how long the processor has been at it."""
    import pipeline.dataset.build  # noqa: F401

    time.sleep(workers - 1)  # so that none of several takes the others' turn
    return os.getpid(), time.process_time()


# Tables


def run(side: str, given: argparse.Namespace, text: Text, script: str = __file__, **more: Any) -> Row:
    """What the side says of itself, its whole process' seconds, and the peak of memory of any of its processes."""
    names = ("vocabulary", "google", "lddl", "dupe_factor")
    values = {name.replace("_", "-"): vars(given).get(name) for name in names} | more
    python = sys.executable if side == "ours" else given.peer
    with tempfile.TemporaryDirectory(dir=text.folder.parent) as folder, tempfile.TemporaryFile() as out:
        fresh(text, Path(folder))
        options = [f"--{name}={value}" for name, value in (values | {"home": folder}).items() if value]
        command = [python, script, side, *options]
        quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, env=os.environ | quiet)
        peak: Counter[str] = Counter()
        while process.poll() is None:
            peak |= memory_mb(process.pid)
            time.sleep(0.05)
        seconds = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"{side} failed")
        out.seek(0)
        return json.loads(out.read().splitlines()[-1]) | {"process": seconds, **peak}


def fresh(text: Text, folder: Path) -> None:
    """The text again, in a store that remembers no shard and has nothing cached; the bytes themselves are shared."""
    copytree(text.folder, folder, copy_function=os.link, dirs_exist_ok=True)
    rmtree(folder / "home" / "cache", ignore_errors=True)
    for remembered in (folder / "home").glob("store/parts/**/*.json"):
        remembered.unlink()


def memory_mb(pid: int) -> Counter[str]:
    """The largest of a process and its children: all that is resident, and of it what is no file."""
    import psutil

    found: Counter[str] = Counter()
    try:
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith(("VmHWM", "RssAnon")):
                    found |= Counter({line.split(":")[0]: int(line.split()[1]) * 1024 // 1_000_000})
    except (psutil.Error, OSError):
        pass  # it has ended
    return found


def table(columns: Sequence[str]) -> Callable[..., None]:
    """A function that prints a row."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    return lambda *cells: print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def medians(rows: Sequence[Row]) -> Row:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def speed(given: argparse.Namespace, folder: Path) -> None:
    """The same text for all, then all of it for ours."""
    short, whole = (prepared(given, folder / name, mb) for name, mb in (("s", given.peer_mb), ("w", given.mb[0])))
    sides = ["ours", *(name for name in PEERS if vars(given).get(name, True))]
    run("ours", given, short)  # compiles what isn't yet
    found = defaultdict(list)
    for _ in range(given.rounds):
        for side in sides:
            found[side].append(run(side, given, short))
        found["ours, all"].append(run("ours", given, whole))
    columns = ["", "MB", "seconds", "MB a second", "M tokens a second", "ours, times", "ours on all, times"]
    show = table([*columns, "by the processor's time", "process, seconds", "peak MB"])
    result = {side: medians(rows) for side, rows in found.items()}
    size = {side: (whole if side == "ours, all" else short).mb for side in result}

    def times(clock: str, ours: str, side: str) -> str:
        rate = {name: size[name] / result[name][clock] for name in (ours, side)}
        return f"{rate[ours] / rate[side]:.1f}"

    for side, row in result.items():
        rates = f"{size[side] / row['seconds']:.2f}", f"{row['tokens'] / row['seconds'] / 1e6:.2f}"
        clocks = (("seconds", "ours"), ("seconds", "ours, all"), ("processor", "ours, all"))
        shown = f"{size[side]:.0f}", f"{row['seconds']:.2f}", *rates, *(times(*each, side) for each in clocks)
        show(side, *shown, f"{row['process']:.1f}", f"{row['VmHWM']:.0f}")


def workers(given: argparse.Namespace, folder: Path) -> None:
    text = prepared(given, folder / "text", given.mb[0])
    found = defaultdict(list)
    for _ in range(given.rounds + 1):  # the first round compiles
        for count in (1, 2):
            found[count].append(run("ours", given, text, workers=count))
    columns = ["workers", "seconds", "MB a second", "times one", "by the processor's time"]
    show = table([*columns, "process, seconds", "peak MB"])
    one = medians(found[1][1:])
    for count, rows in found.items():
        row = medians(rows[1:])
        times = (f"{one[clock] / row[clock]:.2f}" for clock in ("seconds", "processor"))
        shown = f"{row['seconds']:.1f}", f"{text.mb / row['seconds']:.1f}", *times
        show(count, *shown, f"{row['process']:.1f}", f"{row['VmHWM']:.0f}")


def memory(given: argparse.Namespace, folder: Path) -> None:
    show = table(["MB of text", "documents", "resident MB", "of it no file", "seconds"])
    for number, (mb, long) in enumerate([*((mb, False) for mb in given.mb), (given.mb[-1], True)]):
        text = prepared(given, folder / str(number), mb, long=long)
        row = run("ours", given, text, workers=2)
        kind = "half of the text in ones of 5 MB" if long else "as they are"
        show(f"{text.mb:.0f}", kind, f"{row['VmHWM']:.0f}", f"{row['RssAnon']:.0f}", f"{row['seconds']:.1f}")


SIDES = {"ours": ours} | PEERS
TABLES = {"speed": speed, "workers": workers, "memory": memory}

if __name__ == "__main__":
    main()
