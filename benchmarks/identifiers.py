"""What `mask_identifiers` finds of planted identifiers, what it finds where none are, and how fast; beside datatrove.

    python benchmarks/identifiers.py [TEXT.jsonl …] [--planted 200] [--show 5] [--peer PYTHON]

Planted identifiers are valid by their rules, in the forms that people write, between words of the sample corpora. What
is found in TEXT (JSON lines with a member `text`; the sample corpora where none is given) is counted by kind for each
MB, and some of it shown, since only a reader can tell a false one. datatrove's PIIFormatter masks e-mail and IP
addresses: PYTHON is that of an environment that has it.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.corpus.filters.identifiers import identifiers
from pipeline.corpus.sources import SAMPLES
from tests.corpus.filters.planted import Planted, planted

PEER = """
import json, sys, time
from datatrove.pipeline.formatters.pii import PIIFormatter
formatter = PIIFormatter(remove_emails=True, remove_ips=True)
texts = [json.loads(line) for line in sys.stdin]
start = time.perf_counter()
masked = [formatter.format(text) for text in texts]
taken = time.perf_counter() - start
print(json.dumps({"masked": masked, "seconds": taken}))
"""
STANDS_FOR = re.compile(r"email@example\.com|firstname\.lastname@example\.com|22\.214\.171\.124|26\.147\.197\.28")


def texts_of(path: Path) -> list[str]:
    with zstandard.open(path, "rt", encoding="utf-8") if path.suffix == ".zst" else path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def sentences() -> list[str]:
    """Sentences without digits, English and Chinese."""
    texts = [text for name in ("sotu-en", "qu-zh") for text in texts_of(SAMPLES / f"{name}.jsonl.zst")[:40]]
    found = [part for text in texts for part in re.split(r"(?<=[.。！？])\s*|\n", text)]
    return [part for part in found if 20 <= len(part) <= 300 and not re.search(r"[0-9]", part)]


def peer(python: str, texts: Sequence[str]) -> tuple[list[str], float]:
    """What datatrove makes of the texts, and its seconds."""
    given = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([python, "-c", PEER], input=given, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["masked"], answer["seconds"]


def recall(plants: Sequence[Planted], python: str | None) -> Iterator[str]:
    """A line for each kind: how many of the planted ones are covered whole."""
    ours, theirs, of = Counter[str](), Counter[str](), Counter[str]()
    masked = peer(python, [plant.text for plant in plants])[0] if python else []
    worst: Counter[tuple[str, str]] = Counter()
    for number, plant in enumerate(plants):
        of[plant.kind] += 1
        found = any(
            what == plant.kind and start <= plant.start and plant.end <= end
            for start, end, what in identifiers(plant.text)
        )
        ours[plant.kind] += found
        worst[plant.kind, plant.form] += not found
        if masked:
            theirs[plant.kind] += plant.identifier not in masked[number]
    for kind, count in of.items():
        also = f"   datatrove {100 * theirs[kind] / count:6.2f} %" if masked and kind in ("email", "ip") else ""
        yield f"{kind:6} {100 * ours[kind] / count:6.2f} % of {count:,}{also}"
    (kind, form), missed = worst.most_common(1)[0]
    yield f"worst form: {kind} {form}, {missed} missed"


def found_in(path: Path, show: int, rounds: int, python: str | None) -> Iterator[str]:
    """What is found in real text, by kind for each MB, and how fast."""
    texts = texts_of(path)
    mb = sum(len(text.encode()) for text in texts) / 1e6
    counts, shown, seconds = Counter[str](), dict[str, list[str]](), []
    for number in range(rounds):
        start = time.perf_counter()
        found = [identifiers(text) for text in texts]
        seconds.append(time.perf_counter() - start)
        if number == 0:
            for text, spans in zip(texts, found, strict=True):
                for begin, end, what in spans:
                    counts[what] += 1
                    shown.setdefault(what, []).append(text[max(0, begin - 20) : end + 15].replace("\n", " "))
    rates = ", ".join(f"{what} {count} ({count / mb:.2f} a MB)" for what, count in counts.most_common()) or "nothing"
    yield f"{path.name}: {mb:.1f} MB at {mb / statistics.median(seconds):.0f} MB/s: {rates}"
    if python:
        masked, taken = peer(python, texts)
        hits = sum(len(STANDS_FOR.findall(text)) for text in masked) - sum(len(STANDS_FOR.findall(t)) for t in texts)
        yield f"    datatrove: {mb / taken:.1f} MB/s: {hits} e-mail and IP addresses"
    for what, examples in shown.items():
        for example in examples[:: max(1, len(examples) // show)][:show] if show else ():
            yield f"    {what:6} {example}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--planted", type=int, default=200)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", default=None)
    given = parser.parse_args()
    for line in recall(list(planted(given.planted, sentences())), given.peer):
        print(line)
    for path in given.texts or sorted(SAMPLES.glob("*.zst")):
        for line in found_in(path, given.show, given.rounds, given.peer):
            print(line, flush=True)


if __name__ == "__main__":
    main()
