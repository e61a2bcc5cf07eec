"""The record that a corpus is made of, what a filter answers, and how documents are read from a corpus' files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPLACEMENTS = "replacement_tokens.txt"
"""A corpus' file of the tokens that stand for what was masked, one a line; where there are any."""


@dataclass(frozen=True)
class Document:
    """A text with what is known of it. Empty strings stand for what isn't."""

    id: str
    """Unique in the corpus: the source's name, a slash, the source's own id."""
    text: str
    source: str
    lang: str
    group: str
    """What a split must not part: patient, site, author. A document without one is its own."""
    date: str
    """ISO 8601, as far as it is known: 1790, 1790-01, 1790-01-08."""


@dataclass(frozen=True)
class Rejected:
    """A filter drops the document."""

    reason: str
    """What it is counted under, in the words of a person: "too few words"."""


@dataclass(frozen=True)
class Edited:
    """A filter changes the document."""

    document: Document
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often each thing was done, in the words of a person: {"e-mail": 2}."""


Verdict = Rejected | Edited | None
"""What a filter says of a document; None keeps it as it is."""


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file, in order, in bounded memory."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            columns = [column.to_pylist() for column in reader.get_batch(number).columns]
            for values in zip(*columns, strict=True):
                yield Document(*values)
