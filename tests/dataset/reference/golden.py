"""What google-research/bert's own script made of small texts: read here, written by `make.py`."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
VOCABULARY, TEXTS, CASES = FOLDER / "vocabulary.txt", FOLDER / "texts.json", FOLDER / "cases.json"
Documents = list[list[list[str]]]


@dataclass(frozen=True)
class Case:
    """One run of the script."""

    text: str
    """A key of the texts."""
    settings: dict[str, Any]
    """What `reference_samples` is called with, by name."""
    count: int
    sha256: str
    """Of all samples, a line each."""
    first: list[str]
    """The first lines, to see where it goes wrong."""

    def __str__(self) -> str:
        words = "words" if self.settings["do_whole_word_mask"] else "tokens"
        return f"{self.text}-{self.settings['max_seq_length']}-{words}-{self.settings['dupe_factor']}"


def line(sample: Any) -> str:
    """A sample as one line: tokens and labels have no blanks."""
    return json.dumps(
        [
            " ".join(sample.tokens),
            "".join(map(str, sample.segment_ids)),
            sample.masked_lm_positions,
            " ".join(sample.masked_lm_labels),
            sample.is_random_next,
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{each}\n" for each in lines).encode()).hexdigest()


def read_vocabulary() -> list[str]:
    return VOCABULARY.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def read_texts() -> dict[str, Documents]:
    """The documents as the script's tokenizer gave them, those without a token among them."""
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    return {name: [[sentence.split() for sentence in document] for document in text] for name, text in texts.items()}


def read_cases() -> list[Case]:
    return [Case(**case) for case in json.loads(CASES.read_text(encoding="utf-8"))]


def write_rows(path: Path, rows: Sequence[Any] | dict[str, Any]) -> None:
    """JSON with a row a line, so that a change shows."""
    dump = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    if isinstance(rows, dict):
        values = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows.values()]
        body = ",\n".join(f"{key}:{value}" for key, value in zip(dump, values))
        path.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")
    else:
        path.write_text("[\n" + ",\n".join(dump) + "\n]\n", encoding="utf-8")
