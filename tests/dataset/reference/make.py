"""Make the golden samples by running the original: `python -m tests.dataset.reference.make CHECKOUT`.

CHECKOUT is a clone of github.com/google-research/bert at the commit that README.md names. Of TensorFlow its functions
need only the flags and a file to read, which stand in here.
"""

import importlib
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import zstandard

from pipeline.dataset.text.sentences import split_sentences
from tests.dataset.reference.golden import CASES, TEXTS, VOCABULARY, Case, digest, line, read_vocabulary, write_rows

SAMPLE = Path(__file__).parents[3] / "pipeline/corpus/samples/sotu-en.jsonl.zst"
SPECIALS = ["[PAD]", *(f"[unused{number}]" for number in range(5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES_OF_ADDRESSES = (70, 25, 25, 1, 12, 25)
WORDS, ENDINGS = 500, 120
DRAWN = 40
BY_HAND = f"""
We meet.

It is the duty of this Congress.

{"the union of the states and the freedom of the people, " * 60}and peace.

{"prosperous " * 130}
So it was.
{"unconstitutionality " * 20}
So it will be.

\u200b
\u200b\u200b

\u200b
Nothing stands before or after this.
\u200b


Yes.
No.
And so on, and so on.
"""
"""Documents of one sentence; a sentence over any target; words of many pieces; lines and a document without a token."""


def load_original(checkout: Path) -> tuple[ModuleType, ModuleType]:
    """The script and its tokenizer's module, with what they need of TensorFlow."""
    flags = SimpleNamespace(FLAGS=SimpleNamespace(do_whole_word_mask=False))
    for kind in ("string", "bool", "integer", "float"):
        setattr(flags, f"DEFINE_{kind}", lambda *_: None)
    stand_in: Any = ModuleType("tensorflow")
    stand_in.flags = flags
    stand_in.gfile = SimpleNamespace(GFile=_opened)
    sys.modules["tensorflow"] = stand_in
    sys.path.insert(0, str(checkout))
    return importlib.import_module("create_pretraining_data"), importlib.import_module("tokenization")


def _opened(path: str, _mode: str) -> IO[str]:
    return Path(path).open(encoding="utf-8")


def run(script: ModuleType, raw: str, tokenizer: Any, settings: dict[str, Any]) -> list[Any]:
    """All samples that the script makes of a text in its own format, in order."""
    script.FLAGS.do_whole_word_mask = settings["do_whole_word_mask"]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(raw)
        file.flush()
        of = {key: value for key, value in settings.items() if key not in ("do_whole_word_mask", "seed")}
        samples: list[Any] = script.create_training_instances(
            [file.name], tokenizer, rng=random.Random(settings["seed"]), **of
        )
    return samples


def addresses() -> str:
    """The first sentences of some of the State of the Union addresses, one a line, a blank line between two."""
    lines = zstandard.ZstdDecompressor().stream_reader(SAMPLE.open("rb")).read().decode().splitlines()
    chosen = lines[5 :: len(lines) // len(SENTENCES_OF_ADDRESSES)]
    texts = [split_sentences(json.loads(row)["text"]) for row in chosen]
    return "\n\n".join("\n".join(text[:count]) for text, count in zip(texts, SENTENCES_OF_ADDRESSES)) + "\n"


def write_vocabulary(raws: list[str], split: Callable[[str], list[str]]) -> None:
    """Characters alone and continuing, the most frequent words and endings: enough for words of several pieces."""
    words = Counter(word for raw in raws for word in split(raw))
    characters = sorted({character for word in words for character in word})
    endings = Counter(f"##{word[-3:]}" for word in words if len(word) > 5)
    entries = [*SPECIALS, *characters, *(f"##{character}" for character in characters)]
    entries += [word for word, _ in words.most_common(WORDS)] + [ending for ending, _ in endings.most_common(ENDINGS)]
    VOCABULARY.write_text("\n".join(dict.fromkeys(entries)) + "\n", encoding="utf-8")


def tokenised(raw: str, tokenize: Callable[[str], list[str]]) -> list[list[str]]:
    """Documents of sentences of tokens with blanks between, those without a token kept: the original drops them."""
    documents: list[list[str]] = [[]]
    for each in raw.splitlines():
        if each.strip():
            documents[-1].append(" ".join(tokenize(each.strip())))
        else:
            documents.append([])
    return documents


def fixed_settings() -> Iterator[dict[str, Any]]:
    for length, predictions in ((128, 20), (512, 77)):
        for whole_words in (False, True):
            for dupe_factor in (1, 5):
                yield {
                    "max_seq_length": length,
                    "short_seq_prob": 0.1,
                    "masked_lm_prob": 0.15,
                    "max_predictions_per_seq": predictions,
                    "dupe_factor": dupe_factor,
                    "do_whole_word_mask": whole_words,
                    "seed": 12345,
                }


def drawn_settings(draw: random.Random) -> dict[str, Any]:
    return {
        "max_seq_length": draw.choice((5, 6, 8, 13, 24, 64)),
        "short_seq_prob": draw.choice((0.0, 0.1, 0.5, 1.0)),
        "masked_lm_prob": draw.choice((0.05, 0.15, 0.5, 1.0)),
        "max_predictions_per_seq": draw.choice((1, 3, 20, 80)),
        "dupe_factor": draw.choice((1, 2, 5)),
        "do_whole_word_mask": draw.random() < 0.5,
        "seed": draw.choice((0, 7, 2**40 + 1)),
    }


def drawn_text(draw: random.Random, vocabulary: list[str]) -> str:
    """Token strings, not text: pieces may begin a sentence, and [CLS] and [SEP] may stand in one."""
    entries = [*draw.sample(vocabulary, 12), "[SEP]", "[CLS]", "##ing", "##s"]
    most = draw.choice((2, 9, 30))
    documents = [
        "\n".join(" ".join(draw.choices(entries, k=draw.randint(1, most))) for _ in range(draw.randint(0, 6)))
        for _ in range(draw.randint(1, 4))
    ]
    return "\n\n".join(documents) + "\n"


def main(checkout: Path) -> None:
    script, tokenization = load_original(checkout)
    raws = {
        "addresses": addresses(),
        "sample_text": (checkout / "sample_text.txt").read_text(encoding="utf-8"),
        "by_hand": BY_HAND,
        "alone": BY_HAND.split("\n\n")[3],
    }
    write_vocabulary([raws["addresses"], raws["sample_text"]], tokenization.BasicTokenizer().tokenize)
    google = tokenization.FullTokenizer(str(VOCABULARY), do_lower_case=True)
    assert list(google.vocab) == read_vocabulary()
    plans = [(name, raw, google, settings) for name, raw in raws.items() for settings in fixed_settings()]
    spaces = SimpleNamespace(tokenize=str.split, vocab=google.vocab)
    for number in range(DRAWN):
        draw = random.Random(number)
        plans.append((f"drawn{number}", drawn_text(draw, read_vocabulary()), spaces, drawn_settings(draw)))
    texts, cases = dict[str, Any](), list[Case]()
    for name, raw, tokenizer, settings in plans:
        texts[name] = tokenised(raw, tokenizer.tokenize)
        lines = [line(sample) for sample in run(script, raw, tokenizer, settings)]
        shown = 1 if settings["max_seq_length"] > 128 else 2
        cases.append(Case(name, settings, len(lines), digest(lines), lines[:shown]))
    write_rows(TEXTS, texts)
    write_rows(CASES, [vars(case) for case in cases])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
