"""The corpus stage: text in, clean documents out, parted into train and held-out.

Each input file is read and normalised alone, as a remembered part; then one pass in the order of the sources removes
exact duplicates (the first stays) and splits by a hash of the group, which is stable as the corpus grows. Costs a read
and two writes of the text; memory holds 16 bytes of hash for each document, and one batch.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pipeline.config import CorpusConfig, bound
from pipeline.corpus.cleaning import duplicate_key, normalised
from pipeline.corpus.document import Document, read_documents, write_documents
from pipeline.corpus.inventory import InputFile, inventory
from pipeline.corpus.rows import BadRow
from pipeline.corpus.sources import SOURCES
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.progress import progress, track
from pipeline.store import Artifact, Draft, Part, PartDraft, Recipe, Store

SCHEMA = 1
EXAMPLES = 20
SPLITS = ("train", "heldout")
log = logging.getLogger("bertmill")


def corpus_recipe(config: CorpusConfig, store: Store) -> tuple[Recipe, list[InputFile]]:
    """What decides the corpus, and the files it is made from. Raises ConfigError or InputError before any work."""
    for source in config.sources:
        bound(source, SOURCES, "source format")
    files = inventory(config.sources, store.settings)
    return Recipe("corpus", config, SCHEMA, inputs=tuple(file.input for file in files)), files


def ingest_corpus(config: CorpusConfig, *, store: Store, map: Map = map, force: bool = False) -> Artifact:
    """Read, normalise, deduplicate and split the sources.

    Raises InputError: a missing, empty or truncated source; more bad rows than `max_bad_share`; an empty split.
    """
    recipe, files = corpus_recipe(config, store)
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    parts: list[Part] = list(map(partial(read_file, config=config, store=store), files))
    rows = sum(part.record["rows"] for part in parts)
    bad = [row for part in parts for row in part.record["bad"]]
    _check_bad_share(sum(part.record["bad_rows"] for part in parts), rows, bad, config)
    with store.draft(recipe, force=force) as draft:
        funnel = _write_splits(draft, parts, config, store)
        _check_splits(funnel, config)
        dropped = Counter(funnel.dropped)
        for part in parts:
            dropped.update(part.record["dropped"])
        report = {"dropped": dict(sorted(dropped.items())), "examples": bad[:EXAMPLES] + funnel.examples[:EXAMPLES]}
        (draft.folder / "dropped.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
        draft.add("dropped.json")
        made = draft.commit(totals=_totals(funnel, rows, dropped, config))
    log.info("made %s: %s documents to train on, %s held out", made, *(f"{funnel.documents[s]:,}" for s in SPLITS))
    return made


def read_file(file: InputFile, *, config: CorpusConfig, store: Store) -> Part:
    """One input file, read and normalised: a part remembered under the file's bytes and how they are read."""
    identity = {
        "schema": SCHEMA,
        "source": file.source.reading(),
        "input": file.input.identity,
        "lang": config.lang,
        "min_characters": config.min_characters,
    }
    return store.part("corpus", identity, partial(_read_file, file=file, config=config))


def _read_file(draft: PartDraft, *, file: InputFile, config: CorpusConfig) -> dict[str, Any]:
    reader = bound(file.source, SOURCES, "source format")
    count: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []

    def documents() -> Iterator[Document]:
        with progress(f"reading {file.input.name}") as advance:
            for row in reader(file.file):
                count["rows"] += 1
                advance()
                if isinstance(row, BadRow):
                    dropped[row.reason] += 1
                    if len(bad) < EXAMPLES:
                        bad.append({"file": file.input.name, "line": row.line, "reason": row.reason})
                    count["bad"] += 1
                    continue
                text = normalised(row.text)
                if len(text) < config.min_characters:
                    dropped["too short"] += 1
                    continue
                own = row.id or f"{file.input.name.partition('/')[2]}:{row.line}"
                name = f"{file.source.name}/{own}"
                yield Document(name, text, file.source.name, row.lang or config.lang, row.group or name, row.date or "")

    kept = write_documents(draft.folder / "documents.arrow", documents())
    draft.add("documents.arrow", rows=kept)
    return {"rows": count["rows"], "bad_rows": count["bad"], "bad": bad, "dropped": dict(dropped)}


@dataclass
class _Funnel:
    """What the merging pass has seen."""

    documents: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    groups: dict[str, set[bytes]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)


def _write_splits(draft: Draft, parts: list[Part], config: CorpusConfig, store: Store) -> _Funnel:
    """Write the surviving documents of both splits, a shard at a time."""
    funnel = _Funnel()
    pending: dict[str, list[Document]] = {split: [] for split in SPLITS}
    shards: Counter[str] = Counter()

    def flush(split: str) -> None:
        path = f"{split}/{shards[split]:05d}.arrow"
        rows = write_documents(draft.folder / path, pending[split])
        draft.add(path, rows=rows)
        (draft.folder / path).unlink()
        shards[split] += 1
        pending[split] = []

    survivors = _survivors(parts, funnel, config, store)
    for document in track(survivors, "removing duplicates", sum(part.files[0].rows or 0 for part in parts)):
        split = "heldout" if is_heldout(document.group, config.heldout_share) else "train"
        funnel.documents[split] += 1
        funnel.characters[split] += len(document.text)
        funnel.groups[split].add(_hash(document.group))
        funnel.languages[document.lang] += 1
        funnel.sources[document.source] += 1
        pending[split].append(document)
        if len(pending[split]) == config.documents_per_shard:
            flush(split)
    for split in SPLITS:
        if pending[split]:
            flush(split)
    return funnel


def _survivors(parts: list[Part], funnel: _Funnel, config: CorpusConfig, store: Store) -> Iterator[Document]:
    """Documents whose text and id stand for the first time."""
    texts, ids = set[bytes](), set[bytes]()
    for part in parts:
        for document in read_documents(store.blob(part.files[0])):
            text, name = _hash(duplicate_key(document.text)), _hash(document.id)
            reason = "duplicate text" if text in texts else "duplicate id" if name in ids else None
            if reason is None:
                texts.add(text)
                ids.add(name)
                yield document
                continue
            funnel.dropped[reason] += 1
            if len(funnel.examples) < EXAMPLES:
                excerpt = {} if config.restricted else {"text": document.text[:200]}
                funnel.examples.append({"id": document.id, "reason": reason} | excerpt)


def is_heldout(group: str, share: float) -> bool:
    """Whether a group is never trained on: a function of its name alone."""
    return int.from_bytes(_hash(f"held-out:{group}")[:8], "big") < share * 2**64


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _check_bad_share(count: int, rows: int, bad: list[dict[str, Any]], config: CorpusConfig) -> None:
    if rows and count / rows > config.max_bad_share:
        shown = "; ".join(f"{row['file']} line {row['line']}: {row['reason']}" for row in bad[:3])
        raise InputError(
            f"{count} of {rows} rows can't be used, over max_bad_share = {config.max_bad_share}: {shown}. "
            f"Mend the source, or raise corpus.max_bad_share."
        )


def _check_splits(funnel: _Funnel, config: CorpusConfig) -> None:
    for split, other in zip(SPLITS, reversed(SPLITS), strict=True):
        if funnel.documents[split] == 0:
            raise InputError(
                f"No document is left in the {split} part of the corpus ({funnel.documents[other]} in the other, "
                f"{len(funnel.groups[other])} groups, heldout_share = {config.heldout_share}). Give more documents or "
                f"finer groups, or change corpus.heldout_share."
            )


def _totals(funnel: _Funnel, rows: int, dropped: Counter[str], config: CorpusConfig) -> dict[str, Any]:
    return {
        "rows_read": rows,
        "documents": {split: funnel.documents[split] for split in SPLITS},
        "characters": {split: funnel.characters[split] for split in SPLITS},
        "groups": {split: len(funnel.groups[split]) for split in SPLITS},
        "dropped": dict(sorted(dropped.items())),
        "languages": dict(sorted(funnel.languages.items())),
        "sources": [
            source.model_dump(include={"name", "licence", "origin", "retrieved"})
            | {"documents": funnel.sources[source.name]}
            for source in config.sources
        ],
        "restricted": config.restricted,
    }
