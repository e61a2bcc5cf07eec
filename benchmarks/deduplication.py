"""What deduplication finds and costs beside its peers: the same documents, one core each, in one run.

    python benchmarks/deduplication.py [speed] [planted] [kernels] --en FILE.jsonl --zh FILE.jsonl
        [--datatrove PYTHON] [--text-dedup PYTHON] [--mb N] [--rounds N] [--pairs N]

`--datatrove` is the Python of an environment with `datatrove[processing]`, spacy and jieba, `--text-dedup` of one with
`text-dedup`; a peer that isn't given is left out. Files are JSON lines with a member `text`. All use 14 bands of 8 and
shingles of 5. Seconds are of CPU time, children's too, after a warm-up: what others do on the machine counts less.

- speed: JSON lines in, the kept lines out: signatures, buckets, clusters, filter.
- planted: passages, and copies of them with words replaced, deleted or inserted until the Jaccard similarity of their
  shingle sets, counted exactly in plain Python, is the one wanted. Recall of those of .8 and over,
  and their share among what is found (precision). Peers read Chinese as it is, and with its characters parted by
  blanks, so that their shingles are of characters too.
- kernels: each step alone, by the megabyte.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BANDS, ROWS, SHINGLE = 14, 8, 5
SIMILARITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RELEVANT = 0.75
TOLERANCE = 0.012
LENGTH = {"en": 250, "zh": 300}
"""Words, or characters, of a passage."""
CODES = {"en": "eng", "zh": "zho_Hani"}


# The sides: a file of JSON lines is deduplicated; the seconds, and the ids that are gone


def ours(path: Path, folder: Path, lang: str) -> tuple[float, set[str]]:
    from pipeline.config import Deduplication, NearDuplicates
    from pipeline.corpus.copies.keys import DocumentKeys
    from pipeline.corpus.deduplication import dropped_of, repeated
    from pipeline.corpus.document import Document
    from pipeline.settings import Settings
    from pipeline.store import PartDraft, open_store

    config = Deduplication(exact=False, near=NearDuplicates(shingle_words=SHINGLE, bands=BANDS, rows=ROWS))
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(folder)}))

    def dedup(path: Path, name: str) -> set[str]:
        def make(draft: PartDraft) -> dict[str, Any]:
            keys = DocumentKeys(config, draft)
            with path.open("rb") as file:
                for line in file:
                    row = json.loads(line)
                    keys.add(Document(row["id"], row["text"], "", lang, row["id"], ""))
            keys.write()
            return {}

        repeats = repeated([store.part("corpus", name, make)], config, store=store)
        codes, gone = dropped_of(0, repeats, store=store).codes.tolist(), set[str]()
        with (folder / f"{name}.out").open("wb") as kept, path.open("rb") as file:
            for code, line in zip(codes, file, strict=True):
                if code:
                    gone.add(json.loads(line)["id"])
                else:
                    kept.write(line)
        return gone

    warm = folder / "warm.jsonl"
    warm.write_text(json.dumps({"id": "0", "text": "the mill stands at the river"}) + "\n", encoding="utf-8")
    dedup(warm, "warm")
    before = cpu_s()
    gone = dedup(path, "kept")
    return cpu_s() - before, gone


def datatrove(path: Path, folder: Path, lang: str) -> tuple[float, set[str]]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.logging import logger

    logger.remove()
    warm_up_spacy(lang)
    config = MinhashConfig(n_grams=SHINGLE, num_buckets=BANDS, hashes_per_bucket=ROWS)
    place = {name: str(folder / name) for name in ("signatures", "buckets", "remove", "kept", "removed")}

    def reader() -> Any:
        return JsonlReader(str(path.parent), glob_pattern=path.name)

    removed = JsonlWriter(place["removed"], compression=None)
    steps: list[tuple[list[Any], int]] = [
        ([reader(), MinhashDedupSignature(place["signatures"], config, language=CODES[lang])], 1),
        ([MinhashDedupBuckets(place["signatures"], place["buckets"], config=config)], BANDS),
        ([MinhashDedupCluster(place["buckets"], place["remove"], config=config)], 1),
        (
            [
                reader(),
                MinhashDedupFilter(place["remove"], exclusion_writer=removed),
                JsonlWriter(place["kept"], compression=None),
            ],
            1,
        ),
    ]
    before = cpu_s()
    for number, (step, tasks) in enumerate(steps):
        LocalPipelineExecutor(step, tasks=tasks, workers=1, logging_dir=str(folder / f"logs{number}")).run()
    seconds = cpu_s() - before
    gone = {
        json.loads(line)["id"]
        for file in Path(place["removed"]).glob("*.jsonl")
        for line in file.open(encoding="utf-8")
    }
    return seconds, gone


def warm_up_spacy(lang: str) -> None:
    """Load what the tokenizer loads; not that tokenizer, which the executor copies, and can't when it is loaded."""
    import spacy

    spacy.blank(lang)("the mill") if lang == "en" else __import__("jieba").initialize()


def text_dedup(path: Path, folder: Path, _: str) -> tuple[float, set[str]]:
    from datasets import load_from_disk
    from text_dedup.minhash import main

    given = {"path": "json", "data_files": path, "split": "train", "cache_dir": folder / "cache", "column": "text"}
    chosen = {"output": folder / "kept", "num_proc": 1, "b": BANDS, "r": ROWS, "num_perm": BANDS * ROWS}
    pairs = given | chosen | {"ngram": SHINGLE, "min_length": 1}
    before = cpu_s()
    main.main([word for key, value in pairs.items() for word in (f"--{key}", str(value))], standalone_mode=False)
    seconds = cpu_s() - before
    return seconds, ids_of(path) - set(load_from_disk(str(folder / "kept"))["id"])


SIDES = {"ours": ours, "datatrove": datatrove, "text-dedup": text_dedup}


def cpu_s() -> float:
    return time.process_time() + sum(os.times()[2:4])


def run(side: str, python: str, path: Path, lang: str) -> tuple[float, set[str]]:
    """One side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [python, str(Path(__file__)), "--side", side, str(path), folder, lang, str(answer)]
        threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)} | threads, cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
        seconds, gone = json.loads(answer.read_text(encoding="utf-8"))
        return seconds, set(gone)


# The documents


def read_texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def ids_of(path: Path) -> set[str]:
    with path.open(encoding="utf-8") as file:
        return {json.loads(line)["id"] for line in file}


def write_texts(path: Path, texts: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for name, text in texts.items():
            file.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    return path


def units_of(texts: Sequence[str], lang: str) -> list[str]:
    """Words with their punctuation, or characters."""
    joined = "\n".join(texts)
    return joined.split() if lang == "en" else [character for character in joined if not character.isspace()]


def passages(texts: Sequence[str], lang: str, length: int) -> list[list[str]]:
    units = units_of(texts, lang)
    return [units[start : start + length] for start in range(0, len(units) - length + 1, length)]


def shingles(units: Sequence[str]) -> set[tuple[str, ...]]:
    words = [word for unit in units if (word := re.sub(r"[\W_]", "", unit.casefold()))]
    return {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


def similarity(left: Sequence[str], right: Sequence[str]) -> float:
    one, other = shingles(left), shingles(right)
    return len(one & other) / len(one | other)


def edited(units: list[str], wanted: float, pool: Sequence[str], draw: random.Random) -> list[str] | None:
    """The passage changed one unit at a time until it is as similar as wanted; None when a change leaps over that."""
    copy = list(units)
    while (now := similarity(units, copy)) > wanted + TOLERANCE:
        at = draw.randrange(len(copy))
        change = draw.choice(("replace", "delete", "insert"))
        copy[at : at + (change != "insert")] = [] if change == "delete" else [draw.choice(pool)]
    return copy if now >= wanted - TOLERANCE else None


def planted_texts(texts: Sequence[str], lang: str, pairs: int) -> tuple[dict[str, str], dict[float, int]]:
    """`pairs` of each similarity: `s-number-a`, and later `s-number-b`."""
    draw, joint = random.Random(4), " " if lang == "en" else ""
    pool = passages(texts, lang, LENGTH[lang])
    draw.shuffle(pool)
    vocabulary = [unit for passage in pool[:200] for unit in passage]
    originals, copies, made = dict[str, str](), dict[str, str](), dict.fromkeys(SIMILARITIES, 0)
    for wanted in SIMILARITIES:
        while made[wanted] < pairs and pool:
            passage = pool.pop()
            copy = next((c for _ in range(20) if (c := edited(passage, wanted, vocabulary, draw))), None)
            if copy:
                originals[f"{wanted}-{made[wanted]}-a"] = joint.join(passage)
                copies[f"{wanted}-{made[wanted]}-b"] = joint.join(copy)
                made[wanted] += 1
    return originals | copies, made


# The tables


def speed(options: argparse.Namespace, sides: dict[str, str]) -> None:
    print("\n| text | side | MB per CPU second | ours is times | dropped |\n|---|---|---|---|---|")
    for lang in CODES:
        texts = [text for _, text in zip(range(10**6), cut(options, lang, options.mb), strict=False)]
        with tempfile.TemporaryDirectory() as folder:
            path = write_texts(Path(folder) / "texts.jsonl", {str(n): text for n, text in enumerate(texts)})
            size = sum(len(text.encode()) for text in texts) / 1e6
            rounds = [
                {side: run(side, python, path, lang) for side, python in sides.items()} for _ in range(options.rounds)
            ]
        for side in sides:
            rate = statistics.median(size / each[side][0] for each in rounds)
            ratio = statistics.median(each[side][0] / each["ours"][0] for each in rounds)
            dropped = len(rounds[0][side][1])
            print(
                f"| {lang}, {size:.1f} MB, {len(texts):,} | {side} | {rate:.2f} | {ratio:.0f} | {dropped} |", flush=True
            )


def cut(options: argparse.Namespace, lang: str, mb: float) -> Iterator[str]:
    """Passages up to a size, a tenth of them twice."""
    joint, size, draw = " " if lang == "en" else "", 0, random.Random(5)
    for passage in passages(read_texts(getattr(options, lang)), lang, 2 * LENGTH[lang]):
        text = joint.join(passage)
        for _ in range(1 + (draw.random() < 0.1)):
            yield text
            size += len(text.encode())
        if size > mb * 1e6:
            return


def planted(options: argparse.Namespace, sides: dict[str, str]) -> None:
    columns = " | ".join(f"{similarity:g}" for similarity in SIMILARITIES)
    print(f"\n| text | side | {columns} | unrelated | recall | precision |\n|{'---|' * (5 + len(SIMILARITIES))}")
    for lang in CODES:
        texts, made = planted_texts(read_texts(getattr(options, lang)), lang, options.pairs)
        odds = [1 - (1 - s**ROWS) ** BANDS for s in SIMILARITIES]
        print(f"| {lang} | the odds | {' | '.join(f'{each:.3f}' for each in odds)} | | | |")
        parted = {name: " ".join(units_of([text], lang)) for name, text in texts.items()}
        given = [(side, side, texts) for side in sides]
        given += [(f"{side}, parted", side, parted) for side in sides if side != "ours" and lang == "zh"]
        for name, side, these in given:
            with tempfile.TemporaryDirectory() as folder:
                path = write_texts(Path(folder) / "texts.jsonl", these)
                gone = {each.rsplit("-", 1)[0] for each in run(side, sides[side], path, lang)[1]}
            found = {s: sum(f"{s}-{number}" in gone for number in range(made[s])) for s in SIMILARITIES}
            relevant = [s for s in SIMILARITIES if s > RELEVANT]
            hits = sum(found[s] for s in relevant)
            recall, precision = hits / sum(made[s] for s in relevant), hits / max(1, len(gone))
            shares = " | ".join(f"{found[s] / max(1, made[s]):.3f}" for s in SIMILARITIES)
            spurious = len(gone) - sum(found.values())
            print(f"| {lang} | {name} | {shares} | {spurious} | {recall:.3f} | {precision:.3f} |", flush=True)


def kernels(options: argparse.Namespace, _: dict[str, str]) -> None:
    print("\n| text | step | MB per CPU second | ns per byte |\n|---|---|---|---|")
    for lang in CODES:
        texts = [f"{text} {number}" for text in cut(options, lang, options.mb) for number in range(4)]
        size = sum(len(text.encode()) for text in texts)
        for name, step in steps_of(texts, lang).items():
            step()
            seconds = []
            for _ in range(options.rounds):
                before = cpu_s()
                step()
                seconds.append(cpu_s() - before)
            took = statistics.median(seconds)
            print(f"| {lang} | {name} | {size / took / 1e6:.0f} | {took / size * 1e9:.2f} |", flush=True)


def steps_of(texts: list[str], lang: str) -> dict[str, Callable[[], object]]:
    import numpy as np

    from pipeline.config import BoilerplateLines, Deduplication, NearDuplicates
    from pipeline.corpus.copies.folding import codes_of, folding
    from pipeline.corpus.copies.hashing import near_keys, permutations_of, text_keys
    from pipeline.corpus.decontamination import NGrams, Scan
    from pipeline.corpus.document import Document

    sizes, permutations = np.array([SHINGLE, SHINGLE]), permutations_of(1, BANDS * ROWS)
    documents = [Document(str(number), text, "", lang, str(number), "") for number, text in enumerate(texts)]
    batches = [codes_of(texts[start : start + 30]) for start in range(0, len(texts), 30)]
    scan, near = Scan(NGrams.of(texts[:100])), NearDuplicates(bands=BANDS, rows=ROWS)
    keys = np.empty((30, BANDS), np.uint64)

    def min_hash() -> None:
        for codes, starts in batches:
            near_keys(codes, starts, *folding(), sizes, permutations, keys[: len(starts) - 1])

    return {
        "text keys": lambda: [text_keys(*batch, *folding()) for batch in batches],
        "MinHash": min_hash,
        "scan for n-grams": lambda: [scan.contaminated(text) for text in texts],
        "exact, the whole pass": lambda: deduplicate(documents, Deduplication()),
        "near, the whole pass": lambda: deduplicate(documents, Deduplication(exact=False, near=near)),
        "lines, the whole pass": lambda: deduplicate(documents, Deduplication(exact=False, lines=BoilerplateLines())),
        "reading, normalise, writing": lambda: clean(texts),
    }


def deduplicate(documents: list[Any], config: Any) -> None:
    from pipeline.corpus.copies.keys import DocumentKeys
    from pipeline.corpus.deduplication import dropped_of, repeated
    from pipeline.settings import Settings
    from pipeline.store import PartDraft, open_store

    def make(draft: PartDraft) -> dict[str, Any]:
        keys = DocumentKeys(config, draft)
        for document in documents:
            keys.add(document)
        keys.write()
        return {}

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Settings.from_environment({"BERTMILL_HOME": folder}))
        dropped_of(0, repeated([store.part("corpus", "it", make)], config, store=store), store=store)


def clean(texts: list[str]) -> None:
    """The cheapest cleaning there is."""
    from pipeline.corpus.cleaning import normalised
    from pipeline.corpus.document import Document, write_documents

    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        kept = (Document("", normalised(json.loads(row)["text"]), "", "", "", "") for row in rows)
        write_documents(Path(folder) / "documents.arrow", kept)


TABLES = {"speed": speed, "planted": planted, "kernels": kernels}


def main() -> None:
    if sys.argv[1:2] == ["--side"]:
        side, path, folder, lang, answer = sys.argv[2:]
        seconds, gone = SIDES[side](Path(path), Path(folder), lang)
        Path(answer).write_text(json.dumps([seconds, sorted(gone)]), encoding="utf-8")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], default=list(TABLES))
    for name in ("--en", "--zh"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--datatrove", "--text-dedup"):
        parser.add_argument(name, metavar="PYTHON")
    parser.add_argument("--mb", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=150)
    options = parser.parse_args()
    peers = {"datatrove": options.datatrove, "text-dedup": options.text_dedup}
    sides = {"ours": sys.executable} | {side: python for side, python in peers.items() if python}
    for table in options.tables:
        TABLES[table](options, sides)


if __name__ == "__main__":
    main()
