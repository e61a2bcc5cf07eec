"""One batch of a source's files, read and cleaned alone: a part of the corpus, remembered under the files' bytes.

A batch is one file, or small files of a source that stand beside each other. Where a batch of small files ends is
decided by the files' own names (content-defined, as in rsync), so that one more file changes one batch. Costs a read
and a write of the text; memory holds a document, a batch of rows for each split, and a run of keys for deduplication.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import CorpusConfig, bound
from pipeline.corpus.card import Step
from pipeline.corpus.cleaning import FILTERS
from pipeline.corpus.copies.keys import DocumentKeys
from pipeline.corpus.decontamination import scan_of
from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.corpus.inventory import InputFile
from pipeline.corpus.selection import Rows
from pipeline.corpus.shards import ShardWriter
from pipeline.corpus.sources import SOURCES
from pipeline.progress import progress
from pipeline.store import FileEntry, Part, PartDraft, Store

SCHEMA = 2
SMALL = 8 << 20
"""Bytes: what a batch of small files comes to on average; a larger file is a batch of its own."""
EXAMPLES = 5
"""Of each reason, a part shows so many."""
EXCLUDED, MASK = "excluded", "mask_identifiers"
"""The step of which nothing is shown, and the one that what is shown goes through."""
EXCERPT = 200
"""Characters of a rejected text that are shown."""
DECIDES = {
    "lang",
    "heldout_share",
    "documents_per_shard",
    "min_characters",
    "filters",
    "deduplication",
    "restricted",
}
"""What of the config decides a part, beside its source."""


@dataclass(frozen=True)
class Batch:
    """Files of one source that are read together."""

    files: tuple[InputFile, ...]


@dataclass(frozen=True)
class Aside:
    """Inputs beside the sources, read once: what is to be left out of the corpus."""

    excluded: frozenset[str] = frozenset()
    """Ids and groups of documents, as sha256."""
    ngrams: FileEntry | None = None
    """N-grams of the evaluation tasks' test sets."""

    def identity(self) -> list[Any]:
        return [sorted(self.excluded), self.ngrams.sha256 if self.ngrams else None]


def batches(files: Sequence[InputFile]) -> list[Batch]:
    """The files in their order, small ones gathered."""
    made, gathered = list[Batch](), list[InputFile]()

    def close() -> None:
        if gathered:
            made.append(Batch(tuple(gathered)))
            gathered.clear()

    for file in files:
        if gathered and gathered[-1].source != file.source:
            close()
        if file.input.size >= SMALL:
            close()
            made.append(Batch((file,)))
            continue
        gathered.append(file)
        if _hash(f"batch:{file.input.name}") * SMALL < file.input.size << 64:
            close()
    close()
    return made


def read_batch(batch: Batch, *, config: CorpusConfig, aside: Aside, store: Store) -> Part:
    """One batch, read and cleaned: shards of both splits, keys for deduplication, a record of what was dropped."""
    identity = {
        "schema": SCHEMA,
        "source": batch.files[0].source.reading(),
        "inputs": [file.input.identity for file in batch.files],
        "config": {name: value for name, value in config.identity().items() if name in DECIDES},
        "aside": aside.identity(),
    }
    return store.part("corpus", identity, partial(_read_batch, batch=batch, config=config, aside=aside, store=store))


def _read_batch(draft: PartDraft, *, batch: Batch, config: CorpusConfig, aside: Aside, store: Store) -> dict[str, Any]:
    reading = Reading(config, aside, store)
    writer, rows = ShardWriter(draft, config.documents_per_shard), Rows()
    keys = DocumentKeys(config.deduplication, draft)
    with progress(f"reading {batch.files[0].input.name}") as advance:
        for file in batch.files:
            for document in reading.documents(file):
                heldout = is_heldout(document.group, config.heldout_share)
                writer.write(document, heldout=heldout)
                rows.add(document, heldout=heldout)
                keys.add(document)
                advance()
    card = writer.finish()
    rows.write(draft)
    keys.write()
    return {"card": card.record(), "funnel": reading.funnel(), "examples": reading.examples}


class Reading:
    """The way of documents through the steps of cleaning, counted."""

    def __init__(self, config: CorpusConfig, aside: Aside, store: Store) -> None:
        self._config = config
        self._read = Step("read")
        self._steps = [(Step(name), check) for name, check in _checks(config, aside, store)]
        self._seen: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []

    def funnel(self) -> list[dict[str, Any]]:
        return [self._read.record(), *(step.record() for step, _ in self._steps)]

    def documents(self, file: InputFile) -> Iterator[Document]:
        """The file's documents that pass."""
        reader = bound(file.source, SOURCES, "source format")
        for row in reader(file.file):
            if isinstance(row, BadRow):
                self._read.drop(0, row.reason)
                self._show(file, row.line, "read", row.reason)
                continue
            self._read.keep(len(row.text), len(row.text))
            document = self._cleaned(self._document(row, file), file, row.line)
            if document is not None:
                yield document

    def _document(self, row: Row, file: InputFile) -> Document:
        own = row.id or f"{file.input.name.partition('/')[2]}:{row.line}"
        name = f"{file.source.name}/{own}"
        lang = row.lang or self._config.lang
        return Document(name, row.text, file.source.name, lang, row.group or name, row.date or "")

    def _cleaned(self, document: Document, file: InputFile, line: int) -> Document | None:
        for step, check in self._steps:
            before = len(document.text)
            verdict = check(document)
            if isinstance(verdict, Rejected):
                step.drop(before, verdict.reason)
                if step.name != EXCLUDED:
                    self._show(file, line, step.name, verdict.reason, document)
                return None
            if isinstance(verdict, Edited):
                document = verdict.document
                step.edited += 1
                step.done.update(verdict.counts)
            step.keep(before, len(document.text))
        return document

    def _show(self, file: InputFile, line: int, step: str, reason: str, document: Document | None = None) -> None:
        """Keep the first few of each reason, without text where the corpus is restricted."""
        self._seen[reason] += 1
        if self._seen[reason] > EXAMPLES:
            return
        shown = {"step": step, "reason": reason, "file": file.input.name, "line": line}
        if document is not None:
            shown["id"] = document.id
            if not self._config.restricted:
                shown["text"] = self._excerpt(document)
        self.examples.append(shown)

    def _excerpt(self, document: Document) -> str:
        """The text's first characters; masked as it would have been, had it not been dropped sooner."""
        document = replace(document, text=document.text[: 2 * EXCERPT])
        for step, check in self._steps:
            if step.name == MASK and isinstance(verdict := check(document), Edited):
                document = verdict.document
        return document.text[:EXCERPT]


def _checks(config: CorpusConfig, aside: Aside, store: Store) -> Iterator[tuple[str, Callable[[Document], Verdict]]]:
    if aside.excluded:
        yield EXCLUDED, partial(_exclude, names=aside.excluded)
    for plug in config.filters:
        yield plug.name, bound(plug, FILTERS, "filter")
    if aside.ngrams is not None:
        yield "decontamination", partial(_decontaminate, path=store.blob(aside.ngrams))
    yield "length", partial(_drop_short, min_characters=config.min_characters)


def _exclude(document: Document, *, names: frozenset[str]) -> Verdict:
    return Rejected("excluded by the user") if {name_digest(document.id), name_digest(document.group)} & names else None


def _decontaminate(document: Document, *, path: Path) -> Verdict:
    return Rejected("holds text of a test set") if scan_of(path).contaminated(document.text) else None


def _drop_short(document: Document, *, min_characters: int) -> Verdict:
    return Rejected("too short") if len(document.text) < min_characters else None


def name_digest(name: str) -> str:
    """What stands for an id or a group where it must not be readable."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def is_heldout(group: str, share: float) -> bool:
    """Whether a group is never trained on: a function of its name alone."""
    return _hash(f"held-out:{group}") < share * 2**64


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
