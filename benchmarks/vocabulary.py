"""Vocabulary and encoder beside `tokenizers`, on the user's own text, as JSON lines with a member `text`.

    python benchmarks/vocabulary.py trainer --text ENGLISH.jsonl ... --size 30522 --rounds 3
    python benchmarks/vocabulary.py trainer --text CHINESE.jsonl ... --size 21128 --lang zh
    python benchmarks/vocabulary.py training --text ENGLISH.jsonl ...
    python benchmarks/vocabulary.py encoder --text TEXT.jsonl ... --vocabulary vocab.txt

`trainer` ingests the text once, then makes vocabularies of its train part in processes of their own, in turn: our
stage, with the card and the commit, and `tokenizers`' trainer over the same Arrow files, on all cores. It prints
seconds of wall clock from start to end of the process, the peak of memory over the process and its children
(proportional set size, sampled), the share of tokens that both have, and pieces per word on held-out text. `training`
is the training alone, of growing numbers of distinct words: the text's, then made ones. `encoder` gives both the same
texts, each seen once, on one core, and compares all ids.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import psutil

from pipeline.config import CorpusConfig, Deduplication, Source, VocabularyConfig
from pipeline.corpus.document import read_documents
from pipeline.corpus.ingest import ingest_corpus
from pipeline.mapping import process_map
from pipeline.settings import Settings
from pipeline.store import Store, open_store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.counting import count_words
from pipeline.vocabulary.counts import CountsWriter, WordCounts, read_counts
from pipeline.vocabulary.encoder import Encoder
from pipeline.vocabulary.existing import read_vocabulary
from pipeline.vocabulary.layout import CONTINUES, SPECIALS
from pipeline.vocabulary.pieces import cut, pieces_of
from pipeline.vocabulary.tokenizer import Form, make_tokenizer
from pipeline.vocabulary.wordpiece import Objective, train_wordpiece

PROCESSES = ("ours", "tokenizers", "train")
"""What `trainer` and `training` start themselves."""
HAN = ("\u3400", "\u9fff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=["trainer", "training", "encoder", *PROCESSES])
    parser.add_argument("--text", type=Path, nargs="+", default=[])
    parser.add_argument("--lang", default="en")
    parser.add_argument("--size", type=int, default=30_522)
    parser.add_argument("--objective", default="bpe")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mb", type=float, default=100)
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--home", type=Path, help="of the processes that `trainer` starts")
    parser.add_argument("--counts", type=Path, help="of those that `training` starts")
    given = parser.parse_args()
    tables = {"trainer": trainer, "training": training, "encoder": encoder}
    (tables | {"ours": ours, "tokenizers": theirs, "train": train})[given.table](given)


def store_of(home: Path) -> Store:
    return open_store(Settings.from_environment({"BERTMILL_HOME": str(home)}))


def ingest(given: argparse.Namespace, home: Path) -> Any:
    """The text as a corpus, as it is."""
    sources = tuple(Source(path=str(path), format="jsonl", name=path.stem, licence="own") for path in given.text)
    config = CorpusConfig(
        name="text",
        lang=given.lang,
        sources=sources,
        filters=(),
        deduplication=Deduplication(exact=False),
        max_bad_share=1.0,
    )
    with process_map(given.workers) as pool:
        return ingest_corpus(config, store=store_of(home), map=pool)


# One vocabulary, in a process of its own


def ours(given: argparse.Namespace) -> None:
    store = store_of(given.home)
    config = VocabularyConfig(name=f"v{time.time_ns()}", size=given.size, objective=given.objective)
    corpus = store.resolve("corpus/text@latest")
    with process_map(given.workers) as pool:
        made = build_vocabulary(config, corpus, store=store, map=pool, force=True)
    print(json.dumps(store.file(made, "vocab.txt").read_text(encoding="utf-8").splitlines()))


def theirs(given: argparse.Namespace) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    store = store_of(given.home)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    how = {"vocab_size": given.size, "min_frequency": 2, "limit_alphabet": 100_000, "show_progress": False}
    teacher = trainers.WordPieceTrainer(special_tokens=list(SPECIALS), **how)
    tokenizer.train_from_iterator(texts_of(store, "train/"), teacher)
    vocabulary = tokenizer.get_vocab()
    print(json.dumps(sorted(vocabulary, key=vocabulary.__getitem__)))


def texts_of(store: Store, part: str) -> Iterator[str]:
    for entry in store.manifest(store.resolve("corpus/text@latest")).matching(part):
        for document in read_documents(store.blob(entry)):
            yield document.text


def run(side: str, given: argparse.Namespace, home: Path, **more: Any) -> tuple[float, float, list[str]]:
    """Seconds, MB, and the vocabulary."""
    values = {"home": home, "size": given.size, "workers": given.workers, "lang": given.lang} | more
    command = [sys.executable, __file__, side, *(f"--{name}={value}" for name, value in values.items())]
    with tempfile.TemporaryFile() as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            time.sleep(0.05)
        seconds = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"{side} failed")
        out.seek(0)
        return seconds, peak, json.loads(out.read())


def memory_mb(pid: int) -> float:
    """Of a process and its children; memory that they share counts once."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    except (psutil.Error, OSError):
        pass
    return total / 1024


# Tables


def trainer(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bertmill-") as folder:
        home = Path(folder)
        corpus = ingest(given, home)
        store = store_of(home)
        heldout = count_words(store.manifest(corpus).matching("heldout/"), Form(), store=store)
        counts = read_counts(store.blob(heldout.files[0]))
        size = sum(len(text.encode()) for text in texts_of(store, "train/"))
        print(f"{size / 1e6:.0f} MB to train on, {counts.total:,} words held out, {given.size:,} entries\n")
        rows: dict[str, list[tuple[float, float, list[str]]]] = {}
        for _ in range(given.rounds):
            for name, side, more in (
                ("tokenizers", "tokenizers", {}),
                ("bpe", "ours", {"objective": "bpe"}),
                ("bpe, 1 worker", "ours", {"objective": "bpe", "workers": 1}),
                ("wordpiece", "ours", {"objective": "wordpiece"}),
            ):
                forget_parts(home)
                rows.setdefault(name, []).append(run(side, given, home, **more))
        peer = rows["tokenizers"]
        line = "{:16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9} {:>6}"
        print(line.format("", "seconds", "times", "MB", "of theirs", "overlap", "pieces", "unknown", "twins"))
        for name, some in rows.items():
            seconds, mb = (statistics.median(each[place] for each in some) for place in (0, 1))
            ratios = [statistics.median(p[at] for p in peer) / value for at, value in ((0, seconds), (1, mb))]
            for each in some if name == "tokenizers" else some[:1]:
                shared = len({*each[2]} & {*peer[0][2]}) / len(each[2])
                pieces, unknown = fertility(each[2], counts)
                twins = sum(len(t) == 3 and t.startswith(CONTINUES) and HAN[0] <= t[2] <= HAN[1] for t in each[2])
                shown = f"{seconds:.1f}", f"{ratios[0]:.1f}", f"{mb:.0f}", f"{1 / ratios[1]:.2f}"
                print(line.format(name, *shown, f"{shared:.3%}", f"{pieces:.5f}", f"{unknown:.4%}", twins))


def forget_parts(home: Path) -> None:
    """Remove what counting has remembered, so that each run counts."""
    for path in (home / "store" / "parts" / "vocabulary").glob("**/*.json"):
        path.unlink()


def fertility(vocabulary: Sequence[str], counts: WordCounts) -> tuple[float, float]:
    """Pieces per word, and the share of tokens that are [UNK]."""
    table = pieces_of({entry: number for number, entry in enumerate(vocabulary)})
    ids, starts = cut(counts.text, counts.starts, table)
    pieces = int((counts.counts * (starts[1:] - starts[:-1])).sum())
    unknown = int((counts.counts * (ids[starts[:-1]] == table.unknown)).sum())
    return pieces / counts.total, unknown / pieces


def training(given: argparse.Namespace) -> None:
    """The text's own words, then words made of two of them, so that their letters are as in real ones."""
    with tempfile.TemporaryDirectory(prefix="bertmill-") as folder:
        corpus = ingest(given, Path(folder))
        store = store_of(Path(folder))
        part = count_words(store.manifest(corpus).matching("train/"), Form(), store=store)
        tables = list(growing(dict(read_counts(store.blob(part.files[0]))), Path(folder)))
        print("objective  distinct words  characters  seconds  microseconds and  bytes a character    MB")
        for objective in get_args(Objective):
            for path in tables:
                rows = [timed(path, objective, given) for _ in range(given.rounds)]
                words, characters, mb = (max(row[name] for row in rows) for name in ("words", "characters", "mb"))
                seconds = statistics.median(row["seconds"] for row in rows)
                each = f"{1e6 * seconds / characters:16.3f}  {1e6 * mb / characters:21.0f} {mb:6.0f}"
                print(f"{objective:9}  {words:14,} {characters:11,} {seconds:8.2f}  {each}", flush=True)


def growing(counts: dict[str, int], folder: Path) -> Iterator[Path]:
    """Files of more and more words."""
    draw = random.Random(1)
    letters = [word for word in sorted(counts) if word.isalpha() and len(word) > 2]
    for wanted in (len(counts), 330_000, 1_000_000, 2_000_000, 5_000_000):
        while len(counts) < wanted:
            counts[draw.choice(letters) + draw.choice(letters)[:6]] = 1 + int(draw.paretovariate(1.2))
        path = folder / f"{wanted}.arrow"
        with CountsWriter(path) as file:
            file.write(WordCounts.of(counts))
        yield path


def timed(path: Path, objective: str, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "train", "--counts", str(path), "--objective", objective]
    done = subprocess.run([*command, "--size", str(given.size)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def train(given: argparse.Namespace) -> None:
    """In a process of its own: seconds, and the peak of resident memory above what the process had, its counts too."""
    counts = read_counts(given.counts)
    how = {"min_frequency": 2, "min_character_frequency": 2, "objective": given.objective, "reserved": SPECIALS}
    train_wordpiece(counts.rows(0, 1_000), size=2_000, **how)  # compiled, or read from its cache
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident_mb("VmRSS")
    started = time.monotonic()
    train_wordpiece(counts, size=given.size, **how)
    seconds = time.monotonic() - started
    characters = int((counts.text & 0xC0 != 0x80).sum())
    mb = resident_mb("VmHWM") - before
    print(json.dumps({"words": len(counts), "characters": characters, "seconds": seconds, "mb": mb}))


def resident_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def encoder(given: argparse.Namespace) -> None:
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    vocabulary = read_vocabulary(given.vocabulary)
    tokenizer = make_tokenizer(vocabulary, Form(lowercase=not given.cased))
    tokenizer.encode_special_tokens = True
    Encoder(tokenizer).encode(["warm"])
    compiled = Encoder(tokenizer)
    left, times, differing, texts_seen, tokens = given.mb * 1e6, [0.0, 0.0], 0, 0, 0
    for texts in batches(given.text):
        size = sum(len(text.encode()) for text in texts)
        started = time.process_time()
        ids, starts = compiled.encode(texts)
        middle = time.process_time()
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        theirs = [encoding.ids for encoding in encodings]
        times[0] += middle - started
        times[1] += time.process_time() - middle
        differing += sum(ids[a:b].tolist() != each for a, b, each in zip(starts, starts[1:], theirs, strict=False))
        texts_seen, tokens, left = texts_seen + len(texts), tokens + len(ids), left - size
        if left <= 0:
            break
    mb = given.mb - left / 1e6
    print(f"{mb:.0f} MB, {texts_seen:,} texts, {tokens:,} tokens; {differing} texts differ")
    print(f"ours {mb / times[0]:.1f} MB/s, tokenizers {mb / times[1]:.1f} MB/s: {times[1] / times[0]:.1f} times")


def batches(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Texts, some 4 MB at a time."""
    some, size = list[str](), 0
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                some.append(row["text"] if "text" in row else "".join(row["tokens"]))
                size += len(line)
                if size > 4_000_000:
                    yield some
                    some, size = [], 0
    if some:
        yield some


if __name__ == "__main__":
    main()
